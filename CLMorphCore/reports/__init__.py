"""Self-contained pages for people: what a segmentation found, how accurate a model is."""
