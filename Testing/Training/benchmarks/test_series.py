"""The cine that hearts are measured on: it begins where it was, beats once, and its labels move as its image does."""

import numpy as np
import SimpleITK as sitk

from CLMorphCore.geometry import Grid, placed
from Training.benchmarks.series import CONTRACTION, LEFT, cine, contraction


def heart() -> tuple[sitk.Image, sitk.Image]:
    """A disc of blood of radius 14 mm in a ring of muscle, in six slices."""
    grid = Grid((64, 64, 6), (1.5, 1.5, 8.0), (-47.25, -47.25, 0.0))
    points = grid.points_mm(np.indices(grid.shape).reshape(3, -1).T)
    radius = np.hypot(points[:, 0], points[:, 1]).reshape(grid.shape)
    labels = np.where(radius < 14, LEFT, np.where(radius < 22, 2, 0)).astype(np.uint8)
    return placed((600.0 * (labels == LEFT) + 200.0 * (labels == 2) + 50).astype(np.float32), grid), placed(
        labels, grid
    )


def test_without_a_contraction_nothing_moves_and_with_one_the_blood_is_less_by_what_the_formula_says():
    _, labels = heart()
    assert np.allclose(contraction(labels, 0.0).TransformPoint((9.0, 4.0, 8.0)), (9.0, 4.0, 8.0))
    moved = np.array(contraction(labels, CONTRACTION).TransformPoint((3.0, 0.75, 8.0)))
    assert abs(np.hypot(*moved[:2]) / np.hypot(3.0, 0.75) - (1 + CONTRACTION)) < 0.03  # near the middle
    assert moved[2] == 8.0


def test_a_beat_begins_and_ends_at_end_diastole_and_labels_lie_where_the_blood_is():
    image, labels = heart()
    frames = cine(image, labels, count=8)
    volumes = [int((sitk.GetArrayFromImage(truth) == LEFT).sum()) for _, truth in frames]
    assert np.array_equal(sitk.GetArrayFromImage(frames[0][1]), sitk.GetArrayFromImage(labels))
    assert volumes.index(min(volumes)) == 3 and volumes[0] == max(volumes) and min(volumes) < 0.65 * max(volumes)
    for frame, truth in frames:
        bright = sitk.GetArrayFromImage(frame) > 450
        assert (bright != (sitk.GetArrayFromImage(truth) == LEFT)).mean() < 0.01
