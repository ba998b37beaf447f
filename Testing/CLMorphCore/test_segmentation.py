"""The same scan, however it was stored, gets the same labels in the patient; what is odd about a result is said."""

import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
from made_up import write_series

from CLMorphCore.bundles.atlas import Atlas, Structure
from CLMorphCore.bundles.model import Model
from CLMorphCore.errors import InputError
from CLMorphCore.geometry import Grid, resample, resample_labels
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.segmentation import segment

MIN_DICE = 0.97


@pytest.fixture(scope="module")
def segmented(phantom, model):
    """The segmentation of the phantom as it is stored."""
    return segment(phantom.image, model)


def oblique(image):
    """The same object on a grid turned by 20° and shifted, with the same voxels' size."""
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.35, -0.2, 0.3)
    old, size = Grid.of(image), [n + 14 for n in image.GetSize()]
    matrix = np.array(turn.GetMatrix()).reshape(3, 3) @ np.array(old.direction).reshape(3, 3)
    middle = old.corners_mm().mean(axis=0)
    origin = middle - matrix @ ((np.array(size) - 1) / 2 * np.array(old.spacing_mm))
    return resample(
        image, Grid(tuple(size), old.spacing_mm, tuple(origin.tolist()), tuple(matrix.ravel().tolist())), outside=0.0
    )


def resampled(image, spacing_mm=(1.2, 1.2, 2.0)):
    """The same field of view with other voxels."""
    old = Grid.of(image)
    size = tuple(math.ceil(n * s / t) for n, s, t in zip(old.size, old.spacing_mm, spacing_mm, strict=True))
    origin = old.corners_mm()[0] + np.array(old.direction).reshape(3, 3) @ np.array(spacing_mm) / 2
    return resample(image, Grid(size, spacing_mm, tuple(origin.tolist()), old.direction))


SAME_LATTICE = {
    "LAS": lambda image: sitk.DICOMOrient(image, "LAS"),
    "ASL": lambda image: sitk.DICOMOrient(image, "ASL"),
    "PIR": lambda image: sitk.DICOMOrient(image, "PIR"),
    "padded": lambda image: sitk.ConstantPad(image, (9, 0, 4), (1, 12, 7), 0.0),
    "cropped": lambda image: sitk.Crop(image, (1, 2, 1), (1, 1, 2)),
    "brighter": lambda image: image * 3.0,
    "below zero": lambda image: image - 1024.0,
    "around zero": lambda image: (image - float(np.mean(sitk.GetArrayViewFromImage(image)))) / 300.0,
    "whole numbers": lambda image: sitk.Cast(sitk.Round(image), sitk.sitkInt16),
}


def world_dice(labels, expected):
    return min(dice_per_label(labels, expected).values())


@pytest.mark.parametrize("stored", SAME_LATTICE)
def test_storage_changes_nothing_in_the_patient(stored, phantom, model, segmented):
    image = SAME_LATTICE[stored](phantom.image)
    found = segment(image, model)
    assert found.labels.GetSize() == image.GetSize() and found.labels.GetOrigin() == image.GetOrigin()
    assert found.labels.GetDirection() == image.GetDirection()
    back = resample(found.labels, Grid.of(phantom.image), labels=True)
    assert world_dice(back, segmented.labels) >= MIN_DICE


@pytest.mark.parametrize("change", [oblique, resampled])
def test_another_sampling_changes_nothing_in_the_patient(change, phantom, model, atlas, segmented):
    image = change(phantom.image)
    found = segment(image, model)
    assert Grid.of(found.labels) == Grid.of(image)
    # compared through the transform: rounding a structure to other voxels changes its Dice by more than the map does
    there = resample_labels(atlas.labels, Grid.of(phantom.image), found.registration.transform)
    assert world_dice(there, segmented.labels) >= MIN_DICE
    rounded = resample(phantom.labels, Grid.of(image), labels=True)
    assert world_dice(found.labels, rounded) > world_dice(segmented.labels, phantom.labels) - 0.05


def test_labels_are_the_atlas_labels_carried_by_the_written_transform(segmented, atlas, tmp_path):
    segmented.save(tmp_path)
    transform = sitk.ReadTransform(str(tmp_path / "transform.h5"))
    image = segmented.image
    again = sitk.Resample(atlas.labels, image, transform, sitk.sitkLabelLinear, 0)
    written = sitk.ReadImage(str(tmp_path / "labels.nii.gz"))
    differ = sitk.GetArrayViewFromImage(again) != sitk.GetArrayViewFromImage(written)
    assert differ.mean() < 1e-4  # a point midway between two voxels may fall to either
    for name in ("warped", "jacobian"):
        assert sitk.ReadImage(str(tmp_path / f"{name}.nii.gz")).GetSize() == image.GetSize()


def test_a_dicom_series_is_read_as_one_image(phantom, clmorph, tiny_model, segmented, tmp_path):
    write_series(tmp_path / "series", phantom.image)
    ran = clmorph("segment", tmp_path / "series", "--model", tiny_model, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    labels = sitk.ReadImage(str(tmp_path / "out" / "labels.nii.gz"))
    assert labels.GetOrigin() == pytest.approx(phantom.image.GetOrigin(), abs=1e-3)
    back = resample(labels, Grid.of(phantom.image), labels=True)
    assert world_dice(back, segmented.labels) >= MIN_DICE


def test_a_structure_outside_of_the_image_is_warned_of(phantom, model, atlas):
    values = sitk.GetArrayFromImage(atlas.labels)
    values[0, 0, 0] = 9  # in a corner that the scan, turned and shifted, does not reach
    labels = sitk.GetImageFromArray(values)
    labels.CopyInformation(atlas.labels)
    own = Atlas("corner", atlas.image, labels, (*atlas.structures, Structure(9, "Corner", "#ffffff")))
    found = segment(sitk.Crop(phantom.image, (4, 4, 3), (4, 4, 3)), model, atlases=[own])
    assert found.report.structures[-1].volume_ml == 0
    assert any("1 of 4 structures lie outside" in w and "Corner" in w for w in found.report.warnings)


def test_a_report_is_valid_json(segmented, tmp_path):
    segmented.save(tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    report = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert report["similarity"]["warped"] <= 1 and report["warnings"] == list(segmented.report.warnings)


def test_a_model_without_an_atlas_says_what_to_do(phantom, model):
    bare = Model(model.name, model.folder, model.config, model.card, model.network, ())
    with pytest.raises(InputError, match=r"model tiny has no atlas; give one with atlas and atlas_labels"):
        segment(phantom.image, bare)
