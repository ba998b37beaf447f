"""Trainings side by side: their figures as their folders have them, and one line for what is none."""

import json

import pytest

from Training.trained import Trained, line, main, read_trained

LOG = [
    {"step": 0, "validation_dice": 0.5},
    {"step": 1, "loss": 0.9, "seconds": 30.0},
    {"step": 1, "validation_dice": 0.75},
    {"step": 2, "loss": 0.8, "seconds": 90.0},
    {"step": 2, "validation_dice": 0.625},
]


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "model").mkdir(parents=True)
    (folder / "test").mkdir()
    (folder / "one-scan").mkdir()
    (folder / "one-scan" / "summary.json").write_text('{"dice_affine": 0.125, "dice": 0.5}', encoding="utf-8")
    (folder / "log.jsonl").write_text("".join(json.dumps(each) + "\n" for each in LOG), encoding="utf-8")
    (folder / "plan.toml").write_text("[training]\nseed = 7\n", encoding="utf-8")
    (folder / "model" / "refinement.toml").write_text("on = true\nsteps = 50\ngain = 0.01\n", encoding="utf-8")
    (folder / "test" / "summary.json").write_text('{"dice_affine": 0.25, "dice": 0.8765}', encoding="utf-8")
    return folder


def test_figures_are_those_of_the_log_and_of_the_evaluations(run):
    assert read_trained(run) == Trained(1.5, 2, 7, (0.5, 0.75), (0.125, 0.5), True, (None, (0.25, 0.8765)))


def test_fresh_weights_have_no_start_and_without_labels_there_is_nothing(run):
    log = run / "log.jsonl"
    log.write_text("".join(json.dumps(each) + "\n" for each in LOG[1:]), encoding="utf-8")
    assert read_trained(run).pairs == (0.75,)
    log.write_text(json.dumps(LOG[1]) + "\n", encoding="utf-8")
    assert read_trained(run).pairs == () and line("a", read_trained(run))[4] == "–"


def test_every_training_is_a_line_under_its_name(run, tmp_path):
    assert main([f"mice = 19={run}", f"again={run}", "-o", str(tmp_path / "t.md")]) == 0
    cells = "1.5 | 2 | 7 | .5000 → .7500 | .1250 | .5000 | yes | – | – | .2500 | .8765"
    lines = (tmp_path / "t.md").read_text(encoding="utf-8").splitlines()
    assert lines[-2:] == [f"| mice = 19 | {cells} |", f"| again | {cells} |"]


def test_lines_of_earlier_trainings_stay_and_those_of_one_data_set_together(run, tmp_path):
    out = tmp_path / "t.md"
    assert main([f"mice, one={run}", f"hearts, one={run}", "-o", str(out)]) == 0
    (run / "test" / "summary.json").write_text('{"dice_affine": 0.25, "dice": 0.5}', encoding="utf-8")
    assert main([f"mice, two={run}", f"hearts, one={run}", f"brains={run}", "-o", str(out)]) == 0
    lines = out.read_text(encoding="utf-8").splitlines()[-4:]
    assert [each.split(" | ")[0] for each in lines] == ["| mice, one", "| mice, two", "| hearts, one", "| brains"]
    assert [each.split(" | ")[-1] for each in lines] == [".8765 |", ".5000 |", ".5000 |", ".5000 |"]


def test_a_file_that_is_no_such_table_is_left_alone(run, tmp_path, capsys):
    (tmp_path / "t.md").write_text("# Mine\n", encoding="utf-8")
    assert main([f"mice={run}", "-o", str(tmp_path / "t.md")]) == 2
    assert "has other columns" in capsys.readouterr().err
    assert (tmp_path / "t.md").read_text(encoding="utf-8") == "# Mine\n"


@pytest.mark.parametrize(("given", "said"), [("run", "expected NAME=RUN"), ("a=nowhere", "nowhere")])
def test_what_is_no_training_is_refused_in_one_line(given, said, tmp_path, capsys):
    assert main([given, "-o", str(tmp_path / "t.md")]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not list(tmp_path.iterdir())
