"""Several processes train as one does: the same weights for the same whole batch, one line when one is gone."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from CLMorphCore.bundles import checkpoint
from CLMorphCore.errors import SettingError
from CLMorphCore.training.processes import Team, joined

ROOT, WORKER = Path(__file__).parents[3], Path(__file__).with_name("team_worker.py")
TRAINING = {"steps": 6, "batch_size": 4, "learning_rate": 1e-3, "schedule": "step", "checkpoint_every": 3}
PYRAMID = {"name": "clmorph-pyramid", "channels": [4, 8, 8], "width": 8, "embedding": 8}
CONTRASTED = {
    "network": PYRAMID,
    "loss": {"window_voxels": 5, "contrast": 0.5, "voxel_contrast": 0.1},
    "training": TRAINING,
}
TREES = {
    "contrast of pairs and of voxels": CONTRASTED,
    "contrast of views": CONTRASTED
    | {"loss": {"window_voxels": 5, "contrast": 0.5, "contrasted": "views"}, "augment": {"views": 0.7}},
    "BYOL": CONTRASTED | {"loss": {"window_voxels": 5, "contrast": 0.5, "contrastive": "byol"}},
    "a posterior that is sampled": {
        "network": {"channels": [4, 8, 8], "embedding": 8, "norm": "instance"},
        "training": TRAINING,
    },
}
LIMIT_S = 120.0  # that no test comes near: a hang


def environment(rank=0, count=1, port=0):
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if count > 1:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        own |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), **place}
    return {**os.environ, **own}


def start(count, *words):
    """The processes of a team, each with the same command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            env=environment(rank, count, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for rank in range(count)
    ]


def ended(processes):
    """(exit code, stderr) of each."""
    try:
        return [(each.returncode, err) for each, (_, err) in [(p, p.communicate(timeout=LIMIT_S)) for p in processes]]
    finally:
        for each in processes:
            each.kill()


def work(count, jobs, folder):
    file = folder / "jobs.json"
    file.write_text(json.dumps([(tree, str(place), resume) for tree, place, resume in jobs]))
    for code, err in ended(start(count, WORKER, file)):
        assert code == 0, err


def weights(run):
    return checkpoint.load(run / "model" / "weights.safetensors")[0]


