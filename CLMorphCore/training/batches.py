"""The volumes of a training in memory, and the random pairs of each step."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..alignment import align, align_centres
from ..bundles.config import Config
from ..devices import memory_gb
from ..errors import InputError, counted, listed
from ..geometry import Grid, resample, whole_tensor
from ..io.images import read_image
from ..io.manifest import Subject, choose, read_subject
from ..io.scratch import lasting_array
from ..network_input import network_grid, network_input
from ..networks import RegistrationNetwork
from ..progress import Progress, silent
from .augmentation import augment
from .views import view

LOG = logging.getLogger(__name__)
CPU = torch.device("cpu")
MAX_MEMORY_SHARE = 0.5  # of the machine's, for the prepared volumes


@dataclass(frozen=True)
class Dataset:
    """The reference on the network's grid (1, 1, D, H, W), or None for groups, and the volumes of two splits."""

    reference: Tensor | None
    train: list[Volume]
    validation: list[Volume]


@dataclass(frozen=True)
class Batch:
    """Pairs of images, each (B, 1, D, H, W).

    seen    views of fixed and moving that the network sees instead of them, or None
    again   second views of the images of ``seen``, (2B, 1, D, H, W), the fixed ones first, to be contrasted with
            the first ones; or None
    first   place of the first pair in the whole batch, of which processes take a share each
    """

    fixed: Tensor
    moving: Tensor
    seen: tuple[Tensor, Tensor] | None = None
    again: Tensor | None = None
    first: int = 0


def load_dataset(
    config: Config, subjects: Sequence[Subject], *, divisor: Sequence[int], progress: Progress = silent
) -> Dataset:
    """Reads, aligns and resamples the subjects of the train and validation splits; InputError if there are too few."""
    chosen = choose(subjects, "train"), choose(subjects, "validation", labelled=True)
    if len(chosen[0]) < 2:
        raise InputError(
            f"the manifest has {counted(len(chosen[0]), 'subject')} with split train; expected at least 2 to make a "
            "pair"
        )
    if config.training.moving in ("group", "mixed"):
        return _grouped(config, chosen, divisor, progress)
    reference = read_image(config.data.reference or chosen[0][0].image)
    grid = network_grid(reference, config.data.spacing_mm, margin_voxels=config.data.margin_voxels, divisor=divisor)
    alignment = config.data.alignment
    prepared = _prepared(chosen, lambda _: (reference, grid), alignment, progress)
    return Dataset(network_input(reference, grid), *prepared)


def _grouped(
    config: Config, chosen: Sequence[Sequence[Subject]], divisor: Sequence[int], progress: Progress
) -> Dataset:
    """Each group on the grid of its first image; all grids have one size, so that groups fit into one batch."""
    _check_groups([subject for of_split in chosen for subject in of_split])
    first = {s.group: s for of_split in chosen for s in reversed(of_split)}
    references = {group: read_image(s.image) for group, s in first.items()}
    grids = {
        group: network_grid(image, config.data.spacing_mm, margin_voxels=config.data.margin_voxels, divisor=divisor)
        for group, image in references.items()
    }
    shape = tuple(max(sides) for sides in zip(*(grid.shape for grid in grids.values()), strict=True))
    place = {group: (references[group], grid.about_its_centre(shape)) for group, grid in grids.items()}
    # Images of a group lie as they are; those of two groups have their centres together, on grids of one shape.
    alignment = "affine" if config.data.alignment == "affine" else "given"
    return Dataset(None, *_prepared(chosen, lambda subject: place[subject.group], alignment, progress))


def _prepared(
    chosen: Sequence[Sequence[Subject]],
    place: Callable[[Subject], tuple[sitk.Image, Grid]],
    alignment: str,
    progress: Progress,
) -> list[list[Volume]]:
    """The volumes of each split; ``place`` gives the reference that a subject is aligned with, and its grid."""
    total = sum(len(of_split) for of_split in chosen)
    volumes: list[list[Volume]] = [[] for _ in chosen]
    every = [subject for of_split in chosen for subject in of_split]
    kept = _shelf(total, sum(s.labels is not None for s in every), place(every[0])[1].shape)
    for found, of_split in zip(volumes, chosen, strict=True):
        for subject in of_split:
            done = sum(len(of_one) for of_one in volumes)
            progress(f"preparing {done + 1}/{total}", done / total)
            found.append(kept(prepare(subject, *place(subject), alignment=alignment)))
    return volumes


def _shelf(count: int, labelled: int, shape: Sequence[int]) -> Callable[[Volume], Volume]:
    """What keeps ``count`` volumes of a shape: memory, or a file that is read as it is needed.

    The latter where they would take more than MAX_MEMORY_SHARE of the memory; the system then has in memory what was
    used last. OutputError where there is no room on the disk either.
    """
    voxels = math.prod(shape)
    if voxels * (4 * count + 8 * labelled) <= MAX_MEMORY_SHARE * 1e9 * memory_gb(CPU):
        return lambda volume: volume
    LOG.info("the scans are more than the memory holds: they are read from a file as they are needed")
    less = "take a coarser data.spacing_mm, or fewer scans"
    images = iter(torch.from_numpy(lasting_array((count, *shape), np.float32, less)))
    labels = iter(torch.from_numpy(lasting_array((labelled, *shape), np.int64, less))) if labelled else iter(())

    def keep(volume: Volume) -> Volume:
        image = next(images)[None, None].copy_(volume.image)
        return replace(volume, image=image, labels=_copied(volume.labels, labels))

    return keep


