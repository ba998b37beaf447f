"""Corrupted cases are corrupted as stated, and their labels are corrupted with them."""

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.quality.corruptions import (
    CORRUPTIONS,
    GRAIN,
    TILT_DEGREES,
    LabelledScan,
    as_scanned,
    failed_affine,
    half_cut_off,
    of_other_contrast,
    strong_noise,
    wrong_header,
    wrong_organ,
)


@pytest.fixture
def scan():
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in (20, 24, 28)], indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.8
    image = sitk.GetImageFromArray(np.where(inside, 500 + 100 * x, 0).astype(np.float32))
    labels = sitk.GetImageFromArray(inside.astype(np.uint8))
    for one in (image, labels):
        one.SetSpacing((1.0, 1.5, 2.0))
        one.SetOrigin((-10.0, 20.0, 5.0))
    return LabelledScan(image, labels)


def random(seed=0):
    return np.random.default_rng(seed)


def array(image):
    return sitk.GetArrayFromImage(image)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_image_and_labels_stay_on_one_grid_and_a_seed_gives_one_case(name, scan):
    corrupted, again = (CORRUPTIONS[name](scan, random()) for _ in range(2))
    assert corrupted.image.GetDirection() == corrupted.labels.GetDirection()
    assert corrupted.image.GetOrigin() == corrupted.labels.GetOrigin()
    assert (array(corrupted.image) == array(again.image)).all()


def test_a_wrong_header_changes_no_voxel_and_keeps_the_centre(scan):
    turned = [wrong_header(scan, random(seed)).image for seed in range(12)]
    middle = [(n - 1) / 2 for n in scan.image.GetSize()]
    for image in turned:
        assert (array(image) == array(scan.image)).all()
        assert image.GetDirection() != scan.image.GetDirection()
        np.testing.assert_allclose(
            image.TransformContinuousIndexToPhysicalPoint(middle),
            scan.image.TransformContinuousIndexToPhysicalPoint(middle),
            atol=1e-9,
        )
    assert len({image.GetDirection() for image in turned}) >= 3


def test_half_of_the_foreground_is_gone_and_its_labels(scan):
    for seed in range(6):
        corrupted = half_cut_off(scan, random(seed))
        left = (array(corrupted.image) > 0).sum() / (array(scan.image) > 0).sum()
        assert 0.4 < left < 0.6
        assert ((array(corrupted.image) > 0) == (array(corrupted.labels) > 0)).all()


def test_noise_has_the_stated_strength(scan):
    noise = array(strong_noise(scan, random()).image) - array(scan.image)
    low, high = np.percentile(array(scan.image), (1, 99))
    assert noise.std() == pytest.approx(0.5 * (high - low), rel=0.05)


def test_a_failed_affine_turns_and_shifts_before_the_estimated_one(scan):
    estimated = sitk.AffineTransform(3)
    estimated.Scale((1.1, 1.0, 0.9))
    for seed in range(5):
        wrong, alone = (failed_affine(scan, random(seed), f).affine for f in (estimated, None))
        matrix = np.array(alone.GetMatrix()).reshape(3, 3)
        assert 30 <= np.rad2deg(np.arccos((np.trace(matrix) - 1) / 2)) <= 90
        point = (3.0, 30.0, 20.0)
        np.testing.assert_allclose(wrong.TransformPoint(point), estimated.TransformPoint(alone.TransformPoint(point)))


def test_another_organ_has_no_labels(scan):
    other = sitk.Image([8, 9, 10], sitk.sitkInt16)
    corrupted = wrong_organ(scan, other)
    assert corrupted.labels.GetSize() == other.GetSize() and array(corrupted.labels).sum() == 0


def test_as_scanned_moves_the_patient_and_corrupts_nothing(scan):
    for seed in range(6):
        moved = as_scanned(scan, random(seed))
        assert moved.image.GetDirection() == moved.labels.GetDirection() != scan.image.GetDirection()
        assert moved.image.GetSpacing() == moved.labels.GetSpacing()
        stretch = np.log(np.array(moved.image.GetSpacing()) / scan.image.GetSpacing())
        assert 0 < abs(stretch).max() < 0.21 and np.ptp(stretch) < 0.17
        turn = np.array(moved.image.GetDirection()).reshape(3, 3)
        assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) < np.linalg.norm(TILT_DEGREES) + 1
        middle = [(n - 1) / 2 for n in scan.image.GetSize()]
        np.testing.assert_allclose(
            moved.image.TransformContinuousIndexToPhysicalPoint(middle),
            scan.image.TransformContinuousIndexToPhysicalPoint(middle),
            atol=1e-6,
        )
        noise, empty = array(moved.image) - array(scan.image), array(scan.image) == 0
        assert (array(moved.labels) == array(scan.labels)).all() and not noise[empty].any()
        assert array(moved.image).min() == 0, "the background stays the darkest"
        assert 0 < noise[~empty].std() < 1.1 * GRAIN * np.ptp(array(scan.image))


def test_another_contrast_keeps_the_anatomy_the_place_and_the_padding(scan):
    for seed in range(4):
        other = of_other_contrast(scan, random(seed))
        assert other.labels is scan.labels
        assert other.image.GetSpacing() == scan.image.GetSpacing()
        assert other.image.GetDirection() == scan.image.GetDirection()
        seen, before = array(other.image), array(scan.image)
        inside = before > before.min()
        assert (seen[~inside] == seen.min()).all()
        assert np.corrcoef(seen[inside], before[inside])[0, 1] < 0.999
