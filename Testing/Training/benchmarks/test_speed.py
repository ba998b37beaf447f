"""The figures of ``python -m Training.benchmarks.speed``, on a small model."""

import json

import pytest
from made_up import fresh_model

from Training.benchmarks import speed


@pytest.fixture(autouse=True)
def one_thread_stays(monkeypatch):
    """The command's own processes are told their threads; this one keeps the suite's."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_each_measurement_is_printed_and_written(tmp_path, capsys):
    words = [
        "--model",
        str(fresh_model(tmp_path / "fresh")),
        "--size",
        "24",
        "24",
        "16",
        "--device",
        "cpu",
        "--threads",
        "1",
        "--repeats",
        "2",
        "--out",
        str(tmp_path / "speed.json"),
    ]
    assert speed.main(words) == 0
    found = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    printed = capsys.readouterr().out
    assert found["device"] == "cpu" and found["size"] == [24, 24, 16]
    for what in ("network", "refinement", "training"):
        assert 0 < found[what]["seconds"] < 60 and found[what]["peak_mb"] > 50
        assert f"{what}: first_s " in printed
    assert 0 < found["refinement"]["steps"] <= 150


def test_bad_input_is_one_line(tmp_path, capsys):
    assert speed.main(["--model", "liver", "--device", "cpu"]) == 2
    assert capsys.readouterr().err.startswith("speed: unknown model 'liver'; expected the name or the folder")
    assert speed.main(["--device", "cpu", "--size", "20", "24", "16"]) == 2
    said = "speed: --size 20 24 16: expected multiples of 8 8 8, which the network of brain halves\n"
    assert capsys.readouterr().err == said
    (tmp_path / "file").touch()
    assert speed.main(["--device", "cpu", "--out", str(tmp_path / "file" / "speed.json")]) == 2
    assert "is a file; expected a folder" in capsys.readouterr().err
    assert speed.main(["--device", "cpu", "--size", "16", "16", "16", "--model", "lddmm"]) == 2
    assert "speed: lddmm has no weights to train" in capsys.readouterr().err
