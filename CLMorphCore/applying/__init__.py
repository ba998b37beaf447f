"""What is carried along transforms: images, points and surfaces; and what a transform is."""
