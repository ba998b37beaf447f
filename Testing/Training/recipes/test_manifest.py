"""The recipes' prepare scripts, on small files in the layouts of the data sets and on the real ones."""

import importlib
import os
import sys
from collections import Counter
from pathlib import Path

import layouts
import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.io.manifest import choose, read_manifest, read_subject
from Training.recipes.manifest import command_line

LAYOUTS = {
    "hippocampus": layouts.hippocampus,
    "brain": layouts.brain,
    "mindboggle101": layouts.mindboggle101,
    "acdc": layouts.acdc,
    "lpba40": layouts.lpba40,
}


def data_folder():
    """Real data, from CLMORPH_DATA; None where there is none."""
    given = os.environ.get("CLMORPH_DATA")
    beside = Path(__file__).parents[4] / "shared" / "data"
    return Path(given) if given else beside if beside.exists() else None


def prepare(name, data, manifest):
    importlib.import_module(f"Training.recipes.{name}.prepare").main(data, manifest)
    return read_manifest(manifest)


def splits(subjects):
    return Counter(s.split for s in subjects)


@pytest.mark.parametrize("name", LAYOUTS)
def test_writes_a_manifest_that_the_engine_reads(name, tmp_path):
    LAYOUTS[name](tmp_path / "data")
    subjects = prepare(name, tmp_path / "data", tmp_path / "manifest.csv")
    assert choose(subjects, "train", labelled=True)
    assert all(s.image.is_absolute() for s in subjects)


def test_brains_held_out_are_in_no_split(tmp_path):
    layouts.brain(tmp_path)
    names = [s.name for s in prepare("brain", tmp_path, tmp_path / "manifest.csv")]
    assert "1107" in names and "1101" not in names


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_fault_is_listed_and_nothing_written(name, tmp_path):
    data = tmp_path / "data"
    LAYOUTS[name](data)
    files = sorted(p for p in data.rglob("*") if p.suffix in (".gz", ".hdr") and "1101" not in str(p))
    images, labels = ([p for p in files if kind == ("label" in str(p) or "_gt" in str(p))] for kind in (False, True))
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:40])
    labels[0].unlink()
    (layouts.write_analyze if labels[1].suffix == ".hdr" else layouts.write)(labels[1], np.full((2, 3, 4), 99, "i2"))
    with pytest.raises(SystemExit) as ended:
        prepare(name, data, tmp_path / "manifest.csv")
    first, *faults = str(ended.value).splitlines()
    assert first.startswith(f"{len(faults)} things are wrong")
    about = [str(path) for path in (images[0], images[1], labels[0], labels[1])]
    assert all(any(path in fault for fault in faults) for path in about)
    assert all(any(path in fault for path in about) for fault in faults), "nothing else is wrong"
    told = "\n".join(fault for fault in faults if about[3] in fault)
    assert "lack" in told and "hold 99" in told
    assert not (tmp_path / "manifest.csv").exists()


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_without_the_data_set_is_told_in_one_line(name, tmp_path):
    with pytest.raises(SystemExit, match="does not exist; expected a data set there") as ended:
        prepare(name, tmp_path, tmp_path / "manifest.csv")
    assert "\n" not in str(ended.value)


def test_labels_on_another_grid_are_told(tmp_path):
    layouts.hippocampus(tmp_path)
    path = tmp_path / "Task04_Hippocampus" / "labelsTr" / "hippocampus_001.nii.gz"
    layouts.write(path, layouts.label_array([1, 2])[:-1])
    with pytest.raises(SystemExit, match=r"1 things are wrong[^\n]*\nlabels .*hippocampus_001.* lie on another grid"):
        prepare("hippocampus", tmp_path, tmp_path / "manifest.csv")


@pytest.mark.parametrize("text", ["", "name,part\na,train\n", "subject,split\na,training\n"])
def test_a_split_that_is_none_is_told(text, tmp_path):
    layouts.hippocampus(tmp_path)
    (tmp_path / "Task04_Hippocampus" / "split.csv").write_text(text)
    with pytest.raises(SystemExit, match=r"split\.csv has .*expected the columns subject, split"):
        prepare("hippocampus", tmp_path, tmp_path / "manifest.csv")


def test_the_command_says_in_one_line_what_it_was_not_given_or_cannot_write(tmp_path, monkeypatch):
    layouts.hippocampus(tmp_path)
    (tmp_path / "file").touch()
    main = importlib.import_module("Training.recipes.hippocampus.prepare").main
    for arguments, told in (
        ((), "0 arguments given; expected"),
        ((tmp_path, tmp_path / "file" / "manifest.csv"), "cannot write"),
    ):
        monkeypatch.setattr(sys, "argv", ["prepare.py", *map(str, arguments)])
        with pytest.raises(SystemExit, match=told) as ended:
            command_line(main)
        assert "\n" not in str(ended.value)


# Mindboggle-101


def test_with_nki_mindboggles_split_is_the_papers(tmp_path, capsys):
    layouts.mindboggle101_with_nki(tmp_path)
    subjects = prepare("mindboggle101", tmp_path, tmp_path / "manifest.csv")
    assert splits(subjects) == {"train": 42, "test": 20} and not capsys.readouterr().out
    assert all((s.split == "test") == s.name.startswith("OASIS") for s in subjects)


def test_without_nki_mindboggle_says_what_it_does_instead(tmp_path, capsys):
    layouts.mindboggle101(tmp_path)
    names = [s.name for s in prepare("mindboggle101", tmp_path, tmp_path / "manifest.csv")]
    told = capsys.readouterr().out
    assert names == ["OASIS-TRT-20-4", "OASIS-TRT-20-2", "1107"]
    assert "neither NKI-RS-22 nor NKI-TRT-20" in told and "1 unlabelled" in told and told.count("\n") == 1


