"""What each table and figure of the paper needs: which systems, trained how, with which seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from CLMorphCore.errors import InputError, did_you_mean
from CLMorphCore.networks import NETWORKS

from .measures import PAPER, SUPERVISED
from .store import NOT_TRAINED

AFFINE = "affine"  # the system that does nothing after the initial alignment
REGISTERING = ("clmorph", "clmorph-byol", "voxelmorph", "faim", "lapirn", "vtn", "pdd-net", "lvm-s3", "clmorph-pyramid")
UNTRAINED = (AFFINE, *(name for name, system in NETWORKS.items() if not system.trained))
SYSTEMS = (*UNTRAINED, *REGISTERING, SUPERVISED)
CARDIAC = ("syn", "voxelmorph", "lvm-s3", "clmorph")  # the rows of table IV
WEIGHTS = (0.001, 0.01, 0.1, 1.0, 10.0)  # of figure 8, for α and for β

# One for all: budgets of minutes are too short for the papers' own, which are for days. But LapIRN keeps its own: its
# velocities are sums over 28·5³ inputs, which steps of 1e-3 throw across the image.
LEARNING_RATE = 1e-3
OWN_LEARNING_RATE = {"lapirn": 1e-4}

Overrides = Mapping[str, Mapping[str, Any]]

# Table III: terms of equation 9. Without L_smooth nothing holds the variance, so there is none: z is the mean.
_WITHOUT_SMOOTH = {"network": {"probabilistic": False}, "loss": {"regulariser": "diffusion", "smooth": 0.0}}
ABLATION: dict[str, tuple[str, Overrides]] = {
    "recon": ("clmorph", {**_WITHOUT_SMOOTH, "loss": {**_WITHOUT_SMOOTH["loss"], "contrast": 0.0}}),
    "recon+smooth": ("clmorph", {"loss": {"contrast": 0.0}}),
    "recon+contrast": ("clmorph", _WITHOUT_SMOOTH),
    "recon+smooth+contrast": ("clmorph", {}),
    "recon+byol": ("clmorph", {**_WITHOUT_SMOOTH, "loss": {**_WITHOUT_SMOOTH["loss"], "contrastive": "byol"}}),
    "recon+smooth+byol": ("clmorph-byol", {}),
}
# Beyond the paper: what each contrast, similarity at the coarser levels, and steps that are learned add to the
# coarse-to-fine network.
PYRAMID = "clmorph-pyramid"
PYRAMID_ABLATION: dict[str, Overrides] = {
    "lncc": {"loss": {"contrast": 0.0}},
    "lncc+image": {},
    "lncc+voxel": {"loss": {"contrast": 0.0, "voxel_contrast": 0.02}},
    "lncc+image+voxel": {"loss": {"voxel_contrast": 0.02}},
    "lncc+coarse": {"loss": {"contrast": 0.0, "coarse": 0.5}},
    "lncc+passes": {"loss": {"contrast": 0.0}, "network": {"passes": 3}},
    "lncc+forces": {"loss": {"contrast": 0.0}, "network": {"force_window_voxels": 5}},
    "lncc+passes+forces": {"loss": {"contrast": 0.0}, "network": {"passes": 3, "force_window_voxels": 5}},
}


@dataclass(frozen=True)
class Planned:
    """One run: a system trained on a data set with a seed and a budget, and evaluated on its test subjects."""

    dataset: str
    system: str
    seed: int
    budget_minutes: float
    variant: str = PAPER
    overrides: Overrides = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """dataset/system/variant/seed/budget: the same run has the same name in every experiment."""
        return f"{self.dataset}/{self.system}/{self.variant}/seed{self.seed}/{self.budget_minutes:g}min"


def comparison(dataset: str, systems: Iterable[str], seed: int, minutes: float) -> list[Planned]:
    """Every system once: tables I, II and IV, figures 2 to 6."""
    return [Planned(dataset, s, *((0, NOT_TRAINED) if s in UNTRAINED else (seed, minutes))) for s in systems]


def ablation(dataset: str, seeds: Sequence[int], minutes: float) -> list[Planned]:
    """Table III: the terms of equation 9 one by one, and the supervised bound, each with every seed."""
    planned = []
    for seed in seeds:
        for variant, (system, overrides) in ABLATION.items():
            # All terms together are the system as it is: one run serves both tables.
            planned.append(Planned(dataset, system, seed, minutes, variant if overrides else PAPER, overrides))
        planned.append(Planned(dataset, SUPERVISED, seed, minutes))
    return planned


def pyramid_ablation(dataset: str, seeds: Sequence[int], minutes: float) -> list[Planned]:
    """The coarse-to-fine network with each of what may be added to it, with every seed."""
    return [
        Planned(dataset, PYRAMID, seed, minutes, variant if overrides else PAPER, overrides)
        for seed in seeds
        for variant, overrides in PYRAMID_ABLATION.items()
    ]


def weight_grid(dataset: str, seed: int, minutes: float) -> list[Planned]:
    """Figure 8: CLMorph for every α and β."""
    return [
        Planned(
            dataset,
            "clmorph",
            seed,
            minutes,
            f"alpha={alpha:g},beta={beta:g}",
            {"loss": {"smooth": alpha, "contrast": beta}},
        )
        for alpha, beta in product(WEIGHTS, WEIGHTS)
    ]


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
)


def planned_runs(
    experiment: str, dataset: str, *, systems: Sequence[str] = SYSTEMS, seeds: Sequence[int] = (0, 1, 2), minutes: float
) -> list[Planned]:
    """The runs behind an experiment on a data set; InputError for a name that is none of EXPERIMENTS."""
    if experiment not in EXPERIMENTS:
        raise InputError(f"unknown experiment {experiment!r}{did_you_mean(experiment, [*EXPERIMENTS, 'all'])}")
    if experiment == "table3":
        return ablation(dataset, seeds, minutes)
    if experiment == "pyramid":
        return pyramid_ablation(dataset, seeds, minutes)
    if experiment == "table4":
        return comparison(dataset, [s for s in systems if s in (AFFINE, *CARDIAC)], seeds[0], minutes)
    if experiment == "figure7":
        with_and_without = ("recon+smooth+contrast", "recon+smooth")
        return [
            p
            for p in ablation(dataset, seeds[:1], minutes)
            if p.system == "clmorph" and p.variant in (PAPER, *with_and_without)
        ]
    if experiment == "figure8":
        return weight_grid(dataset, seeds[0], minutes)
    return comparison(dataset, systems, seeds[0], minutes)


def plan(
    experiments: Sequence[str],
    datasets: Sequence[str],
    *,
    systems: Sequence[str] = SYSTEMS,
    seeds: Sequence[int] = (0, 1, 2),
    minutes: float,
) -> list[Planned]:
    """All runs of several experiments, each once, in the order in which they are first needed."""
    found = {
        run.name: run
        for dataset in datasets
        for experiment in experiments
        for run in planned_runs(experiment, dataset, systems=systems, seeds=seeds, minutes=minutes)
    }
    return list(found.values())
