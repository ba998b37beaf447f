"""Several atlases: their labels, each warped by a match of its own, fused.

The warped labels, on the scan's grid, go to a scratch file and are fused slab by slab.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from .bundles.atlas import Atlas
from .bundles.model import Model
from .errors import InputError, did_you_mean
from .geometry import Grid, placed, resample, resample_labels, to_image
from .instance_optimization import InstanceOptimization
from .io.scratch import scratch_array
from .matching import AlignedScan, Match, PreparedAtlas, match, similarity
from .progress import Progress, Stopwatch, part, silent
from .registration import transform_of
from .similarity import local_correlation_map
from .spatial import warp

METHODS = ("majority", "similarity", "staple")
STAPLE_ITERATIONS = 10
SLAB_VOTES = 2**26  # votes that are in memory at once: voxels of a slab times atlases
# Of one validation brain with nine atlases: the window best of 3, 5, 7, 9; a gain of 2 did as well, 1 and 8 worse.
WINDOW_VOXELS = 3  # of the local similarity, on the network's grid
GAIN = 4.0  # power of the local similarity that is a vote's weight
MIN_SIMILARITY = 0.05  # where no atlas resembles the scan, all count the same


@dataclass(frozen=True)
class Fusion:
    """What several atlases say together.

    labels        fused, on the scan's grid
    disagreement  share of the votes, 0…1, that were for another label than the fused one, on the scan's grid; None for
                  a single atlas, which has nobody to disagree with
    atlases       those that voted, the most similar first
    match         the scan's with the first of them
    """

    labels: sitk.Image
    disagreement: sitk.Image | None
    atlases: tuple[Atlas, ...]
    match: Match


@torch.inference_mode()
def fuse(
    scan: AlignedScan,
    prepared: PreparedAtlas,
    model: Model,
    *,
    method: str = "similarity",
    most_similar: int | None = None,
    optimization: InstanceOptimization | None = None,
    watch: Stopwatch | None = None,
    progress: Progress = silent,
) -> Fusion:
    """Labels of a scan from all atlases, or from the ``most_similar`` ones; each map is optimized, or not.

    majority    the most frequent label
    similarity  a vote weighs as much as the warped atlas resembles the scan there: (local correlation)^GAIN (local
                weighting by a power of the similarity: Artaechevarria et al., IEEE TMI 2009)
    staple      the likeliest label, found together with each atlas' reliability (Warfield et al., IEEE TMI 2004): on
                validation brains far below the others

    An atlas is the more similar the greater the mean local normalised cross-correlation over the scan's foreground is
    after the affine alignment. Raises InputError for more atlases than there are, and for an unknown method.
    """
    watch = watch or Stopwatch()
    chosen = most_similar_atlases(scan, prepared, most_similar, watch)
    matches = matched(scan, prepared, model, chosen, optimization, watch, progress)
    return fuse_matches(matches, [prepared.atlases[n] for n in chosen], method, watch, progress)


def fuse_matches(
    matches: Iterable[Match], atlases: Sequence[Atlas], method: str, watch: Stopwatch, progress: Progress
) -> Fusion:
    """The labels of a scan's matches with these atlases, fused as by ``fuse``; a match is asked for when it is due."""
    check_method(method)
    found = iter(matches)
    first = next(found)
    grid = Grid.of(first.scan.image)
    kind = kind_of_labels(atlases)
    votes = (len(atlases), *grid.shape)
    with scratch_array(votes, kind) as labels, scratch_array(votes, "f2") as weights:
        for place, (atlas, own) in enumerate(zip(atlases, chain([first], found), strict=True)):
            with watch.step("labels"):
                labels[place] = _array(resample_labels(atlas.labels, grid, transform_of(own)))
                weights[place] = 1 if method != "similarity" else _weight(own, grid)
        with watch.step("fusion"):
            progress("fusion", 0.9)
            fused, disagreement = fuse_votes(labels, weights, staple=method == "staple")
    return Fusion(placed(fused, grid), placed(disagreement, grid), tuple(atlases), first)


def kind_of_labels(atlases: Sequence[Atlas]) -> np.dtype[Any]:
    """That of an only atlas' labels; of several what holds all of theirs, which the first one's own need not do."""
    if len(atlases) == 1:
        return sitk.GetArrayViewFromImage(atlases[0].labels).dtype
    return np.min_scalar_type(max(s.value for atlas in atlases for s in atlas.structures))


def most_similar_atlases(scan: AlignedScan, prepared: PreparedAtlas, count: int | None, watch: Stopwatch) -> list[int]:
    """The numbers of all atlases, or of ``count``, the most similar first; InputError for more than there are."""
    check_count(count, len(prepared.atlases))
    with watch.step("network"):
        likeness = [similarity(scan, moving.tensor) for moving in prepared.moving]
    return sorted(range(len(likeness)), key=lambda n: -likeness[n])[:count]


