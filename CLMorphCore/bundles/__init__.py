"""What a user picks, and how it is made: models, atlases, settings, weights."""
