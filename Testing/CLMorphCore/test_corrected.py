"""A result that was corrected by hand is the user's: no later run into its folder replaces it in silence."""

import gzip
import hashlib
import json
import os
import re
import time
from dataclasses import replace

import pytest

from CLMorphCore.bundles import model as models
from CLMorphCore.bundles.atlas import CHECKSUMS, save_atlas
from CLMorphCore.errors import OutputError
from CLMorphCore.evaluation import Evaluation
from CLMorphCore.io.checksums import KEY, MAX_DELAY_S, check_unchanged, seal
from CLMorphCore.reports.evaluation import Agreement, Summary
from CLMorphCore.reports.report import Report
from CLMorphCore.segmentation import segment

pytestmark = pytest.mark.usefixtures("aligned_once")  # the same scans, again and again

SEGMENT = "segment {scan} --model {model} --affine none"
VERBS = {  # and the results that a user may come to change
    SEGMENT: ("labels.nii.gz", "uncertainty.nii.gz", "transform.h5", "report.html", "report.json"),
    "register {scan} {scan} --model {model} --moving-labels {place}/labels.nii.gz": ("labels.nii.gz", "affine.h5"),
    "evaluate --model {model} --data {place}/m.csv --split train": ("results.csv", "summary.json"),
    "build-atlas --data {place}/m.csv": ("labels.nii.gz", "labels.csv"),
    "build-atlas --each --data {place}/m.csv": ("a/labels.nii.gz", "a/labels.csv"),
    "demo --model {model}": ("labels.nii.gz", "subject_labels.nii.gz"),
}


def contents(folder):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def words(command, place):
    return [
        *command.format(scan=place / "scan.nii.gz", model=place / "model", place=place).split(),
        *("-o", place / "out", "--device", "cpu"),
    ]


