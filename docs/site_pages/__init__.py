"""What the documentation site is made with: pages from the parser, the settings, the report, the cards, the results."""
