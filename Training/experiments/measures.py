"""What every view shares: which runs it shows, and means over regions, seeds and subjects."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from CLMorphCore.metrics import OK

from .store import SEGMENTATION, DeformationRow, RegionRow, Results, Run

CARDIAC = "acdc"
DATASETS = {"hippocampus": "Hippocampus", "lpba40": "LPBA40", "mindboggle101": "Mindboggle101", "acdc": "ACDC"}
SYSTEMS = {  # in the order of the paper's tables
    "affine": "Affine only",
    "lddmm": "LDDMM (UtilzReg)",
    "syn": "SyN",
    "voxelmorph": "VoxelMorph",
    "faim": "FAIM",
    "lapirn": "LapIRN",
    "vtn": "VTN",
    "pdd-net": "PDD-Net",
    "lvm-s3": "LVM-S3",
    "clmorph": "CLMorph",
    "clmorph-byol": "CLMorph (BYOL)",
    "clmorph-pyramid": "CLMorph-Pyramid",
    "unet": "U-Net (supervised)",
}
OURS, SUPERVISED = "clmorph", "unet"
UNSUPERVISED = tuple(system for system in SYSTEMS if system not in ("affine", SUPERVISED))
PAPER = "paper"  # the variant of a system as its paper has it
WITHOUT_CONTRAST, WITH_CONTRAST = "recon+smooth", "recon+smooth+contrast"
ABLATION = ("recon", WITHOUT_CONTRAST, "recon+contrast", WITH_CONTRAST, "recon+byol", "recon+smooth+byol")
WEIGHTS = ("0.001", "0.01", "0.1", "1", "10")

Pair = tuple[str, str]  # system, variant
Detail = TypeVar("Detail", RegionRow, DeformationRow)
AS_PUBLISHED: tuple[Pair, ...] = tuple((system, PAPER) for system in SYSTEMS)
ABLATION_PAIRS: tuple[Pair, ...] = ((SUPERVISED, PAPER), *((OURS, variant) for variant in ABLATION))
PYRAMID_PAIRS: tuple[Pair, ...] = tuple(
    ("clmorph-pyramid", variant)
    for variant in (
        "lncc",
        "lncc+image",
        "lncc+voxel",
        "lncc+image+voxel",
        "lncc+coarse",
        "lncc+passes",
        "lncc+forces",
        "lncc+passes+forces",
    )
)
# All terms together are the system as it is: trained once for both tables.
SAME_RUN: Mapping[Pair, Pair] = {
    (OURS, WITH_CONTRAST): (OURS, PAPER),
    (OURS, "recon+smooth+byol"): ("clmorph-byol", PAPER),
    ("clmorph-pyramid", "lncc+image"): ("clmorph-pyramid", PAPER),
}
WEIGHT_PAIRS: Mapping[Pair, Pair] = {  # (alpha, beta) → the run's system and variant
    (alpha, beta): (OURS, f"alpha={alpha},beta={beta}") for alpha in WEIGHTS for beta in WEIGHTS
}


@dataclass(frozen=True)
class Metric:
    """A column of regions.csv and how it is written."""

    key: str
    title: str
    digits: int
    higher_is_better: bool = False


DICE, HD = Metric("dice", "Dice", 3, higher_is_better=True), Metric("hd_mm", "HD (mm)", 2)
HD95, ASSD = Metric("hd95_mm", "HD95 (mm)", 2), Metric("assd_mm", "ASSD (mm)", 2)
METRICS = (DICE, HD, HD95, ASSD)
PAPER_METRICS = (DICE, HD, ASSD)


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (NaN for fewer than two) and number of the values that are not NaN."""

    mean: float = math.nan
    sd: float = math.nan
    count: int = 0

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        known = [value for value in values if not math.isnan(value)]
        return cls(mean(known), float(np.std(known, ddof=1)) if len(known) > 1 else math.nan, len(known))


