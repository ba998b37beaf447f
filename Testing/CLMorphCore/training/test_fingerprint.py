"""What is wrong with any scan is named before anything is trained, and nothing is said of good ones."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from made_up import Ellipsoid, ellipsoid_atlas, off_grid

from CLMorphCore.bundles.atlas import Structure
from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.io.layouts import find_scans
from CLMorphCore.io.manifest import Subject
from CLMorphCore.training.fingerprint import take_fingerprint
from CLMorphCore.training.intensities import clipped, other_scales
from CLMorphCore.training.scans import look_at

# Of one organ, with a top and a front that are not its bottom and its back; and of another one.
ORGAN = {
    1: Ellipsoid((0, -13, 8), (15, 7, 6), 1500.0),
    2: Ellipsoid((8, 10, -9), (8, 9, 6), 60.0),
    3: Ellipsoid((-9, 9, -6), (6, 8, 5), 900.0),
}
OTHER = {1: Ellipsoid((0, 0, 8), (18, 5, 4), 200.0), 2: Ellipsoid((0, -9, -8), (4, 7, 4), 1400.0)}


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Six made-up subjects of one organ, labelled."""
    folder = tmp_path_factory.mktemp("scans")
    names = tuple(Structure(value, str(value), "#000000") for value in ORGAN)
    atlas, made = ellipsoid_atlas((36, 40, 32), ellipsoids=ORGAN, structures=names), []
    for seed in range(6):
        phantom = make_phantom(atlas, seed=seed, deformation_mm=1.0)
        sitk.WriteImage(phantom.image, str(folder / f"{seed}.nii.gz"))
        sitk.WriteImage(phantom.labels, str(folder / f"{seed}_labels.nii.gz"))
        made.append(Subject(str(seed), folder / f"{seed}.nii.gz", folder / f"{seed}_labels.nii.gz", ""))
    return made


def saved(image, folder, name):
    path = folder / f"{name}.nii.gz"
    sitk.WriteImage(image, str(path))
    return Subject(name, path, None, "")


def of_voxels(voxels, like):
    image = sitk.GetImageFromArray(voxels.astype(np.float32))
    image.CopyInformation(like)
    return image


def findings_of(subjects, name):
    return [f for f in take_fingerprint(subjects).findings if f.subject == name]


