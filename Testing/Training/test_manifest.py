"""The recipes' prepare scripts, on small files in the layouts of the data sets."""

import csv
import importlib
import os
from pathlib import Path

import pytest
import SimpleITK as sitk

from CLMorphCore.data import choose, read_manifest


def data_folder():
    """Real data, from CLMORPH_DATA; None where there is none."""
    given = os.environ.get("CLMORPH_DATA")
    beside = Path(__file__).parents[3] / "shared" / "data"
    return Path(given) if given else beside if beside.exists() else None


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.Image(2, 2, 2, sitk.sitkUInt8), str(path))


def split_file(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("subject", "split"), *rows])


def hippocampus_layout(data):
    folder = data / "Task04_Hippocampus"
    rows = [("hippocampus_001", "train"), ("hippocampus_003", "test")]
    split_file(folder, rows)
    touch(*[folder / kind / f"{name}.nii.gz" for name, _ in rows for kind in ("imagesTr", "labelsTr")])


def brain_layout(data):
    folder = data / "Mindboggle101"
    rows = [("OASIS-TRT-20-4", "train"), ("OASIS-TRT-20-2", "validation")]
    split_file(folder, rows)
    for name, _ in rows:
        subject = folder / "OASIS-TRT-20_volumes" / name
        touch(*[subject / f"{kind}.MNI152Affine.nii.gz" for kind in ("t1weighted_brain", "labels.DKT31.manual+aseg")])
    touch(*[data / "MICCAI2012" / name / "t1weighted_brain.MNI152Affine.nii.gz" for name in ("1101", "1107")])


LAYOUTS = {"hippocampus": hippocampus_layout, "brain": brain_layout}


def prepare(name, data, manifest):
    importlib.import_module(f"Training.recipes.{name}.prepare").main(data, manifest)


@pytest.mark.parametrize("name", LAYOUTS)
def test_writes_a_manifest_that_the_engine_reads(name, tmp_path):
    LAYOUTS[name](tmp_path / "data")
    prepare(name, tmp_path / "data", tmp_path / "manifest.csv")
    subjects = read_manifest(tmp_path / "manifest.csv")
    assert len(choose(subjects, "train", labelled=True)) == 1
    assert all(s.image.is_absolute() for s in subjects)


def test_brains_held_out_are_in_no_split(tmp_path):
    brain_layout(tmp_path)
    prepare("brain", tmp_path, tmp_path / "manifest.csv")
    names = [s.name for s in read_manifest(tmp_path / "manifest.csv")]
    assert "1107" in names and "1101" not in names


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_missing_file_is_listed_and_nothing_written(name, tmp_path):
    LAYOUTS[name](tmp_path / "data")
    gone = sorted((tmp_path / "data").rglob("*.nii.gz"))[:2]
    gone = [p for p in gone if "1101" not in str(p)]
    for path in gone:
        path.unlink()
    with pytest.raises(SystemExit) as ended:
        prepare(name, tmp_path / "data", tmp_path / "manifest.csv")
    assert all(str(path) in str(ended.value) for path in gone)
    assert not (tmp_path / "manifest.csv").exists()


@pytest.mark.skipif(data_folder() is None, reason="no real data: set CLMORPH_DATA")
@pytest.mark.parametrize(("name", "train", "validation", "test"), [("hippocampus", 180, 20, 20), ("brain", 17, 2, 4)])
def test_the_real_data_sets_are_read(name, train, validation, test, tmp_path):
    prepare(name, data_folder(), tmp_path / "manifest.csv")
    subjects = read_manifest(tmp_path / "manifest.csv")
    assert [len(choose(subjects, split)) for split in ("train", "validation", "test")] == [train, validation, test]
