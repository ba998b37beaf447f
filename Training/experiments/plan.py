"""What each table and figure of the paper needs: which systems, trained how, with which seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from CLMorphCore.errors import InputError, did_you_mean

from .catalogue import (
    ABLATION,
    CONTRAST,
    CPU,
    NOT_TRAINED,
    OURS,
    PYRAMID_ABLATION,
    SUPERVISED,
    SYSTEMS,
    WEIGHT_GRID,
    WITH_CONTRAST,
    WITHOUT_CONTRAST,
    Budget,
    Overrides,
    RunKey,
    Variant,
    trained_as,
)


@dataclass(frozen=True)
class Planned(RunKey):
    """A run to do: a system trained on a data set with a seed and a budget, and evaluated on its test subjects.

    ``processes`` is how many of them share the device.
    """

    overrides: Overrides = field(default_factory=dict, compare=False)
    processes: int = field(default=1, compare=False)


def comparison(dataset: str, systems: Iterable[str], seed: int, budget: Budget) -> list[Planned]:
    """Every system once: tables I, II and IV, figures 2 to 6."""
    return [_planned(dataset, Variant(s), seed, budget) for s in systems]


def ablation(dataset: str, seeds: Sequence[int], budget: Budget) -> list[Planned]:
    """Table III: the terms of equation 9 one by one, and the supervised bound, each with every seed."""
    return [
        run
        for seed in seeds
        for run in (*_variants(ABLATION, dataset, seed, budget), _planned(dataset, Variant(SUPERVISED), seed, budget))
    ]


def pyramid_ablation(dataset: str, seeds: Sequence[int], budget: Budget) -> list[Planned]:
    """The coarse-to-fine network with each of what may be added to it, with every seed."""
    return [run for seed in seeds for run in _variants(PYRAMID_ABLATION, dataset, seed, budget)]


def contrast(dataset: str, seeds: Sequence[int], budget: Budget) -> list[Planned]:
    """The contrastive term told apart: each thing that may be contrasted, with every seed."""
    return [run for seed in seeds for run in _variants(CONTRAST, dataset, seed, budget)]


def weight_grid(dataset: str, seed: int, budget: Budget) -> list[Planned]:
    """Figure 8: CLMorph for every α and β."""
    overrides = {
        variant: {"loss": {"smooth": alpha, "contrast": beta}} for (alpha, beta), variant in WEIGHT_GRID.items()
    }
    return _variants(overrides, dataset, seed, budget)


def _variants(overrides: Mapping[Variant, Overrides], dataset: str, seed: int, budget: Budget) -> list[Planned]:
    return [_planned(dataset, trained_as(variant), seed, budget, changed) for variant, changed in overrides.items()]


def _planned(dataset: str, variant: Variant, seed: int, budget: Budget, overrides: Overrides | None = None) -> Planned:
    if not SYSTEMS[variant.system].trained:
        seed, budget = 0, NOT_TRAINED
    return Planned(dataset, *variant, seed, budget.minutes, overrides or {}, clock=budget.clock)


EXPERIMENTS = (
    "table1",
    "table2",
    "table3",
    "table4",
    "figure2",
    "figure3",
    "figure4",
    "figure5",
    "figure6",
    "figure7",
    "figure8",
    "statistics",
    "pyramid",
    "contrast",
)


def planned_runs(
    experiment: str,
    dataset: str,
    *,
    systems: Sequence[str] = tuple(SYSTEMS),
    seeds: Sequence[int] = (0, 1, 2),
    minutes: float,
    clock: str = CPU,
) -> list[Planned]:
    """These systems' runs behind an experiment on a data set; InputError for a name that is none of EXPERIMENTS."""
    runs = _all_runs(experiment, dataset, systems, seeds, Budget(minutes, clock))
    return [run for run in runs if run.system in systems]


def _all_runs(
    experiment: str, dataset: str, systems: Sequence[str], seeds: Sequence[int], budget: Budget
) -> list[Planned]:
    if experiment not in EXPERIMENTS:
        raise InputError(f"unknown experiment {experiment!r}{did_you_mean(experiment, [*EXPERIMENTS, 'all'])}")
    if experiment == "table3":
        return ablation(dataset, seeds, budget)
    if experiment == "pyramid":
        return pyramid_ablation(dataset, seeds, budget)
    if experiment == "contrast":
        return contrast(dataset, seeds, budget)
    if experiment == "table4":
        return comparison(dataset, [s for s in systems if SYSTEMS[s].cardiac], seeds[0], budget)
    if experiment == "figure7":
        shown = (trained_as(WITHOUT_CONTRAST).name, trained_as(WITH_CONTRAST).name)
        return [run for run in ablation(dataset, seeds[:1], budget) if run.system == OURS and run.variant in shown]
    if experiment == "figure8":
        return weight_grid(dataset, seeds[0], budget)
    return comparison(dataset, systems, seeds[0], budget)


def plan(
    experiments: Sequence[str],
    datasets: Sequence[str],
    *,
    systems: Sequence[str] = tuple(SYSTEMS),
    seeds: Sequence[int] = (0, 1, 2),
    minutes: float,
    clock: str = CPU,
) -> list[Planned]:
    """All runs of several experiments, each once, in the order in which they are first needed."""
    runs = {
        run.name: run
        for dataset in datasets
        for experiment in experiments
        for run in planned_runs(experiment, dataset, systems=systems, seeds=seeds, minutes=minutes, clock=clock)
    }
    return list(runs.values())
