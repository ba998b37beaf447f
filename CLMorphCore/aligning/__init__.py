"""Steps of the affine alignment of two images."""