def test_one_nki_cohort_alone_is_told(tmp_path):
    layouts.mindboggle101(tmp_path)
    (tmp_path / "Mindboggle101" / "NKI-TRT-20_volumes").mkdir()
    with pytest.raises(SystemExit, match="NKI-TRT-20 without the other one"):
        prepare("mindboggle101", tmp_path, tmp_path / "manifest.csv")


def test_labels_that_dkt31_dropped_may_be_there(tmp_path):
    layouts.mindboggle101(tmp_path)
    layouts.mindboggle_subject(
        tmp_path / "Mindboggle101", "OASIS-TRT-20-4", "DKT31.manual", [*layouts.dkt31(), 1032, 2033]
    )
    assert prepare("mindboggle101", tmp_path, tmp_path / "manifest.csv")


def test_mindboggles_regions_are_the_62_labels_but_the_insula():
    assert len(layouts.dkt31()) == 62
    values = layouts.listed("mindboggle101")
    assert {v - 1000 for v in values if v >= 2000} == {v for v in values if v < 2000}


# ACDC


def test_a_patients_two_frames_are_one_group(tmp_path):
    layouts.acdc(tmp_path)
    subjects = prepare("acdc", tmp_path, tmp_path / "manifest.csv")
    assert [(s.name, s.group, s.image.name) for s in subjects[:2]] == [
        ("patient007-ED", "patient007", "patient007_frame01.nii.gz"),
        ("patient007-ES", "patient007", "patient007_frame12.nii.gz"),
    ]


def test_without_a_split_acdcs_is_the_papers_and_every_tenth_training_patient_validates(tmp_path):
    layouts.acdc_as_published(tmp_path)
    subjects = prepare("acdc", tmp_path, tmp_path / "manifest.csv")
    assert splits(subjects) == {"train": 180, "validation": 20, "test": 100}
    assert {s.group for s in subjects if s.split == "validation"} == {f"patient{n:03d}" for n in range(10, 101, 10)}


def test_a_patient_without_its_frames_is_listed_with_the_others(tmp_path):
    layouts.acdc(tmp_path)
    (tmp_path / "ACDC" / "patient007" / "Info.cfg").write_text("ED: 1\n")
    (tmp_path / "ACDC" / "patient011" / "patient011_frame12_gt.nii.gz").unlink()
    with pytest.raises(SystemExit, match="2 things are wrong") as ended:
        prepare("acdc", tmp_path, tmp_path / "manifest.csv")
    assert "patient007/Info.cfg does not tell" in str(ended.value) and "frame12_gt" in str(ended.value)


# LPBA40


@pytest.mark.parametrize("order", ["<", ">"])
def test_lpba40s_delineations_are_read_in_either_byte_order(order, tmp_path):
    layouts.lpba40(tmp_path, order=order)
    subjects = prepare("lpba40", tmp_path, tmp_path / "manifest.csv")
    assert splits(subjects) == {"train": 30, "test": 10}
    assert [s.name for s in subjects if s.split == "test"] == [f"S{n}" for n in range(31, 41)]
    image, labels = read_subject(subjects[0])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), layouts.image_array())
    assert len(np.unique(sitk.GetArrayViewFromImage(labels))) == 1 + 56


def test_of_lpba40s_pairs_those_with_the_atlas_are_taken(tmp_path, capsys):
    layouts.lpba40_pairs(tmp_path)
    subjects = prepare("lpba40", tmp_path, tmp_path / "manifest.csv")
    assert "pairs registered to S30" in capsys.readouterr().out
    assert [(s.name, s.image.name, s.labels.parent.name) for s in (subjects[0], subjects[39])] == [
        ("S01", "l1_to_l30.hdr", "LPBA40_rigidly_registered_label_pairs"),
        ("S40", "l40_to_l30.hdr", "LPBA40_rigidly_registered_label_pairs"),
    ]
    assert splits(subjects) == {"train": 30, "test": 10}


def test_lpba40s_voxels_that_are_missing_or_cut_off_are_told(tmp_path):
    layouts.lpba40(tmp_path)
    gone, cut = (tmp_path / "LPBA40" / f"S0{n}" / f"S0{n}.delineation.structure.label.img" for n in (3, 4))
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:100])
    with pytest.raises(SystemExit, match="2 things are wrong") as ended:
        prepare("lpba40", tmp_path, tmp_path / "manifest.csv")
    assert "the other half of S03.delineation.structure.label.hdr" in str(ended.value)
    assert "S04.delineation.structure.label.hdr is cut off" in str(ended.value)


def test_lpba40s_regions_hold_what_the_protocol_says():
    regions = {r.name: r.values for r in layouts.read_regions(layouts.RECIPES / "lpba40" / "regions.csv")}
    assert len(regions) == 7 and sum(map(len, regions.values())) + 4 == 56
    assert regions["Parietal"] == tuple(range(41, 51))
    assert regions["Cingulate and insula"] == (101, 102, 121, 122)


# the real data sets


@pytest.mark.skipif(data_folder() is None, reason="no real data: set CLMORPH_DATA")
@pytest.mark.parametrize(
    ("name", "train", "validation", "test"),
    [("hippocampus", 180, 20, 20), ("brain", 17, 2, 4), ("mindboggle101", 17, 2, 4), ("acdc", 108, 12, 40)],
)
def test_the_real_data_sets_are_read(name, train, validation, test, tmp_path):
    subjects = prepare(name, data_folder(), tmp_path / "manifest.csv")
    assert splits(subjects) == {"train": train, "validation": validation, "test": test}
