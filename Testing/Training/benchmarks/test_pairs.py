"""Pairs come from the right splits and frames, and every system's two files lie on the fixed image's grid."""

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.bundles.atlas import read_atlas
from CLMorphCore.geometry import Grid
from Training.benchmarks.pairs import INTENSITY, pairs_of, prepare, scaled


@pytest.mark.parametrize("atlas", ["typical", "random"])
def test_the_moving_subject_is_one_to_train_on(atlas, data, tmp_path):
    pairs = pairs_of("hippocampus", data, "test", atlas, tmp_path)
    assert [p.fixed.name for p in pairs] == ["hippocampus_001", "hippocampus_002"]
    moving = sitk.GetArrayFromImage(sitk.ReadImage(str(pairs[0].moving.image)))
    trained = data / "Task04_Hippocampus" / "imagesTr" / "hippocampus_000.nii.gz"
    assert np.array_equal(moving, sitk.GetArrayFromImage(sitk.ReadImage(str(trained))))


def test_the_typical_subject_is_found_once_and_is_an_atlas_that_can_be_given(data, tmp_path):
    pairs_of("hippocampus", data, "test", "typical", tmp_path)
    folder = tmp_path / "atlases" / "hippocampus-typical"
    made = (folder / "labels.nii.gz").stat().st_mtime_ns
    pairs_of("hippocampus", data, "test", "typical", tmp_path)
    assert (folder / "labels.nii.gz").stat().st_mtime_ns == made
    assert pairs_of("hippocampus", data, "test", str(folder), tmp_path)[0].moving.image == folder / "image.nii.gz"
    assert len(read_atlas(folder).structures) == 2


def test_the_average_is_the_shipped_models(data, tmp_path):
    moving = pairs_of("hippocampus", data, "test", "average", tmp_path)[0].moving
    assert moving.image.parts[-5:] == ("models", "hippocampus", "atlases", "average", "image.nii.gz")


def test_hearts_move_from_diastole_to_systole_and_stay_where_they_are(data, tmp_path):
    pair = pairs_of("heart", data, "test", "typical", tmp_path)[0]
    assert pair.fixed.image.name == "patient001_frame12.nii.gz"
    assert pair.moving.image.name == "patient001_frame01.nii.gz"
    assert prepare(pair, tmp_path).affine.GetParameters() == sitk.AffineTransform(3).GetParameters()


def test_both_files_lie_on_the_fixed_grid_and_the_affine_leads_on_to_the_moving_labels(data, tmp_path):
    pair = pairs_of("hippocampus", data, "test", "random", tmp_path)[0]
    prepared = prepare(pair, tmp_path)
    grid, own = Grid.of(prepared.fixed_labels), sitk.ReadImage(str(pair.moving.image), sitk.sitkFloat32)
    for path in (prepared.fixed, prepared.moving):
        image = sitk.ReadImage(str(path))
        assert np.allclose(Grid.of(image).corners_mm(), grid.corners_mm(), atol=1e-3)
        assert sitk.GetArrayFromImage(image).max() == INTENSITY
    moving = sitk.ReadImage(str(prepared.moving))
    expected = scaled(sitk.Resample(own, moving, prepared.affine, sitk.sitkLinear))
    inside = sitk.GetArrayFromImage(sitk.Resample(own * 0 + 1, moving, prepared.affine, sitk.sitkLinear)) == 1
    difference = sitk.GetArrayFromImage(moving) - sitk.GetArrayFromImage(expected)
    assert np.abs(difference[inside]).mean() < 0.01 * INTENSITY and inside.mean() > 0.5
    assert prepared.values == [1, 2]


def test_scaling_is_the_same_for_every_scanners_scale(data):
    image = sitk.ReadImage(str(data / "Task04_Hippocampus/imagesTr/hippocampus_001.nii.gz"), sitk.sitkFloat32)
    a, b = (sitk.GetArrayFromImage(scaled(i)) for i in (image, image * 1000.0 - 50.0))
    assert np.allclose(a, b, atol=0.01) and a.min() == 0
