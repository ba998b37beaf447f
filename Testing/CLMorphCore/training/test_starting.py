"""A training that starts from a model keeps what fits, says so, and is never worse on validation than its start."""

import json
from dataclasses import replace

import pytest
import torch

from CLMorphCore.bundles import checkpoint
from CLMorphCore.bundles.config import from_dict
from CLMorphCore.bundles.model import initial_weights, load_model
from CLMorphCore.errors import Cancelled, InputError
from CLMorphCore.io.layouts import find_scans
from CLMorphCore.training.loop import train
from CLMorphCore.training.plan import plan_text, read_plan, write_plan
from CLMorphCore.training.run import plan_scans
from CLMorphCore.training.starting import read_start
from CLMorphCore.training.workflow import train_scans

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("quick")

BRAIN = f"brain {load_model('brain').about('version')}"


def weights(run):
    return checkpoint.load(run / "model" / "weights.safetensors")


def log(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def plan_by_rate(plan_file):
    """A plan of eight steps with a learning rate."""

    def plan(rate, **training):
        plan = read_plan(plan_file)
        config = replace(plan.config, training=replace(plan.config.training, learning_rate=rate, **training))
        text = plan.text.replace("learning_rate = 1e-3", f"learning_rate = {rate}")
        return replace(plan, config=config, text=text)

    return plan


def test_a_start_that_training_spoils_stays_the_model_and_the_page_says_so(made, folder, plan_by_rate, tmp_path):
    told = []
    how = {"minutes": 1.0, "device": CPU, "initial": made / "model"}
    found = find_scans(folder)
    few = replace(found, subjects=tuple(s for s in found.subjects if s.name in ("s0", "s1", "s3", "s4")))
    train_scans(few, tmp_path / "run", plan=plan_by_rate(0.5), tell=told.append, **how)
    kept, header = weights(tmp_path / "run")
    start, _ = weights(made)
    assert header["step"] == 0 and all(torch.equal(kept[key], start[key]) for key in start)
    measured = [record["validation_dice"] for record in log(tmp_path / "run") if "validation_dice" in record]
    assert len(measured) == 3 and max(measured[1:]) < measured[0]
    assert "The start was not improved" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "kept its network, its spacing of 4 × 4 × 4 mm and its losses; made anew: the average atlas" in str(told[-1])
    model = load_model(tmp_path / "run" / "model")
    assert (
        model.about("start") == str(told[-1]).partition(":")[0] and model.about("training_data") == "2 images, 8 steps"
    )


def test_the_best_validation_is_the_model_and_an_interruption_does_not_change_it(made, folder, plan_by_rate, tmp_path):
    config = plan_by_rate(2e-3, validate_every=2).config
    how = {"device": CPU, "initial": initial_weights(made / "model")}
    train(config, find_scans(folder).subjects, tmp_path / "whole", **how)
    measured = {r["step"]: r["validation_dice"] for r in log(tmp_path / "whole") if "validation_dice" in r}
    best = max(measured, key=lambda step: (measured[step], -step))
    assert sorted(measured) == [0, 2, 4, 6, 8] and weights(tmp_path / "whole")[1]["step"] == best

    with pytest.raises(Cancelled):
        train(config, find_scans(folder).subjects, tmp_path / "parts", progress=stop_at("training 5/"), **how)
    train(config, find_scans(folder).subjects, tmp_path / "parts", device=CPU, resume=True)
    parts, whole = (weights(tmp_path / name) for name in ("parts", "whole"))
    assert parts[1]["step"] == best and all(torch.equal(parts[0][key], whole[0][key]) for key in whole[0])


def stop_at(what):
    def progress(step, fraction):
        if step.startswith(what):
            raise Cancelled

    return progress


def test_without_labels_the_loss_of_pairs_judges_and_the_starts_atlas_is_kept(made, folder, plan_by_rate, tmp_path):
    found = find_scans(folder)
    unlabelled = replace(found, subjects=tuple(replace(s, labels=None, split="train") for s in found.subjects[:3]))
    how = {"minutes": 1.0, "device": CPU, "plan": plan_by_rate(0.5), "initial": made / "model"}
    with pytest.raises(Cancelled):
        train_scans(unlabelled, tmp_path / "run", progress=stop_at("training 2/"), **how)
    train_scans(unlabelled, tmp_path / "run", minutes=1.0, device=CPU)  # the plan knows its start
    measured = [r["validation_loss"] for r in log(tmp_path / "run") if "validation_loss" in r]
    assert len(measured) == 3 and min(measured[1:]) > measured[0] and weights(tmp_path / "run")[1]["step"] == 0
    model, start = load_model(tmp_path / "run" / "model"), load_model(made / "model")
    assert [s.name for s in model.atlases[0].structures] == [s.name for s in start.atlases[0].structures]
    assert model.tissue == start.tissue


def test_a_network_alone_starts_from_a_models_folder_as_from_its_file(made, folder, clmorph, tmp_path):
    config = tmp_path / "c.toml"
    tree = weights(made)[1]["config"]
    sections = {name: table for name, table in tree.items() if name in ("network", "data", "loss")}
    text = "".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        for name, table in sections.items()
    )
    config.write_text(text + "[training]\nsteps = 1\nbatch_size = 1\n")
    for name, given in (("one", made / "model"), ("two", made / "model" / "weights.safetensors")):
        words = ("train", config, "--data", made / "scans.csv", "-o", tmp_path / name, "--initial", given)
        ran = clmorph(*words)
        assert ran.code == 0, ran.err
    one, two = (weights(tmp_path / name) for name in ("one", "two"))
    assert one[1]["step"] == two[1]["step"] and all(torch.equal(one[0][key], two[0][key]) for key in one[0])


