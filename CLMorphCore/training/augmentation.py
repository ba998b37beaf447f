"""Random flips, rotations and crops of a training pair, on tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..bundles.config import AugmentConfig
from ..spatial import Interpolation, identity_grid, sample

AXES = {"z": 2, "y": 3, "x": 4}


def augment(
    fixed: Tensor,
    moving: Tensor,
    config: AugmentConfig,
    divisor: Sequence[int],
    rng: torch.Generator,
    *,
    spacing_mm: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """(fixed, moving), each (1, 1, D, H, W), flipped and cropped together, rotated independently.

    Flip and crop keep the images aligned; the rotations differ, as affine alignments of real scans do. ``divisor``
    (D, H, W) is the network's, ``spacing_mm`` (z, y, x) the grid's.
    """
    fixed, moving = flip((fixed, moving), config.flip, rng)
    if config.rotation_degrees > 0:
        rotations = [random_rotation(config.rotation_degrees, rng) for _ in range(2)]
        fixed, moving = (rotate(x, r, spacing_mm) for x, r in zip((fixed, moving), rotations, strict=True))
    fixed, moving = crop((fixed, moving), config.crop, divisor, rng)
    return fixed, moving


def flip(images: Sequence[Tensor], axis: str, rng: torch.Generator) -> list[Tensor]:
    """All images (B, C, D, H, W), with probability ½ mirrored along an axis (x, y, z or none)."""
    if axis != "none" and torch.rand((), generator=rng) < 0.5:
        return [image.flip(AXES[axis]) for image in images]
    return list(images)


def rotate(image: Tensor, rotation: Tensor, spacing_mm: Sequence[float], *, mode: Interpolation = "bilinear") -> Tensor:
    """image(c + S⁻¹ R S (x − c)) about the centre c of the grid; rotation R (3, 3) acts on (z, y, x) in mm.

    S = diag(spacing), so that the rotation is rigid in mm where voxels are no cubes. ``spacing_mm`` is
    (z, y, x), image (B, C, D, H, W).
    """
    to_mm = torch.tensor(tuple(spacing_mm))
    in_voxels = (rotation * to_mm / to_mm[:, None]).to(image.device)
    points = identity_grid(image.shape[2:], like=image)
    centre = points.new_tensor([(n - 1) / 2 for n in image.shape[2:]]).view(1, 3, 1, 1, 1)
    rotated = torch.einsum("ij,bjdhw->bidhw", in_voxels, points - centre) + centre
    return sample(image, rotated, mode=mode, padding="border")


def random_rotation(degrees: float, rng: torch.Generator) -> Tensor:
    """R_z R_y R_x with angles uniform in ±degrees."""
    rotation = torch.eye(3)
    for axis in range(3):
        angle = math.radians(degrees) * (2 * torch.rand((), generator=rng).item() - 1)
        cos, sin = math.cos(angle), math.sin(angle)
        i, j = [a for a in range(3) if a != axis]
        about_axis = torch.eye(3)
        about_axis[i, i], about_axis[i, j], about_axis[j, i], about_axis[j, j] = cos, -sin, sin, cos
        rotation = about_axis @ rotation
    return rotation


def crop(images: Sequence[Tensor], size: Sequence[int], divisor: Sequence[int], rng: torch.Generator) -> list[Tensor]:
    """The same random window of all images (B, C, D, H, W), at most of that size, sides multiples of the divisor."""
    window = []
    for n, wanted, unit in zip(images[0].shape[2:], size, divisor, strict=True):
        length = min(n, max(unit, wanted // unit * unit))
        start = int(torch.randint(n - length + 1, (), generator=rng))
        window.append(slice(start, start + length))
    return [x[(..., *window)] for x in images]
