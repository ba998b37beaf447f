"""The command as people and programs meet it: help, progress, cancelling, exit codes, the files of every verb."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import SimpleITK as sitk
import torch

from CLMorphCore import __version__, commands, registration, segmentation
from CLMorphCore.bundles import model as models
from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.quality.judgement import judge
from CLMorphCore.registration import registration_of

RESULTS = {
    "labels.nii.gz",
    "transform.h5",
    "inverse.h5",
    "affine.h5",
    "warped.nii.gz",
    "jacobian.nii.gz",
    "uncertainty.nii.gz",
    "report.json",
    "report.html",
}
TIME_OUT_S = 120  # a net, not a measure


def names(folder):
    return {p.name for p in folder.iterdir()}


def events(ran):
    return [json.loads(line) for line in ran.out.splitlines()]


@pytest.mark.parametrize("words", [["--help"], ["segment", "--help"], ["--version"]])
def test_help_needs_neither_torch_nor_itk(words):
    program = (
        "import sys\nfrom CLMorphCore.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n"
        "    heavy = {'torch', 'numpy', 'SimpleITK', 'tqdm', 'safetensors'} & set(sys.modules)\n"
        "    sys.exit(f'imported {heavy}' if heavy else end.code)"
    )
    ran = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=TIME_OUT_S)
    assert ran.returncode == 0, ran.stderr
    assert "usage: clmorph" in ran.stdout or ran.stdout == f"clmorph {__version__}\n"


def test_every_verb_has_help(clmorph):
    for verb in commands.VERBS:
        ran = clmorph(verb, "--help")
        assert ran.code == 0 and f"usage: clmorph {verb}" in ran.out


def test_segment_reports_progress_as_the_interface_says(clmorph, scan, tiny_model, tmp_path):
    ran = clmorph("segment", scan, "--model", tiny_model, "-o", tmp_path / "out", "--progress", "json")
    told = events(ran)
    assert ran.code == 0 and names(tmp_path / "out") == RESULTS and names(tmp_path) == {"out"}
    assert told[-1] == {"event": "done", "output": str(tmp_path / "out")}
    progress = told[:-1]
    assert all(set(e) == {"event", "step", "fraction", "seconds_left"} and e["event"] == "progress" for e in progress)
    fractions = [e["fraction"] for e in progress]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1
    assert all(e["seconds_left"] is None or e["seconds_left"] >= 0 for e in progress)
    steps = list(dict.fromkeys(e["step"] for e in progress))
    assert steps[:4] == ["reading", "affine", "network", "labels"] and {"report", "writing"} < set(steps)
    assert "labels of 3 structures" in ran.err  # the words for people leave stdout to the program


def test_a_report_holds_what_the_interface_says(clmorph, scan, tiny_model, tmp_path):
    ran = clmorph("segment", scan, "--model", tiny_model, "--affine", "none", "-o", tmp_path / "out", "--threads", 1)
    assert (ran.code, ran.err) == (0, "") and str(tmp_path / "out") in ran.out
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["version"] == __version__ and report["image"] == str(scan)
    assert report["model"] == {"name": "tiny", "version": "0.0", "licence": "Apache-2.0", "commit": "none"}
    assert report["atlas"] == {"name": "ellipsoids"} and report["device"] == "cpu" and report["threads"] == 1
    assert [(s["value"], s["name"], s["color"]) for s in report["structures"]] == [
        (1, "Left part", "#d8654f"),
        (2, "Right part", "#4f8fd8"),
        (3, "Back part", "#6fbf5f"),
    ]
    labels = sitk.ReadImage(str(tmp_path / "out" / "labels.nii.gz"))
    voxels = sitk.GetArrayViewFromImage(labels)
    for structure in report["structures"]:
        assert structure["volume_ml"] == pytest.approx((voxels == structure["value"]).sum() * 2.0**3 / 1000, abs=1e-3)
    assert set(report["similarity"]) == {"measure", "affine", "warped"} and 0 <= report["folding_fraction"] <= 1
    assert report["quality"]["note"] == "no quality score: model tiny has no quality.toml"
    assert all(0 <= s["uncertainty"] <= 1 and s["quality"] is None for s in report["structures"])
    steps = {"reading", "affine", "network", "labels", "quality", "report", "writing"}
    assert set(report["duration_s"]) == steps | {"total"}
    assert report["duration_s"]["total"] == pytest.approx(sum(report["duration_s"][s] for s in steps), abs=0.05)


@pytest.mark.parametrize(
    ("verb", "others"), [("segment", ["uncertainty.nii.gz", "inverse.h5"]), ("register", ["inverse.h5"])]
)
def test_what_only_an_earlier_run_has_written_goes(verb, others, clmorph, scan, tiny_model, tmp_path, monkeypatch):
    def one_way(*arguments):
        return replace(registration_of(*arguments), inverse=None)

    for name in [*others, "mine"]:
        (tmp_path / name).write_text("old")
    (tmp_path / "report.json").write_text('{"model": "old"}')
    for module in (registration, segmentation):
        monkeypatch.setattr(module, "registration_of", one_way)
    monkeypatch.setattr(segmentation, "judge", lambda *about: replace(judge(*about), uncertainty=None))
    images = [scan] if verb == "segment" else [scan, scan]
    assert clmorph(verb, *images, "--model", tiny_model, "--affine", "none", "-o", tmp_path).code == 0
    assert not names(tmp_path) & set(others) and (tmp_path / "mine").read_text(encoding="utf-8") == "old"


def shifted(folder, millimetres):
    """An affine file that takes the scan that far beside the atlas."""
    sitk.WriteTransform(sitk.TranslationTransform(3, (millimetres, 0.0, 0.0)), str(folder / "affine.tfm"))
    return folder / "affine.tfm"


def test_a_scan_without_any_label_is_no_success(clmorph, scan, tiny_model, tmp_path):
    ran = clmorph("segment", scan, "--model", tiny_model, "--affine", shifted(tmp_path, 46.0), "-o", tmp_path / "out")
    assert ran.code == 2 and ran.err.count("\n") == 1 and "no voxel of the scan got a label" in ran.err
    assert names(tmp_path) == {"affine.tfm"}


def test_structures_that_were_found_are_counted_and_warnings_said(clmorph, scan, tiny_model, tmp_path):
    ran = clmorph("segment", scan, "--model", tiny_model, "--affine", shifted(tmp_path, 36.0), "-o", tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    found = sum(s["volume_ml"] > 0 for s in report["structures"])
    assert ran.code == 0 and 0 < found < 3 and f"labels of {found} of 3 structures" in ran.out
    assert ran.err.splitlines() == [f"clmorph: warning: {text}" for text in report["warnings"]] and report["warnings"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("Failed to allocate memory for image."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
    ],
)
def test_too_little_memory_is_said_in_one_line(error, clmorph, scan, tiny_model, tmp_path, monkeypatch):
    def greedy(*_, **__):
        raise error

    monkeypatch.setattr(commands.segment, "segment", greedy)
    ran = clmorph("segment", scan, "--model", tiny_model, "-o", tmp_path / "out")
    assert ran.code == 2 and ran.err.count("\n") == 1 and not list(tmp_path.iterdir())
    assert ran.err.startswith("clmorph: out of memory with --device cpu") and "close other programs, or crop" in ran.err
    assert "use --device cpu" not in ran.err  # it does not help there


def test_a_cancelled_demo_leaves_nothing(clmorph, tiny_model, tmp_path, monkeypatch):
    written = commands.demo.write_image

    def write(image, path):
        written(image, path)
        (tmp_path / "cancel").touch()

    monkeypatch.setattr(commands.demo, "write_image", write)
    ran = clmorph("demo", "--model", tiny_model, "-o", tmp_path / "demo", "--cancel-file", tmp_path / "cancel")
    assert ran.code == 130 and names(tmp_path) == {"cancel"}


def test_a_bar_is_drawn_on_stderr_only(clmorph, scan, tiny_model, tmp_path):
    ran = clmorph(
        "segment", scan, "--model", tiny_model, "--affine", "none", "-o", tmp_path / "out", "--progress", "bar"
    )
    assert ran.code == 0 and "network" in ran.err and "100%" in ran.err and "%" not in ran.out


@pytest.mark.parametrize("step", ["reading", "affine", "labels", "writing", "report"])
def test_cancelling_at_any_step_leaves_nothing(step, clmorph, scan, tiny_model, tmp_path, monkeypatch):
    from CLMorphCore.progress import Reporter

    told = Reporter.__call__

    def appear(self, name, fraction):
        told(self, name, fraction)
        if name == step:
            (tmp_path / "cancel").touch()

    monkeypatch.setattr(Reporter, "__call__", appear)
    ran = clmorph(
        "segment",
        scan,
        "--model",
        tiny_model,
        "-o",
        tmp_path / "out",
        "--progress",
        "json",
        "--cancel-file",
        tmp_path / "cancel",
    )
    assert ran.code == 130 and events(ran)[-1] == {"event": "cancelled"}
    assert not {e["step"] for e in events(ran)[:-1]} & {"done"}
    assert names(tmp_path) == {"cancel"}


def test_a_cancel_file_that_is_there_already_stops_at_once(clmorph, scan, tiny_model, tmp_path):
    (tmp_path / "cancel").touch()
    ran = clmorph(
        "segment",
        scan,
        "--model",
        tiny_model,
        "-o",
        tmp_path / "out",
        "--progress",
        "json",
        "--cancel-file",
        tmp_path / "cancel",
    )
    assert ran.code == 130 and events(ran) == [{"event": "cancelled"}]


def test_a_bug_shows_its_traceback(clmorph, scan, tiny_model, tmp_path, monkeypatch, capfd):
    def broken(*_, **__):
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(commands.segment, "segment", broken)
    with pytest.raises(ZeroDivisionError):
        clmorph("segment", scan, "--model", tiny_model, "-o", tmp_path / "out", "--progress", "json")
    last = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert last == {"event": "error", "message": "ZeroDivisionError: of ours"} and not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels(number, clmorph, scan, tiny_model, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    # Python leaves Ctrl+C to its default only where the parent has not told it to ignore it, as shells do in scripts.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(*_, **__):
        os.kill(os.getpid(), number)
        time.sleep(TIME_OUT_S)

    monkeypatch.setattr(commands.segment, "segment", interrupted)
    ran = clmorph("segment", scan, "--model", tiny_model, "-o", tmp_path / "out", "--progress", "json")
    assert ran.code == 130 and events(ran)[-1] == {"event": "cancelled"} and not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == before
    signal.signal(signal.SIGINT, inherited)


def test_register_writes_the_map_and_the_warped_image(clmorph, scan, tiny_model, tmp_path):
    moving = tiny_model / "atlases" / "ellipsoids" / "image.nii.gz"
    ran = clmorph("register", scan, moving, "--model", tiny_model, "-o", tmp_path / "out")
    assert ran.code == 0 and names(tmp_path / "out") == RESULTS - {"labels.nii.gz", "report.html", "uncertainty.nii.gz"}
    warped = sitk.ReadImage(str(tmp_path / "out" / "warped.nii.gz"))
    fixed = sitk.ReadImage(str(scan))
    assert warped.GetSize() == fixed.GetSize() and warped.GetOrigin() == pytest.approx(fixed.GetOrigin())
    there = sitk.ReadTransform(str(tmp_path / "out" / "transform.h5"))
    back = sitk.ReadTransform(str(tmp_path / "out" / "inverse.h5"))
    middle = fixed.TransformIndexToPhysicalPoint([n // 2 for n in fixed.GetSize()])
    assert back.TransformPoint(there.TransformPoint(middle)) == pytest.approx(middle, abs=0.1)


def test_an_affine_of_ones_own_is_used_as_it_is(clmorph, scan, phantom, tiny_model, tmp_path):
    affine = sitk.CompositeTransform(phantom.transform).GetNthTransform(1)  # what the phantom was made with
    sitk.WriteTransform(affine, str(tmp_path / "affine.tfm"))
    ran = clmorph("segment", scan, "--model", tiny_model, "--affine", tmp_path / "affine.tfm", "-o", tmp_path / "out")
    assert ran.code == 0
    used = sitk.ReadTransform(str(tmp_path / "out" / "affine.h5"))
    for point in ((0.0, 0.0, 0.0), (-20.0, 35.0, 60.0)):
        assert used.TransformPoint(point) == pytest.approx(affine.TransformPoint(point), abs=1e-6)
    labels = sitk.ReadImage(str(tmp_path / "out" / "labels.nii.gz"))
    assert min(dice_per_label(labels, phantom.labels).values()) > 0.7


def test_an_atlas_of_ones_own_takes_the_place_of_the_models(clmorph, scan, tiny_model, tmp_path):
    own = tiny_model / "atlases" / "ellipsoids"
    labels = sitk.ReadImage(str(own / "labels.nii.gz"))
    sitk.WriteImage(sitk.Cast(labels, sitk.sitkFloat32) * 300, str(tmp_path / "own.nii.gz"))  # whole numbers as floats
    ran = clmorph(
        "segment",
        scan,
        "--model",
        tiny_model,
        "--affine",
        "none",
        "-o",
        tmp_path / "out",
        "--atlas",
        own / "image.nii.gz",
        "--atlas-labels",
        tmp_path / "own.nii.gz",
    )
    assert ran.code == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert [(s["value"], s["name"]) for s in report["structures"]] == [
        (300, "Label 300"),
        (600, "Label 600"),
        (900, "Label 900"),
    ]
    made = sitk.ReadImage(str(tmp_path / "out" / "labels.nii.gz"))
    assert {0, 300, 600, 900} == set(sitk.GetArrayViewFromImage(made).ravel().tolist())


def test_models_are_listed_for_people_and_for_programs(clmorph, tiny_model, monkeypatch):
    monkeypatch.setattr(models, "BUNDLED", tiny_model.parent)
    people = clmorph("models")
    assert people.code == 0 and "tiny" in people.out and "Untrained network for tests" in people.out
    told = events(clmorph("models", "--progress", "json"))
    assert told[0]["event"] == "model" and told[0]["name"] == "tiny" and told[0]["licence"] == "Apache-2.0"


def test_the_demo_makes_a_subject_segments_it_and_prints_the_true_dice(clmorph, tiny_model, tmp_path):
    ran = clmorph("demo", "--model", tiny_model, "-o", tmp_path / "demo")
    assert ran.code == 0 and names(tmp_path / "demo") == RESULTS | {"subject.nii.gz", "subject_labels.nii.gz"}
    made = sitk.ReadImage(str(tmp_path / "demo" / "labels.nii.gz"))
    scores = dice_per_label(made, sitk.ReadImage(str(tmp_path / "demo" / "subject_labels.nii.gz")))
    assert f"true Dice of the made-up subject: {sum(scores.values()) / 3:.3f} over 3 structures" in ran.out


@pytest.mark.parametrize(("given", "used"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_leave_the_cores_to_others_unless_the_user_says_otherwise(given, used):
    code = "import os; from CLMorphCore.cli import main; main(['models']); print(os.environ['OMP_WAIT_POLICY'])"
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert ran.stdout.split()[-1].decode() == used


def test_a_reader_that_stops_reading_is_no_error():
    listing = [
        sys.executable,
        "-c",
        "import sys; from CLMorphCore.cli import main; sys.exit(main(['models', '--progress', 'none']))",
    ]
    with subprocess.Popen(listing, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


def test_register_needs_no_model_where_it_optimises(clmorph, fine_atlas, tmp_path):
    scan, moving = tmp_path / "scan.nii.gz", tmp_path / "moving.nii.gz"
    sitk.WriteImage(make_phantom(fine_atlas, seed=3, deformation_mm=1.5).image, str(scan))
    sitk.WriteImage(fine_atlas.image, str(moving))
    ran = clmorph(
        "register", scan, moving, "--refine", 5, "--similarity", "mind", "-o", tmp_path / "out", "--progress", "json"
    )
    assert ran.code == 0 and {"transform.h5", "inverse.h5", "warped.nii.gz"} < names(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["model"] == "affine" and 0 < report["refinement_steps"] <= 15
    assert report["similarity"]["warped"] > report["similarity"]["affine"] and report["duration_s"]["refinement"] > 0
    fractions = [e["fraction"] for e in events(ran) if e["event"] == "progress"]
    assert fractions == sorted(fractions) and any(e.get("step") == "refinement" for e in events(ran))


def test_segment_reports_the_steps_of_its_refinement(clmorph, scan, tiny_model, tmp_path):
    ran = clmorph("segment", scan, "--model", tiny_model, "--affine", "none", "--refine", 3, "-o", tmp_path / "out")
    assert ran.code == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert 0 < report["refinement_steps"] <= 9 and "refinement" in report["duration_s"]