def correct(path):
    """As an editor saves: other content, and the same name."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        voxels = bytearray(gzip.decompress(content))
        voxels[-1] ^= 1
        path.write_bytes(gzip.compress(bytes(voxels)))
    elif path.suffix == ".json":
        path.write_text(json.dumps(json.loads(content) | {"note": "mine"}), encoding="utf-8")
    else:
        path.write_bytes(content + b" ")


@pytest.mark.parametrize("command", VERBS)
def test_a_corrected_result_ends_the_next_run_before_any_work(command, place, clmorph, monkeypatch):
    for _ in range(2):  # what nobody has changed is replaced
        ran = clmorph(*words(command, place))
        assert ran.code == 0, ran.err
    monkeypatch.setattr(models, "build", lambda *_: pytest.fail("the work has begun"))
    for name in VERBS[command]:
        file = place / "out" / name
        kept = file.read_bytes()
        correct(file)
        before = contents(place)
        ran = clmorph(*words(command, place))
        assert ran.code == 2 and ran.err.count("\n") == 1, ran.err
        assert f"{file} was changed after an earlier run had written it: its checksum is not the one in" in ran.err
        assert "move or delete it, or choose another output folder" in ran.err
        assert contents(place) == before and not list(place.rglob(".clmorph-*"))
        file.write_bytes(kept)
    monkeypatch.undo()
    file.unlink()  # what is gone is no correction
    missing = {"build-atlas": "labels.csv", "build-atlas --each": "a/labels.csv"}
    if not any(command.startswith(verb) for verb in missing):  # a part of an atlas is none
        assert clmorph(*words(command, place)).code == 0


def test_corrected_labels_also_stop_another_verb(place, clmorph):
    assert clmorph(*words(SEGMENT, place)).code == 0
    correct(place / "out" / "labels.nii.gz")
    before = contents(place)
    ran = clmorph(*words("register {scan} {scan} --model {model}", place))
    assert ran.code == 2 and "labels.nii.gz was changed" in ran.err and contents(place) == before


def test_verbs_that_take_turns_in_a_folder_know_each_others_results(place, clmorph):
    verbs = [SEGMENT, "register {scan} {scan} --model {model}"]
    for verb in [*verbs, *verbs]:
        ran = clmorph(*words(verb, place))
        assert ran.code == 0, ran.err
    correct(place / "out" / "report.html")  # of the first verb, beside the report of the second
    assert clmorph(*words(verbs[1], place)).code == 0
    ran = clmorph(*words(verbs[0], place))
    assert ran.code == 2 and "report.html was changed" in ran.err


def test_checksums_are_those_of_the_files_and_the_report_is_read_as_before(place, clmorph):
    assert clmorph(*words(SEGMENT, place)).code == 0
    out = place / "out"
    known = json.loads((out / "report.json").read_text(encoding="utf-8"))[KEY]
    assert set(known) == {p.name for p in out.iterdir()}
    for name, told in known.items():
        if name != "report.json":
            assert told == hashlib.sha256((out / name).read_bytes()).hexdigest()
    assert Report.read(out / "report.json").model.name == "tiny"
    text = (out / "report.json").read_text(encoding="utf-8")  # other line ends are no other report
    (out / "report.json").write_bytes(text.replace("\n", "\r\n").encode())
    assert clmorph(*words(SEGMENT, place)).code == 0


@pytest.mark.parametrize("name", ["labels.nii.gz", "uncertainty.nii.gz"])
def test_results_of_an_older_version_are_known_by_their_times(name, place, clmorph):
    def run():
        report = out / "report.json"
        tree = json.loads(report.read_text(encoding="utf-8"))
        tree.pop(KEY, None)
        report.write_text(json.dumps(tree), encoding="utf-8")
        for file, ago in ((report, hour), (out / name, hour - after)):
            os.utime(file, (time.time() - ago,) * 2)
        return clmorph(*words(SEGMENT, place))

    out, hour = place / "out", 3600.0
    assert clmorph(*words(SEGMENT, place)).code == 0
    for each in out.iterdir():
        os.utime(each, (time.time() - hour,) * 2)
    after = MAX_DELAY_S + 5
    ran = run()
    assert ran.code == 2 and ran.err.count("\n") == 1, ran.err
    assert f"{name} was changed after an earlier run had written it: it is newer than report.json" in ran.err
    after = MAX_DELAY_S - 5
    assert run().code == 0


@pytest.mark.parametrize("kind", ["a link to nowhere", "a pipe"])
def test_what_is_no_file_any_more_is_not_opened(kind, place, clmorph):
    assert clmorph(*words(SEGMENT, place)).code == 0
    file = place / "out" / "labels.nii.gz"
    file.unlink()
    if kind == "a pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("nowhere")
    ran = clmorph(*words(SEGMENT, place))
    assert ran.code == 2 and "labels.nii.gz was changed" in ran.err and "no file any more" in ran.err


def test_a_report_that_is_no_report_any_more_is_not_replaced(place, clmorph):
    assert clmorph(*words(SEGMENT, place)).code == 0
    (place / "out" / "report.json").write_text("my notes about this patient", encoding="utf-8")
    before = contents(place)
    ran = clmorph(*words(SEGMENT, place))
    assert ran.code == 2 and ran.err.count("\n") == 1 and "report.json is there already" in ran.err
    assert contents(place) == before


# --- the library


@pytest.fixture(scope="module")
def segmented(phantom, model):
    return segment(phantom.image, model)


def saves(segmented, atlas):
    row = Agreement("a", 1, "A", "found", 0.5, 0.6, 3.0, 2.0, 1.0, 5.0)
    summary = Summary("tiny", "test", 1, 0.5, 0.6, 0.0, 2.0, 1.0, 0.0, 0.0, 1.0, ())
    return {
        "labels.nii.gz": segmented.save,
        "image.nii.gz": lambda folder: save_atlas(folder, atlas),
        "results.csv": Evaluation((row,), summary).save,
    }


@pytest.mark.parametrize("name", ["labels.nii.gz", "image.nii.gz", "results.csv"])
def test_what_the_library_saves_is_kept_where_it_was_corrected(name, segmented, atlas, tmp_path):
    save = saves(segmented, atlas)[name]
    save(tmp_path)
    save(tmp_path)
    correct(tmp_path / name)
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=f"{re.escape(name)} was changed after"):
        save(tmp_path)
    assert contents(tmp_path) == before


def test_a_correction_that_comes_while_the_run_is_at_work_is_kept(segmented, tmp_path):
    segmented.save(tmp_path)

    def progress(step, _):
        if step == "report":
            correct(tmp_path / "labels.nii.gz")

    with pytest.raises(OutputError, match=r"labels.nii.gz was changed"):
        segmented.save(tmp_path, progress)
    assert not list(tmp_path.glob(".clmorph-*"))


def test_a_transform_that_the_library_saves_again_is_entered_into_the_report_beside_it(segmented, tmp_path):
    segmented.save(tmp_path)
    other = replace(segmented.registration, inverse=None)
    other.save(tmp_path)
    assert "inverse.h5" not in json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))[KEY]
    segmented.save(tmp_path)
    correct(tmp_path / "transform.h5")
    with pytest.raises(OutputError, match=r"transform.h5 was changed"):
        other.save(tmp_path)


def test_a_transform_alone_is_known_by_its_time(segmented, tmp_path):
    segmented.registration.save(tmp_path)
    os.utime(tmp_path / "affine.h5", (time.time() - 3600,) * 2)
    with pytest.raises(OutputError, match=r"was changed .* it is newer than affine.h5"):
        segmented.registration.save(tmp_path)


def test_an_atlas_of_an_older_version_may_be_built_again(atlas, tmp_path):
    save_atlas(tmp_path, atlas)
    (tmp_path / CHECKSUMS).unlink()
    save_atlas(tmp_path, atlas)
    assert (tmp_path / CHECKSUMS).exists()


def test_checksums_of_names_that_are_no_unicode_are_written_and_known(tmp_path):
    made, folder = tmp_path / "made", tmp_path / "out"
    made.mkdir()
    (made / "report.json").write_text('{"model": "\\ud800", "note": "é"}', encoding="utf-8")
    seal(made, folder, ["report.json"], "report.json")
    made.rename(folder)
    check_unchanged(folder, ["report.json"], "report.json")
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["model"] == "\ud800"
