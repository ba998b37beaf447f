"""Nothing of the user's is overwritten, by any verb; what is doubtful about a file reaches report and stderr."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.atomic import claimed


def contents(folder):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


# what is moved where (a result's name in out/), and the command that reads it there
SEGMENT = "segment {scan} --model {model} --affine none"
OVERWRITTEN = {
    "scan": ("scan.nii.gz", "labels.nii.gz", "segment {out}/labels.nii.gz --model {model}"),
    "scan, warped": ("scan.nii.gz", "warped.nii.gz", "segment {out}/warped.nii.gz --model {model}"),
    "affine": ("t.tfm", "affine.h5", "segment {scan} --model {model} --affine {out}/affine.h5"),
    "atlas labels": (
        "labels.nii.gz",
        "labels.nii.gz",
        "segment {scan} --model {model} --atlas {scan} --atlas-labels {out}/labels.nii.gz",
    ),
    "fixed": ("scan.nii.gz", "warped.nii.gz", "register {out}/warped.nii.gz {scan} --model {model}"),
    "moving": ("scan.nii.gz", "jacobian.nii.gz", "register {scan} {out}/jacobian.nii.gz --model {model}"),
    "moving labels": (
        "labels.nii.gz",
        "labels.nii.gz",
        "register {scan} {scan} --model {model} --moving-labels {out}/labels.nii.gz",
    ),
    "manifest": ("m.csv", "results.csv", "evaluate --model {model} --data {out}/results.csv"),
    "names": ("m.csv", "labels.csv", "build-atlas --data {place}/m.csv --label-names {out}/labels.csv"),
    "settings": ("fast.toml", "log.jsonl", "train {out}/log.jsonl --data {place}/m.csv"),
    "initial": (
        "model/weights.safetensors",
        "model/weights.safetensors",
        "train {place}/fast.toml --data {place}/m.csv --initial {out}/model/weights.safetensors",
    ),
    "cancel file": ("m.csv", "report.json", SEGMENT + " --cancel-file {out}/report.json"),
}


@pytest.mark.parametrize("case", OVERWRITTEN)
@pytest.mark.parametrize("way", ["directly", "through a link"])
def test_an_input_that_is_called_as_a_result_ends_in_one_line(case, way, place, clmorph):
    source, name, command = OVERWRITTEN[case]
    out = place / "out"
    (out / name).parent.mkdir(parents=True)
    if way == "directly":
        shutil.copy(place / source, out / name)
    else:
        (out / name).symlink_to(place / source)
    if case == "manifest":  # its paths are relative to it
        for file in ("scan.nii.gz", "labels.nii.gz"):
            shutil.copy(place / file, out / file)
    before = contents(place)
    words = command.format(scan=place / "scan.nii.gz", model=place / "model", out=out, place=place).split()
    if case == "cancel file":
        (out / name).unlink()
        shutil.copy(place / source, place / "kept")
        (out / name).symlink_to(place / "nowhere")
        before = contents(place)
    ran = clmorph(*words, "-o", out)
    assert ran.code == 2 and ran.err.count("\n") == 1 and "would replace" in ran.err, ran.err
    assert contents(place) == before and not list(place.rglob(".clmorph-*"))


def test_an_atlas_among_others_is_not_written_over(place, clmorph):
    before = contents(place)
    ran = clmorph(
        *("segment", place / "scan.nii.gz", "--model", place / "model"),
        *("--atlas-dir", place / "atlases", "-o", place / "atlases" / "one"),
    )
    assert ran.code == 2 and "would replace" in ran.err and contents(place) == before


def test_a_subjects_folder_is_not_replaced_by_its_atlas(place, clmorph):
    (place / "a").mkdir()
    shutil.move(place / "scan.nii.gz", place / "a" / "scan.nii.gz")
    text = (place / "m.csv").read_text(encoding="utf-8")
    (place / "m.csv").write_text(text.replace("scan.nii.gz", "a/scan.nii.gz"))
    before = contents(place)
    ran = clmorph("build-atlas", "--each", "--data", place / "m.csv", "-o", place)
    assert ran.code == 2 and "would replace" in ran.err and contents(place) == before


EVERY_VERB = [
    SEGMENT,
    "register {scan} {scan} --model {model}",
    "train {place}/fast.toml --data {place}/m.csv",
    "evaluate --model {model} --data {place}/m.csv",
    "build-atlas --data {place}/m.csv",
    "demo --model {model}",
]


@pytest.mark.parametrize("command", EVERY_VERB)
def test_a_folder_that_another_run_writes_to_is_refused_at_once(command, place, clmorph):
    words = command.format(scan=place / "scan.nii.gz", model=place / "model", place=place).split()
    with claimed(place / "out"):
        ran = clmorph(*words, "-o", place / "out")
        assert ran.code == 2 and ran.err.count("\n") == 1 and "is being written to by" in ran.err
    assert not (place / "out").exists() and not list(place.glob(".clmorph-*"))


@pytest.mark.parametrize("command", EVERY_VERB)
@pytest.mark.parametrize("below", [False, True])
def test_a_link_to_nowhere_is_no_output_and_found_before_the_work(command, below, place, clmorph, monkeypatch):
    from CLMorphCore.bundles import model

    monkeypatch.setattr(model, "build", lambda *_: pytest.fail("the work has begun"))
    (place / "out").symlink_to(place / "nowhere")
    words = command.format(scan=place / "scan.nii.gz", model=place / "model", place=place).split()
    before = contents(place)
    ran = clmorph(*words, "-o", place / "out" / "x" if below else place / "out")
    assert ran.code == 2 and ran.err.count("\n") == 1
    assert f"{place / 'out'} is a link to what does not exist; expected a folder" in ran.err
    assert contents(place) == before and not (place / "nowhere").exists()


@pytest.mark.parametrize("command", EVERY_VERB)
@pytest.mark.parametrize(
    ("output", "said"), [("x" * 300, "cannot write x*: File name too long"), ("", "nothing given")]
)
def test_an_output_without_a_name_or_with_one_that_is_too_long_is_one_line(
    command, output, said, place, clmorph, monkeypatch
):
    monkeypatch.chdir(place)
    before = contents(place)
    words = command.format(scan=place / "scan.nii.gz", model=place / "model", place=place).split()
    ran = clmorph(*words, "-o", output)
    assert ran.code == 2 and ran.err.count("\n") == 1 and re.search(said, ran.err), ran.err
    assert contents(place) == before


def test_a_doubtful_header_is_in_the_report_on_stderr_and_the_result_lies_on_the_scan(place, clmorph):
    scan = nib.load(place / "scan.nii.gz")
    other = scan.affine.copy()
    other[:3, 3] += (30, -20, 10)
    image = nib.Nifti1Image(np.asarray(scan.dataobj), scan.affine)
    image.set_sform(scan.affine, 2)
    image.set_qform(other, 1, update_affine=False)
    nib.save(image, place / "scan.nii.gz")
    for verb in (SEGMENT, "register {scan} {scan} --model {model} --affine none"):
        words = verb.format(scan=place / "scan.nii.gz", model=place / "model").split()
        ran = clmorph(*words, "-o", place / "out")
        assert ran.code == 0
        report = json.loads((place / "out" / "report.json").read_text(encoding="utf-8"))
        (warning,) = {w for w in report["warnings"] if "disagree" in w}
        assert warning.startswith("scan.nii.gz: its two placements disagree: the sform was taken")
        assert ran.err.count(f"clmorph: warning: {warning}\n") == 1
        for name in ("warped", "jacobian") + ("labels",) * (verb is SEGMENT):
            header = nib.load(place / "out" / f"{name}.nii.gz").header
            assert np.allclose(header.get_sform(), scan.affine, atol=1e-4) and header["sform_code"] == 2
            assert np.allclose(header.get_qform(), other, atol=1e-3) and header["qform_code"] == 1
        shutil.rmtree(place / "out")


# --- a process that was started without the usual files


@pytest.mark.skipif(os.name == "nt", reason="numbers of files are POSIX's")
@pytest.mark.parametrize("closed", ["1", "2", "0 1 2"])
def test_a_process_without_stdout_or_stderr_loses_nothing(closed, place):
    command = [
        sys.executable,
        "-m",
        "CLMorphCore",
        "segment",
        str(place / "scan.nii.gz"),
        "--model",
        str(place / "model"),
    ]
    command += ["--affine", "none", "-o", str(place / "out"), "--device", "cpu", "--progress", "bar", "--threads", "1"]
    before = contents(place)
    closing = " ".join(f"{number}>&-" if number != "0" else "0<&-" for number in closed.split())
    ended = subprocess.run(["sh", "-c", f'exec "$@" {closing}', "sh", *command], capture_output=True, timeout=300)
    assert ended.returncode == 0, ended
    assert json.loads((place / "out" / "report.json").read_text(encoding="utf-8"))["structures"]
    assert {path: text for path, text in contents(place).items() if path in before} == before


def test_a_python_without_a_console_ends_in_an_exit_code(place):
    code = "import sys; sys.stdout = sys.stderr = None; from CLMorphCore.cli import main; sys.exit(main(sys.argv[1:]))"
    ended = subprocess.run([sys.executable, "-c", code, "segment", str(place / "none.nii"), "--model", "x", "-o", "y"])
    assert ended.returncode == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no signals to single processes")
def test_a_stopped_run_leaves_nothing(place):
    command = [
        sys.executable,
        "-m",
        "CLMorphCore",
        "segment",
        str(place / "scan.nii.gz"),
        "--model",
        str(place / "model"),
    ]
    command += ["-o", str(place / "out"), "--device", "cpu", "--progress", "json", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline()
    time.sleep(0.2)
    process.terminate()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and errors == "clmorph: cancelled\n"
    assert not (place / "out").exists() and not list(place.glob(".clmorph-*"))


def test_voxels_that_a_header_names_are_inputs(place, clmorph):
    """A detached header's voxels may have a result's name; so may a slice of a series that a manifest names."""
    out = place / "out"
    out.mkdir()
    sitk.WriteImage(sitk.ReadImage(str(place / "scan.nii.gz")), str(out / "scan.nhdr"))
    (raw,) = (file for file in out.iterdir() if file.suffix != ".nhdr")
    raw.rename(out / "warped.nii.gz")
    header = (out / "scan.nhdr").read_text(encoding="utf-8")
    (out / "scan.nhdr").write_text(header.replace(raw.name, "warped.nii.gz"), encoding="utf-8")
    before = contents(place)
    ran = clmorph("segment", out / "scan.nhdr", "--model", place / "model", "--affine", "none", "-o", out)
    assert ran.code == 2 and "would replace" in ran.err and contents(place) == before


def test_what_is_no_atlas_in_an_atlas_folder_stays(place, clmorph):
    study = place / "study" / "a"
    study.mkdir(parents=True)
    (study / "notes.txt").write_text("mine", encoding="utf-8")
    (place / "one.csv").write_text("subject,image,labels,split\na,scan.nii.gz,labels.nii.gz,train\n", encoding="utf-8")
    ran = clmorph("build-atlas", "--each", "--data", place / "one.csv", "-o", place / "study")
    assert ran.code == 0 and (study / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert (study / "labels.csv").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Transform: AffineTransform_double_3_3\nParameters: 1 0 0 0 1 0 0 0 1 1 2 3\n",
            "no lines with FixedParameters",
        ),
        (
            2 * "Transform: AffineTransform_double_3_3\nParameters: 1 0 0 0 1 0 0 0 1 1 2 3\nFixedParameters: 0 0 0\n",
            "2 lines with Transform",
        ),
    ],
)
def test_an_affine_of_none_or_several_transforms_is_refused(place, clmorph, text, reason):
    (place / "t.tfm").write_text("#Insight Transform File V1.0\n" + text, encoding="utf-8")
    ran = clmorph("segment", place / "scan.nii.gz", "--model", place / "model", "--affine", place / "t.tfm",
                  "-o", place / "out")  # fmt: skip
    assert ran.code == 2 and reason in ran.err and not (place / "out").exists()


# --- the library


def test_training_from_the_library_keeps_what_it_reads_and_its_folder(place):
    import torch

    from CLMorphCore.bundles.config import load_config
    from CLMorphCore.errors import OutputError
    from CLMorphCore.io.manifest import read_manifest
    from CLMorphCore.training.loop import train

    config, subjects = load_config(place / "fast.toml"), read_manifest(place / "m.csv")
    weights = place / "model" / "weights.safetensors"
    before = contents(place)
    with pytest.raises(OutputError, match="would replace"):
        train(config, subjects, place, device=torch.device("cpu"), initial=weights)
    with claimed(place / "out"), pytest.raises(OutputError, match="is being written to by"):
        train(config, subjects, place / "out", device=torch.device("cpu"))
    assert contents(place) == before


@pytest.mark.parametrize("way", ["directly", "through a link"])
def test_a_result_never_replaces_the_scan_that_it_belongs_to(way, place):
    from CLMorphCore.errors import OutputError
    from CLMorphCore.io.images import read_image, write_image

    scan, path = read_image(place / "scan.nii.gz"), place / "scan.nii.gz"
    if way == "through a link":
        path = place / "labels-of-it.nii.gz"
        path.symlink_to("scan.nii.gz")
    before = contents(place)
    with pytest.raises(OutputError, match=r"would replace .*scan\.nii\.gz, which is read"):
        write_image(scan * 2, path, scan=scan)
    assert contents(place) == before
    write_image(scan * 2, place / "double.nii.gz", scan=scan)
    (place / "scan.nii.gz").unlink()
    write_image(scan * 2, place / "scan.nii.gz", scan=scan)  # of what is gone nothing is lost
