"""From a system's own output to one kind of map, and what is measured on it: the same for every system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from CLMorphCore.errors import InputError
from CLMorphCore.geometry import (
    Grid,
    chain,
    displacement_field,
    displacement_transform,
    field_voxels,
    resample_labels,
    to_image,
)
from CLMorphCore.metrics import compare_labels, dice_per_label, folding_fraction, inverse_consistency, log_jacobian_std
from CLMorphCore.spatial import jacobian_determinant

Maps = tuple[sitk.Transform, sitk.Transform | None]  # fixed → moving, and back where the system gives it


@dataclass(frozen=True)
class Figures:
    """Means over the structures; folding and log-Jacobian on the fixed image's grid; NaN where there is none."""

    structures: int
    dice_affine: float
    dice: float
    hd95_mm: float
    folding_fraction: float
    log_jacobian_sd: float
    inverse_error_mm: float


def read_transforms(folder: Path, grid: Grid) -> Maps:
    """ITK transform files: transform.h5, and inverse.h5 where there is one."""
    inverse = folder / "inverse.h5"
    return (
        sitk.ReadTransform(str(folder / "transform.h5")),
        sitk.ReadTransform(str(inverse)) if inverse.exists() else None,
    )


def read_itk_fields(folder: Path, grid: Grid) -> Maps:
    """Displacement images whose vectors are LPS, mm, as ANTs and Greedy write them: T(p) = p + v(p)."""
    inverse = folder / "inverse_warp.nii.gz"
    return _itk_field(folder / "warp.nii.gz"), _itk_field(inverse) if inverse.exists() else None


def read_voxels(folder: Path, grid: Grid) -> Maps:
    """displacement_ijk.npy: (X, Y, Z, 3) voxels of the fixed grid along i, j, k: moving(x + u(x)) lies on fixed(x)."""
    along_ijk = np.load(folder / "displacement_ijk.npy").astype(np.float64)
    if along_ijk.shape != (*grid.size, 3):
        raise InputError(f"a displacement of shape {along_ijk.shape}; expected {(*grid.size, 3)}")
    displacement = np.ascontiguousarray(along_ijk.T[::-1])  # (Z, Y, X) with components (z, y, x)
    return displacement_transform(torch.from_numpy(displacement)[None], grid), None


def _itk_field(path: Path) -> sitk.Transform:
    return sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))


def displacement_voxels(transform: sitk.Transform, grid: Grid) -> Tensor:
    """u(x) = M⁻¹ (T(p) − p) at the voxels p of a grid, M = R · diag(spacing): (1, 3, D, H, W), components (z, y, x)."""
    return field_voxels(displacement_field(transform, grid))


def measure(
    maps: Maps, affine: sitk.Transform, fixed_labels: sitk.Image, moving_labels: sitk.Image, values: list[int]
) -> Figures:
    """Every figure of one registration; ``affine`` maps the common space of the two files to the moving labels.

    The labels are resampled once, through both maps. A structure that was lost counts as Dice 0.
    Raises InputError when the deformation is not finite.
    """
    transform, inverse = maps
    grid = Grid.of(fixed_labels)
    displacement = displacement_voxels(transform, grid)
    if not displacement.isfinite().all():
        raise InputError("the deformation holds values that are NaN or infinite")
    before, after = (resample_labels(moving_labels, grid, t) for t in (affine, chain(affine, transform)))
    structures = list(compare_labels(after, fixed_labels, values).values())
    jacobian = to_image(jacobian_determinant(displacement), grid)
    return Figures(
        structures=len(values),
        dice_affine=float(np.nanmean(list(dice_per_label(before, fixed_labels, values).values()))),
        dice=float(np.nanmean([m.dice for m in structures])),
        hd95_mm=_mean_of_finite([m.hd95_mm for m in structures]),
        folding_fraction=folding_fraction(jacobian),
        log_jacobian_sd=log_jacobian_std(jacobian),
        inverse_error_mm=_inverse_error_mm(transform, inverse, fixed_labels),
    )


def _inverse_error_mm(transform: sitk.Transform, inverse: sitk.Transform | None, grid: sitk.Image) -> float:
    return inverse_consistency(transform, inverse, grid).mean_mm if inverse is not None else float("nan")


def _mean_of_finite(values: list[float]) -> float:
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else float("nan")
