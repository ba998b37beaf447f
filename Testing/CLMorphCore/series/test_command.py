"""``clmorph segment --frames``: files that other programs read, one line for what cannot be, nothing left of a stop."""

import csv
import json
import re
import subprocess
import sys

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from made_up import write_series
from made_up_heart import COUNT, ES, FIRST, STEP_S

from CLMorphCore.io.series import read_series
from CLMorphCore.reports.report import Report

RESULTS = {"labels.nii.gz", "volumes_over_time.csv", "report.json", "report.html"}
QUICK = ("--affine", "none", "--tissue", "off", "--refine", "8")
FAST = ("--effort", "fast", "--affine", "none")


@pytest.fixture(scope="module")
def ran(cine_file, heart_folder, tmp_path_factory):
    """The command in a process of its own, as people run it; what it says and where its results are."""
    output = tmp_path_factory.mktemp("ran") / "out"
    words = ["segment", cine_file, "--model", heart_folder, "-o", output, "--frames", f"{FIRST + 1},all", *QUICK]
    command = [sys.executable, "-m", "CLMorphCore", *map(str, words), "--threads", "1"]
    done = subprocess.run(
        [*command, "--progress", "json"], capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    return done, output


def test_a_4d_label_file_lies_on_the_series_and_keeps_its_time(ran, cine_file):
    scan, labels = nibabel.load(cine_file), nibabel.load(ran[1] / "labels.nii.gz")
    assert {path.name for path in ran[1].iterdir()} == RESULTS
    assert labels.shape == scan.shape == (36, 32, 28, COUNT)
    assert np.allclose(labels.affine, scan.affine, atol=1e-5)
    assert labels.header.get_zooms()[3] == pytest.approx(STEP_S) and labels.header.get_xyzt_units() == ("mm", "sec")
    assert labels.get_data_dtype() == np.uint8 and set(np.unique(np.asarray(labels.dataobj))) == {0, 1, 3}


def test_volumes_are_those_of_the_label_file(ran):
    labels = nibabel.load(ran[1] / "labels.nii.gz")
    voxel_ml = float(np.prod(labels.header.get_zooms()[:3])) / 1000
    with (ran[1] / "volumes_over_time.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["frame", "time_s", "Right ventricle (ml)", "Left ventricle (ml)"]
    for n, one in enumerate(rows):
        assert (int(one["frame"]), float(one["time_s"])) == (n + 1, pytest.approx(STEP_S * n))
        for value, name in ((1, "Right"), (3, "Left")):
            count = np.count_nonzero(np.asarray(labels.dataobj)[..., n] == value)
            assert float(one[f"{name} ventricle (ml)"]) == pytest.approx(count * voxel_ml, abs=1e-3)


def test_the_report_tells_what_the_heart_ejects_and_is_still_the_report_of_a_scan(ran):
    tree = json.loads((ran[1] / "report.json").read_text(encoding="utf-8"))
    left = next(one for one in tree["series"]["heart"] if one["side"] == "left")
    assert (left["end_diastole"], left["end_systole"]) == (FIRST + 1, ES + 1)
    assert left["ejection_fraction"] == pytest.approx((left["edv_ml"] - left["esv_ml"]) / left["edv_ml"], abs=1e-3)
    assert tree["series"]["closing_mean_mm"] < 2 and set(tree["files"]) == RESULTS
    report = Report.read(ran[1] / "report.json")
    assert report.model.name == "tiny-heart" and report.structures[1].volume_ml == pytest.approx(
        left["edv_ml"], abs=1e-3
    )
    page = (ran[1] / "report.html").read_text(encoding="utf-8")
    assert page.count("<polyline") == 2 and f"ED, frame {FIRST + 1}" in page and f"ES, frame {ES + 1}" in page


def test_a_program_is_told_each_frame_and_a_person_the_ejection_fraction(ran):
    events = [json.loads(line) for line in ran[0].stdout.splitlines()]
    assert {f"frame {n}" for n in range(1, COUNT + 1) if n != FIRST + 1} <= {event.get("step") for event in events}
    assert f"after frame {FIRST + 1}; ejection fraction" in ran[0].stderr


def test_a_frame_and_end_systole_alone_get_labels(cine_file, heart_folder, clmorph, tmp_path):
    done = clmorph("segment", cine_file, "--model", heart_folder, "-o", tmp_path / "out", "--frames", "3,es", *QUICK)
    assert done.code == 0, done.err
    tree = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert len(tree["series"]["frames"]) == COUNT and tree["series"]["labelled"] == [FIRST + 1, ES + 1]
    assert sitk.ReadImage(str(tmp_path / "out" / "labels.nii.gz")).GetSize()[3] == 2


def test_one_frame_alone_is_segmented_as_the_scan_that_it_is(cine_file, heart_folder, clmorph, tmp_path):
    sitk.WriteImage(read_series(cine_file).frames[3], str(tmp_path / "frame.nii.gz"))
    for name, words in (("a", (cine_file, "--frames", "4")), ("b", (tmp_path / "frame.nii.gz",))):
        done = clmorph("segment", *words, "--model", heart_folder, "-o", tmp_path / name, *FAST)
        assert done.code == 0, done.err
    ours, theirs = (sitk.ReadImage(str(tmp_path / name / "labels.nii.gz")) for name in "ab")
    assert np.array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
    assert (tmp_path / "a" / "transform.h5").exists()
    assert Report.read(tmp_path / "a" / "report.json").image.endswith("cine.nii.gz, frame 4")


MASK, TURN = "mask.nii.gz", "turn.tfm"  # which nobody looks into


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ((), r"expected a 3D image; .* give --frames: all, ed,es of a heart, or a frame's number"),
        (("--frames", "7"), r"--frames names frame 7 of a series of 6; expected 1 … 6"),
        (("--frames", "all,8"), r"--frames names frame 8 of a series of 6; expected 1 … 6"),
        (("--frames", "every"), r"--frames every has 'every'; expected all, ed, es or numbers of frames from 1"),
        *(
            (("--frames", "all", *words), rf"{words[0]} is for one image, and --frames all asks for several")
            for words in (("--dicom-seg",), ("--dicom-sr",), ("--mask", MASK), ("--initial", TURN))
        ),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(frames, said, cine_file, heart_folder, clmorph, tmp_path):
    done = clmorph("segment", cine_file, "--model", heart_folder, "-o", tmp_path / "out", *frames)
    assert done.code == 2 and done.err.count("\n") == 1
    assert re.search(said, done.err), done.err
    assert not (tmp_path / "out").exists()


def test_a_cancelled_series_leaves_nothing(cine_file, heart_folder, clmorph, tmp_path):
    (tmp_path / "stop").touch()
    words = ("--frames", "all", "--cancel-file", tmp_path / "stop")
    done = clmorph("segment", cine_file, "--model", heart_folder, "-o", tmp_path / "out", *words)
    assert done.code == 130 and not (tmp_path / "out").exists()


def test_results_of_one_scan_and_of_a_series_give_way_to_each_other_but_none_that_was_corrected(
    cine_file, heart_folder, clmorph, tmp_path
):
    words = ("segment", cine_file, "--model", heart_folder, "-o", tmp_path / "out", *FAST, "--frames")
    assert clmorph(*words, "1").code == 0
    alone = {path.name for path in (tmp_path / "out").iterdir()}
    for frames, results in (("1,2", RESULTS), ("1", alone), ("1,2", RESULTS)):
        done = clmorph(*words, frames)
        assert done.code == 0, done.err
        assert {path.name for path in (tmp_path / "out").iterdir()} == results
    (tmp_path / "out" / "volumes_over_time.csv").write_text("mine", encoding="utf-8")
    done = clmorph(*words, "1,2")
    assert done.code == 2 and "volumes_over_time.csv was changed" in done.err
    assert (tmp_path / "out" / "volumes_over_time.csv").read_text(encoding="utf-8") == "mine"


def test_phases_of_a_dicom_series_get_labels_in_their_place(cine, heart_folder, clmorph, tmp_path):
    """One phase alone, read by ITK's own DICOM reader, is where the labels have to lie."""
    (tmp_path / "dicom").mkdir()
    for p in range(2):
        write_series(tmp_path / f"{p}", cine.series.frames[p])
        for n, path in enumerate(sorted((tmp_path / f"{p}").iterdir())):
            one = pydicom.dcmread(path)
            one.TriggerTime = 35.0 * p
            one.save_as(tmp_path / "dicom" / f"{(n * 5) % 28:02}-{p}.dcm")
    words = ("segment", tmp_path / "dicom", "--model", heart_folder, "-o", tmp_path / "out", "--frames", "all", *FAST)
    done = clmorph(*words)
    assert done.code == 0, done.err
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "1"))
    alone, labels = sitk.ReadImage(names), sitk.ReadImage(str(tmp_path / "out" / "labels.nii.gz"))
    assert labels.GetSize() == (*alone.GetSize(), 2) and labels.GetSpacing()[3] == pytest.approx(0.035)
    corner = (35, 0, 27)
    assert labels[:, :, :, 1].TransformIndexToPhysicalPoint(corner) == pytest.approx(
        alone.TransformIndexToPhysicalPoint(corner), abs=1e-3
    )
    table = (tmp_path / "out" / "volumes_over_time.csv").read_text(encoding="utf-8")
    assert table.splitlines()[2].startswith("2,0.035,")
