"""Where an atlas expects which label on the scan: its shares, carried there by a match; of several, weighted votes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..geometry import Grid, linear_parts
from ..matching import Match
from ..spatial import gaussian, sample
from .shares import NONE, LabelBox, block_of, blocks_reached, extents_of, joined

COARSE = 4  # every so many voxels it is looked where a box lies
MARGIN_VOXELS = 6  # of the atlas: what a point may move between the voxels that are looked at


@dataclass(frozen=True)
class Prior:
    """The probability of one label, (d, h, w), in a part of a grid."""

    label: int
    place: tuple[slice, slice, slice]
    probability: Tensor


def atlas_voxels(found: Match, grid: Grid, atlas: Grid, step: int = 1) -> Tensor:
    """T(p) as continuous voxels of the atlas, (3, D, H, W), for every ``step``-th voxel p of a grid on the scan.

    T = D ∘ A as ``transform_of`` gives it, computed where the displacement lies. Beyond the network's grid D is the
    identity.
    """
    field, own = found.displacement, found.field_grid
    points = aligned_voxels(found, grid, own, step)
    inside = torch.ones_like(points[0], dtype=torch.bool)
    for axis, n in enumerate(own.shape):
        inside &= (points[axis] >= 0) & (points[axis] <= n - 1)
    moved = points + torch.where(inside, sample(field, points[None], padding="border")[0], 0.0)
    return _mapped(_voxels_to_voxels(own, atlas, np.eye(3), np.zeros(3)), moved)


def aligned_voxels(found: Match, grid: Grid, other: Grid, step: int = 1) -> Tensor:
    """A(p), the affine alone, as continuous voxels of another grid in the atlas' space, (3, D, H, W)."""
    linear = _voxels_to_voxels(grid, other, *linear_parts(found.scan.affine))
    return _mapped(linear, _lattice(grid.shape, step, found.displacement))


def _voxels_to_voxels(grid: Grid, other: Grid, matrix: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """M (3, 3) and t (3,), (z, y, x): voxels of a grid → voxels of another one, over p ↦ matrix · p + offset in mm."""
    back = np.linalg.inv(other.to_mm())
    linear = back @ matrix @ grid.to_mm()
    shift = back @ (matrix @ np.array(grid.origin_mm) + offset - np.array(other.origin_mm))
    return linear[::-1, ::-1], shift[::-1]


def _lattice(shape: Sequence[int], step: int, like: Tensor) -> list[Tensor]:
    """z, y and x of every ``step``-th voxel, each along its own axis."""
    axes = [torch.arange(0, n, step, dtype=torch.float32, device=like.device) for n in shape]
    return [axis.view([-1 if a == n else 1 for a in range(3)]) for n, axis in enumerate(axes)]


def _mapped(linear: tuple[np.ndarray, np.ndarray], points: Sequence[Tensor] | Tensor) -> Tensor:
    matrix, shift = linear
    z, y, x = points
    rows = [float(a) * z + float(b) * y + float(c) * x + float(t) for (a, b, c), t in zip(matrix, shift, strict=True)]
    return torch.stack(rows)


def carried(boxes: Sequence[LabelBox], voxels: Tensor, shape: Sequence[int]) -> Iterator[Prior]:
    """The labels' shares at continuous voxels (3, D, H, W) of the atlas of a shape, each where there may be any of it.

    Only one voxel in four of those in the labels' boxes is in a block with a share; only there it is looked up.
    """
    block = block_of(voxels, shape)
    for box, place in zip(boxes, _places(boxes, voxels), strict=True):
        if place is not None:
            inside = blocks_reached(box, shape)[block[place]]
            index = inside.flatten().nonzero()[:, 0]
            points = voxels[(slice(None), *place)].flatten(1).index_select(1, index)
            points = (points - voxels.new_tensor(box.start)[:, None]).view(1, 3, 1, 1, -1)
            probability = voxels.new_zeros(inside.shape)
            probability.view(-1).index_copy_(0, index, sample(box.share[None, None], points).flatten())
            yield Prior(box.label, place, probability)


def _places(boxes: Sequence[LabelBox], voxels: Tensor) -> list[tuple[slice, slice, slice] | None]:
    """The part of the grid that may reach into each box, by every ``COARSE``-th voxel of it; None where none does.

    For all boxes before the first answer is looked at: a GPU would have to be waited for at each.
    """
    shape, step = voxels.shape[1:], COARSE if min(voxels.shape[1:]) > 2 * COARSE else 1
    coarse = voxels[:, ::step, ::step, ::step]
    marked: list[list[Tensor]] = [[], [], []]
    for box in boxes:
        near = torch.ones_like(coarse[0], dtype=torch.bool)
        for axis, (first, n) in enumerate(zip(box.start, box.share.shape, strict=True)):
            near &= (coarse[axis] > first - MARGIN_VOXELS) & (coarse[axis] < first + n - 1 + MARGIN_VOXELS)
        for axis, lines in enumerate(marked):
            lines.append(near.any(dim=tuple(a for a in range(3) if a != axis)))
    if not boxes:
        return []
    each = zip(*(torch.stack(lines).cpu().numpy() for lines in marked), strict=True)
    return [_around(lines, step, shape) for lines in each]


def _around(lines: Sequence[np.ndarray], step: int, shape: Sequence[int]) -> tuple[slice, slice, slice] | None:
    """From the first to the last marked line of each axis, of every ``step``-th, and ``step`` voxels around."""
    ends = []
    for line, n in zip(lines, shape, strict=True):
        at = np.flatnonzero(line)
        if not len(at):
            return None
        ends.append(slice(max(0, int(at[0]) * step - step), min(n, int(at[-1]) * step + step + 1)))
    z, y, x = ends
    return z, y, x


def voted(
    votes: Sequence[Tensor], voxels: Sequence[Tensor], weights: Sequence[Tensor], smoothing_voxels: Sequence[float]
) -> Iterator[Prior]:
    """G ∗ Σᵢ wᵢ [labelᵢ = k] / Σᵢ wᵢ of several atlases, whose labels are looked up at voxels (3, D, H, W) each.

    ``weights`` (D, H, W) are above zero.
    """
    labels = [_nearest(vote, points) for vote, points in zip(votes, voxels, strict=True)]
    total = torch.stack(list(weights)).sum(dim=0)
    shape, reach = labels[0].shape, [int(np.ceil(3 * sd)) for sd in smoothing_voxels]
    for label, box in joined([extents_of(each.cpu().numpy()) for each in labels]).items():
        z, y, x = (
            slice(max(0, low - r), min(n, high + r)) for (low, high), r, n in zip(box, reach, shape, strict=True)
        )
        share = sum(weight[z, y, x] * (own[z, y, x] == label) for own, weight in zip(labels, weights, strict=True))
        assert isinstance(share, Tensor)
        yield Prior(label, (z, y, x), gaussian((share / total[z, y, x])[None, None], smoothing_voxels)[0, 0])


def _nearest(labels: Tensor, voxels: Tensor) -> Tensor:
    """The label of the nearest voxel; NONE outside."""
    index = voxels.round().long()
    inside = torch.ones_like(index[0], dtype=torch.bool)
    for axis, n in enumerate(labels.shape):
        inside &= (index[axis] >= 0) & (index[axis] < n)
        index[axis].clamp_(0, n - 1)
    return torch.where(inside, labels[index[0], index[1], index[2]], NONE)
