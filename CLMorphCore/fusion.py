"""Several atlases: one affine to their common space, one deformation for each, and their labels fused.

The warped labels, on the scan's grid, go to a scratch file and are fused slab by slab; the images of all atlases and
their features, on the network's grid, stay in memory for the next scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from .bundles.atlas import Atlas, Structure
from .bundles.model import Model
from .errors import InputError, did_you_mean
from .geometry import Grid, chain, check_same_grid, resample, to_image
from .instance_optimization import InstanceOptimization
from .network_input import network_grid, network_input
from .networks import Prediction
from .progress import Progress, Stopwatch, part, silent
from .registration import Pair, Registration, affine_pair, deformation, refined, registration_of
from .similarity import local_correlation_map
from .spatial import resize_field, warp

METHODS = ("majority", "similarity", "staple")
STAPLE_ITERATIONS = 10
SLAB_VOTES = 2**26  # votes that are in memory at once: voxels of a slab times atlases
# Of one validation brain with nine atlases: the window best of 3, 5, 7, 9; a gain of 2 did as well, 1 and 8 worse.
WINDOW_VOXELS = 3  # of the local similarity, on the network's grid
GAIN = 4.0  # power of the local similarity that is a vote's weight
MIN_SIMILARITY = 0.05  # where no atlas resembles the scan, all count the same


@dataclass(frozen=True)
class AtlasSet:
    """Atlases that lie in one space, and what a network needs of them: computed once, kept for every scan.

    grid       the network's
    reference  the atlases' average, with which a scan is aligned
    inputs     each atlas image on the grid, normalised: (1, 1, D, H, W)
    features   the network's features of each
    """

    atlases: tuple[Atlas, ...]
    grid: Grid
    reference: sitk.Image
    inputs: tuple[Tensor, ...]
    features: tuple[Any, ...]


@dataclass(frozen=True)
class Fusion:
    """What several atlases say together.

    labels        fused, on the scan's grid
    disagreement       share of the votes, 0…1, that were for another label than the fused one, on the scan's grid
    atlases       those that voted, the most similar first
    registration  the scan's with the first of them
    """

    labels: sitk.Image
    disagreement: sitk.Image
    atlases: tuple[Atlas, ...]
    registration: Registration


def choose_atlases(
    model: Model, atlases: Sequence[Atlas] | AtlasSet | None = None, most_similar: int | None = None
) -> Atlas | AtlasSet:
    """The one atlas, or the set of several, that a scan is segmented with: those given, or else the model's.

    Of the model's own it is the first, unless ``most_similar`` asks for several. Raises InputError for no atlas, for
    fewer than ``most_similar``, and for atlases that are in different spaces.
    """
    if isinstance(atlases, AtlasSet):
        return atlases
    pool = model.atlases if atlases is None else tuple(atlases)
    if not pool:
        raise InputError(
            f"model {model.name} has no atlas; give one with `atlas` and `atlas_labels`, "
            "or make one with clmorph build-atlas"
        )
    _check_count(most_similar, len(pool))
    if len(pool) == 1 or (atlases is None and most_similar is None):
        return pool[0]
    return prepare(model, pool)


def structures_of(atlases: Sequence[Atlas]) -> tuple[Structure, ...]:
    """The structures of all atlases by value, each as the first atlas that has it describes it."""
    if len(atlases) == 1:
        return atlases[0].structures
    named = {s.value: s for atlas in reversed(atlases) for s in atlas.structures}
    return tuple(named[value] for value in sorted(named))


@torch.inference_mode()
def prepare(model: Model, atlases: Sequence[Atlas]) -> AtlasSet:
    """The atlases as ``fuse`` needs them; InputError unless they lie on one grid, as ``build-atlas --each`` makes them.

    One grid means one space: the affine alignment of a scan with one of them is that with all.
    """
    first = atlases[0]
    for other in atlases[1:]:
        check_same_grid(first.image, other.image, names=(f"atlas {first.name}", f"voxels of atlas {other.name}"))
    reference = _average([atlas.image for atlas in atlases])
    data = model.config.data
    grid = network_grid(reference, data.spacing_mm, margin_voxels=data.margin_voxels, divisor=model.network.divisor)
    inputs = tuple(network_input(atlas.image, grid).to(model.device) for atlas in atlases)
    features = tuple(model.network.features_of(image) for image in inputs)
    return AtlasSet(tuple(atlases), grid, reference, inputs, features)


@torch.inference_mode()
def fuse(
    image: sitk.Image,
    model: Model,
    atlases: AtlasSet,
    *,
    method: str = "similarity",
    most_similar: int | None = None,
    affine: sitk.Transform | None = None,
    optimization: InstanceOptimization | None = None,
    progress: Progress = silent,
) -> Fusion:
    """Labels of ``image`` from all atlases, or from the ``most_similar`` ones; each map is refined, or not.

    majority    the most frequent label
    similarity  a vote weighs as much as the warped atlas resembles the scan there: (local correlation)^GAIN (local
                weighting by a power of the similarity: Artaechevarria et al., IEEE TMI 2009)
    staple      the likeliest label, found together with each atlas' reliability (Warfield et al., IEEE TMI 2004)

    An atlas is the more similar the greater the mean local normalised cross-correlation over the scan's foreground is
    after the affine alignment. Raises InputError for more atlases than there are, and for an unknown method.
    """
    _check_count(most_similar, len(atlases.atlases))
    if method not in METHODS:
        raise InputError(f"unknown fusion {method!r}{did_you_mean(method, METHODS)}")
    watch, grid = Stopwatch(), Grid.of(image)
    with watch.step("affine"):
        affine, to_scan = affine_pair(image, atlases.reference, affine, model, lambda: progress("affine", 0.0))
    with watch.step("network"):
        progress("network", 0.3)
        fixed = network_input(image, atlases.grid, to_scan).to(model.device)
        features = model.network.features_of(fixed)
        pairs = [
            Pair(atlases.grid, fixed, moving, (features, of_moving))
            for moving, of_moving in zip(atlases.inputs, atlases.features, strict=True)
        ]
        likeness = [pair.similarity() for pair in pairs]
    chosen = sorted(range(len(pairs)), key=lambda n: -likeness[n])[:most_similar]
    kind = np.min_scalar_type(max(s.value for s in structures_of(atlases.atlases)))
    with _scratch((len(chosen), *grid.shape), kind) as labels, _scratch((len(chosen), *grid.shape), "f2") as weights:
        for place, n in enumerate(chosen):
            at = part(progress, 0.3 + 0.6 * place / len(chosen), 0.3 + 0.6 * (place + 1) / len(chosen))
            at(f"atlas {place + 1} of {len(chosen)}", 0.0)
            with watch.step("network"):
                prediction, steps = model.network.match(*pairs[n].features), 0
                answer = prediction
            if optimization is not None:
                with watch.step("refinement"):
                    prediction, steps = refined(
                        prediction, pairs[n], image, atlases.atlases[n].image, to_scan, optimization, model, at
                    )
            with watch.step("network"):
                if place == 0:
                    registration = registration_of(prediction, pairs[n], image, affine, to_scan, model)
                    registration = replace(registration, unrefined=answer.displacement, refinement_steps=steps)
            with watch.step("labels"):
                transform = chain(deformation(prediction, atlases.grid), affine)
                labels[place] = _array(resample(atlases.atlases[n].labels, grid, transform, labels=True))
                weights[place] = 1 if method != "similarity" else _weight(pairs[n], prediction, grid, affine)
        with watch.step("fusion"):
            progress("fusion", 0.9)
            fused, disagreement = fuse_votes(labels, weights, staple=method == "staple")
    registration.duration_s.update(watch.seconds)
    return Fusion(
        _image(fused, image), _image(disagreement, image), tuple(atlases.atlases[n] for n in chosen), registration
    )


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


def _weight(pair: Pair, prediction: Prediction, grid: Grid, affine: sitk.Transform) -> np.ndarray:
    """(local correlation of the scan and the warped atlas)^GAIN on a grid of the scan's space, (D, H, W), above 0."""
    displacement = resize_field(prediction.displacement, pair.grid.shape)
    likeness = local_correlation_map(pair.fixed, warp(pair.moving, displacement), WINDOW_VOXELS)
    weight = likeness.clamp(MIN_SIMILARITY, 1.0) ** GAIN
    return _array(resample(to_image(weight, pair.grid), grid, affine))


def _average(images: Sequence[sitk.Image]) -> sitk.Image:
    """The mean of images on one grid, each scaled so that 0…1 is its minimum … 99th percentile."""
    total = np.zeros(_array(images[0]).shape, np.float32)
    for image in images:
        values = _array(image).astype(np.float32)
        low = values.min()
        total += (values - low) / (np.percentile(values[values > low], 99) - low)
    return _image(total / len(images), images[0])


def _check_count(most_similar: int | None, count: int) -> None:
    if most_similar is not None and not 1 <= most_similar <= count:
        raise InputError(
            f"`most_similar={most_similar}` given, there {'is' if count == 1 else 'are'} {count}; expected a "
            f"number from 1 to {count}; `atlases` gives more"
        )


@contextmanager
def _scratch(shape: tuple[int, ...], kind: Any) -> Iterator[np.ndarray]:
    """An array that lies in a file until the block ends."""
    with TemporaryDirectory(prefix="clmorph-", ignore_cleanup_errors=True) as folder:
        yield np.memmap(Path(folder) / "votes", kind, mode="w+", shape=shape)


def _array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)  # a copy: a view dies with the image


def _image(array: np.ndarray, like: sitk.Image) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(like)
    return image
