"""The command: every system on every pair, what is missing and what fails as rows with a reason, going on, the page."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.bundles.model import load_model
from CLMorphCore.geometry import Grid, chain, resample_labels
from CLMorphCore.registration import register
from Training.benchmarks.__main__ import main
from Training.benchmarks.pairs import pairs_of, prepare
from Training.benchmarks.running import RUNNERS

TEST = ("--dataset", "hippocampus", "--threads", "1", "--atlas", "random")


def benchmark(data, out, *options):
    """Runs the command; returns its rows by (fixed, system)."""
    assert main([str(w) for w in ("--data", data, "--out", out, *TEST, *options)]) == 0
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        return {(row["fixed"], row["system"]): row for row in csv.DictReader(file)}


def dice(found, expected):
    """2 |A ∩ B| / (|A| + |B|), mean over the labels 1 and 2."""
    a, b = (sitk.GetArrayFromImage(image) for image in (found, expected))
    return np.mean([2 * ((a == v) & (b == v)).sum() / ((a == v).sum() + (b == v).sum()) for v in (1, 2)])


def first_pair(data, folder):
    folder.mkdir()
    return prepare(pairs_of("hippocampus", data, "test", "random", folder)[0], folder)


def direct_dice(prepared, transform):
    warped = resample_labels(prepared.moving_labels, Grid.of(prepared.fixed_labels), chain(prepared.affine, transform))
    return dice(warped, prepared.fixed_labels)


def test_rows_hold_what_a_direct_run_gives(data, tiny_model, tmp_path):
    """Demons with ITK and the network with the library, without the benchmark's processes and files."""
    rows = benchmark(
        data,
        tmp_path / "out",
        "--pairs",
        "1",
        "--system",
        "demons",
        "--system",
        "clmorph",
        "--model",
        f"clmorph={tiny_model}",
    )
    prepared = first_pair(data, tmp_path / "direct")
    images = [sitk.ReadImage(str(path), sitk.sitkFloat32) for path in (prepared.fixed, prepared.moving)]
    # The runners' folder is no package's: its modules are scripts beside each other.
    demons = load_script("run_demons").demons(sitk, *images, [4, 2, 1], [60, 40, 20], 1.5)
    network = register(*images, load_model(tiny_model), affine=sitk.AffineTransform(3))
    for system, transform in (("demons", sitk.DisplacementFieldTransform(demons)), ("clmorph", network.transform)):
        row = rows["hippocampus_001", system]
        assert row["status"] == "ok"
        assert float(row["dice"]) == pytest.approx(direct_dice(prepared, transform), abs=0.005)
        assert float(row["dice_affine"]) == pytest.approx(direct_dice(prepared, sitk.AffineTransform(3)), abs=1e-6)
    assert float(rows["hippocampus_001", "demons"]["dice"]) > float(rows["hippocampus_001", "demons"]["dice_affine"])
    assert float(rows["hippocampus_001", "clmorph"]["inverse_error_mm"]) < 0.1


def load_script(name):
    import importlib.util
    import sys

    sys.path.insert(0, str(RUNNERS))
    try:
        spec = importlib.util.spec_from_file_location(name, RUNNERS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(RUNNERS))
    return module


def test_what_ran_is_not_run_again_and_what_is_missing_is(data, tmp_path, scripted):
    """The second call finds one pair's row and runs the other's; a third runs nothing."""
    count = tmp_path / "count"
    scripted(
        "counting",
        "import SimpleITK as sitk",
        "job.imported('1')",
        f"open({str(count)!r}, 'a').write('x')",
        "fixed = sitk.ReadImage(job.fixed)",
        "field = sitk.Image(fixed.GetSize(), sitk.sitkVectorFloat64)",
        "field.CopyInformation(fixed)",
        "sitk.WriteImage(field, str(job.output / 'warp.nii.gz'))",
    )
    one = benchmark(data, tmp_path / "out", "--system", "counting", "--pairs", "1")
    two = benchmark(data, tmp_path / "out", "--system", "counting")
    assert len(one) == 1 and len(two) == 2 and count.read_text(encoding="utf-8") == "xx"
    assert benchmark(data, tmp_path / "out", "--system", "counting") == two
    assert count.read_text(encoding="utf-8") == "xx"
    assert two["hippocampus_001", "counting"] == one["hippocampus_001", "counting"]
    row = two["hippocampus_002", "counting"]
    assert row["dice"] == row["dice_affine"] and row["folding_fraction"] == "0.0"


