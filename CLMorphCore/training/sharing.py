"""The volumes of a training by several processes: those of one machine have one copy of them, in a file."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..io.scratch import lasting_array, opened_array, shared_array
from .batches import Dataset, Volume
from .processes import Team

LESS = "take a coarser data.spacing_mm, or fewer scans"  # where the disk has no room


@dataclass(frozen=True)
class Outline:
    """What a process has to know of process 0's volumes before it has them.

    named   name and group of each
    kind    of a voxel
    """

    reference: Tensor | None
    named: tuple[tuple[str, str], ...]
    shape: tuple[int, ...]
    kind: np.dtype


def outline_of(data: Dataset) -> Outline:
    """The outline of the training's volumes; their labels, and those of validation, are process 0's alone."""
    named = tuple((volume.name, volume.group) for volume in data.train)
    first = data.train[0].image
    return Outline(data.reference, named, tuple(first.shape[2:]), first.numpy().dtype)


def give(data: Dataset, team: Team) -> None:
    """Gives the volumes to the others, who ``receive`` them, and has those of process 0 itself in their common file."""
    for volume, shared in zip(data.train, _shared(outline_of(data), data.train, team), strict=True):
        volume.image.data = shared  # or the memory would hold them still, for whoever has ``data``


def receive(outline: Outline, team: Team) -> Dataset:
    """The volumes that process 0 gives."""
    images = _shared(outline, [], team)
    train = [Volume(name, image, None, group) for (name, group), image in zip(outline.named, images, strict=True)]
    return Dataset(outline.reference, train, [])


def _shared(outline: Outline, own: list[Volume], team: Team) -> list[Tensor]:
    """Process 0's ``own`` images, (1, 1, D, H, W) each, in a file that the first process of each machine makes.

    Where a process sees none of these files, it makes its own. OutputError where the disk has no room.
    """
    shape = (len(outline.named), *outline.shape)
    with ExitStack() as stack:
        array, path = None, None
        if team.leads or team.local == 0:
            array, path = stack.enter_context(shared_array(shape, outline.kind, LESS))
        fills = array is not None
        for other in team.everyones(path):
            if array is None and other is not None:
                array = opened_array(other, shape, outline.kind)
        if array is None:
            array, fills = lasting_array(shape, outline.kind, LESS), True
        blank = torch.from_numpy(np.empty((1, 1, *outline.shape), outline.kind))
        for n in range(len(outline.named)):
            sent = team.send(own[n].image.contiguous() if own else blank)
            if fills:
                array[n] = sent[0, 0].numpy()
        team.everyones(None)  # now all are there, and every file has been opened that will be
    return [image[None, None] for image in torch.from_numpy(array)]
