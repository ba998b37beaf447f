"""What a transform is, in words: kinds, numbers, grid, displacements, folding; and chains as one transform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import InputError
from ..geometry import Grid, chain, displacement_field, field_voxels, linear_parts
from ..spatial import folding_fraction, jacobian_determinant
from .maps import Step, Transforms, flat, map_points, on_grid, sampled

MAX_CHECKED = 20_000  # points between voxels at which an inverse is measured


def describe(transforms: Transforms) -> list[str]:
    """A few lines for each transform of a chain, in the order in which points go through them."""
    steps, lines = flat(transforms)[::-1], []
    for n, step in enumerate(steps, start=1):
        number = f"{n}. " if len(steps) > 1 else ""
        lines.append(f"{number}{'inverse of a ' if step.inverse else ''}{step.transform.GetName()}")
        lines += [f"   {line}" for line in _about(step.transform)]
    return lines


def _about(transform: sitk.Transform) -> list[str]:
    if transform.IsLinear():
        return _about_linear(transform)
    if transform.GetName() == "DisplacementFieldTransform":
        return _about_field(sitk.DisplacementFieldTransform(transform).GetDisplacementField(), "grid")
    if transform.GetName() == "BSplineTransform":
        spline = sitk.BSplineTransform(transform)
        mesh = " × ".join(map(str, spline.GetTransformDomainMeshSize()))
        return [f"cubic of order {spline.GetOrder()}, mesh of {mesh}", *_about_field(sampled(spline), "sampled on")]
    return []


def _about_linear(transform: sitk.Transform) -> list[str]:
    matrix, offset = linear_parts(transform)
    lines = ["p ↦ M p + t (LPS, mm)"]
    lines += [
        f"M {_numbers(row)}   t {number:.6g}" if n == 0 else f"  {_numbers(row)}     {number:.6g}"
        for n, (row, number) in enumerate(zip(matrix, offset, strict=True))
    ]
    fixed = transform.GetFixedParameters()
    if len(fixed) >= 3 and any(fixed[:3]):
        centre = np.array(fixed[:3])
        lines.append(f"centre ({_numbers(centre)}), translation ({_numbers(offset + matrix @ centre - centre)}) mm")
    left, scales, right = np.linalg.svd(matrix)
    determinant = float(np.linalg.det(matrix))
    rotation = left @ right * np.sign(determinant or 1.0)
    angle = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    mirrored = ", it mirrors" if determinant < 0 else ""
    return [*lines, f"rotation {angle:.4g}°, stretches {_numbers(scales)}, volume × {abs(determinant):.6g}{mirrored}"]


def _about_field(field: sitk.Image, where: str) -> list[str]:
    grid, vectors = Grid.of(field), sitk.GetArrayViewFromImage(field)
    lengths = np.sqrt(np.square(vectors).sum(axis=-1))
    most = np.unravel_index(int(lengths.argmax()), lengths.shape)
    place = grid.points_mm(np.array([most]))[0]
    determinant = jacobian_of(field)
    size = " × ".join(map(str, grid.size))
    return [
        f"{where} {size} voxels of {_numbers(grid.spacing_mm)} mm, origin ({_numbers(grid.origin_mm)}), direction "
        f"({_numbers(grid.direction)})",
        f"largest displacement {lengths.max():.4g} mm at ({_numbers(place)}), mean {lengths.mean():.4g} mm",
        f"Jacobian determinant {determinant.min():.4g} … {determinant.max():.4g}, folding in "
        f"{folding_fraction(determinant):.4%} of the voxels",
    ]


def jacobian_of(field: sitk.Image) -> torch.Tensor:
    """det(∂T/∂p) of a field of displacements (mm, LPS), (1, 1, D, H, W)."""
    return jacobian_determinant(field_voxels(field))


def _numbers(values: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{float(value) + 0.0:.6g}" for value in values)


def folded_inverses(transforms: Transforms) -> float:
    """The largest share of voxels in which a transform folds whose inverse is taken: several points lead there."""
    fields = [
        sitk.DisplacementFieldTransform(step.transform).GetDisplacementField()
        if step.transform.GetName() == "DisplacementFieldTransform"
        else sampled(sitk.BSplineTransform(step.transform))
        for step in flat(transforms)
        if step.inverse
    ]
    return max((folding_fraction(jacobian_of(field)) for field in fields), default=0.0)


def field_grid(transforms: Transforms) -> Grid | None:
    """The grid of a chain's first field, or None: where the whole chain may be sampled."""
    for step in flat(transforms):
        if step.transform.GetName() == "DisplacementFieldTransform":
            return Grid.of(sitk.DisplacementFieldTransform(step.transform).GetDisplacementField())
    return None


def as_field(transforms: Transforms, grid: Grid) -> sitk.Image:
    """T(p) − p at the voxel centres p of a grid: one image of displacements, LPS, mm, float64."""
    transform, _, _ = on_grid(transforms, grid)
    return displacement_field(transform, grid)


def as_linear(transforms: Transforms) -> sitk.AffineTransform:
    """A chain of linear transforms as one; InputError where another is among them."""
    steps = flat(transforms)
    if other := next((step.transform for step in steps if not step.transform.IsLinear()), None):
        raise InputError(
            f"the chain holds a {other.GetName()}, which is not linear",
            "write it as .h5, or as a displacement field (.nii.gz)",
        )
    matrix, offset = np.eye(3), np.zeros(3)
    for step in reversed(steps):
        own, shift = linear_parts(step.transform)
        matrix, offset = own @ matrix, own @ offset + shift
    return sitk.AffineTransform(matrix.ravel().tolist(), offset.tolist())


def as_composite(transforms: Transforms, grid: Grid | None = None) -> tuple[sitk.CompositeTransform, float]:
    """A chain without inverses, and by how many mm those are off, at most, between the voxels of their grids.

    The inverse of a field is a field on ``grid`` or on its own one, exact at its voxels; that of a B-spline on ``grid``
    or over its domain.
    """
    parts, worst = [], 0.0
    for step in flat(transforms):
        if not step.inverse:
            parts.append(step.transform)
            continue
        own = grid or field_grid(step) or Grid.of(sampled(sitk.BSplineTransform(step.transform)))
        field = as_field(step, own)
        worst = max(worst, _off_between(step, field, own))
        parts.append(sitk.DisplacementFieldTransform(field))
    return chain(*parts), worst


def _off_between(step: Step, field: sitk.Image, grid: Grid) -> float:
    """max |F(p) − T⁻¹(p)| at points between voxels."""
    inner = np.array(grid.shape) - 1.0
    points = grid.points_mm(np.random.default_rng(0).uniform(0, 1, (MAX_CHECKED, 3)) * inner)
    exact, _ = map_points(points, step)
    found, _ = map_points(points, sitk.DisplacementFieldTransform(sitk.Image(field)))
    return float(np.linalg.norm(found - exact, axis=1).max())
