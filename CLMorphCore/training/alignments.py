"""How scans should be brought together before a network registers them: tried on a few pairs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from ..bundles.config import AlignmentKind
from ..errors import InputError
from ..geometry import Grid, foreground_box, grid_over
from ..io.images import read_image
from ..progress import Progress, silent
from .batches import Volume, prepare
from .scans import Scan
from .validation import mean_dice

MAX_PAIRS = 4
WORKING_VOXELS = 64  # of the longest side, for the comparison
MIN_GAIN = 0.01  # of Dice or correlation, by which an affine has to be better than what is simpler
KINDS: tuple[AlignmentKind, ...] = ("given", "centres", "affine")  # the simplest first
WORDS = {"given": "as they lie", "centres": "with centres and axes together", "affine": "affinely aligned"}


@dataclass(frozen=True)
class Alignment:
    """The alignment that was chosen, why, and the seconds that an affine one takes."""

    chosen: AlignmentKind
    reason: str
    seconds: float


def choose_alignment(scans: Sequence[Scan], progress: Progress = silent) -> Alignment:
    """The simplest alignment that brings pairs of scans together about as well as the best one does.

    By the Dice of their labels where both have some, else by the correlation of what both show.
    """
    pairs = _pairs(scans)
    agreement: dict[AlignmentKind, list[float]] = {kind: [] for kind in KINDS}
    seconds = []
    for n, (reference, scan) in enumerate(pairs):
        fixed = read_image(reference.subject.image)
        grid = _working_grid(fixed)
        own = prepare(reference.subject, fixed, grid, alignment="given")
        for kind, measured in agreement.items():
            progress(f"aligning {scan.subject.name} with {reference.subject.name}", n / len(pairs))
            began = time.process_time()
            try:
                measured.append(_agreement(own, prepare(scan.subject, fixed, grid, alignment=kind)))
            except InputError:  # they do not overlap
                measured.append(0.0)
            if kind == "affine":
                seconds.append(time.process_time() - began)
    means: dict[AlignmentKind, float] = {kind: float(np.mean(values)) for kind, values in agreement.items()}
    chosen: AlignmentKind = next(one for one in KINDS if means[one] >= max(means.values()) - MIN_GAIN)
    by = "Dice of labels" if all(scan.values for pair in pairs for scan in pair) else "correlation"
    figures = ", ".join(f"{WORDS[kind]} {mean:.2f}" for kind, mean in means.items())
    return Alignment(chosen, f"{by} of {len(pairs)} pairs: {figures}", float(np.median(seconds)))


def _pairs(scans: Sequence[Scan]) -> list[tuple[Scan, Scan]]:
    """Pairs of scans of two subjects, from all over the list, labelled ones where there are enough."""
    labelled = [scan for scan in scans if scan.values is not None]
    chosen = labelled if len({scan.subject.group or scan.subject.name for scan in labelled}) > 1 else list(scans)
    step = max(1, len(chosen) // (2 * MAX_PAIRS))
    pairs = []
    for n in range(0, len(chosen), step):
        group = chosen[n].subject.group
        others = [s for s in [*chosen[n + 1 :], *chosen[:n]] if not group or s.subject.group != group]
        if others and len(pairs) < MAX_PAIRS:
            pairs.append((chosen[n], others[len(others) // 2]))
    return pairs or [(chosen[0], chosen[-1])]


def _working_grid(image: sitk.Image) -> Grid:
    lower, upper = foreground_box(image)
    finest = float((upper - lower).max()) / WORKING_VOXELS
    spacing = [max(finest, own) for own in Grid.of(image).anatomical_voxel_mm()]
    return grid_over(lower, upper, spacing)


def _agreement(fixed: Volume, moving: Volume) -> float:
    """Mean Dice of the fixed volume's labels, or the correlation where one has none."""
    if fixed.labels is not None and moving.labels is not None:
        return mean_dice(moving.labels, fixed.labels)
    both = torch.stack([fixed.image.flatten(), moving.image.flatten()])
    return float(torch.corrcoef(both)[0, 1].nan_to_num())
