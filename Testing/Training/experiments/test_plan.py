"""What an experiment runs: every system of the paper, its ablation, its grid; each run once."""

import pytest

from CLMorphCore.errors import InputError
from CLMorphCore.networks import NETWORKS
from Training.experiments.catalogue import (
    ABLATION,
    AFFINE,
    PAPER,
    PYRAMID_ABLATION,
    SUPERVISED,
    SYSTEMS,
    WEIGHTS,
    trained_as,
)
from Training.experiments.plan import EXPERIMENTS, plan, planned_runs


def test_every_system_that_registers_is_a_network_that_the_engine_takes_by_name():
    assert set(SYSTEMS) - {AFFINE, SUPERVISED} == set(NETWORKS)
    assert all(SYSTEMS[name].trained == system.trained for name, system in NETWORKS.items())


def test_all_systems_get_the_same_budget_and_what_is_not_trained_none():
    runs = planned_runs("table1", "hippocampus", minutes=3.0, seeds=(5, 6))
    assert [run.system for run in runs] == list(SYSTEMS)
    trained = [run for run in runs if run.budget_minutes]
    assert {(run.budget_minutes, run.seed) for run in trained} == {(3.0, 5)}
    assert {run.system for run in runs} - {run.system for run in trained} == {AFFINE, "lddmm", "syn"}


def test_the_ablation_has_every_term_with_every_seed_and_the_supervised_bound():
    runs = planned_runs("table3", "hippocampus", minutes=3.0, seeds=(0, 1, 2))
    assert len(runs) == 3 * (len(ABLATION) + 1) and sum(run.system == SUPERVISED for run in runs) == 3
    terms = {run.variant: run.overrides for run in runs if run.seed == 0}
    assert terms["recon"]["loss"] == {"regulariser": "diffusion", "smooth": 0.0, "contrast": 0.0}
    assert terms["recon+smooth"] == {"loss": {"contrast": 0.0}}
    assert "contrast" not in terms["recon+contrast"]["loss"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_only_the_systems_that_are_asked_for_are_run(experiment: str):
    asked = ["clmorph", "clmorph-byol"]
    runs = planned_runs(experiment, "acdc", systems=asked, minutes=3.0)
    everything = planned_runs(experiment, "acdc", minutes=3.0)
    assert [run.name for run in runs] == [run.name for run in everything if run.system in asked]


def test_all_terms_together_are_the_system_itself_and_not_run_twice():
    runs = plan(["table1", "table3", "figure7"], ["hippocampus"], minutes=3.0, seeds=(0, 1))
    names = [run.name for run in runs]
    assert len(names) == len(set(names))
    assert [n for n in names if "/clmorph/" in n and "seed0" in n and f"/{PAPER}/" in n] == [
        "hippocampus/clmorph/paper/seed0/3min"
    ]


def test_the_pyramids_ablation_is_every_addition_with_every_seed():
    runs = planned_runs("pyramid", "hippocampus", minutes=3.0, seeds=(0, 1))
    shown = {trained_as(variant).name for variant in PYRAMID_ABLATION}
    assert {run.variant for run in runs} == shown and PAPER in shown
    assert len(runs) == 2 * len(shown) and len({run.name for run in runs}) == len(runs)


def test_figure_8_is_every_pair_of_weights():
    runs = planned_runs("figure8", "acdc", minutes=1.0)
    weights = {(run.overrides["loss"]["smooth"], run.overrides["loss"]["contrast"]) for run in runs}
    assert len(weights) == len(WEIGHTS) ** 2
    assert {run.system for run in runs} == {"clmorph"}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_has_runs(experiment):
    assert planned_runs(experiment, "acdc", minutes=1.0)


def test_an_unknown_experiment_is_named():
    with pytest.raises(InputError, match="unknown experiment 'table9'; did you mean table"):
        planned_runs("table9", "acdc", minutes=1.0)
