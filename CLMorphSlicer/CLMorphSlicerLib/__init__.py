"""What the Slicer module CLMorph is made of; `nodes` and `display` know the scene, and nothing of the window."""
