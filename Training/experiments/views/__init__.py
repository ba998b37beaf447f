"""Tables, figures and the page: what the results look like."""
