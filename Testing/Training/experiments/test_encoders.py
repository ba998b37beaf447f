"""What is measured of an encoder: the formulas at their known values, and a small study from runs to its page."""

import gzip
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic import add_run
from test_runs import data  # noqa: F401  the made-up hippocampi

from CLMorphCore.bundles.config import from_dict
from Training.experiments import encoders, report, weights
from Training.experiments.catalogue import CONTRAST, OURS
from Training.experiments.datasets import prepare_protocol
from Training.experiments.encoders import (
    ALIGNMENT_PAIRS,
    ALIGNMENT_VIEWS,
    CURVES,
    READ_OUT,
    READ_OUT_POSITION,
    UNIFORMITY,
    CurveRow,
    EncoderRow,
    alignment,
    by_run,
    choose_voxels,
    measure_missing,
    of_training,
    read,
    read_out,
    uniformity,
    untrained,
)
from Training.experiments.merge import merge
from Training.experiments.plan import planned_runs
from Training.experiments.runs import perform
from Training.experiments.store import load
from Training.experiments.views.encoders import TITLES, arms_of, write_encoders
from Training.experiments.weights import look

CPU = torch.device("cpu")


def test_alignment_and_uniformity_at_their_known_values():
    east, north = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert alignment(east, 7 * east) == 0.0 and alignment(east, north) == 2.0 and alignment(east, -east) == 4.0
    assert uniformity(torch.cat([east, 3 * east])) == 0.0
    assert uniformity(torch.cat([east, -east])) == pytest.approx(-8.0)
    assert uniformity(torch.cat([east, north])) == pytest.approx(-4.0)


@given(st.integers(0, 10**6))
def test_both_do_not_hang_on_lengths_and_rotations(seed):
    rng = torch.Generator().manual_seed(seed)
    u, v = (torch.randn(5, 3, generator=rng) for _ in range(2))
    turn = torch.linalg.qr(torch.randn(3, 3, generator=rng))[0]
    assert alignment(u, v) == pytest.approx(alignment(2 * u @ turn, v @ turn), abs=1e-5)
    assert uniformity(u) == pytest.approx(uniformity(3 * u @ turn), abs=1e-5) and uniformity(u) <= 0


def test_a_read_out_recognises_what_is_linear_and_no_noise():
    rng = torch.Generator().manual_seed(0)
    classes = torch.arange(300) % 3
    clear = torch.nn.functional.one_hot(classes, 3).float() + 0.05 * torch.randn(300, 3, generator=rng)
    noise = torch.randn(300, 3, generator=rng)
    assert read_out(clear, clear.flip(0), classes, classes.flip(0)) == 1.0
    assert read_out(noise, torch.randn(300, 3, generator=rng), classes, classes) == pytest.approx(1 / 3, abs=0.12)
    rare = torch.cat([torch.zeros(90), torch.ones(10)]).long()
    assert read_out(torch.zeros(100, 1), torch.zeros(100, 1), rare, rare) == 0.5  # balanced: not 0.9


def test_voxels_are_of_their_class_and_the_background_is_near():
    labels = torch.zeros(1, 1, 20, 20, 20, dtype=torch.int64)
    labels[..., 8:12, 8:12, 8:10], labels[..., 8:12, 8:12, 10:12] = 1, 4
    places, classes = choose_voxels(labels, [1, 4], 200, torch.Generator().manual_seed(0))
    values = labels.flatten()[places]
    assert classes.unique().tolist() == [0, 1, 2] and len(places.unique()) == len(places)
    for k, value in enumerate((0, 1, 4)):
        assert (values[classes == k] == value).all() and (classes == k).sum() == (200 if k == 0 else 32)
    z, y, x = torch.unravel_index(places[classes == 0], labels.shape[2:])
    assert all(int(axis.min()) >= 5 and int(axis.max()) <= 14 for axis in (z, y, x))


@pytest.fixture(scope="module")
def study(data, tmp_path_factory):  # noqa: F811
    """One step of each of two variants of the study, by a small network."""
    folder = tmp_path_factory.mktemp("study")
    prepared = folder / "work" / "hippocampus" / "prepared"
    protocol = prepare_protocol("hippocampus", data, prepared, (16, 16, 16), lambda text: None)
    one = protocol.volumes.validation[0]
    volumes = replace(protocol.volumes, validation=[one, *protocol.volumes.train[:2]])
    protocol = replace(protocol, volumes=volumes, cases=protocol.cases[:1])
    runs = [
        replace(
            run,
            overrides=dict(run.overrides)
            | {"network": {"channels": [4, 8, 8], "embedding": 8}, "training": {"batch_size": 2}},
        )
        for run in planned_runs("contrast", "hippocampus", minutes=0.001, seeds=(0,))
        if run.variant in ("eight+views+contrast,beta=1", "eight+voxels,weight=1")
    ]
    for run in runs:
        perform(run, protocol, folder, CPU)
    measure_missing(runs, protocol, folder, CPU, lambda text: None)
    return folder, protocol, runs


