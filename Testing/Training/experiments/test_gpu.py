"""From a pack to merged results: data prepared once, trained on another machine in pieces, no run counted twice."""

import csv
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from synthetic import add_run
from test_runs import data  # noqa: F401  the made-up hippocampi

from CLMorphCore.errors import InputError
from Training.experiments import __main__ as command
from Training.experiments import pack
from Training.experiments.catalogue import CPU, CUDA, Budget, RunKey
from Training.experiments.datasets import prepare_protocol
from Training.experiments.merge import main as merge_main
from Training.experiments.merge import merge
from Training.experiments.performing import DONE, LATER, Work, perform_all, unfinished
from Training.experiments.plan import Planned, planned_runs
from Training.experiments.store import load
from Training.experiments.views.encoders import _budget_text

REPOSITORY = Path(__file__).parents[3]
SILENT = lambda *said: None  # noqa: E731
NETWORK = {"network": {"channels": [4, 8, 8], "embedding": 8}}


@pytest.fixture(scope="module")
def packed(data, tmp_path_factory) -> Path:  # noqa: F811
    results = tmp_path_factory.mktemp("home")
    file = results / "hippocampus.pack"
    assert pack.main(["hippocampus", "--data", str(data), "--results", str(results), "--out", str(file)]) == 0
    return file


def work_of(out, **options):
    return Work("hippocampus", None, out, (16, 16, 16), torch.device("cpu"), threads=1, **options)


def test_a_pack_holds_what_was_prepared_to_three_digits_and_no_path_of_the_machine(packed, tmp_path):
    assert pack.unpack(packed, tmp_path / "work") == ["hippocampus"]
    there = tmp_path / "work" / "hippocampus" / "prepared"
    shutil.rmtree(packed.parent / "moved", ignore_errors=True)
    home = prepare_protocol("hippocampus", None, packed.parent / "work" / "hippocampus" / "prepared", (), SILENT)
    away = prepare_protocol("hippocampus", None, there, (), SILENT)
    assert str(packed.parent) not in (there / "subjects.csv").read_text(encoding="utf-8")
    for a, b in zip(home.volumes.train, away.volumes.train, strict=True):
        assert a.labels is not None and b.labels is not None
        assert a.name == b.name and torch.equal(a.labels, b.labels) and b.labels.dtype == torch.int64
        torch.testing.assert_close(a.image, b.image, rtol=1e-3, atol=1e-3)
    assert [case.subject for case in away.cases] == ["hippocampus_005", "hippocampus_006"]
    for a, b in zip(home.cases, away.cases, strict=True):
        assert a.affine.GetParameters() == b.affine.GetParameters()
        assert a.fixed()[1].GetSize() == b.fixed()[1].GetSize()


def test_what_is_no_pack_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "one.pack").write_bytes(b"no archive")
    words = ["table1", "--packed", str(tmp_path / "one.pack"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert command.main(words) == 2
    said = capsys.readouterr().err
    assert "one.pack cannot be read" in said and said.count("\n") == 1


def without(packed, target, *lacking):
    """A copy of a pack that lacks the members whose names begin so."""
    with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(target, "w") as less:
        for name in archive.namelist():
            if not name.startswith(tuple(f"hippocampus/{each}" for each in lacking)):
                less.writestr(name, archive.read(name))
    return target


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ("volumes", "the volumes to train on (hippocampus/volumes.safetensors)"),
        ("atlas", "the atlas (hippocampus/atlas/image.nii.gz)"),
        ("subjects", "its list of test subjects (hippocampus/subjects.csv)"),
    ],
)
def test_a_pack_that_lacks_a_part_says_which(packed, tmp_path, lacking, said):
    file = without(packed, tmp_path / "less.pack", lacking)
    with pytest.raises(InputError) as refused:
        pack.unpack(file, tmp_path / "work")
    assert f"{file} lacks {said}" in str(refused.value) and not (tmp_path / "work").exists()


