"""From an image in millimetres to what a network sees: its grid, and intensities on it, normalised."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from torch import Tensor

from .errors import InputError
from .geometry import Grid, crop_padding, foreground_box, grid_over, resample, to_tensor

MAX_VOXELS = 160 * 192 * 160  # of a grid whose spacing follows an image: a brain at 1 mm
MAX_GRID_VOXELS = 512**3  # beyond it no network fits anywhere: a header's units are wrong


def network_grid(
    reference: sitk.Image, spacing_mm: Sequence[float], *, margin_voxels: Sequence[int], divisor: Sequence[int]
) -> Grid:
    """The network's grid: over the reference's foreground, anatomically aligned; all triples are (z, y, x).

    A spacing of 0 is the reference's own along that axis, and coarser where the box would have more voxels than
    ``MAX_VOXELS``. InputError for more than ``MAX_GRID_VOXELS``.
    """
    lower, upper = foreground_box(reference)
    if min(spacing_mm) == 0:
        finest = Grid.of(reference).anatomical_voxel_mm()
        spacing_mm = _fitting(spacing_mm, finest, box_volume_mm3=float(np.prod(upper - lower)))
    grid = grid_over(lower, upper, spacing_mm, margin_voxels=margin_voxels, divisor=divisor)
    if math.prod(grid.size) > MAX_GRID_VOXELS:
        extent, spacing = (" × ".join(f"{n:.4g}" for n in numbers) for numbers in (upper - lower, grid.spacing_mm))
        raise InputError(
            f"the image to be warped is {extent} mm large, which is {math.prod(grid.size):.2g} voxels of "
            f"{spacing} mm for the network; expected at most {MAX_GRID_VOXELS:.2g}; check the units "
            "in its header, or crop it to the organ"
        )
    return grid


def _fitting(spacing_mm: Sequence[float], finest_mm: Sequence[float], *, box_volume_mm3: float) -> tuple[float, ...]:
    """The spacing with zeros filled from ``finest_mm``, those coarsened by one factor until the box fits."""
    free = np.array(spacing_mm) == 0
    spacing = np.where(free, finest_mm, spacing_mm)
    voxels = box_volume_mm3 / float(np.prod(spacing))
    spacing[free] *= max(1.0, voxels / MAX_VOXELS) ** (1.0 / free.sum())
    return tuple(spacing.tolist())


def network_input(image: sitk.Image, grid: Grid, transform: sitk.Transform | None = None) -> Tensor:
    """An image as a network sees it, normalised: (1, 1, D, H, W); ``transform`` maps the grid to the image."""
    return normalised_on(crop_padding(image), grid, transform)


def normalised_on(
    visible: sitk.Image, grid: Grid, transform: sitk.Transform | None = None, counts: Tensor | None = None
) -> Tensor:
    """The same of an image whose padding is cropped already; ``counts`` as in ``normalise``."""
    return normalise(to_tensor(resample(visible, grid, transform)), counts)


def normalise(tensor: Tensor, counts: Tensor | None = None) -> Tensor:
    """(x − mean) / sd over the foreground (voxels above the minimum), clipped at its 0.1 and 99.9 percentiles.

    (…, D, H, W) → the same shape. Computed on the network's grid, so that padding or cropping of the input file
    changes nothing. Zero mean and unit variance are the paper's; the clip keeps single bright voxels from deciding.
    With ``counts`` only voxels where it is above 0 say what mean, deviation and percentiles are.
    """
    inside = tensor > tensor.min()
    if counts is not None:
        inside &= counts > 0
    if not inside.any():
        raise InputError(
            "the image does not overlap the atlas' region; expected an affine that maps its points to the "
            "atlas' (LPS, mm); check `affine`, or data.alignment in a training"
        )
    values = tensor[inside]
    low, high = (values.kthvalue(int(q * (len(values) - 1)) + 1).values.item() for q in (0.001, 0.999))
    if low == high:  # one grey value has no spread: the foreground becomes 0, the background −1
        return (tensor.clamp(max=high) - high) / (high - tensor.min())
    clipped = tensor.clamp(low, high)
    chosen = clipped[inside]
    return (clipped - chosen.mean()) / chosen.std()
