"""From what the scans are like to every setting of their training, each with its reason.

The rules are what was found best by hand for the shipped brain, hippocampus and heart, in units that do not depend on
the species: voxels of the grid, shares of a contrast, seconds measured on the device at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..bundles.config import Config, from_dict
from ..errors import InputError, counted, listed
from ..io.files import short
from . import starting
from .alignments import Alignment
from .fingerprint import Fingerprint
from .grids import NetworkGrid, crop_in_memory, grid_of_start, grid_over_scans, shortened, three
from .measuring import StepCost
from .plan import EVERY_STEP, Choice, Plan, plan_of
from .scans import Scan
from .starting import Start

MIN_SCANS = 2
COARSENED = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)  # how much coarser than the scans the grid may be
# Brains by 60 million voxels of steps in all: on 2 mm 540 crops of 48 and 228 of 64 came to one Dice, .58.
MIN_STEPS, MIN_WHOLE_STEPS = 400, 150  # of the shortest crops or of whole scans: what there must be time for on a grid
STEPS = 500  # for which there would best be time: so long the crops are
MIN_PAIRS_STEPS = 600  # of two pairs each, above which there are two in a batch
WINDOW_VOXELS = 5  # of the local correlation along the axis of the thickest voxels; as long in mm along the others
# Of the contrast: the loss' window is two or four voxels wider. That of the forces is not: on noisy mice wide ones were
# worse (validation Dice .720 against .749 after three minutes), the loss' as good, and better in a refinement.
NOISY, VERY_NOISY = 0.12, 0.25
MAX_WINDOW_VOXELS = 15
SMOOTH = 0.3
WARM_UP = 30  # steps: without, brains at 3 mm were worse after 183 steps than unregistered (Dice .23, affine .42)
FEW_SCANS = 100  # fewer are mirrored, for more variety
MAX_ATLAS_SUBJECTS = 40  # whose average does not change with more
MIN_LABELS_SHARE = 0.25  # of a scan's box: where labels take less, the atlas is cut to them
ATLAS_MARGIN = 0.25  # around them, of their longest side
MUCH_LONGER = 1.25  # than the minutes: the whole, where that is said at once
MIN_TRAINING_SHARE = 0.5  # of the minutes, whatever the rest may take
MAX_SHOWN = 100  # characters of a finding, in an error

MIN_KEPT = 0.7  # Dice of labels put on the grid and back: on coarser ones brains did worse than in crops of finer ones

Cost = Callable[[Config], StepCost]
Structures = Callable[[float], float]  # the Dice that labels keep on a grid so many times as coarse as the scans


def make_plan(
    fingerprint: Fingerprint,
    alignment: Alignment,
    cost: Cost,
    structures: Structures = lambda factor: 1.0,
    *,
    minutes: float,
    name: str = "",
    start: Start | None = None,
    processes: int = 1,
    tell: Callable[[str], None] = lambda text: None,
) -> Plan:
    """The plan for scans that were looked at, pairs of which were aligned, and a device that ``cost`` measures.

    ``structures`` tells what a coarser grid leaves of the labels; without labels nothing is known to be lost.
    ``minutes`` are those of the whole, and it is told where these are too few; ``start`` is the model whose weights the
    training begins with, ``processes`` how many share each batch. InputError, with the first findings, where fewer than
    MIN_SCANS scans are left, and where these are too small for the start's network.
    """
    check_enough(fingerprint)
    scans = [scan for scan in fingerprint.kept if scan.subject.split != "test"]
    rest = rest_minutes(fingerprint.kept, alignment)
    training = round(max(MIN_TRAINING_SHARE * minutes, minutes - rest), 2)
    alignment = alignment if start is None else _as_start(alignment, start)
    if start is None:
        measured = cost(_measurable(scans, start))
        grid, spacing, most = _choose_grid(scans, measured, 60 * training, structures)
    else:
        grid, most = grid_of_start(start, scans), math.inf  # before seconds are spent to measure a step
        measured, spacing = cost(_measurable(scans, start)), starting.data_choices(start, grid.shape)
    window, noise = _window(scans, grid)
    pairs = 2 if 60 * training / measured.seconds(2 * grid.voxels) * processes >= MIN_PAIRS_STEPS else 1
    pairs = math.ceil(pairs / processes) * processes
    crop, cropped = _crop(grid, pairs // processes, measured, most)
    steps = 60 * training / measured.seconds(pairs // processes * math.prod(crop))
    rate, rate_reason = (1e-3, "as for the shipped models") if start is None else (starting.RATE, starting.RATE_REASON)
    rest += registering_minutes(scans, alignment, measured.seconds(grid.voxels))
    _tell_of_minutes(minutes, training, rest, tell)
    choices = [
        *(_network_choices(grid, _odd(WINDOW_VOXELS, grid)) if start is None else starting.network_choices(start)),
        *spacing,
        Choice("data.alignment", alignment.chosen, alignment.reason),
        *(_loss_choices(grid, window, noise, pairs) if start is None else starting.loss_choices(start, pairs)),
        *_augment_choices(scans, grid, crop, cropped),
        *(starting.view_choices(start) if start is not None else []),
        Choice("training.minutes", training, _of_minutes(minutes, training, rest)),
        Choice("training.steps", EVERY_STEP, f"as many as the minutes allow, about {steps:.0f} on this device"),
        Choice("training.batch_size", pairs, _of_pairs(pairs, processes)),
        Choice("training.learning_rate", rate, rate_reason),
        Choice("training.schedule", "cosine", "to zero at the end of the minutes"),
        Choice("training.warm_up", WARM_UP, "steps; by the full rate the first ones would tear the scans apart"),
        _moving(scans, alignment),
        Choice("training.checkpoint_every", 50, "steps; a training that is stopped goes on from there"),
        Choice("training.validate_every", max(50, int(steps) // 500 * 50), "steps"),
        *(_refinement_choices(noise) if start is None else starting.refinement_choices(start)),
        *_atlas_choices(scans),
        *([Choice("start.model", start.given, f"{start.name}: {_kept(start, scans)}")] if start is not None else []),
    ]
    return plan_of(choices, fingerprint.left_out, _about(fingerprint, name))


def _measurable(scans: Sequence[Scan], start: Start | None) -> Config:
    """Of the network whose steps are to be measured."""
    if start is not None:
        return start.config
    return from_dict({"network": _network(grid_over_scans(scans, 1.0), (5, 5, 5)), "loss": {"contrast": 0}})


def _as_start(alignment: Alignment, start: Start) -> Alignment:
    """The start's alignment, which left what its network knows; where its scans lay aligned, what was measured."""
    own = start.config.data.alignment
    return alignment if own == "given" else replace(alignment, chosen=own, reason=f"as {start.name} knows scans")


