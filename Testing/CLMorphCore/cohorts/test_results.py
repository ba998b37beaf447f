"""The result of one scan: made once, kept while it fits, else made again, and never over another's files."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import SimpleITK as sitk

from CLMorphCore.cohorts import results
from CLMorphCore.cohorts import work as work_of_process
from CLMorphCore.cohorts.results import WRITING, is_whole, read_failure, save_failure
from CLMorphCore.cohorts.scans import find_cohort
from CLMorphCore.cohorts.tables import row_of
from CLMorphCore.cohorts.work import is_finished, work
from CLMorphCore.errors import InputError
from CLMorphCore.segmentation import segment


@pytest.fixture
def first(scans, tmp_path):
    """The first of four scans, with its place in a folder of results that is not there yet."""
    return find_cohort(scans, tmp_path / "out").scans[0]


@pytest.fixture
def made(settings):
    return settings.made()


def written(scan):
    return {path.name: path.stat().st_mtime_ns for path in scan.place.folder.iterdir()}


def test_labels_and_report_are_those_of_segment_and_nothing_else_is_kept(first, settings, made, model_of):
    assert work(first, settings, made).failure == ""
    assert sorted(written(first)) == ["labels.nii.gz", "report.json"]
    image = sitk.ReadImage(str(first.image))
    alone = segment(image, model_of, inverse=True)
    labels = sitk.ReadImage(str(first.place.folder / "labels.nii.gz"))
    assert (sitk.GetArrayFromImage(labels) == sitk.GetArrayFromImage(alone.labels)).all()
    tree = json.loads((first.place.folder / "report.json").read_text(encoding="utf-8"))
    volumes = {s["value"]: s["volume_ml"] for s in tree["structures"]}
    assert volumes == pytest.approx(alone.volumes_ml)


@pytest.fixture
def model_of(settings):
    from CLMorphCore.cohorts.work import loaded

    return loaded(settings).model


def test_what_is_whole_is_kept_and_what_does_not_fit_any_more_is_made_again(first, settings, made, scans):
    work(first, settings, made)
    before = written(first)
    os.utime(first.image, (1, 1))  # touched, and the same content
    assert is_finished(first, settings, made)
    assert work(first, settings, made).failure == "" and written(first) == before

    other = replace(settings, tissue="off")
    assert not is_whole(first, other.made())
    assert not is_whole(first, replace(settings, colors="safe").made())
    more = replace(settings, keep=("transform",))
    assert not is_whole(first, more.made())
    assert work(first, more, more.made()).failure == ""
    assert sorted(written(first)) == ["affine.h5", "inverse.h5", "labels.nii.gz", "report.json", "transform.h5"]
    assert is_whole(first, made)  # what is more than was asked for does no harm

    first.image.write_bytes((scans / "b.nii.gz").read_bytes())
    assert not is_whole(first, made)
    assert work(first, settings, made).failure == ""
    assert sorted(written(first)) == ["labels.nii.gz", "report.json"]  # an old transform would be another scan's

    (first.place.folder / "labels.nii.gz").unlink()
    assert not is_whole(first, made)


def test_labels_corrected_by_hand_stay_and_the_scan_says_so(first, settings, made):
    work(first, settings, made)
    labels = first.place.folder / "labels.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(labels)) * 0, str(labels))
    corrected = labels.read_bytes()
    assert is_finished(first, settings, made)
    assert "was changed after an earlier run had written it" in read_failure(first.place)
    assert work(first, settings, made).failure and labels.read_bytes() == corrected


def test_another_programs_labels_are_not_written_over(first, settings, made):
    first.place.folder.mkdir(parents=True)
    labels = first.place.folder / "labels.nii.gz"
    labels.write_bytes(b"of another program")
    assert "is there already" in work(first, settings, made).failure
    assert labels.read_bytes() == b"of another program" and not (first.place.folder / "report.json").exists()


def test_the_result_of_another_scan_is_not_written_over(first, settings, made, scans):
    work(first, settings, made)
    other = replace(first, image=scans / "b.nii.gz")
    assert "is the result of" in work(other, settings, made).failure
    assert json.loads((first.place.folder / "report.json").read_text(encoding="utf-8"))["cohort"]["image"] == str(
        first.image
    )


def test_a_failure_is_written_and_goes_when_the_scan_can_be_read(first, settings, made):
    content = first.image.read_bytes()
    first.image.write_bytes(content[:1000])
    assert "cut off" in work(first, settings, made).failure
    assert "cut off" in read_failure(first.place)
    first.image.write_bytes(content)
    assert not is_finished(first, settings, made)
    assert work(first, settings, made).failure == ""
    assert sorted(written(first)) == ["labels.nii.gz", "report.json"]


def test_a_defect_is_one_scans_failure(first, settings, made, monkeypatch):
    monkeypatch.setattr("CLMorphCore.cohorts.work.read_image", lambda path: 1 / 0)
    assert work(first, settings, made).failure.startswith("a defect of CLMorph, ZeroDivisionError")


@pytest.mark.parametrize("moved", [0, 2, 4])
def test_killed_between_two_files_the_result_is_made_again(first, settings, moved, monkeypatch):
    """Into a folder that is there files come one after the other; the process may end after any of them."""
    settings = replace(settings, keep=("transform",))
    made = settings.made()
    first.place.folder.mkdir(parents=True)
    real, calls = os.replace, []

    def killed(source, target):
        if Path(target).parent == first.place.folder and Path(target).name != first.place.failed:
            if len(calls) == moved:
                raise SystemExit
            calls.append(target)
        real(source, target)

    monkeypatch.setattr("CLMorphCore.atomic.os.replace", killed)
    with pytest.raises(SystemExit):
        work(first, settings, made)
    monkeypatch.setattr("CLMorphCore.atomic.os.replace", real)
    assert read_failure(first.place) == WRITING and not is_whole(first, made)
    assert work(first, settings, made).failure == ""
    assert is_whole(first, made)
    assert sorted(written(first)) == ["affine.h5", "inverse.h5", "labels.nii.gz", "report.json", "transform.h5"]


def test_a_failure_replaces_no_file_of_anybodys(first):
    first.place.folder.mkdir(parents=True)
    path = first.place.folder / "failed.json"
    path.write_text("[1, 2]")
    save_failure(first.place, "why", "small")
    assert path.read_text(encoding="utf-8") == "[1, 2]" and read_failure(first.place) == ""


def test_two_files_of_one_scan_count_both(tmp_path):
    for name in ("x.mhd", "x.raw", "y.mhd"):
        (tmp_path / name).write_text(name)
    before = results.digest_of(tmp_path / "x.mhd")
    (tmp_path / "x.raw").write_text("other voxels")
    assert results.digest_of(tmp_path / "x.mhd") not in ("", before)


def test_another_scan_of_the_same_name_size_and_time_is_another_scan(first, settings, made, scans):
    work(first, settings, made)
    other = scans / "other" / first.image.name
    other.parent.mkdir()
    content = bytearray(first.image.read_bytes())
    content[-5] ^= 1  # of the checksum of the packed data
    other.write_bytes(content)
    for path in (first.image, other):
        os.utime(path, (1, 1))
    with pytest.raises(InputError, match="which is another scan"):
        is_whole(replace(first, image=other), made)
    other.write_bytes(first.image.read_bytes())  # the same scan, moved
    assert is_whole(replace(first, image=other), made)


def test_a_scan_that_is_replaced_while_it_is_segmented_has_no_result(first, settings, made, scans, monkeypatch):
    real = work_of_process.read_image

    def read(path):
        image = real(path)
        first.image.write_bytes((scans / "b.nii.gz").read_bytes())
        return image

    monkeypatch.setattr(work_of_process, "read_image", read)
    assert "was changed while it was segmented" in work(first, settings, made).failure
    assert not (first.place.folder / "report.json").exists()
    monkeypatch.undo()
    assert work(first, settings, made).failure == ""


@pytest.mark.parametrize("own", ["null", '"text"', "[1]"])
def test_a_report_that_was_changed_by_hand_is_one_scans_failure(first, settings, made, own):
    work(first, settings, made)
    report = first.place.folder / "report.json"
    changed = json.dumps(json.loads(report.read_text(encoding="utf-8")) | {"cohort": json.loads(own)})
    report.write_text(changed, encoding="utf-8")
    assert row_of(first, first.place.folder.parent, made.settings).status == "waiting"
    assert is_finished(first, settings, made)
    assert "report.json was changed after" in read_failure(first.place)
    assert report.read_text(encoding="utf-8") == changed
