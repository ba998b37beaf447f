"""Random flips, rotations and crops of a training pair, on tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .config import AugmentConfig
from .spatial import identity_grid, sample

AXES = {"z": 2, "y": 3, "x": 4}


def augment_pair(fixed: Tensor, moving: Tensor, config: AugmentConfig, divisor: int,
                 rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The pair (1, 1, D, H, W) flipped and cropped together, each rotated for itself.

    Flip and crop keep the images aligned; the rotations differ, as affine alignments of real scans do.
    """
    if config.flip != "none" and torch.rand((), generator=rng) < 0.5:
        fixed, moving = (x.flip(AXES[config.flip]) for x in (fixed, moving))
    if config.rotation_degrees > 0:
        fixed, moving = (rotate(x, _random_rotation(config.rotation_degrees, rng)) for x in (fixed, moving))
    return _crop(fixed, moving, config.crop, divisor, rng)


def rotate(image: Tensor, rotation: Tensor) -> Tensor:
    """image(c + R (x − c)) about the centre c of the grid; rotation (3, 3) acts on (z, y, x) in voxels."""
    points = identity_grid(image.shape[2:], like=image)
    centre = torch.tensor([(n - 1) / 2 for n in image.shape[2:]]).view(1, 3, 1, 1, 1)
    turned = torch.einsum("ij,bjdhw->bidhw", rotation, points - centre) + centre
    return sample(image, turned, padding="border")


def _random_rotation(degrees: float, rng: torch.Generator) -> Tensor:
    """R_z R_y R_x with angles uniform in ±degrees."""
    rotation = torch.eye(3)
    for axis in range(3):
        angle = math.radians(degrees) * (2 * torch.rand((), generator=rng).item() - 1)
        cos, sin = math.cos(angle), math.sin(angle)
        i, j = [a for a in range(3) if a != axis]
        turn = torch.eye(3)
        turn[i, i], turn[i, j], turn[j, i], turn[j, j] = cos, -sin, sin, cos
        rotation = turn @ rotation
    return rotation


def _crop(fixed: Tensor, moving: Tensor, size_xyz: tuple[int, int, int], divisor: int,
          rng: torch.Generator) -> tuple[Tensor, Tensor]:
    window = []
    for n, wanted in zip(fixed.shape[2:], reversed(size_xyz), strict=True):
        length = min(n, max(divisor, wanted // divisor * divisor))
        start = int(torch.randint(n - length + 1, (), generator=rng))
        window.append(slice(start, start + length))
    index = (..., *window)
    return fixed[index], moving[index]