def _kept(start: Start, scans: Sequence[Scan]) -> str:
    return starting.kept(start, labelled=any(scan.values is not None for scan in scans))


def _refinement_choices(noise: float) -> list[Choice]:
    choices = [Choice("refinement.every_voxel", noise < NOISY, f"noise is {noise:.0%} of the contrast on the grid")]
    if noise >= VERY_NOISY:  # as the mice on which it was tried, which have .37
        choices += [
            Choice("refinement.smoothed", "map", "noise that the network has followed is smoothed too"),
            Choice("refinement.ends", "early", "noise is what is fitted last"),
        ]
    return choices


def check_enough(fingerprint: Fingerprint) -> None:
    """InputError, with the first of what was found, where there are too few scans to train on."""
    count = sum(scan.subject.split != "test" for scan in fingerprint.kept)
    if count >= MIN_SCANS:
        return
    # All of them are told as they are found; here is what most lines have room for.
    left_out = [short(Exception(str(finding)), MAX_SHOWN) for finding in fingerprint.findings if finding.left_out]
    found = listed(left_out, between="; ")
    raise InputError(
        f"{counted(count, 'scan')} can be trained on{f' ({found})' if found else ''}; expected at least "
        f"{MIN_SCANS}, to make a pair",
        "add scans; one labelled scan is an atlas without any training: clmorph segment, with it as `atlas`",
    )


def _tell_of_minutes(minutes: float, training: float, rest: float, tell: Callable[[str], None]) -> None:
    whole = training + rest
    if whole > MUCH_LONGER * minutes:
        few = f"{minutes:g} {'minute is' if minutes == 1 else 'minutes are'} too few"
        tell(f"{few}: aligning, atlas and measuring take about {rest:.2g}, the whole about {whole:.2g}")


def _of_minutes(minutes: float, training: float, rest: float) -> str:
    reason, whole = f"of {minutes:g}: aligning, atlas and measuring take about {rest:.2g}", training + rest
    return reason if whole < 1.05 * minutes else f"{reason}, the whole about {whole:.2g}"


def _of_pairs(pairs: int, processes: int) -> str:
    if pairs == 1:
        return "more steps"
    return f"one for each of {processes} processes" if processes > 1 else "time for many steps of two pairs"


def registering_minutes(scans: Sequence[Scan], alignment: Alignment, step_seconds: float) -> float:
    """An estimate of what the network and the tissue model take after the training, of a step that takes so long.

    Scans of the atlas are registered in four rounds, those of the quality as they are and in a few other ways, there
    and back, and labelled; a step is about three passes of the network. What a refinement takes is not known yet.
    """
    count = min(MAX_ATLAS_SUBJECTS, len(scans))
    labelled = min(MAX_ATLAS_SUBJECTS, sum(scan.values is not None for scan in scans))
    affines = 1.5 * 2.25 * labelled * alignment.seconds
    return (affines + 8.0 * labelled + (4 * count + 6.5 * labelled) * step_seconds / 3) / 60


