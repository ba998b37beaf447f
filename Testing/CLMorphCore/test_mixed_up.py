"""Files that are sound and do not belong together: refused, or said, by every verb that takes them."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.bundles.atlas import read_atlas, save_atlas
from CLMorphCore.bundles.template import build_atlas, build_each
from CLMorphCore.errors import InputError
from CLMorphCore.io.images import read_image, warnings_of
from CLMorphCore.io.manifest import read_manifest
from CLMorphCore.tissue.shares import shares_of


def changed(place, name, change):
    """Another file of the labels, with other numbers on the same grid."""
    labels = sitk.ReadImage(str(place / "labels.nii.gz"))
    other = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(labels)).astype(np.uint8))
    other.CopyInformation(labels)
    sitk.WriteImage(other, str(place / name))


def manifest(place, *labels):
    rows = [f"{chr(97 + n)},scan.nii.gz,{name},train" for n, name in enumerate(labels)]
    (place / "m.csv").write_text("\n".join(["subject,image,labels,split", *rows]), encoding="utf-8")


@pytest.mark.parametrize("how", [(), ("--each",), ("--typical",), ("--margin", "5")])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (np.zeros_like, "the labels of subject b are empty; expected at least one label above zero; leave"),
        (lambda v: v * 10, r"the labels of subject b, \[10, 20, 30\], are those of no other subject; expected"),
    ],
)
def test_no_atlas_is_made_of_labels_that_are_no_other_subjects(how, change, said, place, clmorph):
    changed(place, "b.nii.gz", change)
    manifest(place, "labels.nii.gz", "b.nii.gz", "labels.nii.gz")
    ran = clmorph("build-atlas", "--data", place / "m.csv", "-o", place / "out", *how)
    assert ran.code == 2, ran.out
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(ran.err)
    assert not (place / "out").exists()


def test_no_atlas_is_made_of_labels_that_lie_at_other_places(place, clmorph):
    changed(place, "a.nii.gz", lambda v: (np.arange(v.size).reshape(v.shape) % 5 == 0) * (v > 0))
    changed(place, "b.nii.gz", lambda v: (np.arange(v.size).reshape(v.shape) % 5 == 2) * (v > 0))
    manifest(place, "a.nii.gz", "b.nii.gz")
    ran = clmorph("build-atlas", "--data", place / "m.csv", "-o", place / "out", "--margin", "5")
    assert ran.code == 2 and ran.err.count("\n") == 1 and "the atlas would have none" in ran.err, ran.err
    assert not (place / "out").exists()


def test_labels_that_win_no_vote_are_told(place, clmorph):
    def with_a_dot(v):
        v[2, 2, 2] = 9
        return v

    changed(place, "b.nii.gz", with_a_dot)
    manifest(place, "labels.nii.gz", "b.nii.gz", "labels.nii.gz")
    ran = clmorph("build-atlas", "--data", place / "m.csv", "-o", place / "out")
    assert ran.code == 0 and "warning: 1 of 4 labels are not in the atlas" in ran.err and ": 9" in ran.err, ran.err


def test_the_library_refuses_them_too(place):
    changed(place, "b.nii.gz", np.zeros_like)
    manifest(place, "labels.nii.gz", "b.nii.gz")
    for build in (build_atlas, build_each):
        with pytest.raises(InputError, match="the labels of subject b are empty"):
            build(read_manifest(place / "m.csv"))


def test_an_atlas_of_one_subject_does_not_keep_the_shares_of_an_average(atlas, place, clmorph):
    """They are of other labels, and would be read with these."""
    values = sitk.GetArrayFromImage(atlas.labels)
    save_atlas(place / "out" / "a", replace(atlas, shares=shares_of([values, np.roll(values, 1, 0)])))
    assert read_atlas(place / "out" / "a").shares is not None
    ran = clmorph("build-atlas", "--each", "--data", place / "m.csv", "-o", place / "out")
    assert ran.code == 0, ran.err
    assert not (place / "out" / "a" / "shares.npz").exists() and read_atlas(place / "out" / "a").shares is None


@pytest.mark.parametrize(
    ("factor", "names", "said"),
    [
        (10, "10,A\n20,B\n30,C\n", r"has the labels \[1, 2, 3\], which no other atlas has; expected atlases of one"),
        (
            1,
            "1,Other\n2,Right part\n3,Back part\n",
            "call the label 1 'Left part' and 'Other'; expected atlases of one",
        ),
        (1, "1,left  part\n2,Label 2\n3,Back part\n", ""),
    ],
)
@pytest.mark.parametrize("verb", ["segment {scan}", "evaluate --data {place}/m.csv"])
def test_atlases_of_several_protocols_are_not_fused(verb, factor, names, said, place, clmorph):
    shutil.copytree(place / "atlases" / "one", place / "atlases" / "two")
    path = place / "atlases" / "two" / "labels.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(path)) * factor, str(path))
    (place / "atlases" / "two" / "labels.csv").write_text("value,name\n" + names, encoding="utf-8")
    words = verb.format(scan=place / "scan.nii.gz", place=place).split()
    ran = clmorph(*words, "--model", place / "model", "--atlas-dir", place / "atlases", "-o", place / "out")
    if said:
        assert ran.code == 2 and ran.err.count("\n") == 1 and re.search(said, ran.err), ran.err
        assert not (place / "out").exists()
    else:
        assert ran.code == 0, ran.err


# --- mirrored, and of another kind


@pytest.mark.parametrize("verb", ["segment {scan}", "register {scan} {scan}"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_an_affine_that_mirrors_is_told(verb, mirrored, place, clmorph):
    matrix = np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
    centre = read_image(place / "scan.nii.gz")
    centre = centre.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in centre.GetSize()])
    affine = sitk.AffineTransform(matrix.ravel().tolist(), (0.0, 0.0, 0.0), centre)
    sitk.WriteTransform(affine, str(place / "a.tfm"))
    words = verb.format(scan=place / "scan.nii.gz").split()
    ran = clmorph(*words, "--model", place / "model", "--affine", place / "a.tfm", "-o", place / "out")
    assert ran.code == 0, ran.err
    told = json.loads((place / "out" / "report.json").read_text(encoding="utf-8"))["warnings"]
    assert any("the affine mirrors" in w for w in told) == mirrored == ("warning: the affine mirrors" in ran.err)


@pytest.mark.parametrize("verb", ["segment {it}", "register {scan} {it}", "evaluate --data {place}/m.csv"])
def test_labels_that_are_given_as_a_scan_are_told(verb, place, clmorph):
    (place / "m.csv").write_text("subject,image,labels,split\na,labels.nii.gz,labels.nii.gz,test\n", encoding="utf-8")
    words = verb.format(it=place / "labels.nii.gz", scan=place / "scan.nii.gz", place=place).split()
    ran = clmorph(*words, "--model", place / "model", "-o", place / "out")
    assert ran.code == 0 and "warning: labels.nii.gz: it looks like a label map" in ran.err, ran.err
    if "evaluate" not in verb:
        told = json.loads((place / "out" / "report.json").read_text(encoding="utf-8"))["warnings"]
        assert any("looks like a label map" in w for w in told)


@pytest.mark.parametrize("kind", ["noise on wide flat regions", "8 bits", "a stripped brain", "air at -1024"])
def test_scans_do_not_look_like_labels(kind, tmp_path):
    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[-1:1:40j, -1:1:40j, -1:1:40j]
    values = np.where(z**2 + y**2 + x**2 < 0.8, 600.0, 0.0) + np.where(x**2 + y**2 < 0.2, 300.0, 0.0)
    values += rng.normal(0, 20, values.shape) * (values > 0)
    if kind == "8 bits":
        values = np.round(values / 4)
    elif kind == "noise on wide flat regions":
        values = np.round(values + rng.normal(0, 3, values.shape))
    elif kind == "air at -1024":
        values = np.where(values > 0, np.round(values - 300), -1024)
    sitk.WriteImage(sitk.GetImageFromArray(values.astype(np.int16)), str(tmp_path / "a.nii.gz"))
    assert not any("label map" in w for w in warnings_of(read_image(tmp_path / "a.nii.gz")))


# --- cells that are more than there are columns


def test_a_row_with_more_cells_than_columns_is_refused(place, clmorph):
    """A name with a comma and without quotation marks, whose second half nobody would read."""
    (place / "names.csv").write_text("value,name\n1,Gyrus, left\n2,Gyrus, right\n3,Back\n", encoding="utf-8")
    ran = clmorph(
        *("build-atlas", "--data", place / "m.csv", "--label-names", place / "names.csv", "-o", place / "out")
    )
    assert ran.code == 2 and "row 1 has more cells than there are columns" in ran.err, ran.err
    text = "subject,image,labels,split\na,scan.nii.gz,labels.nii.gz,train,test\n"
    (place / "m.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="row 1 has more cells than there are columns"):
        read_manifest(place / "m.csv")
    (place / "m.csv").write_text(text.replace(",test\n", ",,\n"), encoding="utf-8")  # as spreadsheets write them
    assert len(read_manifest(place / "m.csv")) == 1


def test_a_scan_in_other_units_without_any_label_is_said_to_be_so(clmorph, scan, tiny_model, tmp_path):
    small = sitk.ReadImage(str(scan))
    middle = small.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in small.GetSize()])
    small.SetOrigin([m + (o - m) / 5 for o, m in zip(small.GetOrigin(), middle, strict=True)])
    small.SetSpacing([mm / 5 for mm in small.GetSpacing()])
    sitk.WriteImage(small, str(tmp_path / "scan.nrrd"))
    sitk.WriteTransform(sitk.TranslationTransform(3, (0.0, 0.0, 17.0)), str(tmp_path / "affine.tfm"))
    words = ("--model", tiny_model, "--affine", tmp_path / "affine.tfm", "-o", tmp_path / "out")
    ran = clmorph("segment", tmp_path / "scan.nrrd", *words)
    assert ran.code == 2 and ran.err.count("\n") == 1
    assert re.search(r"no voxel .* smaller than its voxels \(.* or other units in a header\); expected", ran.err)
