"""A model of one side on a scan of the whole: both places are found, the other side mirrored, all put back in place."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from highdicom.seg import segread
from made_up import Ellipsoid, ellipsoid_atlas, fresh_model
from made_up_dicom import series

from CLMorphCore.bundles.atlas import Atlas, Structure
from CLMorphCore.bundles.model import load_model
from CLMorphCore.errors import InputError
from CLMorphCore.extraction.sides import locator_of, segment_sides, shows_the_whole
from CLMorphCore.geometry import Grid, resample_labels
from CLMorphCore.io.images import read_image
from CLMorphCore.io.volume import add_warning
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.reports.report import Report
from CLMorphCore.segmentation import segment

MIN_DICE = 0.85
LEFT, RIGHT = (24.0, 6.0, -10.0), (-22.0, 2.0, -8.0)  # LPS, mm
PARTS = {1: Ellipsoid((4, -8, 2), (6, 9, 6), 900.0), 2: Ellipsoid((-2, 9, -1), (6, 8, 7), 200.0)}
NAMES = (Structure(1, "Front part", "#d8654f"), Structure(2, "Back part", "#4f8fd8"))
WHOLE = (Structure(17, "Left one", "#d8654f"), Structure(53, "Right one", "#4f8fd8"))
CARD = """[model]
name = "one side"

