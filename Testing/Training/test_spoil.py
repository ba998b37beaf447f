"""Spoilt cases are spoilt as stated, and their labels are spoilt with them."""

import numpy as np
import pytest
import SimpleITK as sitk

from Training.spoil import (
    GRAIN,
    SPOILERS,
    TILT_DEGREES,
    Case,
    as_scanned,
    failed_affine,
    half_cut_off,
    strong_noise,
    wrong_header,
    wrong_organ,
)


@pytest.fixture
def case():
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in (20, 24, 28)], indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.8
    image = sitk.GetImageFromArray(np.where(inside, 500 + 100 * x, 0).astype(np.float32))
    labels = sitk.GetImageFromArray(inside.astype(np.uint8))
    for one in (image, labels):
        one.SetSpacing((1.0, 1.5, 2.0))
        one.SetOrigin((-10.0, 20.0, 5.0))
    return Case(image, labels)


def random(seed=0):
    return np.random.default_rng(seed)


def array(image):
    return sitk.GetArrayFromImage(image)


@pytest.mark.parametrize("name", SPOILERS)
def test_image_and_labels_stay_on_one_grid_and_a_seed_gives_one_case(name, case):
    spoilt, again = (SPOILERS[name](case, random()) for _ in range(2))
    assert spoilt.image.GetDirection() == spoilt.labels.GetDirection()
    assert spoilt.image.GetOrigin() == spoilt.labels.GetOrigin()
    assert (array(spoilt.image) == array(again.image)).all()


def test_a_wrong_header_changes_no_voxel_and_keeps_the_centre(case):
    turned = [wrong_header(case, random(seed)).image for seed in range(12)]
    middle = [(n - 1) / 2 for n in case.image.GetSize()]
    for image in turned:
        assert (array(image) == array(case.image)).all()
        assert image.GetDirection() != case.image.GetDirection()
        np.testing.assert_allclose(
            image.TransformContinuousIndexToPhysicalPoint(middle),
            case.image.TransformContinuousIndexToPhysicalPoint(middle),
            atol=1e-9,
        )
    assert len({image.GetDirection() for image in turned}) >= 3


def test_half_of_the_foreground_is_gone_and_its_labels(case):
    for seed in range(6):
        spoilt = half_cut_off(case, random(seed))
        left = (array(spoilt.image) > 0).sum() / (array(case.image) > 0).sum()
        assert 0.4 < left < 0.6
        assert ((array(spoilt.image) > 0) == (array(spoilt.labels) > 0)).all()


def test_noise_has_the_stated_strength(case):
    noise = array(strong_noise(case, random()).image) - array(case.image)
    low, high = np.percentile(array(case.image), (1, 99))
    assert noise.std() == pytest.approx(0.5 * (high - low), rel=0.05)


def test_a_failed_affine_turns_and_shifts_before_the_found_one(case):
    found = sitk.AffineTransform(3)
    found.Scale((1.1, 1.0, 0.9))
    for seed in range(5):
        wrong, alone = (failed_affine(case, random(seed), f).affine for f in (found, None))
        matrix = np.array(alone.GetMatrix()).reshape(3, 3)
        assert 30 <= np.rad2deg(np.arccos((np.trace(matrix) - 1) / 2)) <= 90
        point = (3.0, 30.0, 20.0)
        np.testing.assert_allclose(wrong.TransformPoint(point), found.TransformPoint(alone.TransformPoint(point)))


def test_another_organ_has_no_labels(case):
    other = sitk.Image([8, 9, 10], sitk.sitkInt16)
    spoilt = wrong_organ(case, other)
    assert spoilt.labels.GetSize() == other.GetSize() and array(spoilt.labels).sum() == 0


def test_as_scanned_moves_the_patient_and_spoils_nothing(case):
    for seed in range(6):
        moved = as_scanned(case, random(seed))
        assert moved.image.GetDirection() == moved.labels.GetDirection() != case.image.GetDirection()
        assert moved.image.GetSpacing() == moved.labels.GetSpacing()
        stretch = np.log(np.array(moved.image.GetSpacing()) / case.image.GetSpacing())
        assert 0 < abs(stretch).max() < 0.21 and np.ptp(stretch) < 0.17
        turn = np.array(moved.image.GetDirection()).reshape(3, 3)
        assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) < np.linalg.norm(TILT_DEGREES) + 1
        middle = [(n - 1) / 2 for n in case.image.GetSize()]
        np.testing.assert_allclose(
            moved.image.TransformContinuousIndexToPhysicalPoint(middle),
            case.image.TransformContinuousIndexToPhysicalPoint(middle),
            atol=1e-6,
        )
        noise, empty = array(moved.image) - array(case.image), array(case.image) == 0
        assert (array(moved.labels) == array(case.labels)).all() and not noise[empty].any()
        assert array(moved.image).min() == 0, "the background stays the darkest"
        assert 0 < noise[~empty].std() < 1.1 * GRAIN * np.ptp(array(case.image))
