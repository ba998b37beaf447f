"""Pictures enlarge the place where systems differ, and grids show their folds."""

import numpy as np
import pytest

from Training.experiments.examples import Plane
from Training.experiments.views.slices import _folded, _where_they_differ


def plane(labels, warped=None):
    expected = np.zeros((40, 50), int)
    expected[10:30, 10:40] = 1
    return Plane("axial", (1.0, 1.0), np.zeros((40, 50)), expected, labels(expected.copy()), warped)


def with_hole(expected):
    expected[26:30, 36:40] = 0
    return expected


@pytest.mark.parametrize(
    "planes",
    [
        [plane(with_hole), plane(lambda expected: expected)],  # one of two is wrong there
        [plane(with_hole), plane(with_hole)],  # both are, as nowhere else
    ],
)
def test_the_enlarged_part_holds_where_systems_differ(planes):
    top, left, height, width = _where_they_differ(planes, warped=False)
    assert top <= 26 and left <= 36 and top + height >= 30 and left + width >= 40
    assert (height, width) == (16, 20) and top + height <= 40 and left + width <= 50


def test_warped_images_differ_where_they_vary_near_the_labels():
    other = np.zeros((40, 50))
    other[:5, :] = 2  # the atlas ends here, far from the labels
    other[25:28, 12:15] = 1
    top, left, height, width = _where_they_differ(
        [plane(lambda e: e, other), plane(lambda e: e, np.zeros((40, 50)))], warped=True
    )
    assert top <= 25 and left <= 12 and top + height >= 28 and left + width >= 15


def test_folds_are_where_the_map_turns_inside_out():
    down, right = np.meshgrid(np.arange(30.0), np.arange(40.0), indexing="ij")
    assert not _folded(down, right + np.sin(right / 4)).any()
    folded = _folded(down, right + 8 * np.sin(right / 4))
    assert folded.any() and not folded[:, :2].any()
    np.testing.assert_array_equal(folded, (1 + 2 * np.gradient(4 * np.sin(right / 4), axis=1)) <= 0)
