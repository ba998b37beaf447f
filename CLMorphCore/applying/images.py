"""Images and label maps along transforms, onto a reference grid."""

from __future__ import annotations

import logging
from typing import Literal, get_args

import SimpleITK as sitk

from ..errors import InputError, did_you_mean
from ..geometry import Grid, resample, resample_labels
from .maps import Transforms, on_grid

LOG = logging.getLogger(__name__)
Interpolation = Literal["linear", "cubic", "nearest", "labels"]


def apply(
    image: sitk.Image,
    transforms: Transforms,
    reference: sitk.Image | Grid | None = None,
    *,
    interpolation: Interpolation = "linear",
) -> sitk.Image:
    """image(T(p)) at the voxel centres p of ``reference`` (by default the image's own grid), T = T₁ ∘ T₂ ∘ …

    ``transforms`` is one, or several of which the last is applied to points first, as in ITK's composite transforms;
    ``Step(transform, inverse=True)`` is an inverse. LPS, mm. linear and cubic (B-spline) give float32, nearest and
    labels (the label of the largest trilinear weight) the image's own type. Zero outside of the image. InputError for
    what is no scalar 3D image.
    """
    if interpolation not in get_args(Interpolation):
        raise InputError(f"unknown interpolation {interpolation}{did_you_mean(interpolation, get_args(Interpolation))}")
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"the image has {image.GetDimension()} dimensions and {image.GetNumberOfComponentsPerPixel()} numbers per "
            "voxel; expected a scalar 3D image; apply the transform to each frame or component"
        )
    grid = reference if isinstance(reference, Grid) else Grid.of(image if reference is None else reference)
    transform, share, off_mm = on_grid(transforms, grid)
    if share > 0:
        LOG.warning(inexact(share, off_mm))
    if interpolation == "labels":
        return resample_labels(image, grid, transform)
    if interpolation == "cubic":
        return sitk.Resample(
            sitk.Cast(image, sitk.sitkFloat32),
            grid.size,
            transform,
            sitk.sitkBSpline,
            grid.origin_mm,
            grid.spacing_mm,
            grid.direction,
            0.0,
            sitk.sitkFloat32,
        )
    return resample(image, grid, transform, labels=interpolation == "nearest", outside=0.0)


def inexact(share: float, off_mm: float) -> str:
    """The warning about an inverse that does not exist everywhere."""
    return (
        f"the inverse is not exact at {share:.2%} of the points, by up to {off_mm:.3g} mm: the transform folds there, "
        "or does not fade to zero at the border of its grid"
    )