def test_the_plan_keeps_what_must_fit_each_with_its_reason(made, folder, clmorph, tmp_path):
    ran = clmorph("plan", folder, "-o", tmp_path / "plan.toml", "--minutes", "2", "--initial", made / "model")
    assert ran.code == 0, ran.err
    plan, start = read_plan(tmp_path / "plan.toml"), read_start(made / "model")
    assert plan.start == start.given == str(made / "model") and plan.config.network == start.config.network
    for key in ("spacing_mm", "margin_voxels"):
        assert getattr(plan.config.data, key) == getattr(start.config.data, key)
    assert plan.config.loss == start.config.loss and plan.config.training.learning_rate == 3e-4
    assert "# the network of " in plan.text and "a third of what fresh weights learn with" in plan.text
    assert read_plan_again(plan, tmp_path) == (plan.start, plan.config)


def read_plan_again(plan, folder):
    write_plan(folder / "again.toml", plan)
    again = read_plan(folder / "again.toml")
    return again.start, again.config


@pytest.mark.parametrize("name", ["brain", "heart", "hippocampus"])
def test_a_shipped_model_is_known_by_its_name_and_its_plan_can_be_written_and_read(name, folder, tmp_path):
    start = read_start(name)
    assert start.given == name and start.name.startswith(f"{name} 1.")
    coarse = replace(start, config=from_dict(checkpoint_tree(start) | {"data": {"spacing_mm": [0.6] * 3}}))
    told = []
    plan, _ = plan_scans(find_scans(folder), minutes=1.0, device=CPU, start=coarse, tell=told.append)
    if name != "heart":  # the made-up scans are 57 × 61 × 48 mm large
        assert any("another organ or species" in str(finding) for finding in told) == (name == "brain")
    write_plan(tmp_path / "plan.toml", plan)
    again = read_plan(tmp_path / "plan.toml")
    assert again.config == plan.config and again.start == name and plan_text(again) == plan_text(plan)
    assert plan.config.network == start.config.network and plan.config.augment.views == start.config.augment.views


def checkpoint_tree(start):
    return checkpoint.load(start.weights)[1]["config"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("brian", "unknown model 'brian'; expected the name or the folder of a model; did you mean brain?"),
        ("lddmm", "--initial lddmm has no weights to start from; choose among brain, heart, hippocampus"),
        ("{folder}", "holds no weights.safetensors; expected the folder of a model"),
        ("brain", f"the scans are too small for {BRAIN}: of its voxels, 1.5 × 1.5 × 1.5 mm, they have"),
    ],
)
def test_what_cannot_be_started_from_is_said_in_one_line(given, said, folder, clmorph, tmp_path, monkeypatch):
    if given == "brain":
        monkeypatch.setattr("CLMorphCore.training.starting.MIN_COARSEST", 9)
    for verb, output in (("plan", "p.toml"), ("train", "run")):
        ran = clmorph(verb, folder, "-o", tmp_path / output, "--initial", given.format(folder=folder))
        assert ran.code == 2 and said in ran.err and ran.err.count("\n") == 1, ran.err
        assert not (tmp_path / output).exists()


def test_another_start_than_the_plans_or_the_runs_is_refused(made, folder, plan_file, clmorph, tmp_path):
    ran = clmorph("train", folder, "-o", tmp_path / "run", "--plan", plan_file, "--initial", "brain")
    assert ran.code == 2 and f"the plan has network.channels = [4, 8, 8], {BRAIN} [8, 16, 32, 32]" in ran.err
    (tmp_path / "plan.toml").write_text(
        plan_file.read_text(encoding="utf-8") + f'[start]\nmodel = "{made / "model"}"\n'
    )
    ran = clmorph("train", folder, "-o", tmp_path / "run", "--plan", tmp_path / "plan.toml", "--initial", "heart")
    assert ran.code == 2 and "--initial heart was given, and the plan starts from" in ran.err
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="holds a training from fresh weights, not from brain"):
        train_scans(find_scans(folder), made, minutes=1.0, device=CPU, initial="brain")
    assert initial_weights("brain").name == "weights.safetensors"