def rest_minutes(scans: Sequence[Scan], alignment: Alignment) -> float:
    """An estimate of what everything but the training takes: affines and registrations of every scan."""
    atlas = min(MAX_ATLAS_SUBJECTS, len(scans))
    affines = 3 * len(scans) + 6 * atlas  # by the reference, the data set and the quality; by the atlas' rounds
    return (1.5 * affines * alignment.seconds + 2.0 * len(scans)) / 60


def _about(fingerprint: Fingerprint, name: str) -> str:
    kept = fingerprint.kept
    voxel, extent = (np.median([getattr(s, key) for s in kept], axis=0)[::-1] for key in ("voxel_mm", "extent_mm"))
    labelled = sum(scan.values is not None for scan in kept)
    return (
        f"{name or 'the data'}: {counted(len(kept), 'scan')}, {labelled} labelled, voxels {_product(voxel)} mm, "
        f"foreground {_product(extent)} mm (x, y, z)"
    )


def _choose_grid(
    scans: Sequence[Scan], cost: StepCost, seconds: float, structures: Structures
) -> tuple[NetworkGrid, list[Choice], float]:
    """The finest grid with time for as many steps as it needs, or the coarsest that keeps the structures.

    And the voxels of a crop with time for STEPS.
    """
    grids = {factor: grid_over_scans(scans, factor) for factor in COARSENED}
    needed = {
        factor: min(MIN_STEPS * math.prod(shortened(grid, grid.shape, 0)), MIN_WHOLE_STEPS * grid.voxels)
        for factor, grid in grids.items()
    }
    long_enough = [factor for factor, voxels in needed.items() if seconds >= cost.seconds(voxels)]
    wanted = min(long_enough, default=max(COARSENED))
    finer = (f for f in reversed(COARSENED) if f <= wanted)
    factor = next((f for f in finer if structures(f) >= MIN_KEPT), min(COARSENED))
    grid = grids[factor]
    why = "as fine as the scans" if factor == 1 else f"{factor:g} times as long as the scans' shortest voxels"
    if factor < wanted:
        coarser = COARSENED[COARSENED.index(factor) + 1]
        why += f", since labels keep a Dice of {structures(coarser):.2f} only on one {coarser:g} times as coarse"
    reason = f"{why}: a grid of {_product(grid.shape[::-1])} voxels"
    beyond = 0 in grid.margin_voxels
    choices = [
        Choice("data.spacing_mm", _xyz(grid.spacing_mm), reason),
        Choice(
            "data.margin_voxels",
            _xyz(grid.margin_voxels),
            "in their plane the scans reach beyond the organ" if beyond else "where the field fades out",
        ),
    ]
    return grid, choices, seconds / cost.seconds(1) / STEPS


def _network(grid: NetworkGrid, window: Sequence[int]) -> dict[str, Any]:
    return {
        "name": "clmorph-pyramid",
        "channels": [8, 16, *[32] * (grid.levels - 2)],
        "field_level": 1,
        "flat_levels": grid.flat_levels,
        "passes": 3,
        "force_window_voxels": _xyz(window),
    }


