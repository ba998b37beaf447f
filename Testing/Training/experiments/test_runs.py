"""A small data set through the whole of it: prepared once, trained, measured, written down, not run again."""

import csv
import json
import math
import shutil
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch
from made_up import ellipsoid_atlas

from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.errors import InputError
from CLMorphCore.geometry import Grid, resample_labels
from CLMorphCore.metrics import dice_per_label
from Training.experiments import __main__ as command
from Training.experiments import datasets
from Training.experiments.catalogue import PAPER, STEPS
from Training.experiments.datasets import common_divisor, prepare_protocol
from Training.experiments.plan import Planned, planned_runs
from Training.experiments.runs import configuration, perform
from Training.experiments.store import BY_PRODUCT, SEGMENTATION, load


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Seven made-up hippocampi in the Decathlon's layout."""
    folder = tmp_path_factory.mktemp("data") / "Task04_Hippocampus"
    atlas = ellipsoid_atlas((26, 24, 22), 1.5)
    splits = ["train"] * 4 + ["validation"] + ["test"] * 2
    for n, _ in enumerate(splits):
        phantom = make_phantom(atlas, seed=n)
        for kind, image in (("imagesTr", phantom.image), ("labelsTr", sitk.Cast(phantom.labels, sitk.sitkUInt8))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, str(folder / kind / f"hippocampus_{n:03d}.nii.gz"))
    with (folder / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("subject", "split"), *((f"hippocampus_{n:03d}", s) for n, s in enumerate(splits))])
    return folder.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def protocol(data, folder):
    return prepare_protocol("hippocampus", data, folder / "work" / "prepared", (16, 16, 16), lambda text: None)


def small(planned: Planned) -> Planned:
    """The same with a network that trains in a second."""
    return Planned(
        planned.dataset,
        planned.system,
        planned.variant,
        planned.seed,
        planned.budget_minutes,
        {"network": {"channels": [4, 8, 8], "embedding": 8}, **planned.overrides},
    )


@pytest.fixture(scope="module")
def results(protocol, folder) -> Path:
    affine = Planned("hippocampus", "affine", PAPER, 0, 0.0)
    for planned in (affine, small(Planned("hippocampus", "clmorph", PAPER, 3, 0.02))):
        perform(planned, protocol, folder, torch.device("cpu"))
    return folder


def test_what_is_prepared_is_read_again_the_same(data, tmp_path, monkeypatch):
    first = prepare_protocol("hippocampus", data, tmp_path, (16, 16, 16), lambda text: None)
    said = []
    monkeypatch.setattr(datasets, "align", lambda *a, **k: pytest.fail("aligned again"))
    again = prepare_protocol("hippocampus", data, tmp_path, (16, 16, 16), said.append)
    assert said == [] and [v.name for v in again.volumes.train] == [v.name for v in first.volumes.train]
    for a, b in zip(first.volumes.train, again.volumes.train, strict=True):
        assert torch.equal(a.image, b.image) and torch.equal(a.labels, b.labels)


def test_the_initial_alignment_alone_is_a_system(protocol, results):
    rows = [r for r in load(results).regions if "/affine/" in r.run and r.direction == SEGMENTATION]
    assert len(rows) == 2 * 2
    case = protocol.cases[0]
    (fixed, expected), (_, labels) = case.fixed(), case.moving()
    dice = dice_per_label(
        sitk.Cast(resample_labels(labels, Grid.of(fixed), case.affine), sitk.sitkInt32),
        sitk.Cast(expected, sitk.sitkInt32),
    )
    assert {r.region: r.dice for r in rows if r.subject == case.subject} == pytest.approx(dice)


def test_a_run_is_measured_in_both_directions_on_every_test_subject(results):
    found = load(results)
    rows = [r for r in found.regions if "/clmorph/" in r.run]
    assert {(r.direction, r.subject, r.region) for r in rows} == {
        (d, f"hippocampus_{n:03d}", k) for d in (SEGMENTATION, BY_PRODUCT) for n in (5, 6) for k in (1, 2)
    }
    assert all(0 <= r.dice <= 1 for r in rows)
    assert all(0 <= d.folding_fraction <= 1 for d in found.deformations if "/clmorph/" in d.run)


def test_a_network_that_labels_by_itself_has_no_deformation_to_be_praised_for(protocol, tmp_path):
    unet = Planned("hippocampus", "unet", PAPER, 0, 0.01, {"network": {"channels": [4, 8, 8]}})
    found = perform(unet, protocol, tmp_path, torch.device("cpu"))
    assert len(found.regions) == 2 * 2 and all(0 <= row.dice <= 1 for row in found.regions)
    assert all(math.isnan(row.folding_fraction) and row.seconds > 0 for row in found.deformations)
    assert found.example(unet.name).planes[0].warped is None


