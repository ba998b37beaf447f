"""Labels are found by what they and their folders are called, and scans that are called alike stay scans."""

import pytest

from CLMorphCore.io.layouts import find_scans


@pytest.fixture
def found(tmp_path):
    """Makes empty files by their names and tells image → labels of the scans that are found, below the folder."""

    def find(*names, data=""):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        below = {p: p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")} | {None: None}
        return {below[s.image]: below[s.labels] for s in find_scans(tmp_path / data).subjects}

    return find


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        *(("scans", "labels"), ("Images", "Labels"), ("img", "seg"), ("images", "masks"), ("images", "gt")),
        *(("t2", "manual_segmentations"), ("raw/imagesTr", "raw/labelsTr"), ("train/images", "train/labels")),
    ],
)
def test_labels_lie_in_a_folder_of_labels_beside_the_scans_under_their_names(images, labels, found):
    files = [f"{folder}/m{n}.nii.gz" for folder in (images, labels) for n in (1, 2, 3)]
    assert found(*files) == {f"{images}/m{n}.nii.gz": f"{labels}/m{n}.nii.gz" for n in (1, 2, 3)}


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        *(("m1.nrrd", "m1-label.seg.nrrd"), ("m1_T2.nii.gz", "m1_seg.nii.gz"), ("M1_t2.nii", "m1_T2_SEG.nii")),
        *(("m1.nii.gz", "m1_manual_seg.nii.gz"), ("m1.nii.gz", "m1_labels_v2.nii.gz"), ("m1.nii", "m1_lbl.nii")),
    ],
)
def test_labels_have_the_name_of_their_scan_with_more_or_less_in_it(image, labels, found):
    other, its = image.replace("1", "2", 1), labels.replace("1", "2", 1)
    assert found(image, labels, other, its) == {image: labels, other: its}


def test_labels_that_may_be_of_two_scans_are_of_none(found):
    assert set(found("m1_a.nii.gz", "m1_b.nii.gz", "m1_seg.nii.gz", "m10.nii.gz").values()) == {None}


def test_one_file_of_labels_in_a_folder_beside_the_only_scan(found):
    files = [f"m{n}/{name}.nii.gz" for n in (1, 2) for name in ("anat/t2", "seg/structures")]
    assert found(*files) == {f"m{n}/anat/t2.nii.gz": f"m{n}/seg/structures.nii.gz" for n in (1, 2)}


def test_files_for_each_structure_of_a_scan_are_no_scans_and_said(found, tmp_path):
    names = [f"m{n}/{name}.nii.gz" for n in (1, 2) for name in ("ct", "segmentations/liver", "segmentations/spleen")]
    assert found(*names) == {"m1/ct.nii.gz": None, "m2/ct.nii.gz": None}
    assert "4 files (m1/segmentations/liver.nii.gz" in find_scans(tmp_path).notes[0]


@pytest.mark.parametrize("inner", [("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")])
def test_a_data_set_that_was_unpacked_into_a_folder(inner, found, tmp_path):
    assert found(*(f"Dataset001/{name}" for name in inner)) == {f"Dataset001/{inner[0]}": f"Dataset001/{inner[2]}"}
    assert "0001" in find_scans(tmp_path).notes[0]


def test_scans_that_are_numbered_alike_in_a_few_folders_are_all_taken(found):
    names = [f"{group}/{n:02d}.nii.gz" for group in ("control", "treated") for n in range(5)]
    assert found(*names) == dict.fromkeys(names)
    again = [f"{group}/{name}.nii.gz" for group in ("a", "b") for name in ("anna", "bert", "carl")]
    assert found(*(f"x/{name}" for name in again), data="x") == {f"x/{name}": None for name in again}


def test_folders_that_are_called_as_splits_are_splits(found, tmp_path):
    found("train/a.nii.gz", "train/b.nii.gz", "val/a2.nii.gz", "test/a.nii.gz", "test/c.nii.gz", "other/d.nii.gz")
    collection = find_scans(tmp_path)
    assert {s.name: (s.split, s.group) for s in collection.subjects} == {
        **{"train_a": ("train", ""), "b": ("train", ""), "a2": ("validation", "")},
        **{"test_a": ("test", ""), "c": ("test", ""), "d": ("", "")},
    }
    assert collection.notes == (
        "splits are taken from the folders' names: 1 for no split yet, 2 for test, 2 for train, 1 for validation",
    )
    (tmp_path / "split.csv").write_text("subject,split\ntrain_a,test\n")
    assert next(s.split for s in find_scans(tmp_path).subjects if s.name == "train_a") == "test"


def test_a_few_folders_of_many_scans_are_no_persons(found, tmp_path):
    found(*(f"{place}/{place[0]}{n}.nii.gz" for place in ("leeds", "york", "hull") for n in range(4)))
    assert {s.group for s in find_scans(tmp_path).subjects} == {""}


def test_a_list_has_labels_in_the_folder_beside_its_scans(found, tmp_path):
    found("scans/a.nii.gz", "labels/a.nii.gz")
    (tmp_path / "list.txt").write_text("scans/a.nii.gz\n")
    assert [s.labels for s in find_scans(tmp_path / "list.txt").subjects] == [tmp_path / "labels" / "a.nii.gz"]


@pytest.mark.parametrize("name", ["{n}/B{n}_{kind}", "B{n}_{kind}", "{n}/{kind}"])
def test_of_several_contrasts_one_is_taken_with_the_labels_of_all(name, found, tmp_path):
    def named(n, kind):
        return f"{name.format(n=n, kind=kind)}.nii.gz"

    files = [named(n, kind) for n in (1, 2, 3) for kind in ("t1", "t1ce", "t2", "seg")]
    assert found(*files, "other/x_t1.nii.gz", "other/y_t2.nii.gz") == {
        **{"other/x_t1.nii.gz": None, "other/y_t2.nii.gz": None},
        **{named(n, "t1"): named(n, "seg") for n in (1, 2, 3)},
    }
    notes = find_scans(tmp_path).notes
    assert len(notes) == 1 and notes[0].startswith("6 files (") and "t1 is taken" in notes[0]


def test_the_contrast_that_has_labels_of_its_own_is_taken(found):
    files = [f"m{n}_{kind}.nii" for n in (1, 2) for kind in ("T1", "T2", "T2_seg")]
    assert found(*files) == {f"m{n}_T2.nii": f"m{n}_T2_seg.nii" for n in (1, 2)}


def test_scans_of_several_contrasts_of_other_subjects_are_all_left_to_be_looked_at(found):
    files = ["a_t1.nii", "b_t1.nii", "c_t2.nii", "d_t1.nii", "d_t2.nii"]
    assert found(*files) == dict.fromkeys(files)
