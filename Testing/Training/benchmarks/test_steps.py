"""The parts of a training step are those of the training, and their shares are of the whole."""

import pytest
import torch
from made_up import ellipsoid_atlas, fresh_model

from CLMorphCore.bundles.model import load_model
from CLMorphCore.training.batches import Dataset, Volume, draw_batch
from CLMorphCore.training.learner import learner_of
from CLMorphCore.training.processes import ALONE
from Training.benchmarks import steps
from Training.benchmarks.speed import made_up, of_one_pair

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fresh_model(tmp_path_factory.mktemp("models") / "fresh", ellipsoid_atlas((24, 27, 21), 2.0))


def learner(folder):
    model = load_model(str(folder))
    return learner_of(of_one_pair(model.config, (16, 24, 24)), model.network.train(), CPU)


def test_a_step_in_parts_has_the_gradients_of_a_training_step(folder):
    data = Dataset(None, [Volume(str(seed), made_up((24, 24, 16), seed), None) for seed in range(2)], [])
    whole, parts = learner(folder), learner(folder)
    whole.step(draw_batch(data, whole.config, whole.network, 3, CPU), 0.0, 3, ALONE)
    assert set(steps._step(parts, data, 3)) == set(steps.PARTS)
    slopes = [[p.grad for p in one.parts.parameters() if p.grad is not None] for one in (whole, parts)]
    assert len(slopes[0]) == len(slopes[1]) > 5 and any(slope.any() for slope in slopes[1])
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_table_is_printed_and_written(folder, tmp_path, capsys):
    assert steps.main([str(folder), "--repeats", "1", "-o", str(tmp_path / "steps.md")]) == 0
    table = (tmp_path / "steps.md").read_text(encoding="utf-8")
    assert table.splitlines()[-1] in capsys.readouterr().out
    shares = [float(cell.strip(" %")) for cell in table.splitlines()[-1].split("|") if cell.endswith(" % ")]
    assert len(shares) == len(steps.PARTS) and 95 < sum(shares) < 105


def test_what_cannot_be_trained_is_one_line(capsys):
    assert steps.main(["lddmm"]) == 2
    assert capsys.readouterr().err == "steps: lddmm has no weights, or no atlas; expected a model that was trained\n"
