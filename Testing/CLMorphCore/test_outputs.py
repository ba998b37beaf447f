"""What lies in an output folder: an earlier run's results are replaced, all else ends the run before any work."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.atomic import atomic_folder
from CLMorphCore.bundles import model as models
from CLMorphCore.errors import InputError
from CLMorphCore.io.checksums import finish_killed, seal
from CLMorphCore.io.outputs import check_distinct, check_results

pytestmark = pytest.mark.usefixtures("aligned_once")  # the same scans, again and again

RESULT_OF = {
    "segment": "labels.nii.gz",
    "register": "warped.nii.gz",
    "train": "model/weights.safetensors",
    "evaluate": "results.csv",
    "build-atlas": "labels.nii.gz",
    "build-atlas --each": "a/labels.nii.gz",
    "demo": "subject.nii.gz",
}
VERBS = [
    "segment {scan} --model {model} --affine none",
    "register {scan} {scan} --model {model}",
    "train {place}/fast.toml --data {place}/m.csv",
    "evaluate --model {model} --data {place}/m.csv",
    "build-atlas --data {place}/m.csv",
    "build-atlas --each --data {place}/m.csv",
    "demo --model {model}",
]


def contents(folder):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def verb_of(command):
    return "build-atlas --each" if "--each" in command else command.split()[0]


def words(command, place, out):
    return [
        *command.format(scan=place / "scan.nii.gz", model=place / "model", place=place).split(),
        *("-o", out, "--device", "cpu"),
    ]


@pytest.fixture
def no_work(monkeypatch):
    monkeypatch.setattr(models, "build", lambda *_: pytest.fail("the work has begun"))


@pytest.mark.parametrize("command", VERBS)
@pytest.mark.parametrize("kind", ["a file", "a link", "a folder"])
def test_what_no_run_has_written_is_not_replaced_and_found_before_the_work(command, kind, place, clmorph, no_work):
    result = place / "out" / RESULT_OF[verb_of(command)]
    result.parent.mkdir(parents=True)
    if kind == "a file":
        result.write_text("drawn by hand for a week")
    elif kind == "a link":
        result.symlink_to(place / "elsewhere")
    else:
        result.mkdir()
    before = contents(place)
    ran = clmorph(*words(command, place, place / "out"))
    assert ran.code == 2 and ran.err.count("\n") == 1, ran.err
    assert str(result) in ran.err and ("is there already" if kind != "a folder" else "is a folder") in ran.err
    assert contents(place) == before and result.exists() != (kind == "a link") and not list(place.rglob(".clmorph-*"))


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("segment {scan} --model {model}", "inverse.h5"),
        ("segment {scan} --model {model}", "uncertainty.nii.gz"),
        ("register {scan} {scan} --model {model}", "labels.nii.gz"),
        ("build-atlas --data {place}/m.csv", "shares.npz"),
    ],
)
def test_a_result_that_a_run_may_not_make_is_the_users_too(command, name, place, clmorph, no_work):
    (place / "out").mkdir()
    (place / "out" / name).write_text("mine")
    ran = clmorph(*words(command, place, place / "out"))
    assert ran.code == 2 and f"{name} is there already" in ran.err
    assert (place / "out" / name).read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("command", [v for v in VERBS if verb_of(v) in ("train", "build-atlas --each")])
def test_a_file_in_place_of_a_folder_for_results_is_found_before_the_work(command, place, clmorph, no_work):
    (place / "out").mkdir()
    above = place / "out" / RESULT_OF[verb_of(command)].split("/")[0]
    above.write_text("a file")
    ran = clmorph(*words(command, place, place / "out"))
    assert ran.code == 2 and f"{above} is a file, where results need a folder" in ran.err
    assert above.read_text(encoding="utf-8") == "a file"


@pytest.mark.parametrize("certificate", ["report.json of another program", "none"])
@pytest.mark.parametrize("command", VERBS[:2])
def test_results_of_earlier_runs_are_replaced_also_of_other_verbs(command, certificate, place, clmorph):
    out = place / "out"
    for _ in range(2):
        assert clmorph(*words(command, place, out)).code == 0
    (out / "report.json").unlink()
    assert clmorph(*words(command, place, out)).code == 0  # as of an old version, or killed before the report came
    (out / "warped.nii.gz").unlink()
    (out / "report.json").unlink()
    if certificate != "none":
        (out / "report.json").write_text(json.dumps({"patients": []}))
    before = contents(place)
    ran = clmorph(*words(command, place, out))
    assert ran.code == 2 and "is there already" in ran.err and contents(place) == before


def test_a_scan_in_its_folder_of_slices_may_have_its_results_there(place, clmorph, scan):
    """Whose files have no endings, as the claim of a run."""
    image = sitk.ReadImage(str(scan))
    whole = sitk.Cast(sitk.RescaleIntensity(image, 0, 1000), sitk.sitkInt16)
    folder = place / "slices"
    folder.mkdir()
    for n in range(whole.GetDepth()):
        one = whole[:, :, n]
        for tag, value in {
            "0008|0060": "MR",
            "0020|000e": "1.2.3",
            "0020|0032": "\\".join(f"{p:.5f}" for p in whole.TransformIndexToPhysicalPoint((0, 0, n))),
            "0020|0037": "\\".join(f"{d:.5f}" for d in np.reshape(whole.GetDirection(), (3, 3))[:, :2].T.ravel()),
        }.items():
            one.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{n}.dcm"))
        writer.Execute(one)
        (folder / f"{n}.dcm").rename(folder / f"{n}")
    before = contents(folder)
    for _ in range(2):  # the first one's results are no slices
        ran = clmorph("segment", folder, "--model", place / "model", "--affine", "none", "-o", folder)
        assert ran.code == 0, ran.err
        assert before.items() <= contents(folder).items() and (folder / "report.json").exists()
    (folder / "0").rename(folder / "warped.nii.gz")  # a slice under a result's name
    before = contents(folder)
    ran = clmorph("segment", folder, "--model", place / "model", "--affine", "none", "-o", folder)
    assert ran.code == 2 and "which is read" in ran.err and contents(folder) == before


@pytest.mark.parametrize("names", [("Case1", "case1"), ("é", "e\u0301"), ("ß", "SS"), ("a", "a."), ("a", "A ")])
def test_subjects_whose_folders_would_be_one_are_refused_before_the_work(names, place, clmorph, no_work):
    rows = [f'"{name}",scan.nii.gz,labels.nii.gz,train' for name in names]
    text = "\n".join(["subject,image,labels,split", *rows])
    (place / "m.csv").write_text(text.replace('"A "', '"A ."'), encoding="utf-8")
    ran = clmorph("build-atlas", "--each", "--data", place / "m.csv", "-o", place / "out")
    assert ran.code == 2 and ran.err.count("\n") == 1 and "would have one folder" in ran.err
    assert not (place / "out").exists()


def test_names_that_are_distinct_everywhere_are_taken():
    check_distinct(["a", "b", "a1", "ab", "é", "e"])
    with pytest.raises(InputError, match="subjects B and b would have one folder"):
        check_distinct(["a", "B", "b"])


def test_a_place_without_anything_is_free(tmp_path):
    check_results(tmp_path / "new", ["a", "b/c"], certificates=["a"])
    check_results(tmp_path, ["a", "b/c"], certificates=["a"])


KILLED = """
import os, sys
from pathlib import Path
from CLMorphCore.atomic import atomic_folder
from CLMorphCore.io.checksums import finish_killed, seal
folder, real = Path(sys.argv[1]), os.replace
def replace(source, target):
    real(source, target)
    if Path(target).name == "a.csv":
        os._exit(9)  # as by a signal: nothing is put in order