def _network_choices(grid: NetworkGrid, window: Sequence[int]) -> list[Choice]:
    coarsest = [n // d for n, d in zip(grid.shape, grid.divisor, strict=True)][::-1]
    reasons = {
        "name": "coarse to fine",
        "channels": f"{grid.levels} levels: the coarsest has {_product(coarsest)} voxels",
        "field_level": "the field at twice the spacing: neighbours move together",
        "flat_levels": "slices lie far apart: at first halved in their plane alone"
        if grid.flat_levels
        else "voxels are about as long along each axis",
        "passes": "each level is an optimiser that has learned its steps",
        "force_window_voxels": "and sees where the local correlation rises",
    }
    return [Choice(f"network.{key}", value, reasons[key]) for key, value in _network(grid, window).items()]


def _window(scans: Sequence[Scan], grid: NetworkGrid) -> tuple[tuple[int, int, int], float]:
    """Odd numbers of voxels (z, y, x), about as long in mm along each axis, and the noise on the grid."""
    spacing, own = np.array(grid.spacing_mm), np.median([scan.voxel_mm for scan in scans], axis=0)
    averaged = float(np.prod(np.maximum(spacing / own, 1.0)))  # voxels of the scans for each of the grid's
    noise = float(np.median([scan.noise for scan in scans])) / math.sqrt(averaged)
    wide = WINDOW_VOXELS + (0 if noise < NOISY else 2 if noise < VERY_NOISY else 4)
    return _odd(wide, grid), noise


def _odd(wide: int, grid: NetworkGrid) -> tuple[int, int, int]:
    """Odd numbers of voxels, each about as long as ``wide`` of the thickest side."""
    spacing = np.array(grid.spacing_mm)
    odd = 2 * np.round((wide * spacing.max() / spacing - 1) / 2) + 1
    return three(np.minimum(odd, MAX_WINDOW_VOXELS).astype(int))


def _loss_choices(grid: NetworkGrid, window: Sequence[int], noise: float, pairs: int) -> list[Choice]:
    length = _product(np.array(window) * grid.spacing_mm)
    return [
        Choice("loss.similarity", "lncc", "one contrast, whatever the scale and the bias of the greys"),
        Choice("loss.window_voxels", _xyz(window), f"{length} mm (z, y, x); noise is {noise:.0%} of the contrast"),
        Choice("loss.regulariser", "diffusion", "smooth fields"),
        Choice("loss.smooth", SMOOTH, "as for the shipped models"),
        Choice(
            "loss.contrast", 0.01 if pairs > 1 else 0.0, "between the pairs of a batch" if pairs > 1 else "one pair"
        ),
        Choice("loss.symmetric", True, "both directions are of use: the atlas to the scan, the scan to the atlas"),
    ]


def _crop(grid: NetworkGrid, pairs: int, cost: StepCost, most: float) -> tuple[tuple[int, int, int], str]:
    """The sides (z, y, x) of what is cut out of each scan of a batch, and why."""
    fits = crop_in_memory(grid, pairs, cost)
    crop = shortened(grid, fits, most / pairs)
    if crop == grid.shape:
        return crop, "whole scans, as the model sees them later"
    return crop, f"{cost.memory_gb:.3g} GB of memory" if crop == fits else "more steps than of whole scans"


def _augment_choices(
    scans: Sequence[Scan], grid: NetworkGrid, crop: tuple[int, int, int], cropped: str
) -> list[Choice]:
    # Scans a little larger than the usual one are not cut either along a side that is whole.
    sides = [2 * n if n == whole else n for n, whole in zip(crop, grid.shape, strict=True)]
    symmetric = _is_symmetric(scans)
    why = "few scans: a mirrored pair is one more" if len(scans) < FEW_SCANS else "there are enough scans"
    return [
        Choice(
            "augment.flip",
            "x" if symmetric or len(scans) < FEW_SCANS else "none",
            "left and right mirror each other" if symmetric else why,
        ),
        Choice("augment.rotation_degrees", 5.0 if grid.flat_levels else 3.0, "what the alignment leaves"),
        Choice("augment.crop", _xyz(sides), cropped),
    ]


def _is_symmetric(scans: Sequence[Scan]) -> bool:
    """Whether the mean picture resembles its mirror image, left for right, as much as it does single scans."""
    mean = np.mean([scan.thumbnail for scan in scans], axis=0)
    mirrored = np.corrcoef(mean.ravel(), mean[:, :, ::-1].ravel())[0, 1]
    single = np.median([np.corrcoef(mean.ravel(), scan.thumbnail.ravel())[0, 1] for scan in scans])
    return bool(mirrored > single)


def _moving(scans: Sequence[Scan], alignment: Alignment) -> Choice:
    """Pairs of one subject where each scan has another one, which lies as it does."""
    groups = [scan.subject.group for scan in scans]
    if alignment.chosen == "centres" and all(group and groups.count(group) > 1 for group in groups):
        return Choice("training.moving", "mixed", "half of the pairs are two scans of one subject")
    return Choice("training.moving", "random", "pairs of any two scans")


def _atlas_choices(scans: Sequence[Scan]) -> list[Choice]:
    subjects = min(MAX_ATLAS_SUBJECTS, len(scans))
    boxes = [scan.labels_mm for scan in scans if scan.labels_mm is not None]
    margin, why = 0.0, "mm around the labels; 0 is the whole average"
    if boxes:
        labels, whole = np.median(boxes, axis=0), np.median([scan.extent_mm for scan in scans], axis=0)
        share = float(np.prod(labels / whole))
        if share < MIN_LABELS_SHARE:
            margin = float(f"{ATLAS_MARGIN * labels.max():.2g}")
            why = f"mm around the labels, which take {share:.0%} of the scans"
    return [
        Choice("atlas.subjects", subjects, f"at most; with more than {MAX_ATLAS_SUBJECTS} the average does not change"),
        Choice("atlas.margin_mm", margin, why),
    ]


def _xyz(numbers: Any) -> list[Any]:
    return list(numbers)[::-1]


def _product(lengths: Sequence[float] | np.ndarray) -> str:
    return " × ".join(f"{length:.3g}" for length in np.asarray(lengths).tolist())