def test_a_pack_of_other_subjects_than_those_that_are_there_is_refused(packed, tmp_path):
    pack.unpack(packed, tmp_path)
    assert pack.unpack(packed, tmp_path) == ["hippocampus"]
    prepared = tmp_path / "hippocampus" / "prepared"
    lines = (prepared / "subjects.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (prepared / "subjects.csv").write_text("".join(lines[:-1]), encoding="utf-8")
    (prepared / "volumes.safetensors").unlink()
    with pytest.raises(InputError) as refused:
        pack.unpack(packed, tmp_path)
    assert str(refused.value).endswith(f"choose another --out, or delete {prepared}")
    assert not (prepared / "volumes.safetensors").exists()


def test_trainings_side_by_side_are_measured_once_each_and_say_so(packed, tmp_path):
    pack.unpack(packed, tmp_path / "work")
    runs = [Planned("hippocampus", "clmorph", "paper", seed, 0.01, NETWORK) for seed in (0, 1)]
    assert set(perform_all(runs, work_of(tmp_path, processes=2), SILENT, SILENT).values()) == {DONE}
    found = load(tmp_path)
    assert sorted(run.name for run in found.runs) == sorted(run.name for run in runs)
    assert {run.processes for run in found.runs} == {2} and all(run.train_steps > 0 for run in found.runs)
    assert len(found.regions) == 2 * 2 * 2 * 2  # runs, directions, subjects, regions


class Ticks:
    """A clock that moves a second at each look."""

    def __init__(self):
        self.now = 0

    def time(self) -> float:
        self.now += 1
        return self.now


@pytest.mark.parametrize("system", ["clmorph", "unet"])
def test_a_training_that_the_time_ends_goes_on_where_it_was(packed, tmp_path, system, monkeypatch):
    monkeypatch.setattr("Training.experiments.performing.time", Ticks())
    pack.unpack(packed, tmp_path / "work")
    network = NETWORK if system == "clmorph" else {"network": {"channels": [4, 8, 8]}}
    four_steps = {"training": {"steps": 4, "minutes": 0.0}}  # by no clock
    run = Planned("hippocampus", system, "paper", 0, 1.0, network | four_steps)
    assert perform_all([run], work_of(tmp_path, deadline=0), SILENT, SILENT) == {run.name: LATER}
    assert unfinished(tmp_path) == []
    assert perform_all([run], work_of(tmp_path, deadline=4), SILENT, SILENT) == {run.name: LATER}
    assert unfinished(tmp_path) == [run.name] and not load(tmp_path).runs
    (state,) = tmp_path.rglob("checkpoint.safetensors")
    damaged = tmp_path / "work/hippocampus/vtn/paper/seed0/3min" / state.name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(state.read_bytes()[:100])
    assert unfinished(tmp_path) == [run.name], "one that is damaged cannot go on"
    log = tmp_path / "work" / run.name / "log.jsonl"
    first = log.read_text(encoding="utf-8")
    assert perform_all([run], work_of(tmp_path), SILENT, SILENT) == {run.name: DONE}
    assert unfinished(tmp_path) == []
    assert first.count("\n") == 2 and log.read_text(encoding="utf-8").startswith(first)
    assert load(tmp_path).runs[0].train_steps == 4


def test_minutes_on_a_gpu_are_another_budget():
    runs = planned_runs("table1", "hippocampus", minutes=3.0, clock=CUDA)
    by_system = {run.system: run for run in runs}
    assert by_system["clmorph"].name == "hippocampus/clmorph/paper/seed0/3min-cuda"
    assert by_system["syn"].name == "hippocampus/syn/paper/seed0/0min" and by_system["syn"].clock == CPU
    assert RunKey("acdc", "unet", "paper", 0, 3.0).name == "acdc/unet/paper/seed0/3min"
    assert str(Budget(3.0, CUDA)) == "3 min on a GPU" and str(Budget(0.5)) == "0.5 min of one core"
    assert [_budget_text(each) for each in ("5min", "3min-cuda", "90steps")] == [
        *("5 min of one core", "3 min on a GPU", "90 steps")
    ]


def test_a_merge_adds_each_run_once_and_replaces_none(tmp_path, capsys):
    here, there = tmp_path / "here", tmp_path / "there"
    add_run(here, "clmorph", [[0.7, 0.8]])
    add_run(there, "clmorph", [[0.7, 0.8]])
    add_run(there, "voxelmorph", [[0.6, 0.7]])
    add_run(there, "faim", [[0.5, 0.6]])
    add_run(here, "faim", [[0.9, 0.9]], variant="paper")
    changed = (
        (there / "runs.csv").read_text(encoding="utf-8").replace("faim,paper,0,5.0,cpu,{}", "faim,paper,0,5.0,cpu,{1}")
    )
    (there / "runs.csv").write_text(changed, encoding="utf-8")
    merged = merge(there, here)
    assert merged.added == ("hippocampus/voxelmorph/paper/seed0/5min",)
    assert merged.known == ("hippocampus/clmorph/paper/seed0/5min",)
    assert merged.differing == ("hippocampus/faim/paper/seed0/5min",)
    found = load(here)
    assert len(found.runs) == 3 and len(found.regions) == 3 * 4 and len(found.deformations) == 3
    assert {row.dice for row in found.regions if "/faim/" in row.run and row.direction == "segmentation"} == {0.9}
    assert merge_main([str(there), str(here)]) == 0
    assert "0 runs added" in capsys.readouterr().out and load(here) == found
    with pytest.raises(InputError, match="no finished run"):
        merge(tmp_path / "nothing", here)


def test_a_merge_into_a_file_is_refused(tmp_path, capsys):
    add_run(tmp_path / "there", "clmorph", [[0.7, 0.8]])
    (tmp_path / "here").write_text("mine", encoding="utf-8")
    assert merge_main([str(tmp_path / "there"), str(tmp_path / "here")]) == 2
    said = capsys.readouterr().err
    assert "here is a file; expected a folder" in said and said.count("\n") == 1


def test_rows_from_before_the_new_columns_are_read(tmp_path):
    add_run(tmp_path, "clmorph", [[0.7, 0.8]])
    before = load(tmp_path).runs
    with (tmp_path / "runs.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    new = ("clock", "processes", "peak_memory_mb")
    with (tmp_path / "runs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [name for name in lines[0] if name not in new], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(lines)
    assert repr(load(tmp_path).runs) == repr(before)


PYTHON = """#!/bin/sh
results=$FOLDER/results
echo "$@" >> "$FOLDER/calls"
if [ "$2" = Training.experiments.performing ]; then
    for seed in 0 1 2 3 4 5; do echo hippocampus/clmorph/a+b,c=1/seed$seed/3min-cuda; done
else
    cp "$FOLDER/found.csv" "$results/runs.csv"
    for seed in 0 1 2 3 4 5; do
        run="$results/work/hippocampus/clmorph/a+b,c=1/seed$seed/3min-cuda"
        mkdir -p "$run"
        echo state >> "$run/checkpoint.safetensors"
        echo log > "$run/log.jsonl"
    done
fi
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script, for the machine with the GPU")
def test_the_script_does_what_is_packed_and_brings_back_results_and_unfinished_trainings(tmp_path):
    """With a Python that writes down what it is asked: the runs themselves are tested above."""
    folder = tmp_path / "gpu"
    folder.mkdir()
    for name in ("hippocampus.pack", "found.csv"):
        (folder / name).write_text("found", encoding="utf-8")
    (tmp_path / "python").write_text(PYTHON, encoding="utf-8")
    (tmp_path / "python").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "OUT"}
    environment |= {"PYTHON": str(tmp_path / "python"), "FOLDER": str(folder), "MINUTES": "2"}
    words = ["sh", "Training/experiments/gpu.sh", "30", str(folder)]
    subprocess.run(words, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    calls = (folder / "calls").read_text(encoding="utf-8").splitlines()
    runs = [call for call in calls if call.startswith("-m Training.experiments ")]
    assert [call.split()[2] for call in runs] == ["table1", "table1", "contrast", "table3"]
    assert "--budget 10 " in runs[0] and runs[0].endswith("--systems unet") and "--budget 2 " in runs[1]
    assert all(f"--packed {folder}/hippocampus.pack" in call and "--processes 7" in call for call in runs)
    assert 29 < float(runs[0].split("--stop-after ")[1].split()[0]) < 30
    with tarfile.open(folder / "results.tar.gz") as archive:
        assert archive.getnames() == ["runs.csv"]
    brought = sorted(path.name for path in folder.glob("unfinished-*"))
    assert brought == [f"unfinished-hippocampus_clmorph_a_b_c_1_seed{n}_3min-cuda.tar.gz" for n in range(5)]
    # on a fresh machine the next call begins with what the first one brought back
    shutil.rmtree(folder / "results")
    (folder / "calls").unlink()
    subprocess.run([*words[:2], "0.1", words[3]], cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    work = folder / "results" / "work" / "hippocampus" / "clmorph" / "a+b,c=1"
    assert sorted(path.name for path in work.iterdir()) == [f"seed{n}" for n in range(5)]
    assert (work / "seed0" / "3min-cuda" / "checkpoint.safetensors").read_text(encoding="utf-8") == "state\n" * 4
    assert (folder / "results" / "runs.csv").exists()
    assert "Training.experiments " not in (folder / "calls").read_text(encoding="utf-8")


@pytest.fixture
def gpu(tmp_path) -> Path:
    """A folder of the script with a made-up pack, and a Python beside it that merges truly and trains nothing."""
    if sys.platform == "win32":
        pytest.skip("a shell script, for the machine with the GPU")
    folder = tmp_path / "gpu"
    folder.mkdir()
    (folder / "hippocampus.pack").write_text("found", encoding="utf-8")
    put_python(folder, "exit 0")
    return folder


def put_python(folder, otherwise):
    """A Python that writes down its path of modules and does ``otherwise`` what is no merge."""
    merging = f'[ "$2" = Training.experiments.merge ] && exec "{sys.executable}" "$@"'
    lines = ["#!/bin/sh", merging, f'echo "$PYTHONPATH" >> "{folder}/paths"', otherwise]
    (folder.parent / "python").write_text("\n".join(lines), encoding="utf-8")
    (folder.parent / "python").chmod(0o755)


def call_script(folder, budget="30", **settings):
    environment = {name: value for name, value in os.environ.items() if name not in ("OUT", "FOLDER", "SITE")}
    environment |= {"PYTHON": str(folder.parent / "python")} | settings
    words = ["sh", "Training/experiments/gpu.sh", budget, str(folder)]
    return subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


def archived(folder, target):
    """Packs what is in a folder, and returns the archive."""
    with tarfile.open(target, "w:gz") as archive:
        for path in folder.iterdir():
            archive.add(path, path.name)
    return target


def training_at(folder, seed, state):
    work = folder / "work" / "hippocampus" / "clmorph" / "paper" / f"seed{seed}" / "3min-cuda"
    work.mkdir(parents=True)
    for name in ("checkpoint.safetensors", "log.jsonl"):
        (work / name).write_text(state, encoding="utf-8")
    return work


def assert_refused(done, code, *expected):
    assert done.returncode == code and done.stderr.count("\n") == 1, done.stderr
    assert all(words in done.stderr for words in expected), done.stderr


def test_an_older_archive_replaces_nothing_of_newer_results(gpu, tmp_path):
    """A call that was killed packs nothing: its runs and checkpoints are in the folder alone."""
    for system in ("clmorph", "vtn"):
        add_run(tmp_path / "old", system, [[0.7, 0.8]])
    archived(tmp_path / "old", gpu / "results.tar.gz")
    for seed in (0, 1):
        training_at(tmp_path / f"old{seed}", seed, "old")
        archived(tmp_path / f"old{seed}", gpu / f"unfinished-{seed}.tar.gz")
    for system in ("clmorph", "faim"):
        add_run(gpu / "results", system, [[0.7, 0.8]])
    kept = training_at(gpu / "results", 0, "new")
    assert (done := call_script(gpu)).returncode == 0, done.stderr
    found = load(gpu / "results")
    assert {run.system for run in found.runs} == {"clmorph", "vtn", "faim"}
    assert {(kept / name).read_text(encoding="utf-8") for name in ("checkpoint.safetensors", "log.jsonl")} == {"new"}
    added = kept.parents[1] / "seed1" / "3min-cuda"
    assert {path.name for path in added.iterdir()} == {"checkpoint.safetensors", "log.jsonl"}
    with tarfile.open(gpu / "results.tar.gz") as archive:
        archive.extractall(tmp_path / "back", filter="data")
    assert load(tmp_path / "back").runs == found.runs
    assert not [path.name for path in gpu.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["results.tar.gz", "unfinished-one.tar.gz"])
def test_a_cut_archive_is_named_in_one_line_and_nothing_of_it_is_taken(gpu, tmp_path, name):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "runs.csv").write_bytes(os.urandom(50_000))
    whole = archived(tmp_path / "old", gpu / name).read_bytes()
    (gpu / name).write_bytes(whole[:30_000])
    assert_refused(call_script(gpu), 2, f"{gpu}/{name} cannot be unpacked", "copy it again, or delete it")
    assert not list((gpu / "results").iterdir()) and (gpu / name).read_bytes() == whole[:30_000]


def test_packages_of_the_machine_lie_where_python_looks_for_them(gpu, tmp_path):
    (tmp_path / "packages" / "SimpleITK").mkdir(parents=True)
    site = archived(tmp_path / "packages", tmp_path / "site.tar.gz")
    put_python(gpu, f'ls "${{PYTHONPATH##*:}}" >> "{gpu}/packages"')
    assert call_script(gpu, SITE=str(site)).returncode == 0
    assert set((gpu / "packages").read_text(encoding="utf-8").split()) == {"SimpleITK"}
    assert "//" not in (gpu / "paths").read_text(encoding="utf-8")


@pytest.mark.parametrize("budget", ["0", "-5", "-n", "nine", "1.2.3", "inf", "nan", "."])
def test_a_budget_that_is_no_time_is_refused(gpu, budget):
    assert_refused(call_script(gpu, budget), 2, f"BUDGET {budget}: expected minutes above zero")
    assert [path.name for path in gpu.iterdir()] == ["hippocampus.pack"]


def test_a_folder_without_packs_is_refused(gpu):
    (gpu / "hippocampus.pack").unlink()
    assert_refused(call_script(gpu), 2, f"{gpu} holds no mindboggle101.pack", "Training.experiments.pack")
    assert not list(gpu.iterdir())


def test_a_call_in_which_nothing_went_well_says_so(gpu):
    put_python(gpu, '[ "$2" != Training.experiments ]')
    assert_refused(call_script(gpu), 1, "no phase went well", f"{gpu}/log.txt")
    put_python(gpu, '[ "$3" != contrast ]')
    assert call_script(gpu).returncode == 0
    assert "hippocampus contrast: not all was done" in (gpu / "log.txt").read_text(encoding="utf-8")


def test_processes_is_no_part_of_what_a_run_is():
    run = Planned("acdc", "unet", "paper", 0, 3.0)
    assert replace(run, processes=4) == run