@dataclass(frozen=True)
class Selection:
    """The runs of one data set that one view shows, all trained runs under one budget, and their rows by run.

    ``budget_minutes`` is NaN where none was trained; ``left_out`` are the runs of other budgets.
    """

    dataset: str
    direction: str
    budget_minutes: float
    runs: tuple[Run, ...]
    left_out: tuple[str, ...] = ()
    regions: Mapping[str, Sequence[RegionRow]] = field(default_factory=dict)
    deformations: Mapping[str, Sequence[DeformationRow]] = field(default_factory=dict)

    def of(self, system: str, variant: str = PAPER) -> list[Run]:
        """The runs of a system's variant, by seed; none where it was not run."""
        pairs = {(system, variant), SAME_RUN.get((system, variant), (system, variant))}
        return sorted((run for run in self.runs if (run.system, run.variant) in pairs), key=lambda run: run.seed)

    def region_names(self) -> list[str]:
        """The names of all regions that occur, by their numbers."""
        numbers = {row.name: row.region for rows in self.regions.values() for row in rows}
        return sorted(numbers, key=lambda name: (numbers[name], name))


def select(results: Results, dataset: str, pairs: Iterable[Pair], direction: str = SEGMENTATION) -> Selection:
    """The runs of these systems and variants on a data set.

    Where trained runs have several budgets, those of the budget that most of them share are shown (the longest such).
    """
    wanted = {pair for named in pairs for pair in (named, SAME_RUN.get(named, named))}
    runs = [run for run in results.runs if run.dataset == dataset and (run.system, run.variant) in wanted]
    counts = Counter(run.budget_minutes for run in runs if run.train_steps)
    budget = max(counts, key=lambda minutes: (counts[minutes], minutes), default=math.nan)
    shown = tuple(run for run in runs if not run.train_steps or run.budget_minutes == budget)
    names = {run.run for run in shown}
    return Selection(
        dataset,
        direction,
        budget,
        shown,
        tuple(run.run for run in runs if run.run not in names),
        _by_run(results.regions, names, direction),
        _by_run(results.deformations, names, direction),
    )


def comparison(results: Results, dataset: str, direction: str = SEGMENTATION) -> Selection:
    """The systems as published, the trained ones with the seeds that all of them have.

    More seeds of one system would shrink its spread, and so decide its tests. Where no seed is common all are shown.
    """
    selection = select(results, dataset, AS_PUBLISHED, direction)
    trained = [run for run in selection.runs if run.train_steps]
    seeds = common_seeds([run for run in trained if run.system == system] for system in {r.system for r in trained})
    return replace(
        selection, runs=tuple(run for run in selection.runs if not run.train_steps or not seeds or run.seed in seeds)
    )


def common_seeds(groups: Iterable[Iterable[Run]]) -> set[int]:
    """The seeds that every group of runs has."""
    each = [{run.seed for run in runs} for runs in groups]
    return set.intersection(*each) if each else set()


def _by_run(rows: Iterable[Detail], names: set[str], direction: str) -> dict[str, list[Detail]]:
    groups: dict[str, list[Detail]] = {}
    for row in rows:
        if row.run in names and row.direction == direction:
            groups.setdefault(row.run, []).append(row)
    return groups


def per_subject(
    selection: Selection, runs: Iterable[Run], metric: Metric, region: str | None = None, *, complete: bool = False
) -> dict[str, float]:
    """subject → mean over seeds of the mean over regions (or of one region); NaN where no figure exists.

    With ``complete`` a subject that lacks a region's figure has none: the mean of the others would flatter a system
    that loses a difficult region.
    """
    by_seed: dict[str, list[float]] = {}
    for run in runs:
        by_region: dict[str, list[float]] = {}
        for row in selection.regions.get(run.run, ()):
            if region is None or row.name == region:
                by_region.setdefault(row.subject, []).append(getattr(row, metric.key))
        for subject, values in by_region.items():
            by_seed.setdefault(subject, []).append(float(np.mean(values)) if complete else mean(values))
    over_seeds = np.mean if complete else mean
    return {subject: float(over_seeds(values)) for subject, values in by_seed.items()}


def missing(selection: Selection, runs: Iterable[Run], region: str | None = None) -> int:
    """How many regions of subjects lack a counterpart, over all seeds: they have Dice 0 or none, and no distance."""
    return sum(
        row.status != OK
        for run in runs
        for row in selection.regions.get(run.run, ())
        if region is None or row.name == region
    )


def deformation_mean(selection: Selection, runs: Iterable[Run], key: str) -> float:
    """Mean of a column of deformations.csv over subjects and seeds."""
    return mean([getattr(row, key) for run in runs for row in selection.deformations.get(run.run, ())])


def mean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN where there is none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def title_of(dataset: str) -> str:
    """The name that people know a data set by."""
    return DATASETS.get(dataset, dataset)
