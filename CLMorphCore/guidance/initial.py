"""A transform of any kind to begin with: its affine part starts the alignment, what it bends besides is kept as it is.

J = R ∘ A. The moving image is looked at through R, as moving(R(x)), and aligned from A on: T = R ∘ D ∘ A'. J is in T
once, by its own formula, however the images were sampled on the way.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from ..applying.description import as_composite, as_linear, jacobian_of
from ..applying.maps import Step, flat, map_points
from ..errors import InputError
from ..geometry import Grid, chain, displacement_field, linear_parts, resample, to_image
from .landmarks import Guidance, Landmarks
from .masks import checked_mask

LATTICE = 12  # points along each axis of the fixed image, at which the affine part is found
MIN_DETERMINANT = 1e-6
MAX_INVERSE_VOXELS = 1_000_000  # of the grid on which R's inverse is written


def split(initial: sitk.Transform, fixed: Grid) -> tuple[sitk.AffineTransform, sitk.CompositeTransform | None]:
    """A and R of J = R ∘ A: A is J itself where that is linear, and R then None; else the affine map nearest to J.

    In the least squares over the fixed image's grid. InputError where A has no inverse.
    """
    steps = flat(initial)
    if all(step.transform.IsLinear() for step in steps):
        affine, residual = as_linear(steps), None
    else:
        axes = [np.linspace(-0.5, n - 0.5, LATTICE) for n in fixed.shape]
        points = fixed.points_mm(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3))
        moved, _ = map_points(points, steps)
        centre = points.mean(axis=0)
        known = np.concatenate([points - centre, np.ones((len(points), 1))], axis=1)
        rows = np.linalg.lstsq(known, moved, rcond=None)[0]
        matrix = rows[:3].T
        affine = sitk.AffineTransform(matrix.ravel().tolist(), (rows[3] - matrix @ centre).tolist())
        residual = initial
    matrix, _ = linear_parts(affine)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < MIN_DETERMINANT:
        raise InputError(
            "`initial` has no inverse; expected a transform from the fixed image's points to the moving image's"
        )
    return affine, None if residual is None else chain(residual, affine.GetInverse())


def seen_through(image: sitk.Image, residual: sitk.Transform, *, labels: bool = False) -> sitk.Image:
    """image(R(x)) on the image's own grid."""
    return resample(image, Grid.of(image), residual, labels=labels)


def inverse_of(residual: sitk.CompositeTransform, moving: Grid) -> sitk.CompositeTransform:
    """R⁻¹, as a field on the moving image's grid, or a coarser one, exact at its voxels."""
    share = min(1.0, (MAX_INVERSE_VOXELS / math.prod(moving.shape)) ** (1 / 3))
    grid = moving.with_shape([max(2, round(n * share)) for n in moving.shape])
    return as_composite(Step(residual, inverse=True), grid)[0]


def jacobian_through(residual: sitk.Transform, jacobian: sitk.Image, deformation: sitk.Transform) -> sitk.Image:
    """det ∂(R ∘ D) = det ∂R (D(x)) · det ∂D (x), of ``jacobian``, the latter on its grid."""
    grid = Grid.of(jacobian)
    own = to_image(jacobian_of(displacement_field(residual, grid)), grid)
    both = sitk.Multiply(resample(own, grid, deformation), sitk.Cast(jacobian, sitk.sitkFloat32))
    both.CopyInformation(jacobian)
    return both


def landmarks_before(landmarks: Landmarks | None, residual: sitk.Transform) -> Landmarks | None:
    """The landmarks with those of the moving image where they are seen through R: R⁻¹(q)."""
    if landmarks is None:
        return None
    return replace(landmarks, moving_mm=map_points(landmarks.moving_mm, Step(residual, inverse=True))[0])


def known_of(
    image: sitk.Image,
    affine: sitk.Transform | None,
    mask: sitk.Image | None,
    landmarks: Landmarks | None,
    initial: sitk.Transform | None,
) -> Guidance:
    """What is known of a scan that is segmented: InputError for what does not fit it, or each other."""
    check_one_start(affine, initial)
    start = None
    if initial is not None:
        start, residual = split(initial, Grid.of(image))
        if residual is not None:
            raise InputError(
                "`initial` bends; expected a linear transform, with which the alignment of a scan and an atlas begins",
                "register the two images with it, and carry the labels along the result",
            )
    return Guidance(None if mask is None else checked_mask(mask, image), landmarks, start)


def check_one_start(affine: sitk.Transform | None, initial: sitk.Transform | None) -> None:
    """InputError where two transforms say where to begin."""
    if affine is not None and initial is not None:
        raise InputError(
            "`affine` and `initial` are given; the former takes the place of the alignment, the latter begins it",
            "give one of them",
        )
