"""How far a segmentation can be trusted: uncertainty, the Dice to expect, warnings; nothing here needs true labels."""