def test_every_finished_run_and_the_untrained_encoder_are_measured_once(study):
    folder, protocol, runs = study
    rows, curves = read(folder)
    found = by_run(rows)
    assert set(found) == {untrained("hippocampus", 0).name, *(run.name for run in runs)}
    for of in found.values():
        levels = {f"{READ_OUT}_level{n}" for n in range(3)}
        known = {ALIGNMENT_PAIRS, ALIGNMENT_VIEWS, UNIFORMITY, READ_OUT, READ_OUT_POSITION} | levels
        others = {"chance_contrast", "chance_voxel_contrast", "validation_dice"}
        assert known <= set(of) <= known | others
        assert 0 <= of[ALIGNMENT_VIEWS] <= 4 and -8 <= of[UNIFORMITY] <= 0
        assert all(0 < value <= 1 for name, value in of.items() if name.startswith(READ_OUT))
    terms = {(row.run, row.term) for row in curves}
    assert (runs[0].name, "contrast") in terms and (runs[1].name, "voxel_contrast") in terms
    said = []
    measure_missing(runs, protocol, folder, CPU, said.append)
    assert said == [] and read(folder)[0] == rows


def test_the_page_has_three_figures_and_a_table(study):
    folder, _, _ = study
    made = write_encoders(folder)
    names = ["curves-hippocampus.png", "embeddings-hippocampus.png", "readout-hippocampus.png", "table-hippocampus.md"]
    assert [path.name for path in made] == names and all(path.stat().st_size > 100 for path in made)
    text = (folder / "contrast" / "table-hippocampus.md").read_text(encoding="utf-8")
    assert text.startswith("Training: 0.001 min of one core.") and "| not trained | 1 |" in text
    assert "two views of one image, β = 1" in text and "the place in the grid alone" in text
    assert "pairs (the paper)" not in text  # was not run


def test_the_report_of_what_is_there_runs_nothing(study, capsys):
    folder, _, runs = study
    before = load(folder)
    assert report.main([str(folder), "--pictures-of"]) == 0
    said = capsys.readouterr().out
    assert "report.html" in said and "readout-hippocampus.png" in said and repr(load(folder)) == repr(before)
    text = (folder / "report" / "tables.md").read_text(encoding="utf-8")
    assert "## Hippocampus. Beyond the paper: the contrastive term told apart" in text
    assert "Training: 0.001 min of one core (cpu)." in text and runs[1].variant in text
    assert not (folder / "report" / "figure4-hippocampus.png").exists()
    assert report.main([str(folder / "nothing")]) == 2 and "no finished run" in capsys.readouterr().err


def test_every_variant_has_a_title_and_chance_is_the_logarithm_of_the_candidates(tmp_path):
    assert {variant for _, variant in CONTRAST} < set(TITLES) and {system for system, _ in CONTRAST} == {OURS}
    with gzip.open(tmp_path / "log.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write('{"step": 1, "validation_dice": 0.5}\n{"step": 2, "validation_dice": 0.6}\n')
    for loss, expected in (
        ({}, {"chance_contrast": math.log(15)}),
        ({"contrasted": "views"}, {"chance_contrast": math.log(31)}),
        ({"contrastive": "byol"}, {}),
        ({"contrast": 0.0, "voxel_contrast": 1.0}, {"chance_voxel_contrast": math.log(2048)}),
    ):
        tree = {"network": {"name": OURS}, "loss": loss, "training": {"batch_size": 8}, "augment": {"views": 0.5}}
        found = of_training(from_dict(tree), tmp_path / "log.jsonl.gz")
        assert found == pytest.approx(expected | {"validation_dice": 0.6})


def test_weights_of_another_training_are_looked_into_by_their_file(study, tmp_path, capsys):
    folder, protocol, runs = study
    work = folder / "work" / runs[0].name
    name, start = "brain/clmorph/views/seed0/8min-cuda", "brain/clmorph/untrained/seed0/0min"
    for run in (name, start):
        log = work / "log.jsonl"
        look(run, work / "model" / "weights.safetensors", log, protocol.volumes, tmp_path, initial=run == start)
    found = by_run(read(tmp_path)[0])
    here = by_run(read(folder)[0])
    assert found[name] == pytest.approx(here[runs[0].name], abs=1e-6)
    assert found[start] == pytest.approx(here[untrained("hippocampus", 0).name], abs=1e-6)
    assert "Training: 8 min on a GPU." in write_encoders(tmp_path)[-1].read_text(encoding="utf-8")
    assert weights.main(["clmorph=file", "--data", "no.csv", "--results", str(tmp_path)]) == 2
    assert "'clmorph=file' is no RUN=FILE" in capsys.readouterr().err


def test_measures_are_merged_with_their_runs_and_once(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        add_run(folder, "clmorph", [[0.7, 0.8]], variant="eight")
    first, start = load(there).runs[0].name, untrained("hippocampus", 0).name
    rows = [EncoderRow(first, READ_OUT, 0.5), EncoderRow(start, READ_OUT, 0.4), EncoderRow("killed", READ_OUT, 0.1)]
    encoders._add(there, rows, [CurveRow(first, 3, "contrast", 2.0), CurveRow("killed", 3, "contrast", 2.0)])
    for _ in range(2):
        merge(there, here)
        assert read(here) == (rows[:2], [CurveRow(first, 3, "contrast", 2.0)])
    assert (here / CURVES).exists()
    assert [arm.name for arm in arms_of(load(here), "hippocampus", *read(here))[1]] == ["untrained", "eight"]
