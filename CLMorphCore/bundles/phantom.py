"""A subject that never was: an atlas under a known random deformation, with bias field and noise.

For the demo, the sample data and the tests: its labels are known exactly and it is nobody's scan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Grid, chain, displacement_transform, resample, to_image
from ..spatial import integrate, taper
from .atlas import Atlas

# Of voxels of 1 mm or larger ones, as people's scans have; of smaller ones, as animals' have, so much the less.
CONTROL_MM = 12.0  # distance of the random vectors: deformations of this size are anatomical, smaller ones are noise
DEFORMATION_MM, SHIFT_MM = 2.5, 5.0


@dataclass(frozen=True)
class Phantom:
    """A made-up subject with its true labels and the true map from it to the atlas (LPS, mm)."""

    image: sitk.Image
    labels: sitk.Image
    transform: sitk.CompositeTransform


def make_phantom(atlas: Atlas, *, seed: int = 0, deformation_mm: float | None = None, noise: float = 0.03) -> Phantom:
    """Warps an atlas by a random diffeomorphism of about ``deformation_mm`` and a small random affine map.

    None is DEFORMATION_MM, or so much less as the atlas' voxels are shorter than 1 mm. ``noise`` is the noise's
    standard deviation as a share of the image's range. The subject's grid is the atlas', moved and rotated by a few
    degrees: an oblique scan. The same seed makes the same subject.
    """
    rng = torch.Generator().manual_seed(seed)
    grid = Grid.of(atlas.image)
    size_mm = DEFORMATION_MM * _scale(grid) if deformation_mm is None else deformation_mm
    deformation = displacement_transform(_random_displacement(grid, size_mm, rng), grid)
    affine = _random_affine(grid, rng)
    transform = chain(deformation, affine)
    origin, direction = _rotated(grid, affine.GetInverse())
    scan = Grid(grid.size, grid.spacing_mm, origin, direction)
    background = float(sitk.GetArrayViewFromImage(atlas.image).min())
    image = resample(atlas.image, scan, transform, outside=background)
    return Phantom(
        _with_artefacts(image, background, noise, rng), resample(atlas.labels, scan, transform, labels=True), transform
    )


def _scale(grid: Grid) -> float:
    """1, or the shortest side of a voxel in mm where that is less."""
    return min(1.0, *grid.spacing_mm)


def _random_displacement(grid: Grid, size_mm: float, rng: torch.Generator) -> Tensor:
    """exp of a smooth random velocity of standard deviation ``size_mm``; (1, 3, D, H, W) in voxels."""
    spacing = grid.voxel_mm
    nodes = [max(4, round(n * s / (CONTROL_MM * _scale(grid)))) for n, s in zip(grid.shape, spacing, strict=True)]
    velocity = F.interpolate(
        torch.randn(1, 3, *nodes, generator=rng), size=grid.shape, mode="trilinear", align_corners=True
    )
    voxels = torch.tensor([size_mm / s for s in spacing]).view(1, 3, 1, 1, 1)
    return integrate(taper(velocity * voxels, 6))


def _random_affine(grid: Grid, rng: torch.Generator) -> sitk.AffineTransform:
    """Rotation of up to 5°, scaling of up to 5 %, shift of up to SHIFT_MM, about the grid's centre."""
    angles, scales, shift = (2 * torch.rand(3, generator=rng).double().numpy() - 1 for _ in range(3))
    rotation = sitk.Euler3DTransform()
    rotation.SetRotation(*(math.radians(5) * angles).tolist())
    matrix = np.array(rotation.GetMatrix()).reshape(3, 3) @ np.diag(1 + 0.05 * scales)
    centre = grid.corners_mm().mean(axis=0)
    return sitk.AffineTransform(matrix.ravel().tolist(), (SHIFT_MM * _scale(grid) * shift).tolist(), centre.tolist())


def _rotated(grid: Grid, to_scan: sitk.Transform) -> tuple[tuple[float, float, float], tuple[float, ...]]:
    """Origin and direction of the grid carried along by a map, rotation only: where the scanner would have put it."""
    matrix = np.array(sitk.AffineTransform(to_scan).GetMatrix()).reshape(3, 3)
    u, _, v = np.linalg.svd(matrix)
    direction = u @ v @ np.array(grid.direction).reshape(3, 3)
    centre = np.array(to_scan.TransformPoint(grid.corners_mm().mean(axis=0).tolist()))
    half = direction @ ((np.array(grid.size) - 1) / 2 * np.array(grid.spacing_mm))
    x, y, z = (centre - half).tolist()
    return (x, y, z), tuple(direction.ravel().tolist())


def _with_artefacts(image: sitk.Image, background: float, noise: float, rng: torch.Generator) -> sitk.Image:
    """Multiplies by a smooth bias field of ±20 % and adds Gaussian noise, inside of the object only."""
    intensity = torch.from_numpy(sitk.GetArrayFromImage(image))[None, None]
    bias = F.interpolate(
        torch.rand(1, 1, 3, 3, 3, generator=rng), size=intensity.shape[2:], mode="trilinear", align_corners=True
    )
    level = noise * float(intensity.max() - background)
    noisy = background + (intensity - background) * (0.8 + 0.4 * bias)
    noisy = noisy + level * torch.randn(intensity.shape, generator=rng)
    noisy = torch.where(intensity > background, noisy.clamp_min(background), intensity)
    return to_image(noisy, Grid.of(image))
