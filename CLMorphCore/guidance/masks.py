"""Masks of what counts in an image (> 0, as of ANTs' ``-x``): what they leave out is replaced, and has no say.

What a network sees in place of a lesion decides how much the lesion disturbs: first the scan's own surroundings, at
once the intensities that the other image has there, as the counted voxels show them.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, counted
from ..geometry import Grid, placed, resample, to_tensor
from ..io.label_grid import on_grid_of
from ..spatial import warp

MIN_COUNTED = 1000  # voxels of a mask: fewer hold nothing to align
WHOLE = 0.999  # of a voxel that is interpolated from counted ones alone
BINS = 48  # of the intensities of one image, for each of which the mean of the other's is taken
MIN_IN_BIN = 20.0  # counted voxels, below which a bin takes from its neighbours


def checked_mask(mask: sitk.Image, image: sitk.Image, name: str = "`mask`") -> sitk.Image:
    """The mask as 0 and 1 (uint8) on exactly the image's grid.

    InputError where it lies on another grid, is empty, or leaves less than MIN_COUNTED voxels.
    """
    mask = on_grid_of(image, mask, names=("the image", f"voxels of {name}"))
    counts = sitk.GetArrayFromImage(mask) > 0
    number, least = int(counts.sum()), min(MIN_COUNTED, counts.size // 2)
    if number == 0:
        raise InputError(f"{name} is empty; expected voxels above zero where the image counts")
    if number < least:
        raise InputError(
            f"{name} leaves {counted(number, 'voxel')} of the image; expected at least {least}, above "
            "zero where the image counts",
            "is it the region to leave out? then exchange inside and outside",
        )
    return placed(counts.astype(np.uint8), Grid.of(image))


def replaced(image: sitk.Image, mask: sitk.Image) -> sitk.Image:
    """The image with what does not count replaced: float32.

    Holes by a smooth continuation of their surroundings; what is open to the border of the image by the image's
    minimum over what counts, as padding is. Nothing of the voxels that do not count has any influence.
    """
    counts = sitk.GetArrayFromImage(mask) > 0
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    values[~counts] = values[counts].min()
    holes = _holes(counts)
    if holes.any():
        lines = [np.flatnonzero(holes.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        reach = 2 + max(int(line[-1] - line[0]) for line in lines) // 4
        box = tuple(slice(max(0, int(line[0]) - reach), int(line[-1]) + 1 + reach) for line in lines)
        known = torch.from_numpy(counts[box].astype(np.float32))[None, None]
        smooth = continued(torch.from_numpy(values[box])[None, None], known)[0, 0].numpy()
        values[box] = np.where(holes[box], smooth, values[box])
    return placed(values, Grid.of(image))


def _holes(counts: np.ndarray) -> np.ndarray:
    """What does not count and is cut off from the border of the array by what does."""
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray((~counts).astype(np.uint8))))
    faces = [np.take(parts, place, axis) for axis in range(3) for place in (0, -1)]
    outer = np.unique(np.concatenate([face.ravel() for face in faces]))
    return (parts > 0) & ~np.isin(parts, outer)


def continued(values: Tensor, known: Tensor) -> Tensor:
    """Values where ``known`` is 1, and elsewhere means of the known ones around, of the wider neighbourhoods the
    farther those are: both (1, 1, D, H, W)."""
    if bool((known > 0).all()) or not known.any() or max(known.shape[2:]) == 1:
        return values
    size = tuple(min(2, n) for n in known.shape[2:])
    share = F.avg_pool3d(known, size, ceil_mode=True, count_include_pad=False)
    mean = F.avg_pool3d(values * known, size, ceil_mode=True, count_include_pad=False) / share.clamp_min(1e-6)
    coarse = continued(mean, (share > 0).to(share.dtype))
    wide = F.interpolate(coarse, size=tuple(known.shape[2:]), mode="trilinear", align_corners=False)
    return torch.where(known > 0, values, wide)


def counted_on(mask: sitk.Image, grid: Grid, transform: sitk.Transform | None = None) -> Tensor:
    """Where a linear interpolation on a grid is of counted voxels alone: (1, 1, D, H, W) of 0 and 1, float32.

    Beyond its own grid a mask goes on as its border, as images do.
    """
    return (to_tensor(resample(mask, grid, transform)) > WHOLE).float()


def filled(own: Tensor, other: Tensor, counts: Tensor | None, other_counts: Tensor | None = None) -> Tensor:
    """own where it counts, elsewhere E[own | other]: the mean of ``own`` where the other image is as bright.

    All (1, 1, D, H, W) on one grid, normalised and about aligned; means are over what counts in both. Without
    ``counts`` it is ``own``.
    """
    if counts is None:
        return own
    both = (counts > 0) if other_counts is None else (counts > 0) & (other_counts > 0)
    if not both.any():
        return own
    low, high = other[both].min(), other[both].max()
    place = ((other - low) / (high - low).clamp_min(1e-6)).clamp(0, 1) * (BINS - 1)
    index = place[both].round().long().cpu()  # sums in one order, whatever the device
    number = torch.bincount(index, minlength=BINS).double()
    total = torch.bincount(index, own[both].cpu().double(), minlength=BINS)
    wide = torch.exp(-0.5 * (torch.arange(-6, 7).double() / 2) ** 2)[None, None]
    around = [F.conv1d(row[None, None], wide, padding=6)[0, 0] for row in (number, total)]
    enough = number >= MIN_IN_BIN
    mean = torch.where(enough, total, around[1]) / torch.where(enough, number, around[0]).clamp_min(1e-6)
    mean = mean.to(own)
    lower = place.floor().long().clamp(max=BINS - 2)
    share = place - lower
    return torch.where(counts > 0, own, mean[lower] * (1 - share) + mean[lower + 1] * share)


def filled_pair(
    fixed: Tensor,
    moving: Tensor,
    counts: Tensor | None,
    moving_counts: Tensor | None,
    forward: Tensor | None = None,
    backward: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Both images as ``filled`` makes them, each by the other as ``forward`` and ``backward`` (1, 3, D, H, W) warp it.

    A map that is None is the identity.
    """

    def at(image: Tensor | None, displacement: Tensor | None) -> Tensor | None:
        return image if image is None or displacement is None else warp(image, displacement, padding="border")

    def whole(there: Tensor | None) -> Tensor | None:
        return None if there is None else (there > WHOLE).float()

    other = at(moving if moving_counts is None else filled(moving, fixed, moving_counts, counts), forward)
    assert other is not None
    own = filled(fixed, other, counts, whole(at(moving_counts, forward)))
    if moving_counts is None:
        return own, moving
    back = at(own, backward)
    assert back is not None
    return own, filled(moving, back, moving_counts, whole(at(counts, backward)))
