"""Scans and the labels beside them are found by the usual namings; what is passed over is said."""

import os

import pytest

from CLMorphCore.errors import InputError
from CLMorphCore.io.layouts import find_scans


@pytest.fixture
def made(tmp_path):
    """Makes empty files by their names and returns the folder."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        return tmp_path

    return make


def found(folder, **options):
    """(name, image, labels, split, group) of every scan, files below the folder."""
    return [
        (
            s.name,
            str(s.image.relative_to(folder)),
            str(s.labels.relative_to(folder)) if s.labels else None,
            s.split,
            s.group,
        )
        for s in find_scans(folder, **options).subjects
    ]


@pytest.mark.parametrize(
    "labels",
    [
        *("a_labels.nii.gz", "a_seg.nrrd", "a-label.nii", "a_segmentation.nii.gz", "a.seg.nii.gz", "a_gt.nii.gz"),
        *("a_dseg.nii.gz", "a_mask.mha", "a_LABELS.nii.gz", "a_brainmask.nii.gz"),
    ],
)
def test_labels_lie_beside_their_image(labels, made):
    assert found(made("a.nii.gz", "b.nii.gz", labels)) == [
        ("a", "a.nii.gz", labels, "", ""),
        ("b", "b.nii.gz", None, "", ""),
    ]


def test_labels_of_structures_come_before_a_mask(made):
    assert found(made("a.nii.gz", "a_mask.nii.gz", "a_seg.nii.gz"))[0][2] == "a_seg.nii.gz"


def test_an_images_name_may_hold_such_a_word(made):
    assert [row[0] for row in found(made("segment1.nii.gz", "label_free.nii.gz", "b.nii.gz"))] == ["b", "segment1"]
    assert "label_free" in " ".join(find_scans(made("c.nii.gz")).notes)


def test_a_folder_for_each_subject_gives_its_name(made):
    folder = made("m1/t2.nii.gz", "m1/labels.nii.gz", "m2/t2.nii.gz", "m2/labels.T1.nii.gz", "m3/t2.nii.gz")
    assert found(folder) == [
        ("m1", "m1/t2.nii.gz", "m1/labels.nii.gz", "", ""),
        ("m2", "m2/t2.nii.gz", "m2/labels.T1.nii.gz", "", ""),
        ("m3", "m3/t2.nii.gz", None, "", ""),
    ]


def test_names_come_from_below_the_folder_that_all_share(made):
    folder = made("volumes/a/t1.nii.gz", "volumes/b/t1.nii.gz")
    assert [row[0] for row in found(folder)] == ["a", "b"]


def test_several_scans_of_one_folder_are_a_group(made):
    names = [f"p{n}/p{n}_frame{k}.nii.gz" for n in (1, 2, 3) for k in (1, 2)]
    assert [(row[0], row[4]) for row in found(made(*names, "p1/p1_frame1_gt.nii.gz"))] == [
        (f"p{n}_frame{k}", f"p{n}") for n in (1, 2, 3) for k in (1, 2)
    ]


def test_of_several_contrasts_in_each_folder_the_labelled_one_is_taken_and_the_others_named(made):
    folder = made(*[f"s{n}/{k}.nii.gz" for n in (1, 2, 3) for k in ("flair", "t1", "t1_seg")])
    assert [row[1] for row in found(folder)] == ["s1/t1.nii.gz", "s2/t1.nii.gz", "s3/t1.nii.gz"]
    assert "flair.nii.gz" in find_scans(folder).notes[0]


def test_nnunets_layout_with_its_channels_and_test_scans(made):
    folder = made(
        *("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/a.nii.gz"),
        *("imagesTs/c_0000.nii.gz", "labelsTs/c.nii.gz"),
    )
    assert found(folder) == [
        ("a", "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "", ""),
        ("b", "imagesTr/b_0000.nii.gz", None, "", ""),
        ("c", "imagesTs/c_0000.nii.gz", "labelsTs/c.nii.gz", "test", ""),
    ]
    notes = " ".join(find_scans(folder).notes)
    assert "0001" in notes and "1 of 3 images have no labels" in notes


def test_test_scans_without_labels_stay_out(made):
    assert [row[0] for row in found(made("imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "imagesTs/c.nii.gz"))] == ["a"]


def test_bids_with_labels_below_derivatives_and_another_contrast(made):
    folder = made(
        *(f"sub-{n}/anat/sub-{n}_{kind}.nii.gz" for n in (1, 2, 10) for kind in ("T1w", "T2w")),
        "sub-3/ses-a/anat/sub-3_ses-a_T1w.nii.gz",
        "derivatives/manual/sub-1/anat/sub-1_space-orig_dseg.nii.gz",
        "derivatives/manual/sub-1/anat/sub-1_desc-brain_mask.nii.gz",
        "derivatives/manual/sub-10/anat/sub-10_dseg.nii.gz",
    )
    rows = {row[0]: row for row in found(folder)}
    assert rows["sub-1"][2] == "derivatives/manual/sub-1/anat/sub-1_space-orig_dseg.nii.gz"
    assert rows["sub-10"][2] == "derivatives/manual/sub-10/anat/sub-10_dseg.nii.gz"
    assert rows["sub-3_ses-a"][4] == "sub-3" and len(rows) == 4
    assert find_scans(folder).notes == (
        "3 scans of the kind T2w are left out: a model is of one contrast, T1w is the commonest",
    )


def test_splits_and_names_of_labels_come_from_the_folder(made):
    folder = made("a.nii.gz", "b.nii.gz", "p/p_1.nii.gz", "p/p_2.nii.gz", "c.nii.gz", "labels.csv")
    (folder / "split.csv").write_text("subject,split\na,train\nb,test\np,validation\n")
    assert {row[0]: row[3] for row in found(folder)} == {
        **{"a": "train", "b": "test", "c": "", "p_1": "validation", "p_2": "validation"}
    }
    assert find_scans(folder).label_names == folder / "labels.csv"


@pytest.mark.parametrize("text", ["subject,who\na,train\n", "subject,split\na,tset\n", "subject,split\n"])
def test_a_split_that_is_none_is_refused(text, made):
    folder = made("a.nii.gz")
    (folder / "split.csv").write_text(text)
    with pytest.raises(InputError, match="split"):
        find_scans(folder)


def test_a_list_and_a_manifest_without_splits(made):
    folder = made("x/a.nii.gz", "x/a_labels.nii.gz", "y/b.nii.gz")
    (folder / "list.txt").write_text("# two scans\nx/a.nii.gz\n\ny/b.nii.gz\n")
    (folder / "m.csv").write_text("subject,image,labels\nA,x/a.nii.gz,x/a_labels.nii.gz\nB,y/b.nii.gz,\n")
    of_list, of_manifest = (find_scans(folder / name).subjects for name in ("list.txt", "m.csv"))
    assert [(s.name, s.labels and s.labels.name) for s in of_list] == [("a", "a_labels.nii.gz"), ("b", None)]
    assert [(s.name, s.split) for s in of_manifest] == [("A", ""), ("B", "")]
    (folder / "list.txt").write_text("x/a.nii.gz\nz.nii.gz\n")
    with pytest.raises(InputError, match=r"1 file that does not exist.*z.nii.gz"):
        find_scans(folder / "list.txt")


def test_labels_are_given_to_one_scan(made):
    folder = made("a.nii.gz", "b.nii.gz", "elsewhere/x.nii.gz")
    (folder / "list.txt").write_text("a.nii.gz\nb.nii.gz\n")
    labels = folder / "elsewhere" / "x.nii.gz"
    given = find_scans(folder / "list.txt", {folder / "b.nii.gz": labels}).subjects
    assert [s.labels for s in given] == [None, labels]
    with pytest.raises(InputError, match=r"c.nii.gz, which is not among the 2 scans"):
        find_scans(folder / "list.txt", {folder / "c.nii.gz": labels})


@pytest.mark.parametrize("names", [(), ("notes.txt",), ("a_labels.nii.gz",)])
def test_no_scan_is_said_with_what_was_expected(names, made):
    with pytest.raises(InputError, match=r"holds no scan.*expected a folder of scans"):
        find_scans(made(*names))


def test_labels_of_another_scan_in_the_same_folder_are_not_taken(made):
    folder = made("a.nii.gz", "b_labels.nii.gz")
    assert found(folder) == [("a", "a.nii.gz", None, "", "")]
    assert "b_labels.nii.gz is taken for labels and has no image beside it" in find_scans(folder).notes
    (folder / "list.txt").write_text("a.nii.gz\n")
    assert [s.labels for s in find_scans(folder / "list.txt").subjects] == [None]


def test_labels_that_are_not_taken_because_of_others_are_said(made):
    folder = made(*(f"p{n}/{name}.nii.gz" for n in (1, 2) for name in ("t1", "liver_mask", "tumour_mask")))
    assert [row[2] for row in found(folder)] == ["p1/liver_mask.nii.gz", "p2/liver_mask.nii.gz"]
    assert [n for n in find_scans(folder).notes if "2 files (p1/tumour_mask.nii.gz" in n and "not used" in n]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("A,test\nb,train\n", "names 'A', which is no scan here, and has no split for 'a'"),
        ("a.nii.gz,test\nb,train\n", "names 'a.nii.gz'"),
        ("a,test\na,train\n", "has 'a' twice"),
    ],
)
def test_splits_that_reach_no_scan_are_refused_and_not_made_anew(rows, said, made):
    folder = made("a.nii.gz", "b.nii.gz")
    (folder / "split.csv").write_text(f"subject,split\n{rows}")
    with pytest.raises(InputError, match=said):
        find_scans(folder)


def test_a_list_has_the_splits_and_the_names_of_labels_that_lie_beside_it(made):
    folder = made("a.nii.gz", "b.nii.gz", "labels.csv")
    (folder / "list.txt").write_text("a.nii.gz\nb.nii.gz\n")
    (folder / "split.csv").write_text("subject,split\na,test\nb,train\nnot-listed,train\n")
    collection = find_scans(folder / "list.txt")
    assert [s.split for s in collection.subjects] == ["test", "train"]
    assert collection.label_names == folder / "labels.csv"


def test_a_list_of_all_files_holds_labels_that_are_no_scans(made):
    folder = made("a.nii.gz", "a_seg.nii.gz", "b.nii.gz", "b_seg.nii.gz")
    (folder / "list.txt").write_text("a.nii.gz\na_seg.nii.gz\nb.nii.gz\nb_seg.nii.gz\n")
    collection = find_scans(folder / "list.txt")
    assert [(s.name, s.labels and s.labels.name) for s in collection.subjects] == [
        ("a", "a_seg.nii.gz"),
        ("b", "b_seg.nii.gz"),
    ]
    assert any("2 files" in note and "a_seg.nii.gz" in note for note in collection.notes)


def test_folders_that_are_links_are_entered_and_each_only_once(made):
    folder = made("real/p1/t1.nii.gz", "real/p2/t1.nii.gz", "data/p3/t1.nii.gz")
    for name in ("p1", "p2"):
        (folder / "data" / name).symlink_to(folder / "real" / name)
    (folder / "data" / "p3" / "loop").symlink_to(folder / "data")
    assert [row[0] for row in found(folder / "data")] == ["p1", "p2", "p3"]


def test_a_folder_that_cannot_be_entered_is_not_passed_over(made, monkeypatch):
    folder, scandir = made("p1/t1.nii.gz", "p2/t1.nii.gz"), os.scandir

    def closed(path="."):
        if os.path.basename(path) == "p2":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(InputError, match=r"p2 cannot be read: no permission"):
        find_scans(folder)


def test_four_digits_are_a_channel_only_where_the_labels_are_of_the_name_without(made):
    folder = made(*(f"{kind}/case_{n:04d}.nii.gz" for kind in ("images", "labels") for n in range(3)))
    assert [(row[0], row[2]) for row in found(folder)] == [
        (f"case_{n:04d}", f"labels/case_{n:04d}.nii.gz") for n in range(3)
    ]
    (folder / "labels" / "case_0001.nii.gz").unlink()
    assert [row[2] is None for row in found(folder)] == [False, True, False]


def test_labels_of_two_folders_that_belong_to_no_image_are_said(made):
    notes = find_scans(made("images/a_1.nii.gz", "images/a_2.nii.gz", "labels/x1.nii.gz", "labels/x2.nii.gz")).notes
    assert any("2 of 2 images have no labels in labels" in note for note in notes)


def test_bids_labels_are_of_the_scan_with_the_same_entities(made):
    folder = made(
        "sub-1/anat/sub-1_acq-a_T1w.nii.gz",
        "sub-1/anat/sub-1_acq-a-b_T1w.nii.gz",
        "sub-1/anat/sub-1_acq-a-b_dseg.nii.gz",
        "sub-2/anat/sub-2_T1w.nii.gz",
        "sub-2/anat/sub-2_run-1_T1w.nii.gz",
        "sub-2/anat/sub-2_run-1_dseg.nii.gz",
        "derivatives/sub-2_space-MNI_desc-aparc_dseg.nii.gz",
        "derivatives/sub-2_desc-aparcaseg_dseg.nii.gz",
        "sub-3/anat/sub-3_T1w.nii.gz",
        "sub-3/anat/sub-3_T2w_seg.nii.gz",
    )
    assert {row[0]: row[2] for row in found(folder)} == {
        "sub-1_acq-a": None,
        "sub-1_acq-a-b": "sub-1/anat/sub-1_acq-a-b_dseg.nii.gz",
        "sub-2": "derivatives/sub-2_desc-aparcaseg_dseg.nii.gz",
        "sub-2_run-1": "sub-2/anat/sub-2_run-1_dseg.nii.gz",
        "sub-3": None,
    }


@pytest.mark.parametrize("names", [("sub-1.nii.gz", "sub-2.nii.gz"), ("sub-1/t1.nii.gz", "sub-2/t1.nii.gz")])
def test_subjects_called_as_in_bids_without_its_layout_are_found(names, made):
    assert [row[0] for row in found(made(*names))] == ["sub-1", "sub-2"]


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\x1bb"])
@pytest.mark.skipif(os.name == "nt", reason="no file can have such a name")
def test_a_name_that_no_manifest_can_hold_is_one_line_before_the_work(name, made):
    folder = made(f"{name}.nii.gz", "b.nii.gz")
    with pytest.raises(InputError, match="rename") as refused:
        find_scans(folder)
    assert "\n" not in str(refused.value)


def test_results_of_earlier_runs_are_no_scans(made):
    folder = made(
        *("a.nii.gz", "p/b.nii.gz", "run/plan.toml", "run/scans.csv", "run/reference.nii.gz"),
        *(f"run/model/atlases/average/{name}" for name in ("image.nii.gz", "labels.nii.gz", "labels.csv")),
        *(f"p/out/{name}" for name in ("warped.nii.gz", "labels.nii.gz", "report.json", "report.html")),
        *("m/card.toml", "m/weights.safetensors", "m/atlases/x/image.nii.gz"),
    )
    assert [row[1] for row in found(folder)] == ["a.nii.gz", "p/b.nii.gz"]


@pytest.fixture
def series(tmp_path):
    """Makes folders of files that begin as DICOM does."""

    def make(*names):
        for name in names:
            for slice_name in ("a.dcm", "b.dcm"):
                path = tmp_path / name / slice_name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes(128) + b"DICM")
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("{}", "{}_labels.nii.gz"),
        ("{}", "{}/labels.nii.gz"),
        ("{}", "{}/Segmentation.seg.nrrd"),
        ("{}/dicom", "{}/labels.nii.gz"),
        ("{}/ST0/SE0", "{}/{}_seg.nii.gz"),
        ("images/{}", "labels/{}.nii.gz"),
        ("images/{}/SE0", "labels/{}.nii.gz"),
        ("scans/{}", "segmentations/{}.nrrd"),
    ],
)
def test_series_of_dicom_have_the_labels_beside_them(image, labels, made, series):
    for case in ("p1", "p2", "p3"):
        made(labels.replace("{}", case))
        folder = series(image.replace("{}", case))
    expected = [(image.replace("{}", case), labels.replace("{}", case)) for case in ("p1", "p2", "p3")]
    assert [row[1:3] for row in found(folder)] == expected
    assert not find_scans(folder).notes
    (folder / "scans.txt").write_text("".join(f"{image}\n" for image, _ in expected), encoding="utf-8")
    listed = find_scans(folder / "scans.txt").subjects
    assert [(str(s.image.relative_to(folder)), str(s.labels.relative_to(folder))) for s in listed] == expected


def test_labels_above_two_scans_are_of_neither(made, series):
    folder = series("p1/a", "p1/b", "p2/a", "p2/b")
    made("p1/labels.nii.gz")
    assert all(row[2] is None for row in found(folder))
    assert "p1/labels.nii.gz is taken for labels" in " ".join(find_scans(folder).notes)
    (folder / "scans.txt").write_text("p1/a\np1/b\np2/a\np2/b\n", encoding="utf-8")
    assert [s.labels for s in find_scans(folder / "scans.txt").subjects] == [None] * 4


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a.nii.gz", "b.nii.gz", "a.png", "p/b.PNG", "c.npy", "readme.txt"), "2 .png files, 1 .npy file"),
        (
            ("imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b.nii.gz", "imagesTs/c.nii.gz"),
            "2 images in imagesTs, without labels in labelsTs",
        ),
        (
            ("sub-1/anat/sub-1_T1w.nii.gz", "derivatives/x/sub-1/anat/sub-1_desc-preproc_T1w.nii.gz"),
            "1 image below derivatives",
        ),
    ],
)
def test_what_is_not_taken_is_counted_in_one_line(names, said, made):
    assert [note for note in find_scans(made(*names)).notes if "not taken" in note] == [f"not taken for scans: {said}"]


def test_a_folder_without_scans_is_refused_with_what_was_seen(made):
    with pytest.raises(InputError, match=r"holds no scan \(4 \.png files, 1 \.txt file\); expected"):
        find_scans(made(*(f"{n}.png" for n in range(4)), "notes.txt"))
