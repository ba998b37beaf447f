"""CLMorphCore: registration-based segmentation of 3D medical images with networks trained without labels.

Conventions, everywhere in this package
---------------------------------------
fixed         the image to be segmented; its grid is the output grid (the paper's *unaligned* image)
moving        the atlas image that is warped onto ``fixed`` (the paper's *reference*)
transform     maps a point of fixed to the point of moving, LPS, mm: warped(p) = moving(T(p)), T = D ∘ A
displacement  tensor (B, 3, D, H, W) in voxels of the network grid, components (z, y, x):
              warped(x) = moving(x + u(x))
velocity      stationary velocity field, same layout: u = exp(v), its inverse is exp(−v)
sampling      voxel centres at integers (``align_corners=True``); trilinear; ``border`` when composing fields,
              ``zeros`` when warping images

Two worlds and one bridge: SimpleITK images and transforms are in millimetres, torch tensors in voxels, and
``geometry`` is the only module that knows both.
"""

__version__ = "0.1.0"
