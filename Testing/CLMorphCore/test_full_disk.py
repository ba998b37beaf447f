"""A full disk: one line, nothing half-written, what was there before is whole."""

import resource
import shlex
import signal
from contextlib import contextmanager

import pytest
from made_up_faults import one_line, tree


@contextmanager
def full_disk(size):
    """No file can grow beyond ``size`` bytes: writing more fails as on a full disk."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [2000, 30_000, 90_000], ids=["labels", "images", "transforms"])
def test_a_full_disk_ends_segment_in_one_line(size, clmorph, scan, tiny_model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels.nii.gz").write_text("of an earlier run")
    (tmp_path / "out" / "report.json").write_text('{"model": ""}')
    with full_disk(size):
        ran = clmorph("segment", scan, "--model", tiny_model, "--affine", "none", "-o", tmp_path / "out")
    one_line(ran, "cannot write", "choose a place .* enough space")
    assert tree(tmp_path) == [("out", False), ("out/labels.nii.gz", 17), ("out/report.json", 13)]


@pytest.mark.parametrize(
    "verb",
    [
        "train {bad}/fast.toml --data {bad}/subjects.csv",
        "build-atlas --data {bad}/subjects.csv",
        "evaluate --model {model} --data {bad}/subjects.csv --split train",
    ],
)
def test_a_full_disk_ends_the_other_verbs_in_one_line(verb, clmorph, bad, tiny_model, tmp_path):
    with full_disk(2000):
        ran = clmorph(*shlex.split(verb.format(bad=bad, model=tiny_model)), "-o", tmp_path / "out")
    one_line(ran, "cannot write", "choose a place .* enough space")
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".") or p.suffix in (".gz", ".safetensors")]


def test_a_full_disk_while_training_keeps_the_last_checkpoint(clmorph, bad, tmp_path):
    command = ["train", bad / "fast.toml", "--data", bad / "subjects.csv", "-o", tmp_path / "run"]
    assert clmorph(*command).code == 0
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    with full_disk(len(before) - 100):  # the seconds spent so far are in it, with more or fewer digits
        ran = clmorph(*command, "--resume", "--set", "training.steps=2")
    one_line(ran, "cannot write", "enough space")
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before
