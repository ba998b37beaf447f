"""Killed without warning: a training goes on to the same weights, a segmentation leaves nothing half-made."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import SimpleITK as sitk

from CLMorphCore.bundles import checkpoint
from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.cli import main

CONFIG = """
[network]
name = "clmorph"             # the paper's: sampling and batch norm must go on where they were
channels = [4, 8]
embedding = 8
[data]
spacing_mm = [4.0, 4.0, 4.0]
affine = false
[training]
steps = 40
batch_size = 2
checkpoint_every = 3
"""
TIME_OUT_S = 120  # a net, not a measure


@pytest.fixture(scope="module")
def training(atlas, tmp_path_factory):
    """Folder with settings and a manifest of three subjects."""
    folder = tmp_path_factory.mktemp("training")
    rows = ["subject,image,labels,split"]
    for seed, split in enumerate(("train", "train", "train", "validation")):
        phantom = make_phantom(atlas, seed=seed)
        sitk.WriteImage(phantom.image, str(folder / f"{seed}.nii.gz"))
        sitk.WriteImage(phantom.labels, str(folder / f"{seed}-labels.nii.gz"))
        rows.append(f"{seed},{seed}.nii.gz,{seed}-labels.nii.gz,{split}")
    (folder / "subjects.csv").write_text("\n".join(rows), encoding="utf-8")
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    return folder


def train(folder, run, *options):
    return [
        "train",
        str(folder / "config.toml"),
        "--data",
        str(folder / "subjects.csv"),
        "-o",
        str(run),
        "--device",
        "cpu",
        "--threads",
        "1",
        "--progress",
        "none",
        *options,
    ]


@pytest.fixture
def started():
    """Starts the command as a process of its own; ends what is left of them."""
    processes = []

    def start(*words):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "CLMorphCore", *map(str, words)], env=environment, stderr=subprocess.PIPE
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(condition, process):
    """Waits until the condition holds; False when the process ended before."""
    until = time.monotonic() + TIME_OUT_S
    while not condition():
        if process.poll() is not None or time.monotonic() > until:
            return False
        time.sleep(0.001)
    return True


def lines(path):
    return path.read_text(encoding="utf-8").count("\n") if path.exists() else 0


def test_a_killed_training_ends_in_the_same_weights(training, started, tmp_path):
    assert main(train(training, tmp_path / "whole")) == 0
    run = tmp_path / "killed"
    moments = random.Random(os.getpid())  # another one each time: whenever it comes, nothing may be lost
    for _ in range(2):
        process = started(*train(training, run, *["--resume"] * (run / "checkpoint.safetensors").exists()))
        step = lines(run / "log.jsonl") + moments.randrange(4, 12)
        assert wait_for(lambda at=step: lines(run / "log.jsonl") >= at, process), process.communicate()[1].decode()
        process.send_signal(signal.SIGKILL)
        process.wait()
        checkpoint.load(run / "checkpoint.safetensors")  # whole, though the process is not
    assert main(train(training, run, "--resume")) == 0
    for file in ("checkpoint.safetensors", "model/weights.safetensors"):
        whole, header = checkpoint.load(tmp_path / "whole" / file)
        resumed, header_of_resumed = checkpoint.load(run / file)
        for kept in (header, header_of_resumed):
            kept.pop("seconds", None)  # of the clock
        assert header == header_of_resumed and whole.keys() == resumed.keys()
        for name, tensor in whole.items():
            assert tensor.equal(resumed[name]), name
    assert losses(run) == losses(tmp_path / "whole")
    assert not [p for p in run.rglob("*") if p.name.startswith(".")]


def losses(run):
    """Every line of a log but for the time it took."""
    records = map(json.loads, (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def test_a_training_killed_between_its_last_two_files_has_its_model(training, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def save(path, tensors, header, original=checkpoint.save):
        original(path, tensors, header)
        if header["step"] == 40:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(checkpoint, "save", save)
        main(train(training, tmp_path / "run"))
    assert main(train(training, tmp_path / "run", "--resume")) == 0
    assert checkpoint.load(tmp_path / "run" / "model" / "weights.safetensors")[1]["step"] == 40


# Runs the command in argv[2:] and is gone as soon as it has written argv[1] files.
DIES_WRITING = """
import os, signal, sys
from CLMorphCore import cli, registration, segmentation
left = int(sys.argv[1])
def last_one(write):
    def count(*arguments, **keywords):
        global left
        write(*arguments, **keywords)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return count
segmentation.write_image = last_one(segmentation.write_image)
registration.write_transform = last_one(registration.write_transform)
cli.main(sys.argv[2:])
"""


def test_a_killed_segmentation_leaves_nothing_that_looks_done(scan, tiny_model, tmp_path):
    command = [
        "segment",
        scan,
        "--model",
        tiny_model,
        "--affine",
        "none",
        "--device",
        "cpu",
        "--threads",  # with several, files are written side by side
        1,
        "--progress",
        "none",
        "-o",
        tmp_path / "out",
    ]
    files = random.Random(os.getpid()).randint(1, 6)
    dead = subprocess.run([sys.executable, "-c", DIES_WRITING, str(files), *map(str, command)], timeout=TIME_OUT_S)
    assert dead.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists() and len(list(tmp_path.glob(".clmorph-*/*"))) == files
    assert main([str(word) for word in command]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["out"] and len(list((tmp_path / "out").iterdir())) == 9
