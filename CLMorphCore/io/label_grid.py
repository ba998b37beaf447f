"""Labels and masks on the grid of their scan, where they are cut to a part of it or have its axes in another order."""

from __future__ import annotations

from itertools import product

import numpy as np
import SimpleITK as sitk

from ..geometry import Grid, check_same_grid, resample
from .volume import add_warning, warnings_of

NEAR_VOXELS = 0.01  # as of grids that agree: headers of one scan differ by rounding


def on_grid_of(image: sitk.Image, labels: sitk.Image, *, names: tuple[str, str]) -> sitk.Image:
    """The labels on the image's grid, zero where they have no voxel: no value changes, and none moves.

    Segmentations are saved cut to what they show, and converters of DICOM turn axes about. InputError where a voxel of
    the labels is none of the image's.
    """
    grid = Grid.of(image)
    if grid.agrees_with(Grid.of(labels)):
        return labels
    if not _is_part(Grid.of(labels), grid):
        check_same_grid(image, labels, names=names)
    found = resample(labels, grid, labels=True)
    for warning in warnings_of(labels):
        add_warning(found, warning)
    return found


def shown_share(share: float) -> str:
    """In percent, never the whole where a part is missing: 99.97 % are not 100 %."""
    return f"{min(100 * share, 99.9):.3g}%"


def covers_a_part(share: float) -> str:
    """What is said of labels that have a share of their scan's voxels below 1."""
    return f"the labels' file covers {shown_share(share)} of the scan's grid; outside of it all is taken as background"


def _is_part(part: Grid, whole: Grid) -> bool:
    """Whether each voxel of a grid is one of another, along whichever axes and in whichever direction."""
    index = np.array(list(product(*[(0, n - 1) for n in part.size])))
    to_voxels = np.linalg.inv(whole.to_mm())
    corners = (index @ part.to_mm().T + np.array(part.origin_mm) - np.array(whole.origin_mm)) @ to_voxels.T
    steps, on = np.abs(np.rint(to_voxels @ part.to_mm())), np.rint(corners)
    alike = all((steps.sum(axis=axis) == 1).all() for axis in (0, 1))
    inside = (on >= 0).all() and (on < whole.size).all()
    return bool(alike and inside and np.abs(corners - on).max() < NEAR_VOXELS)