def test_a_run_tells_what_it_was(results):
    run = next(r for r in load(results).runs if r.system == "clmorph")
    settings = json.loads(run.settings)
    assert settings["training"]["seed"] == run.seed == 3 and settings["training"]["minutes"] == 0.02
    assert settings["loss"]["contrast"] == 0.01 and settings["network"]["name"] == "clmorph"
    losses = json.loads(run.losses)
    assert 0 < losses["contrast"] < 3 * math.log(3) and losses["loss"] > losses["similarity"] > 0
    assert settings["data"]["reference"] == "work/prepared/atlas/image.nii.gz"  # no path of the machine
    assert run.train_seconds >= 1.2 and run.train_steps > 0 and run.parameters > 0 and run.commit


def test_every_system_is_configured_for_every_data_set():
    for name in ("hippocampus", "acdc", "mindboggle101", "lpba40"):
        settings = datasets.shared_settings(name)
        configs = [
            configuration(settings, {1: "one", 2: "two"}, run)
            for run in planned_runs("table1", name, minutes=1.0)
            if run.system != "affine"
        ]
        assert {c.training.schedule for c in configs} == {"cosine"}
        rates = {c.network.name: c.training.learning_rate for c in configs}
        assert rates.pop("lapirn") == 1e-4 and set(rates.values()) == {1e-3}
        assert all(n <= 32 for n in common_divisor(configs))


def test_the_command_runs_what_is_missing_and_nothing_else(data, tmp_path, capsys):
    words = [
        "table1",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "out"),
        "--systems",
        "affine",
        "--budget",
        "0.01",
        "--threads",
        "1",
    ]
    assert command.main(words) == 0
    assert "1 runs, 1 to do" in capsys.readouterr().out
    assert (tmp_path / "out" / "report" / "report.html").exists()
    assert command.main(words) == 0
    assert "1 runs, 0 to do" in capsys.readouterr().out


def test_steps_are_a_budget_that_no_clock_shortens(data, tmp_path):
    words = ["table1", "--data", data, "--out", tmp_path, "--systems", "clmorph", "--steps", "2", "--device", "cpu"]
    assert command.main([str(word) for word in (*words, "--no-report")]) == 0
    (run,) = load(tmp_path).runs
    assert run.name == "hippocampus/clmorph/paper/seed0/2steps" and run.train_steps == 2
    assert str(run.budget) == "2 steps"
    (planned,) = planned_runs("table1", "hippocampus", systems=["clmorph"], minutes=2, clock=STEPS)
    training = configuration(datasets.shared_settings("hippocampus"), {1: "one"}, planned).training
    assert (training.steps, training.minutes) == (2, 0.0)


def test_a_run_that_fails_is_named_and_the_others_are_done(data, tmp_path, capsys, monkeypatch):
    def failing(run, *rest):
        if run.system == "syn":
            raise InputError("no ANTs here")
        return perform(run, *rest)

    monkeypatch.setattr("Training.experiments.runs.perform", failing)
    words = ["table1", "--systems", "syn", "affine", "--data", str(data), "--out", str(tmp_path), "--device", "cpu"]
    assert command.main(words) == 2
    said = capsys.readouterr()
    assert "syn/paper/seed0/0min failed: no ANTs here" in said.out and "1 runs failed" in said.err
    assert load(tmp_path).has("hippocampus/affine/paper/seed0/0min") and (tmp_path / "report" / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["table9"], "unknown experiment 'table9'"),
        (["table1", "--systems", "voxelmorf"], "unknown system 'voxelmorf'; did you mean voxelmorph"),
        (["table1", "--datasets", "lpba40"], "unknown data set 'lpba40'"),
        (["table1", "--budget", "-1"], "--budget -1: expected minutes above zero"),
        (["table1", "--budget", "inf"], "--budget inf: expected minutes above zero and finite"),
        (["table1", "--budget", "nan"], "--budget nan: expected minutes above zero"),
        (["table1", "--steps", "0"], "--steps 0: expected steps above zero"),
    ],
)
def test_bad_input_is_one_line(words, expected, data, tmp_path, capsys):
    assert command.main([*words, "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert expected in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_results_folder_that_is_a_file_is_refused(data, tmp_path, capsys):
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    assert command.main(["table1", "--data", str(data), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "out is a file; expected a folder" in said and said.count("\n") == 1
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


def test_what_was_prepared_of_another_split_is_refused(data, tmp_path):
    """Volumes of the old train split were trained on, while the new one was measured on them."""
    cache, other = tmp_path / "prepared", tmp_path / "data"
    prepare_protocol("hippocampus", data, cache, (16, 16, 16), lambda text: None)
    shutil.copytree(data, other)
    split = other / "Task04_Hippocampus" / "split.csv"
    text = split.read_text(encoding="utf-8")
    split.write_text(text.replace("003,train", "003,test").replace("005,test", "005,train"), encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    with pytest.raises(InputError) as refused:
        prepare_protocol("hippocampus", other, cache, (16, 16, 16), lambda text: None)
    said = str(refused.value)
    assert "train split differs in hippocampus_003, hippocampus_005" in said
    assert said.endswith(f"choose another --out, or delete {cache}")
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()} == before


def test_a_folder_without_data_sets_is_named(tmp_path, capsys):
    assert command.main(["table1", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "holds none of the data sets lpba40, mindboggle101, acdc, hippocampus" in capsys.readouterr().err