def difference(first, second):
    one, other = weights(first), weights(second)
    return max(float((one[key] - other[key]).abs().max()) for key in one)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every training by one process and by two; and one that the other number of processes has begun."""
    folder = tmp_path_factory.mktemp("runs")
    half = CONTRASTED | {"training": TRAINING | {"steps": 3}}
    for count in (1, 2):
        jobs = [(tree, folder / f"{name} {count}", False) for name, tree in TREES.items()]
        jobs.append((half, folder / f"ended by {3 - count}", False))
        jobs += [(CONTRASTED, folder / "ended by 2", True)] if count == 2 else []
        work(count, jobs, folder)
    shutil.copytree(folder / "ended by 1", folder / "half")
    work(1, [(CONTRASTED, folder / "ended by 1", True)], folder)
    return folder


@pytest.mark.parametrize("name", TREES)
def test_two_processes_make_the_weights_that_one_makes(name, runs):
    assert difference(runs / f"{name} 1", runs / f"{name} 2") < 1e-5
    logs = [(runs / f"{name} {count}" / "log.jsonl").read_text(encoding="utf-8").splitlines() for count in (1, 2)]
    for one, two in zip(*logs, strict=True):
        first, second = (json.loads(line) for line in (one, two))
        first.pop("seconds"), second.pop("seconds")
        assert first == pytest.approx(second, abs=1e-5)


@pytest.mark.parametrize("count", [1, 2])
def test_a_training_is_resumed_by_another_number_of_processes(count, runs):
    whole = runs / "contrast of pairs and of voxels 1"
    assert difference(runs / f"ended by {count}", whole) < 1e-5 < 1e-3 < difference(runs / "half", whole)


@pytest.fixture
def words(tmp_path, scan):
    """A long training of a network alone, as the command line has it."""
    (tmp_path / "m.csv").write_text("subject,image,split\n" + "".join(f"{n},{scan},train\n" for n in "abc"))
    (tmp_path / "c.toml").write_text(
        '[network]\nname = "clmorph-pyramid"\nchannels = [4, 8, 8]\nwidth = 8\nembedding = 8\n'
        '[data]\nspacing_mm = [4, 4, 4]\nalignment = "given"\n[loss]\nwindow_voxels = 5\n'
        "[training]\nsteps = 100000\nbatch_size = 2\ncheckpoint_every = 2\n"
    )
    how = ("--device", "cpu", "--progress", "none")
    return (
        "-m",
        "CLMorphCore",
        "train",
        tmp_path / "c.toml",
        "--data",
        tmp_path / "m.csv",
        "-o",
        tmp_path / "run",
        *how,
    )


@pytest.mark.parametrize(("killed", "by"), [(0, "SIGKILL"), (1, "SIGKILL"), (0, "SIGINT")])
def test_one_process_that_is_gone_ends_the_others_with_one_line(killed, by, words, tmp_path):
    processes = start(2, *words)
    try:
        began = time.monotonic()
        while not (tmp_path / "run" / "model" / "weights.safetensors").exists():
            assert time.monotonic() - began < LIMIT_S and all(each.poll() is None for each in processes)
            time.sleep(0.1)
        processes[killed].send_signal(getattr(signal, by))
    finally:
        found = ended(processes)
    said = [err for _, err in found if err]
    if by == "SIGINT":
        assert said == ["clmorph: cancelled\n"] and found[0][0] == 130 and found[1][0] != 0
        return
    code, err = found[1 - killed]
    assert code == 2 and said == [err] and err.count("\n") == 1
    assert err.startswith("clmorph: another of the 2 processes of this training has ended (")
    assert "goes on from its last checkpoint" in err


def test_torchrun_starts_them_and_what_is_wrong_is_said_once(words, tmp_path):
    settings = tmp_path / "c.toml"
    settings.write_text(settings.read_text(encoding="utf-8").replace("batch_size = 2", "batch_size = 3"))
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *map(str, words)]
    ran = subprocess.run(words, env=environment(), capture_output=True, encoding="utf-8", timeout=LIMIT_S, check=False)
    lines = [line for line in ran.stderr.splitlines() if line.startswith("clmorph: ")]
    assert ran.returncode != 0 and not (tmp_path / "run").exists()
    assert lines == [
        "clmorph: training.batch_size is 3, which 2 processes cannot share alike; expected a multiple of 2; "
        "change it, or start another number of processes"
    ]


def test_a_folder_of_scans_becomes_a_model_by_two_processes(folder, plan_file, tmp_path):
    """Process 0 alone looks at the scans, speaks, and makes what is beside the network; both share its training."""
    data, plan, run = tmp_path / "data", tmp_path / "plan.toml", tmp_path / "run"
    data.mkdir()
    for n in range(3):
        shutil.copy(folder / f"s{n}.nii.gz", data / f"s{n}.nii.gz")
    settings = plan_file.read_text(encoding="utf-8").replace("batch_size = 1", "batch_size = 2")
    plan.write_text(settings.replace("steps = 8", "steps = 2"), encoding="utf-8")
    how = ("--plan", plan, "--device", "cpu", "--progress", "none")
    found = ended(start(2, "-m", "CLMorphCore", "train", data, "-o", run, *how))
    assert [code for code, _ in found] == [0, 0], found
    assert sum(err.count("\n") for _, err in found) == 1 and "no scan is labelled" in found[0][1]
    assert (run / "report.html").exists() and (run / "model" / "card.toml").exists()
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert 2 in steps and (run / "model" / "weights.safetensors").exists()


def test_a_norm_of_the_whole_batch_is_refused_and_a_single_process_is_a_team():
    with pytest.raises(SettingError, match=r'network\.norm is "batch"'):
        Team(0, 2).check_network(torch.nn.Sequential(torch.nn.BatchNorm3d(3)))
    with joined("cpu") as team:
        assert team.leads and team.share(3) == range(3) and team.shared("x") == "x" and team.told(0.5) == 0.5
        rows = torch.rand(2, 3, requires_grad=True)
        assert team.gathered(rows) is rows


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE in the environment is 'two'; expected a number"),
    ],
)
def test_an_environment_that_is_half_of_one_is_said(environment, said, words, clmorph, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ran = clmorph(*words[2:])
    assert ran.code == 2 and said in ran.err and ran.err.count("\n") == 1, ran.err