def test_nothing_is_wrong_with_good_scans(scans):
    fingerprint = take_fingerprint(scans)
    assert fingerprint.findings == () and len(fingerprint.kept) == 6
    one = fingerprint.kept[0]
    assert one.voxel_mm == pytest.approx((1.5, 1.5, 1.5)) and one.values == (1, 2, 3)
    assert one.extent_mm == pytest.approx((48, 58, 54), abs=8)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(scans, tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(scans[0].image.read_bytes()[:5000])
    (found,) = findings_of([*scans, Subject("bad", tmp_path / "bad.nii.gz", None, "")], "bad")
    assert found.left_out and found.text.startswith("cannot be used: ") and "bad.nii.gz" in found.text


def test_a_duplicate_is_named_with_its_twin_however_it_was_saved(scans, tmp_path):
    image = sitk.ReadImage(str(scans[2].image))
    for copy in (image, sitk.Cast(image * 7 + 3, sitk.sitkInt16)):
        (found,) = findings_of([*scans, saved(copy, tmp_path, "copy")], "copy")
        assert found.left_out and "2: a duplicate" in found.text


def test_other_units_are_another_size(scans, tmp_path):
    image = sitk.ReadImage(str(scans[0].image)) + 1
    image.SetSpacing([0.15] * 3)
    (found,) = findings_of([*scans[1:], saved(image, tmp_path, "small")], "small")
    assert found.left_out and "0.1 times as long" in found.text


@pytest.mark.parametrize("percentile", [50, 80, 93])
def test_a_clipped_scan_is_named(percentile, scans, tmp_path):
    image = sitk.ReadImage(str(scans[0].image))
    voxels = sitk.GetArrayFromImage(image)
    top = np.percentile(voxels[voxels > voxels.min()], percentile)
    found = findings_of([*scans[1:], saved(of_voxels(np.minimum(voxels, top), image), tmp_path, "cut")], "cut")
    said = [f.text for f in found if "it was clipped" in f.text]
    assert len(said) == 1 and not any(f.left_out for f in found)
    assert float(said[0].split("%")[0]) == pytest.approx(100 - percentile, abs=3)


def test_scans_that_are_all_clipped_alike_are_not_named():
    assert clipped([*"abcd"], [0.06, 0.07, 0.06, 0.08]) == [] and clipped(["a", "b"], [0.3, 0.0]) == []
    assert [name for name, _ in clipped([*"abcd"], [0.01, 0.01, 0.2, 0.0])] == ["c"]


def test_another_organ_of_the_same_size(scans, tmp_path):
    other = make_phantom(ellipsoid_atlas((36, 40, 32), ellipsoids=OTHER), seed=9, deformation_mm=1.0).image
    voxels = sitk.GetArrayFromImage(other)
    voxels = np.where(voxels > 0, voxels, 0)
    (found,) = findings_of([*scans, saved(of_voxels(voxels, other), tmp_path, "other")], "other")
    assert found.left_out


def test_another_contrast(scans, tmp_path):
    image = sitk.ReadImage(str(scans[0].image))
    voxels = sitk.GetArrayFromImage(image)
    inverted = np.where(voxels > voxels.min(), voxels.max() * 1.2 - voxels, 0)
    (found,) = findings_of([*scans[1:], saved(of_voxels(inverted, image), tmp_path, "t2")], "t2")
    assert found.left_out and "another contrast" in found.text


def test_two_contrasts_the_rarer_of_which_stays_out(scans, tmp_path):
    others = []
    for scan in scans[:2]:
        image = sitk.ReadImage(str(scan.image))
        voxels = sitk.GetArrayFromImage(image)
        inverted = np.where(voxels > voxels.min(), voxels.max() * 1.2 - voxels, 0)
        others.append(saved(of_voxels(inverted, image), tmp_path, f"t2-{scan.name}"))
    left_out = take_fingerprint([*scans[2:], *others]).left_out
    assert set(left_out) == {"t2-0", "t2-1"} and "one of 2 scans" in left_out["t2-0"]


def test_axes_that_a_header_exchanges(scans, tmp_path):
    image = sitk.ReadImage(str(scans[0].image))
    image.SetDirection(np.array(image.GetDirection()).reshape(3, 3)[:, [0, 2, 1]].ravel().tolist())
    (found,) = findings_of([*scans[1:], saved(image, tmp_path, "turned")], "turned")
    assert found.left_out and "names other axes" in found.text


def test_labels_that_do_not_fit_are_left_and_the_scan_is_kept(scans, tmp_path):
    labels = off_grid(sitk.ReadImage(str(scans[0].labels)))
    sitk.WriteImage(labels, str(tmp_path / "l.nii.gz"))
    scan, findings = look_at(Subject("a", scans[0].image, tmp_path / "l.nii.gz", ""))
    assert scan is not None and scan.subject.labels is None and scan.values is None
    assert "another grid" in findings[0].text and not findings[0].left_out


def test_a_structure_that_one_scan_lacks(scans, tmp_path):
    labels = sitk.ReadImage(str(scans[0].labels))
    sitk.WriteImage(sitk.ChangeLabel(labels, {2: 7}), str(tmp_path / "l.nii.gz"))
    found = findings_of([*scans[1:], Subject("a", scans[0].image, tmp_path / "l.nii.gz", "")], "a")
    assert [f.text for f in found] == ["lacks the label 2, which all others have", "alone has the label 7"]


def test_noise_is_a_share_of_the_contrast(scans, tmp_path):
    image = sitk.ReadImage(str(scans[0].image))
    voxels = sitk.GetArrayFromImage(image)
    inside = voxels > voxels.min()
    spread = voxels[inside].std()
    random = np.random.default_rng(0)
    noisy = np.where(inside, np.maximum(voxels + random.normal(0, 0.5 * spread, voxels.shape), 1), 0)
    quiet, loud = (look_at(s)[0].noise for s in (scans[0], saved(of_voxels(noisy, image), tmp_path, "n")))
    assert quiet < 0.3 and loud == pytest.approx(0.5 / np.hypot(1, 0.5), abs=0.1)


@pytest.mark.parametrize("which", ["all", "one"])
def test_a_label_map_beside_no_scan_is_named_and_left_out_and_a_scan_of_whole_numbers_is_not(which, scans, tmp_path):
    labels = sitk.ReadImage(str(scans[0].labels))
    lone = saved(labels if which == "all" else labels == 2, tmp_path, "lone")
    whole = sitk.Cast(sitk.RescaleIntensity(sitk.ReadImage(str(scans[5].image)), 0, 255), sitk.sitkUInt8)
    fingerprint = take_fingerprint([*scans[:5], saved(whole, tmp_path, "whole"), lone])
    assert fingerprint.left_out.keys() == {"lone"}
    assert fingerprint.left_out["lone"].startswith("looks like a label map")


def test_a_duplicate_in_another_split_says_so(scans):
    test = Subject("again", scans[0].image, None, "test")
    (found,) = findings_of([Subject("one", scans[0].image, None, "train"), *scans[1:], test], "again")
    assert found.left_out and "has the same voxels as one: a duplicate among splits (test and train)" in found.text


def test_nothing_but_what_cannot_be_used_is_named(scans, tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(b"abc")
    labels = saved(sitk.ReadImage(str(scans[0].labels)), tmp_path, "labels")
    fingerprint = take_fingerprint([Subject("bad", tmp_path / "bad.nii.gz", None, ""), labels])
    assert fingerprint.kept == () and set(fingerprint.left_out) == {"bad", "labels"}
    assert "where they have its name and _labels" in fingerprint.left_out["labels"]


def test_of_a_scan_that_is_there_twice_the_labelled_one_is_kept(scans):
    (found,) = take_fingerprint([Subject("a", scans[0].image, None, ""), *scans]).findings
    assert (found.subject, found.left_out) == ("a", True) and "the same voxels as 0" in found.text


def test_structures_that_a_few_scans_lack(scans, tmp_path):
    changed = []
    for scan in scans[:2]:
        labels = sitk.ReadImage(str(scan.labels))
        sitk.WriteImage(sitk.Mask(labels, labels != 2), str(tmp_path / f"{scan.name}.nii.gz"))
        changed.append(Subject(scan.name, scan.image, tmp_path / f"{scan.name}.nii.gz", ""))
    text = "lacks the label 2, which 4 of 6 scans have"
    findings = take_fingerprint([*changed, *scans[2:]]).findings
    assert [(f.subject, f.text) for f in findings] == [("0", text), ("1", text)]


@pytest.mark.parametrize(("change", "said"), [("units", "header has other units"), ("contrast", "do not resemble")])
def test_of_two_scans_it_is_said_that_they_do_not_fit_and_both_are_kept(change, said, scans, tmp_path):
    other = sitk.ReadImage(str(scans[1].image))
    voxels = sitk.GetArrayFromImage(other)
    if change == "contrast":
        other = of_voxels(np.where(voxels > voxels.min(), voxels.max() * 1.2 - voxels, 0), other)
    else:
        other.SetSpacing([0.15] * 3)
    fingerprint = take_fingerprint([scans[0], saved(other, tmp_path, "other")])
    assert len(fingerprint.kept) == 2 and any(said in f.text for f in fingerprint.findings if not f.subject)
    assert take_fingerprint(scans[:2]).findings == ()


def test_a_scan_on_another_scale_of_greys_is_named_with_what_is_usual_and_kept(scans, tmp_path):
    image = sitk.ReadImage(str(scans[5].image))
    voxels = sitk.GetArrayFromImage(image)
    fingerprint = take_fingerprint([*scans[:5], saved(of_voxels(100.0 * voxels, image), tmp_path, "loud")])
    (found,) = fingerprint.findings
    assert found.subject == "loud" and not found.left_out and len(fingerprint.kept) == 6
    assert "another scale" in found.text
    ratio = float(found.text.partition(" times the usual")[0].rpartition(", ")[2])
    assert ratio == pytest.approx(100, rel=0.5)


def test_scales_that_are_unlike_in_all_scans_are_nobodys_alone():
    names = list("abcdefgh")
    assert other_scales(names, [1, 1.6, 0.6, 1, 1.2, 0.9, 1, 4]) == []
    assert other_scales(names, [1, 3, 9, 27, 81, 243, 729, 2187]) == [], "each of a scanner of its own"
    assert [name for name, _ in other_scales(names, [100, 110, 90, 95, 105, 100, 98, 1])] == ["h"]
    ((name, text),) = other_scales([str(n) for n in range(30)], [100.0] * 24 + [5e4] * 6)
    assert name == "" and text.startswith("in 6 of 30 greys are on another scale, 5e+02 to 5e+02 times the usual 100")
    assert other_scales(["a", "b"], [1, 1000]) == []


def relabelled(scan, change, folder):
    """The scan with other labels, saved as name_labels."""
    path = folder / f"{scan.name}_labels.nii.gz"
    sitk.WriteImage(change(sitk.ReadImage(str(scan.labels))), str(path))
    return replace(scan, labels=path)


def test_a_label_that_one_of_two_has_is_named(scans, tmp_path):
    other = relabelled(scans[0], lambda labels: sitk.ChangeLabel(labels, {2: 7}), tmp_path)
    findings = take_fingerprint([other, scans[1]]).findings
    assert [(f.subject, f.text) for f in findings] == [("0", "alone has the label 7"), ("1", "alone has the label 2")]


def test_labels_that_are_cut_to_a_part_of_the_grid_are_named_with_that_part(scans, tmp_path):
    cut = relabelled(scans[0], lambda labels: labels[:, 2:, :], tmp_path)
    rows = "".join(f"{s.name},{s.image},{s.labels}\n" for s in (cut, *scans[1:]))
    (tmp_path / "manifest.csv").write_text(f"subject,image,labels\n{rows}")
    for subjects in ([cut, *scans[1:]], find_scans(tmp_path / "manifest.csv").subjects):
        (found,) = take_fingerprint(subjects).findings
        assert found.subject == "0" and not found.left_out
        assert found.text.startswith("the labels' file covers 95% of the scan's grid; outside of it")  # 38 of 40 rows


def test_labels_that_are_all_cut_are_one_line(scans, tmp_path):
    cut = [relabelled(scan, lambda labels: labels[:, 2:, :], tmp_path) for scan in scans]
    (found,) = take_fingerprint(cut).findings
    assert found.subject == "" and "in 6 of 6 labelled ones the labels' file covers 95% to 95%" in found.text


def turned(labels, axis):
    """The same voxels and the same extent, one axis of the header in the other direction."""
    other, matrix = sitk.Image(labels), np.reshape(labels.GetDirection(), (3, 3)).copy()
    last = [0, 0, 0]
    last[axis] = labels.GetSize()[axis] - 1
    matrix[:, axis] *= -1
    other.SetOrigin(labels.TransformIndexToPhysicalPoint(last))
    other.SetDirection(matrix.ravel().tolist())
    return other


@pytest.mark.parametrize(
    ("axis", "said", "count"),
    [(0, "left and right", 6), *((a, s, n) for a, s in ((1, "front and back"), (2, "top and bottom")) for n in (4, 6))],
)
def test_labels_that_their_header_mirrors_are_named(axis, said, count, scans, tmp_path):
    other = relabelled(scans[1], lambda labels: turned(labels, axis), tmp_path)
    (found,) = take_fingerprint([scans[0], other, *scans[2:count]]).findings
    assert found.subject == "1" and not found.left_out
    assert found.text.startswith(f"its labels fit those of the others only after an exchange of {said}: ")