def _copied(tensor: Tensor | None, places: Iterator[Tensor]) -> Tensor | None:
    return None if tensor is None else next(places)[None, None].copy_(tensor)


def _check_groups(subjects: Sequence[Subject]) -> None:
    groups = [s.group for s in subjects]
    alone = sorted({s.name for s in subjects if not s.group or groups.count(s.group) < 2})
    if alone:
        raise InputError(
            f"pairs of one group are wanted, {len(alone)} subjects have no other image in their group: "
            f"{listed(alone, 5)}; "
            'fill the manifest\'s column group, or set training.moving = "random"'
        )


def draw_batch(
    data: Dataset,
    config: Config,
    network: RegistrationNetwork,
    step: int,
    device: torch.device = CPU,
    places: range | None = None,
) -> Batch:
    """Random, augmented pairs, those at ``places`` of the whole batch.

    A pair is a function of the seed, the step and its place, whatever the ``device`` and the other places.
    """
    seed = mixed(config.training.seed, step)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed)).tolist()
    places = range(config.training.batch_size) if places is None else places
    pairs = [
        _pair(data, config, network, order[place % len(order)], mixed(seed, place + 1), device) for place in places
    ]
    images, seen, again = (list(zip(*of_pairs, strict=True)) for of_pairs in zip(*pairs, strict=True))
    fixed, moving = (torch.cat(of_pairs) for of_pairs in images)
    if config.augment.views == 0:
        return Batch(fixed, moving, first=places.start)
    first = torch.cat(seen[0]), torch.cat(seen[1])
    return Batch(fixed, moving, first, torch.cat([*again[0], *again[1]]) if again else None, places.start)


def _pair(
    data: Dataset, config: Config, network: RegistrationNetwork, at: int, seed: int, device: torch.device
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
    """(fixed, moving), their views where there are any, and their second views where these are contrasted."""
    rng = torch.Generator().manual_seed(seed)
    # Augmented on the device, so that a GPU need not wait.
    fixed, moving = data.train[at].image.to(device), _moving(data, config.training.moving, at, rng).to(device)
    images = augment(fixed, moving, config.augment, network.divisor, rng, spacing_mm=config.data.spacing_mm)
    views = config.augment.views > 0
    contrasted = views and config.loss.contrast > 0 and config.loss.contrasted == "views"
    seen, again = (
        tuple(_view(image, config, rng) for image in images) if wanted else () for wanted in (views, contrasted)
    )
    return images, seen, again


def _view(image: Tensor, config: Config, rng: torch.Generator) -> Tensor:
    """A view of an image (1, 1, D, H, W), or the image itself: ``augment.views`` is the share of the former."""
    if torch.rand((), generator=rng) < config.augment.views:
        return view(image, rng, spacing_mm=config.data.spacing_mm)
    return image


def partner(volumes: Sequence[Volume], at: int) -> Volume:
    """Another volume of the same group; the next one where there are no groups, or none of that group is left."""
    others = [*volumes[at + 1 :], *volumes[:at]]
    return next((v for v in others if v.group == volumes[at].group), others[0])


def mixed(seed: int, step: int) -> int:
    """One seed for each pair of seed and step."""
    return (seed * 1_000_003 + step) % 2**63


def _moving(data: Dataset, which: str, at: int, rng: torch.Generator) -> Tensor:
    if which == "reference":
        assert data.reference is not None
        return data.reference
    if which == "group" or (which == "mixed" and torch.rand((), generator=rng) < 0.5):
        return partner(data.train, at).image
    other = int(torch.randint(len(data.train) - 1, (), generator=rng))
    return data.train[(at + 1 + other) % len(data.train)].image


@dataclass(frozen=True)
class Volume:
    """A subject on the network's grid: image (1, 1, D, H, W) normalised, labels of the same shape, int64, or None."""

    name: str
    image: Tensor
    labels: Tensor | None
    group: str = ""


def prepare(
    subject: Subject, reference: sitk.Image, grid: Grid, *, alignment: str, step: Callable[[], None] = lambda: None
) -> Volume:
    """Reads a subject, aligns it with the reference and puts it on the network's grid.

    ``alignment`` is one of the choices of ``data.alignment``.
    """
    image, labels = read_subject(subject)
    # The map from the reference to the subject is what resampling onto the reference's grid needs.
    to_subject = None
    if alignment == "affine":
        to_subject = align(reference, image, step=step)
    elif alignment == "centres":
        to_subject = align_centres(reference, image)
    on_grid = whole_tensor(resample(labels, grid, to_subject, labels=True)) if labels is not None else None
    return Volume(subject.name, network_input(image, grid, to_subject), on_grid, subject.group)