[locator]
model = "{locator}"
left = 17
right = 53
mirrored = "right"
size_mm = [38.0, 46.0, 34.0]
"""


def one_side():
    """The atlas of a left one: its middle is at the origin."""
    side = ellipsoid_atlas((26, 32, 24), ellipsoids=PARTS, structures=NAMES)
    middle = Grid.of(side.image).corners_mm().mean(axis=0)
    for image in (side.image, side.labels):
        image.SetOrigin((-middle).tolist())
    return side


def whole():
    """A whole "brain" with a left one and a mirrored right one, labels 1 and 2 on the left, 3 and 4 on the right."""
    side, body = one_side(), ellipsoid_atlas((74, 80, 66), ellipsoids={}, structures=NAMES)
    values = sitk.GetArrayFromImage(body.image)
    labels = np.zeros(values.shape, np.uint8)
    image = body.image
    middle = Grid.of(image).corners_mm().mean(axis=0)
    image.SetOrigin((-middle).tolist())
    for place, mirrored, above in ((LEFT, False, 0), (RIGHT, True, 2)):
        turn = sitk.AffineTransform(3)
        turn.SetMatrix(np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0]).ravel().tolist())
        matrix = np.array(turn.GetMatrix()).reshape(3, 3)
        turn.SetTranslation((-matrix @ place).tolist())
        own = sitk.GetArrayFromImage(sitk.Resample(side.image, image, turn, sitk.sitkLinear, 0.0))
        own_labels = sitk.GetArrayFromImage(sitk.Resample(side.labels, image, turn, sitk.sitkNearestNeighbor, 0))
        values[own > 0] = own[own > 0]
        labels[own_labels > 0] = own_labels[own_labels > 0] + above
    found = [sitk.GetImageFromArray(array) for array in (values, labels)]
    for one in found:
        one.CopyInformation(image)
    return found


@pytest.fixture(scope="module")
def head():
    """The whole and its four labels."""
    return whole()


@pytest.fixture(scope="module")
def model(head, tmp_path_factory):
    """A model of one side, whose card names a locator that knows the whole."""
    image, labels = head
    of_sides = sitk.Cast(17 * (labels > 0) + 36 * (labels > 2), sitk.sitkUInt8)
    folder = tmp_path_factory.mktemp("sides")
    fresh_model(folder / "locator", Atlas("whole", image, of_sides, WHOLE))
    fresh_model(folder / "side", one_side())
    (folder / "side" / "card.toml").write_text(CARD.format(locator=folder / "locator"), encoding="utf-8")
    return load_model(folder / "side")


def turned(image, degrees=(12.0, -7.0, 15.0), shift=(30.0, -12.0, 5.0)):
    """The same voxels in a patient who holds the head askew."""
    turn = np.reshape(sitk.Euler3DTransform((0.0, 0.0, 0.0), *np.deg2rad(degrees).tolist()).GetMatrix(), (3, 3))
    there = sitk.Image(image)
    there.SetDirection((turn @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
    there.SetOrigin((turn @ image.GetOrigin() + shift).tolist())
    return there


@pytest.fixture(scope="module")
def found(head, model):
    """Both sides of a head held askew."""
    return segment_sides(turned(head[0]), model, tissue="off")


def test_both_sides_are_labelled_in_their_places_however_the_head_is_held(head, found):
    expected = turned(head[1])
    assert found.labels.GetSize() == expected.GetSize() and found.labels.GetOrigin() == expected.GetOrigin()
    dice = dice_per_label(sitk.Cast(found.labels, sitk.sitkInt32), sitk.Cast(expected, sitk.sitkInt32), [1, 2, 3, 4])
    assert min(dice.values()) > MIN_DICE
    assert [s.name for s in found.structures] == [
        "Left front part",
        "Left back part",
        "Right front part",
        "Right back part",
    ]
    assert set(found.volumes_ml) == {1, 2, 3, 4}


@pytest.mark.parametrize(("side", "above"), [("left", 0), ("right", 2)])
def test_each_sides_transform_lies_in_the_patients_own_space(found, side, above):
    one = found.found[side]
    carried = resample_labels(one.atlas.labels, Grid.of(found.image), one.registration.transform)
    ours, theirs = (sitk.GetArrayFromImage(image).astype(int) for image in (found.labels, carried))
    inside = (ours > above) & (ours <= above + 2)
    both = (theirs > 0) & inside
    assert 2 * both.sum() / ((theirs > 0).sum() + inside.sum()) > 0.97
    assert (theirs[both] + above == ours[both]).mean() > 0.97
    matrix = np.reshape(sitk.AffineTransform(one.registration.affine).GetMatrix(), (3, 3))
    assert (np.linalg.det(matrix) < 0) == (side == "right")


def test_the_inverse_leads_back(found):
    for one in found.found.values():
        inside = np.argwhere(sitk.GetArrayViewFromImage(one.labels) > 0)[::50]
        for point in Grid.of(one.image).points_mm(inside).tolist():
            there = one.registration.transform.TransformPoint(point)
            np.testing.assert_allclose(one.registration.inverse.TransformPoint(there), point, atol=0.2)


def test_of_a_dicom_scan_both_sides_are_one_segmentation(found, tmp_path):
    axes, (x, y, _) = np.reshape(found.image.GetDirection(), (3, 3)), found.image.GetSpacing()
    scan = series(
        sitk.Cast(sitk.Clamp(found.image, lowerBound=0), sitk.sitkUInt16),
        tmp_path / "dicom",
        ImageOrientationPatient=axes.T[:2].ravel().round(8).tolist(),
        PixelSpacing=[y, x],
        StudyInstanceUID="1.2.3.5",
        FrameOfReferenceUID="1.2.3.6",
    )
    replace(found, image=read_image(scan)).save(tmp_path / "out", dicom_seg=True)
    read = segread(tmp_path / "out" / "segmentation.dcm")
    assert [s.SegmentLabel for s in read.SegmentSequence] == [s.name for s in found.structures]
    counts = [int(np.count_nonzero(sitk.GetArrayFromImage(found.labels) == n)) for n in (1, 2, 3, 4)]
    assert np.bincount(read.get_volume(combine_segments=True).array.ravel())[1:].tolist() == counts


def test_one_folder_has_labels_one_report_and_the_transforms_of_each_side(found, tmp_path):
    found.save(tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"labels.nii.gz", "report.html", "report.json", "left_transform.h5", "right_report.html"} <= names
    report = Report.read(tmp_path / "out" / "report.json")
    assert len(report.structures) == 4 and report.locator
    assert "left_report.html" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    transform = sitk.ReadTransform(str(tmp_path / "out" / "right_transform.h5"))
    point = Grid.of(found.found["right"].image).corners_mm().mean(axis=0).tolist()
    expected = found.found["right"].registration.transform.TransformPoint(point)
    np.testing.assert_allclose(transform.TransformPoint(point), expected, atol=1e-4)


def test_a_crop_into_the_same_folder_leaves_nothing_of_the_sides(found, model, clmorph, tmp_path):
    found.save(tmp_path / "out")
    sitk.WriteImage(one_side().image, str(tmp_path / "crop.nii.gz"))
    ran = clmorph("segment", tmp_path / "crop.nii.gz", "--model", model.folder, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(("left", "right"))]
    assert len(json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["structures"]) == 2


def test_the_command_finds_both_sides_in_a_whole_and_takes_a_crop_as_one(head, model, clmorph, tmp_path):
    sitk.WriteImage(head[0], str(tmp_path / "head.nii.gz"))
    ran = clmorph("segment", tmp_path / "head.nii.gz", "--model", model.folder, "-o", tmp_path / "out")
    assert ran.code == 0 and "labels of 4 structures" in ran.out + ran.err
    assert shows_the_whole(head[0]) and not shows_the_whole(one_side().image)


def test_a_side_that_is_not_found_is_said(head, model):
    lost = replace(model, card=model.card | {"locator": model.card["locator"] | {"right": 99}})
    with pytest.raises(InputError, match="the right side was not found"):
        segment_sides(head[0], lost, tissue="off")


@pytest.mark.parametrize(
    "wrong",
    [{"left": "x"}, {"size_mm": [1, 2]}, {"size_mm": [0, 1, 2]}, {"mirrored": "up"}, {"model": None, "left": []}],
)
def test_a_card_that_does_not_say_it_in_full_is_one_line(model, wrong):
    bad = replace(model, card=model.card | {"locator": model.card["locator"] | wrong})
    with pytest.raises(InputError, match=r"\[locator\]"):
        locator_of(bad)


def test_a_doubtful_mask_is_in_the_report_of_both_sides_and_of_one(head, model):
    mask = sitk.Cast(head[1] >= 0, sitk.sitkUInt8)
    add_warning(mask, "its two forms disagree")
    both = segment_sides(head[0], model, tissue="off", brain_extraction=mask)
    one = segment(head[0], load_model(locator_of(model).model), tissue="off", brain_extraction=mask)
    for report in (both.report, one.report):
        assert "the brain's mask: its two forms disagree" in report.warnings


def test_what_a_mask_leaves_out_has_no_influence_on_either_side(head, model):
    image = turned(head[0])
    counts = np.ones(image.GetSize()[::-1], np.uint8)
    places = np.argwhere(sitk.GetArrayFromImage(image) > 0)
    z, y, x = places.mean(axis=0).astype(int)
    hole = slice(z - 3, z + 4), slice(y - 3, y + 4), slice(x - 3, x + 4)
    counts[hole] = 0
    mask = sitk.GetImageFromArray(counts)
    mask.CopyInformation(image)
    array = sitk.GetArrayFromImage(image)
    array[hole] = 3 * array.max()
    spoiled = sitk.GetImageFromArray(array)
    spoiled.CopyInformation(image)
    labels = [
        sitk.GetArrayFromImage(segment_sides(each, model, tissue="off", mask=mask).labels) for each in (image, spoiled)
    ]
    assert labels[0].any() and np.array_equal(*labels)
