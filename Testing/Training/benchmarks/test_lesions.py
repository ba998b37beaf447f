"""The ball that plays a lesion has its volume, lies deepest in what has no label, and moves nothing by itself."""

from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.geometry import Grid, placed
from Training.benchmarks.lesions import BALL_ML, differences, distance_from_ball

GRID = Grid((40, 44, 48), (1.5, 1.5, 1.5), (0.0, 0.0, 0.0))


def brain():
    """A ball of brain about the middle whose left third has a label."""
    away = np.linalg.norm(np.indices(GRID.shape) - np.array([20, 22, 24])[:, None, None, None], axis=0)
    labels = np.where((away < 19) & (np.indices(GRID.shape)[2] < 14), 7, 0)
    return placed((away < 19).astype(np.float32), GRID), placed(labels.astype(np.uint8), GRID)


def test_the_ball_has_its_volume_and_lies_where_nothing_is_labelled():
    distance = distance_from_ball(*brain())
    assert (distance < 0).sum() * 1.5**3 / 1000 == pytest.approx(BALL_ML, rel=0.02)
    place = np.array(np.unravel_index(distance.argmin(), distance.shape))
    assert np.abs(place[:2] - [20, 22]).max() <= 1 and place[2] > 24


def test_a_shift_is_seen_in_the_ball_and_around_it_and_labels_far_away_are_compared():
    image, labels = brain()
    still = SimpleNamespace(transform=sitk.TranslationTransform(3))
    moved = SimpleNamespace(transform=sitk.TranslationTransform(3, (0.0, 3.0, 4.0)))
    expected = SimpleNamespace(image=image, labels=labels, registration=still)
    far = np.full(GRID.shape, 30.0)
    far[:, :, 30:] = -1.0
    far[:, :, 25:30] = 2.0
    found = differences(SimpleNamespace(labels=labels, registration=moved), expected, far)
    assert found == {"ball_mm": 5.0, "around_mm": 5.0, "far_dice": 1.0, "far_below": 0}
    empty = SimpleNamespace(labels=labels * 0, registration=still)
    assert differences(empty, expected, far) == {"ball_mm": 0.0, "around_mm": 0.0, "far_dice": 0.0, "far_below": 1}
