"""``clmorph cohort`` as a process: workers that are killed, runs that are killed and go on, shares side by side."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.bundles.palette import PALETTE
from CLMorphCore.cli import build_parser
from CLMorphCore.cohorts import workers
from CLMorphCore.cohorts.scans import find_cohort
from CLMorphCore.cohorts.workers import work_here
from CLMorphCore.errors import Cancelled, InputError

from .conftest import NAMES, check_whole, digests

TIME_OUT_S = 120  # a net, not a measure


def command(scans, out, model, *more):
    words = [sys.executable, "-m", "CLMorphCore", "cohort", scans, "-o", out, "--model", model, "--device", "cpu"]
    return [str(word) for word in (*words, "--threads", "2", "--workers", "2", *more)]


def verdicts(out):
    rows = csv.DictReader((out / "volumes.csv").open(encoding="utf-8", newline=""))
    return {row["scan"]: row["verdict"] for row in rows}


def nothing():
    pass


def test_a_killed_worker_costs_no_scan(made_scans, settings, tmp_path, expected):
    out, cohort = tmp_path / "out", find_cohort(made_scans, tmp_path / "out")
    outcomes = []
    started = []

    def kill_the_first():
        if outcomes and not started[0].killed:
            started[0].killed = True
            os.kill(started[0].process.pid, signal.SIGKILL)

    class Watched(workers._Worker):
        killed = False

        def __init__(self, *given):
            super().__init__(*given)
            started.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "_Worker", Watched)
        for outcome in work_here(cohort.scans, settings, settings.made(), 2, kill_the_first):
            outcomes.append(outcome)
    assert sorted(o.name for o in outcomes) == list(NAMES) and not any(o.failure for o in outcomes)
    assert len(started) >= 2 and digests(out) == expected
    check_whole(out)


def test_a_scan_that_kills_two_workers_is_a_failure_and_the_others_go_on(made_scans, settings, tmp_path, monkeypatch):
    cohort, real = find_cohort(made_scans, tmp_path / "out"), workers._give

    def give(worker, scan, made):
        real(worker, scan, made)
        if scan.name == "b":
            worker.process.kill()

    monkeypatch.setattr(workers, "_give", give)
    outcomes = {o.name: o.failure for o in work_here(cohort.scans[:3], settings, settings.made(), 1, nothing)}
    assert outcomes["a"] == outcomes["c"] == ""
    assert "ended by signal 9, 2 times" in outcomes["b"]
    assert (tmp_path / "out" / "b" / "failed.json").is_file()


def test_workers_that_cannot_begin_end_the_run_in_one_line(made_scans, settings, tmp_path, monkeypatch):
    cohort, real = find_cohort(made_scans, tmp_path / "out"), workers._start

    def start(settings):
        worker = real(settings)
        worker.process.kill()
        return worker

    monkeypatch.setattr(workers, "_start", start)
    with pytest.raises(InputError, match="ended before they were ready"):
        list(work_here(cohort.scans, settings, settings.made(), 1, nothing))


def test_a_cancelled_run_leaves_no_worker(made_scans, settings, tmp_path, monkeypatch):
    cohort, real, started = find_cohort(made_scans, tmp_path / "out"), workers._start, []

    def start(settings):
        started.append(real(settings))
        return started[-1]

    def cancel():
        raise Cancelled

    monkeypatch.setattr(workers, "_start", start)
    with pytest.raises(Cancelled):
        list(work_here(cohort.scans, settings, settings.made(), 1, cancel))
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].process.pid, 0)


def test_killed_at_random_and_called_again_each_result_is_there_once_and_whole(scans, small_model, tmp_path, expected):
    out, dice = tmp_path / "out", random.Random(5)
    (scans / "broken.nii.gz").write_bytes((scans / "a.nii.gz").read_bytes()[:1000])
    run = command(scans, out, small_model, "--workers", "1", "--progress", "json")
    started = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert started.stdout is not None
    for line in started.stdout:
        if json.loads(line)["event"] == "scan":  # at work: killed as it writes, or computes, the next one
            time.sleep(dice.uniform(0, 0.3))
            break
    started.kill()
    started.communicate(timeout=TIME_OUT_S)
    ran = subprocess.run(run, capture_output=True, text=True, timeout=TIME_OUT_S, check=False)
    assert ran.returncode == 3, ran.stderr
    assert next(line for line in ran.stderr.splitlines() if "broken" in line).startswith("clmorph: broken: ")
    assert verdicts(out) == {**dict.fromkeys(NAMES, "done"), "broken": "failed"}
    assert digests(out) == expected
    check_whole(out)


def test_shares_side_by_side_make_one_cohort_and_the_same_call_without_costs_nothing(
    made_scans, small_model, tmp_path, expected, clmorph, monkeypatch
):
    out = tmp_path / "out"
    words = command(made_scans, out, small_model, "--workers", "1", "--progress", "none", "--shard")
    other = subprocess.Popen([*words, "2/2"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    own = clmorph(*words[3:], "1/2")
    _, said = other.communicate(timeout=TIME_OUT_S)
    assert (own.code, other.returncode) == (0, 0), own.err + said
    assert digests(out) == expected and verdicts(out) == dict.fromkeys(NAMES, "done")
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    ran = clmorph("cohort", made_scans, "-o", out, "--model", small_model)
    assert ran.code == 0 and "4 scans: 4 done" in ran.out
    monkeypatch.chdir(tmp_path)
    ran = clmorph("cohort", made_scans, "-o", "out", "--model", small_model)
    assert ran.out.startswith("out: 4 scans: 4 done")
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*")} == before


def test_as_a_bids_app(made_scans, small_model, tmp_path, clmorph):
    root, out = tmp_path / "bids", tmp_path / "derivatives"
    for name, source in (("sub-1/ses-a/anat/sub-1_ses-a_T1w", "a"), ("sub-2/anat/sub-2_T2w", "b")):
        (root / name).parent.mkdir(parents=True)
        os.link(made_scans / f"{source}.nii.gz", root / f"{name}.nii.gz")
    (root / "dataset_description.json").write_text('{"Name": "made up", "BIDSVersion": "1.10.0"}')
    ran = clmorph("cohort", root, out, "participant", "--model", small_model, "--keep", "transform")
    assert ran.code == 3 and "clmorph: sub-2: no T1w image" in ran.err
    names = sorted(path.name for path in (out / "sub-1" / "ses-a" / "anat").iterdir())
    start = "sub-1_ses-a_"
    assert names == [
        f"{start}desc-clmorph_dseg.json",
        f"{start}desc-clmorph_dseg.nii.gz",
        f"{start}desc-clmorph_dseg.tsv",
        f"{start}from-T1w_to-atlas_mode-image_desc-affine_xfm.h5",
        f"{start}from-T1w_to-atlas_mode-image_xfm.h5",
        f"{start}from-atlas_to-T1w_mode-image_xfm.h5",
    ]
    table = (out / "sub-1" / "ses-a" / "anat" / f"{start}desc-clmorph_dseg.tsv").read_text(encoding="utf-8")
    assert table.splitlines() == ["index\tname\tcolor", "1\tLeft\t#d8654f", "2\tRight\t#4f8fd8"]
    sidecar = json.loads(
        (out / "sub-1" / "ses-a" / "anat" / f"{start}desc-clmorph_dseg.json").read_text(encoding="utf-8")
    )
    assert sidecar["Sources"] == ["bids:raw:sub-1/ses-a/anat/sub-1_ses-a_T1w.nii.gz"]
    assert not (out / "sub-2").exists()  # there is nothing to say of it but the row
    picture = sidecar["cohort"]["thumbnail"]
    assert picture in (out / "cohort.html").read_text(encoding="utf-8")

    safe = clmorph("cohort", root, out, "participant", "--model", small_model, "--colors", "safe")
    table = (out / "sub-1" / "ses-a" / "anat" / f"{start}desc-clmorph_dseg.tsv").read_text(encoding="utf-8")
    colors = {row.rpartition("\t")[2] for row in table.splitlines()[1:]}
    assert safe.code == 3 and len(colors) == 2 and colors <= set(PALETTE)
    assert picture not in (out / "cohort.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "no such"], "unknown model"),
        ([], "neither --model nor --atlas is given"),
        (["--model", "hippocampus", "--shard", "4/3"], "expected I/N"),
        (["--model", "hippocampus", "--brain-extraction", "mask.nii.gz"], "is none of"),
        (["--model", "hippocampus", "--atlases", "7"], "atlases"),
        (["--model", "hippocampus", "--participant-label", "1"], "is no BIDS data set"),
        (["--model", "hippocampus", "--scheduler", "nowhere"], "--scheduler nowhere"),
    ],
)
def test_bad_input_is_one_line_before_any_work(made_scans, tmp_path, clmorph, words, said):
    if "--scheduler" in words:
        pytest.importorskip("distributed")
    ran = clmorph("cohort", made_scans, "-o", tmp_path / "out", *words)
    assert ran.code == 2 and said in ran.err and ran.err.count("\n") == 1
    assert not list(tmp_path.glob("out/*/*"))
    assert clmorph("cohort", made_scans, "--model", "hippocampus").code == 2  # no place for the results


def test_a_table_that_was_changed_by_hand_is_not_written_over(made_scans, small_model, tmp_path, clmorph):
    out = tmp_path / "out"
    out.mkdir()
    (out / "volumes.csv").write_text("mine", encoding="utf-8")
    ran = clmorph("cohort", made_scans, "-o", out, "--model", small_model)
    assert ran.code == 2 and "volumes.csv is there already" in ran.err
    assert (out / "volumes.csv").read_text(encoding="utf-8") == "mine"


def test_a_remedy_does_not_name_an_option_that_cohort_has_not(tmp_path, small_model, clmorph):
    (tmp_path / "scans").mkdir()
    for name in ("rod_seg.nii.gz", "stray_labels.nii.gz"):
        (tmp_path / "scans" / name).touch()
    rod = sitk.GetImageFromArray(np.random.default_rng(0).normal(100, 10, (3, 60, 3)).astype(np.float32))
    sitk.WriteImage(rod, str(tmp_path / "scans" / "rod.nii.gz"))
    ran = clmorph("cohort", tmp_path / "scans", "-o", tmp_path / "out", "--model", small_model, "--device", "cpu")
    assert ran.code == 3 and "one of the images is too thin for it" in ran.err
    assert "pass --affine of clmorph segment, a transform of your own or none" in ran.err
    assert "clmorph: warning: stray_labels.nii.gz is taken for labels" in ran.err  # also where scans failed


def test_a_failure_advises_what_the_cohort_can_do():
    words = dict(build_parser().parse_args(["cohort", "in", "-o", "out", "--model", "brain"]).words)
    said = InputError("it failed", "pass `affine`, or `model`").text(words)
    assert said == "it failed; pass --affine of clmorph segment, or --model"
