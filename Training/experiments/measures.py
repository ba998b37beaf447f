"""What every view shares: which runs it shows, and means over regions, seeds and subjects."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from CLMorphCore.metrics import OK
from Training.spread import mean

from .catalogue import AS_PUBLISHED, PAPER, Budget, Variant, trained_as
from .store import SEGMENTATION, DeformationRow, RegionRow, Results, Run

Detail = TypeVar("Detail", RegionRow, DeformationRow)


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
class Selection:
    """The runs of one data set that one view shows, all trained runs under one budget, and their rows by run.

    ``budget`` is None where none was trained; ``left_out`` are the runs of other budgets.
    """

    dataset: str
    direction: str
    budget: Budget | None
    runs: tuple[Run, ...]
    left_out: tuple[str, ...] = ()
    regions: Mapping[str, Sequence[RegionRow]] = field(default_factory=dict)
    deformations: Mapping[str, Sequence[DeformationRow]] = field(default_factory=dict)

    @property
    def budget_minutes(self) -> float:
        """NaN where none was trained."""
        return math.nan if self.budget is None else self.budget.minutes

    def of(self, system: str, variant: str = PAPER) -> list[Run]:
        """The runs of a system's variant, by seed; none where it was not run."""
        wanted = Variant(system, variant)
        shown = (wanted, trained_as(wanted))
        return sorted((run for run in self.runs if (run.system, run.variant) in shown), key=lambda run: run.seed)

    def region_names(self) -> list[str]:
        """The names of all regions that occur, by their numbers."""
        numbers = {row.name: row.region for rows in self.regions.values() for row in rows}
        return sorted(numbers, key=lambda name: (numbers[name], name))


def budgets(results: Results, dataset: str, variants: Iterable[Variant]) -> list[Budget]:
    """The budgets that these variants were trained with on a data set: the one that most runs have first.

    Of two that equally many have, the longer one comes first.
    """
    counts = Counter(run.budget for run in _runs_of(results, dataset, variants) if run.train_steps)
    return sorted(counts, key=lambda budget: (counts[budget], budget), reverse=True)


def _runs_of(results: Results, dataset: str, variants: Iterable[Variant]) -> list[Run]:
    wanted = {one for variant in variants for one in (variant, trained_as(variant))}
    return [run for run in results.runs if run.dataset == dataset and (run.system, run.variant) in wanted]


def select(
    results: Results,
    dataset: str,
    variants: Collection[Variant],
    direction: str = SEGMENTATION,
    budget: Budget | None = None,
) -> Selection:
    """The runs of these variants of systems on a data set: those that are not trained, and those of one budget.

    Without a ``budget`` it is the first of ``budgets``.
    """
    runs = _runs_of(results, dataset, variants)
    budget = budget or next(iter(budgets(results, dataset, variants)), None)
    shown = tuple(run for run in runs if not run.train_steps or run.budget == budget)
    names = {run.name for run in shown}
    return Selection(
        dataset,
        direction,
        budget,
        shown,
        tuple(run.name for run in runs if run.name not in names),
        _by_run(results.regions, names, direction),
        _by_run(results.deformations, names, direction),
    )


def comparison(
    results: Results, dataset: str, direction: str = SEGMENTATION, budget: Budget | None = None
) -> Selection:
    """The systems as published, the trained ones with the seeds that all of them have.

    More seeds of one system would shrink its spread, and so decide its tests. Where no seed is common all are shown.
    """
    selection = select(results, dataset, AS_PUBLISHED, direction, budget)
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
        for row in selection.regions.get(run.name, ()):
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
        for row in selection.regions.get(run.name, ())
        if region is None or row.name == region
    )


def deformation_mean(selection: Selection, runs: Iterable[Run], key: str) -> float:
    """Mean of a column of deformations.csv over subjects and seeds."""
    return mean([getattr(row, key) for run in runs for row in selection.deformations.get(run.name, ())])
