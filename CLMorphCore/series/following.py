"""Frames follow one of them: each is registered to it directly, from where the frame before it has led.

Maps between neighbours that are composed drift: on made-up hearts of 8 frames their end is 5 mm beside their beginning,
and Dice falls to 0.91. A map to the one frame itself, optimized from its neighbour's, cannot: 0.975 there, and 0.951
from the network's own answer, which does not know where the heart was a moment ago (docs/series.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..bundles.model import Model
from ..geometry import resample
from ..instance_optimization import InstanceOptimization
from ..matching import PreparedAtlas, align_scan, match, prepare_image
from ..progress import Progress, Stopwatch
from ..registration import Registration, registration_of

FOLLOWING = InstanceOptimization(steps=30)  # at each resolution: a neighbour's map is near
MIN_NEIGHBOURS = 5  # frames, below which they are too far apart for that: the network's own answer is nearer


@dataclass(frozen=True)
class Closing:
    """How far apart the two ways round a cycle end, where they meet: mean and greatest distance in the labels, mm."""

    frame: int
    mean_mm: float
    max_mm: float


@dataclass(frozen=True)
class Followed:
    """One frame's map to the frame that is followed."""

    frame: int
    registration: Registration


def ways(numbers: Sequence[int], key: int, count: int, cyclic: bool) -> list[list[int]]:
    """Two orders in which frames follow ``key``, each from the nearest one on; in a cycle both end in the same frame.

    ``numbers`` are the frames, of ``count``.
    """
    others = sorted(n for n in set(numbers) if n != key)
    if not cyclic or len(others) < count - 1 or count < MIN_NEIGHBOURS:
        return [[n for n in others if n > key], [n for n in reversed(others) if n < key]]
    half = count // 2
    return [[(key + n) % count for n in range(1, half + 1)], [(key - n) % count for n in range(1, count - half + 1)]]


def follow(
    frames: Sequence[sitk.Image],
    key: int,
    numbers: Sequence[int],
    model: Model,
    *,
    labels: sitk.Image | None,
    cyclic: bool,
    optimization: InstanceOptimization | None,
    watch: Stopwatch,
    progress: Progress,
) -> Iterator[Followed | Closing]:
    """T: frame → frame ``key``, LPS, mm, of each of ``numbers`` but ``key`` itself, in the order they were found.

    They lie as they were scanned, no affine is between them. With ``optimization`` each starts from its neighbour's
    map where all frames are there, else from the network's answer; without, it stays at that answer. Of a ``cyclic``
    series, followed in full both ways round, ``Closing`` tells the error in the ``labels`` of ``key``. Raises what
    ``progress`` raises.
    """
    prepared, done, ends = prepare_image(model, frames[key]), 0, dict[int, Tensor]()
    orders = ways(numbers, key, len(frames), cyclic)
    in_full = len({key, *numbers}) == len(frames) >= MIN_NEIGHBOURS
    optimizes = optimization is not None and optimization.steps > 0  # a neighbour's map alone would stay what it is
    for order in orders:
        start = torch.zeros((1, 3, *prepared.grid.shape), device=model.device)
        for n in order:
            progress(f"frame {n + 1}", done / sum(map(len, orders)))
            scan = align_scan(frames[n], prepared, model, affine=sitk.AffineTransform(3), watch=watch)
            near = start if in_full and optimizes else None
            found = match(scan, prepared, model, optimization=optimization, start=near, watch=watch)
            start, done = found.on_grid, done + 1
            if n in ends:  # where the other way has ended
                yield closing(n, ends[n] - start, prepared, labels)
                continue
            yield Followed(n, registration_of(replace(found, inverse=None), watch))
        ends = {order[-1]: start} if order else {}


def closing(frame: int, difference: Tensor, prepared: PreparedAtlas, labels: sitk.Image | None) -> Closing:
    """Lengths of a difference (1, 3, D, H, W) in voxels of the network's grid where there are labels, or everywhere."""
    grid = prepared.grid
    lengths = (difference[0] * torch.tensor(grid.voxel_mm)[:, None, None, None]).norm(dim=0).cpu().numpy()
    if labels is not None:
        inside = sitk.GetArrayFromImage(resample(labels, grid, labels=True)) > 0
        lengths = lengths[inside] if inside.any() else lengths
    return Closing(frame, float(np.mean(lengths)), float(np.max(lengths)))