os.replace = replace
with atomic_folder(folder, certificate="record.json") as temporary:
    for name in ("a.csv", "b.html"):
        (temporary / name).write_text("new " + name)
    (temporary / "record.json").write_text('{"model": "m"}')
    seal(temporary, folder, ("a.csv", "b.html", "record.json"), "record.json")
"""


NAMES = ("a.csv", "b.html", "record.json")


def killed_in(out):
    """Leaves what a run that is killed after its first file has left."""
    out.mkdir(exist_ok=True)
    assert subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False).returncode == 9


@pytest.mark.parametrize("before", [False, True])
def test_what_a_killed_run_was_moving_is_there_for_the_next_one(before, tmp_path):
    out = tmp_path / "out"
    if before:  # results of a run long ago
        with atomic_folder(out, certificate="record.json") as temporary:
            for name in NAMES[:2]:
                (temporary / name).write_text(f"old {name}")
            (temporary / "record.json").write_text('{"model": "m"}')
            seal(temporary, out, NAMES, "record.json")
        for name in NAMES:
            os.utime(out / name, (1e9, 1e9))
    killed_in(out)
    assert (out / "a.csv").read_text() == "new a.csv" and not (out / "record.json").exists()
    check_results(out, NAMES, certificates=["record.json"], record="record.json")
    assert [(out / name).read_text() for name in NAMES[:2]] == ["new a.csv", "new b.html"]
    assert set(json.loads((out / "record.json").read_text())["files"]) == set(NAMES)
    with atomic_folder(out, certificate="record.json") as temporary:
        (temporary / "record.json").write_text("newest")
    assert sorted(path.name for path in out.iterdir()) == list(NAMES)


def test_what_lies_where_a_killed_run_was_moving_its_results_stays(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.html").write_text("drawn by hand")
    killed_in(out)
    finish_killed(out, "record.json")
    assert (out / "b.html").read_text() == "drawn by hand" and not (out / "record.json").exists()


def test_what_is_changed_after_a_run_was_killed_stays(tmp_path):
    out = tmp_path / "out"
    killed_in(out)
    (out / "a.csv").write_text("mine")
    with pytest.raises(InputError, match=r"a\.csv is there already"):
        check_results(out, NAMES, certificates=["record.json"], record="record.json")
    assert (out / "a.csv").read_text() == "mine" and not (out / "b.html").exists()