def matched(
    scan: AlignedScan,
    prepared: PreparedAtlas,
    model: Model,
    chosen: Sequence[int],
    optimization: InstanceOptimization | None,
    watch: Stopwatch,
    progress: Progress,
) -> Iterator[Match]:
    """The scan's match with each of the chosen atlases, one after the other."""
    for place, n in enumerate(chosen):
        at = part(progress, 0.3 + 0.6 * place / len(chosen), 0.3 + 0.6 * (place + 1) / len(chosen))
        at(f"atlas {place + 1} of {len(chosen)}", 0.0)
        yield match(scan, prepared, model, index=n, optimization=optimization, watch=watch, progress=at)


def check_count(most_similar: int | None, count: int) -> None:
    """InputError unless ``most_similar`` of ``count`` atlases can be taken."""
    if most_similar is not None and not 1 <= most_similar <= count:
        raise InputError(
            f"`most_similar={most_similar}` given, there {'is' if count == 1 else 'are'} {count}; expected a "
            f"number from 1 to {count}",
            "`atlases` gives more",
        )


def check_method(method: str) -> None:
    """InputError unless it is one of METHODS."""
    if method not in METHODS:
        raise InputError(f"unknown fusion {method!r}{did_you_mean(method, METHODS)}")


def fuse_votes(
    labels: np.ndarray, weights: np.ndarray, *, staple: bool = False, slab_votes: int = SLAB_VOTES
) -> tuple[np.ndarray, np.ndarray]:
    """argmaxₖ Σᵢ weightsᵢ [labelsᵢ = k], the smaller label at a tie, or STAPLE's label; and the share of other votes.

    labels and weights (K, D, H, W) → (D, H, W) of the labels' type, and float32 in 0…1. At most ``slab_votes`` votes
    are counted at once, in slabs along D; STAPLE estimates reliability for each slab.
    """
    fused, disagreement = np.empty(labels.shape[1:], labels.dtype), np.zeros(labels.shape[1:], np.float32)
    depth = max(1, slab_votes // (labels[0, 0].size * len(labels)))
    for start in range(0, labels.shape[1], depth):
        rows = slice(start, start + depth)
        slab, weight = np.asarray(labels[:, rows]), weights[:, rows]
        fused[rows] = slab[0]
        disputed = (slab != slab[0]).any(axis=0)  # elsewhere there is nothing to count
        if disputed.any():
            votes, weight = slab[:, disputed], np.asarray(weight[:, disputed], np.float32)
            chosen = _heaviest(votes, weight)
            if staple:
                chosen = _staple(votes, chosen)
            fused[rows][disputed] = chosen
            disagreement[rows][disputed] = 1 - (weight * (votes == chosen)).sum(axis=0) / weight.sum(axis=0)
    return fused, disagreement


def _heaviest(votes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """argmaxₖ Σᵢ weightsᵢ [votesᵢ = k] of each column, the smaller k at a tie; both (K, N)."""
    winner, most = votes[0].copy(), np.full(votes.shape[1], -1.0, np.float32)
    for candidate in votes:
        weight = (weights * (votes == candidate)).sum(axis=0)
        better = (weight > most) | ((weight == most) & (candidate < winner))
        winner[better], most[better] = candidate[better], weight[better]
    return winner


def _staple(votes: np.ndarray, undecided: np.ndarray) -> np.ndarray:
    """STAPLE's label of each column of (K, N) votes; where it finds several equally likely, that of ``undecided``."""
    values, index = np.unique(votes, return_inverse=True)
    kind = np.uint8 if len(values) < 256 else np.uint16
    raters = [sitk.GetImageFromArray(row[None].astype(kind)) for row in index.reshape(votes.shape)]
    found = _array(sitk.MultiLabelSTAPLE(raters, len(values), 1e-4, STAPLE_ITERATIONS))[0]
    return np.where(found < len(values), values[np.minimum(found, len(values) - 1)], undecided)


def local_weight(found: Match) -> Tensor:
    """(local correlation of the scan and the warped atlas)^GAIN, (1, 1, D, H, W) on the network's grid, above 0."""
    local = local_correlation_map(found.scan.tensor, warp(found.moving.tensor, found.on_grid), WINDOW_VOXELS)
    if (counts := found.scan.counts) is not None:  # where the scan does not count, all atlases do the same
        local = torch.where(counts > 0, local, MIN_SIMILARITY)
    return local.clamp(MIN_SIMILARITY, 1.0) ** GAIN


def _weight(found: Match, grid: Grid) -> np.ndarray:
    """``local_weight`` on a grid of the scan's space, (D, H, W)."""
    return _array(resample(to_image(local_weight(found), found.grid), grid, found.scan.affine))


def _array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)  # a copy: a view dies with the image
