"""What atlases expect where on a scan: the shares of one, or the votes of several, carried there by their matches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from torch import Tensor

from ..geometry import Grid
from ..matching import Match
from ..spatial import sample
from .prepared import ATLAS_VOTE_VOXELS, PreparedTissue, smoothing_voxels
from .priors import Prior, aligned_voxels, atlas_voxels, carried, voted
from .settings import TissueSettings

# The probabilities of labels at every ``step``-th voxel of a grid in the scan's space.
Expectation = Callable[[Grid, int], Iterable[Prior]]


def of_one(found: Match, prepared: PreparedTissue) -> Expectation:
    """The expectation of a single atlas."""
    atlas = prepared.grid
    return lambda grid, step: carried(prepared.boxes, atlas_voxels(found, grid, atlas, step), atlas.shape)


def of_several(
    matches: Sequence[Match],
    weights: Sequence[Tensor],
    votes: Sequence[Tensor],
    prepared: PreparedTissue,
    settings: TissueSettings,
) -> Expectation:
    """The expectation of several: ``weights`` (1, 1, D, H, W) on the network's grid, above zero, ``votes`` of each."""

    def expected(grid: Grid, step: int) -> Iterator[Prior]:
        smoothing = [sd / step for sd in smoothing_voxels(settings, grid, len(matches), ATLAS_VOTE_VOXELS)]
        # Wider by what the smoothing reaches, so that slabs of a scan are smoothed as the whole is.
        reach = [int(np.ceil(3 * sd)) if step == 1 else 0 for sd in smoothing]
        wide = grid.part([slice(-r, n + r) for r, n in zip(reach, grid.shape, strict=True)])
        own = [
            sample(weight, aligned_voxels(found, wide, found.grid, step)[None], padding="border")[0, 0]
            for found, weight in zip(matches, weights, strict=True)
        ]
        voxels = [atlas_voxels(found, wide, prepared.grid, step) for found in matches]
        for prior in voted(votes, voxels, own, smoothing):
            if (inner := _cropped(prior, reach, wide.shape, step)) is not None:
                yield inner

    return expected


def _cropped(prior: Prior, margin: Sequence[int], shape: Sequence[int], step: int) -> Prior | None:
    """A prior of a wider grid within the grid that ``margin`` voxels are cut from on every side; None for nothing."""
    if step > 1 or not any(margin):
        return prior
    place, inner = [], []
    for at, m, n in zip(prior.place, margin, shape, strict=True):
        first, last = max(at.start, m), min(at.stop, n - m)
        if first >= last:
            return None
        place.append(slice(first - m, last - m))
        inner.append(slice(first - at.start, last - at.start))
    z, y, x = place
    return Prior(prior.label, (z, y, x), prior.probability[tuple(inner)])