def test_a_peer_that_is_not_installed_is_a_row_and_is_tried_again(data, tmp_path, scripted):
    def row():
        return benchmark(data, tmp_path / "out", "--system", "absent", "--pairs", "1")["hippocampus_001", "absent"]

    scripted("absent", "import a_package_that_nobody_has")
    before = row()
    assert before["status"] == "not installed" and "a_package_that_nobody_has" in before["reason"]
    assert before["dice"] == "nan"
    scripted("absent", "job.imported('1')", "raise ValueError('it is there now')")
    after = row()
    assert after["status"] == "failed" and after["reason"] == "ValueError: it is there now"
    summary = (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert "absent, 1 pairs: failed: ValueError: it is there now" in summary


@pytest.mark.parametrize(
    ("lines", "status", "reason"),
    [
        (["job.imported('1')", "import os", "os.kill(os.getpid(), 11)"], "failed", "died of SIGSEGV"),
        (["job.imported('1')", "import time", "time.sleep(60)"], "over the time limit", "ended after 2 s"),
        (["job.imported('1')"], "failed", "its output cannot be used"),
        (["job.imported('1')", "import a_package_that_nobody_has"], "failed", "a_package_that_nobody_has"),
        (["raise SystemExit(7)"], "failed", "exit code 7"),
    ],
    ids=["dies", "takes too long", "leaves nothing", "lacks a part", "says nothing"],
)
def test_a_peer_that_fails_is_a_row_with_its_reason(lines, status, reason, data, tmp_path, scripted):
    scripted("broken", *lines)
    row = benchmark(data, tmp_path / "out", "--system", "broken", "--pairs", "1", "--limit-s", "2")[
        "hippocampus_001", "broken"
    ]
    assert row["status"] == status and reason in row["reason"] and row["seconds"] == "nan"
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".pair")]


def test_a_python_that_is_not_there_and_a_model_that_is_not_there(data, tmp_path):
    rows = benchmark(
        data,
        tmp_path / "out",
        "--system",
        "greedy",
        "--system",
        "voxelmorph",
        "--system",
        "clmorph",
        "--python",
        "greedy=/nowhere/python",
        "--model",
        "clmorph=/nowhere/model",
        "--pairs",
        "1",
    )
    reasons = {system: row["reason"] for (_, system), row in rows.items()}
    assert all(row["status"] == "not installed" for row in rows.values())
    assert "/nowhere/python" in reasons["greedy"] and "/nowhere/model" in reasons["clmorph"]
    assert "--model voxelmorph=FOLDER" in reasons["voxelmorph"]


def test_arguments_reach_clmorph(data, tiny_model, tmp_path):
    rows = benchmark(
        data,
        tmp_path / "out",
        "--system",
        "clmorph",
        "--model",
        f"clmorph={tiny_model}",
        "--arguments",
        "clmorph=--no-such-option",
        "--pairs",
        "1",
    )
    row = rows["hippocampus_001", "clmorph"]
    assert row["status"] == "failed" and "--no-such-option" in row["reason"]
    assert json.loads(row["settings"])["arguments"] == ["--no-such-option"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--system", "grady"), "did you mean greedy?"),
        (("--python", "anst=/usr/bin/python"), "expected one of ants"),
        (("--python", "ants"), "expected NAME=VALUE"),
        (("--model", "greedy=folder"), "takes no model"),
        (("--atlas", "nowhere"), "holds no image.nii.gz"),
        (("--split", "validation"), "no labelled subject with split validation"),
    ],
)
def test_bad_input_is_one_line(options, said, data, tmp_path, capsys):
    assert main([str(w) for w in ("--data", data, "--out", tmp_path / "out", *TEST, *options)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
