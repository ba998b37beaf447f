"""Metrics against analytic values, SimpleITK's own filters and, where it is installed, surface-distance."""

import math

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.errors import InputError
from CLMorphCore.metrics import (
    MISSING_IN_BOTH,
    MISSING_IN_PREDICTION,
    MISSING_IN_REFERENCE,
    OK,
    compare_labels,
    dice_per_label,
    folding_fraction,
    inverse_consistency,
    log_jacobian_std,
    surface_distances,
    volumes_ml,
)


def image(array, spacing=(1.0, 1.0, 1.0)):
    result = sitk.GetImageFromArray(np.asarray(array))
    result.SetSpacing(spacing)
    return result


def box(lower, upper, value=1, size=(24, 28, 30), spacing=(1.0, 1.0, 1.0)):
    """A box of voxels lower <= (x, y, z) < upper."""
    array = np.zeros(size[::-1], np.uint8)
    array[lower[2] : upper[2], lower[1] : upper[1], lower[0] : upper[0]] = value
    return image(array, spacing)


def ball(centre, radius, spacing, extent=70.0):
    axes = [np.arange(round(extent / s)) * s for s in spacing]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
    return image((squared <= radius**2).astype(np.uint8), spacing)


def test_identical_labels_agree_perfectly():
    labels = box((3, 4, 5), (10, 12, 9), value=7)
    metrics = compare_labels(labels, labels)[7]
    assert (metrics.dice, metrics.hd_mm, metrics.hd95_mm, metrics.assd_mm) == (1, 0, 0, 0)
    assert metrics.status == OK and metrics.volume_error_percent == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shifted_box_is_as_far_as_its_shift_in_mm(axis):
    spacing = (0.7, 1.3, 4.0)
    shift = [0, 0, 0]
    shift[axis] = 2
    first = box((5, 5, 5), (15, 15, 15), spacing=spacing)
    second = box(*(tuple(np.add(corner, shift)) for corner in ((5, 5, 5), (15, 15, 15))), spacing=spacing)
    metrics = compare_labels(first, second)[1]
    assert metrics.dice == pytest.approx(0.8)
    assert metrics.hd_mm == pytest.approx(2 * spacing[axis])
    assert metrics.hd95_mm <= metrics.hd_mm
    assert 0 < metrics.assd_mm < metrics.hd_mm


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 2.5)])
def test_concentric_spheres_are_as_far_as_their_radii_differ(spacing):
    centre = (35.0, 35.0, 35.0)
    found = surface_distances(ball(centre, 20, spacing), ball(centre, 26, spacing))
    assert found.assd_mm == pytest.approx(6, abs=0.35)
    assert found.hd95_mm == pytest.approx(6, abs=0.6 * max(spacing))
    assert found.hd_mm == pytest.approx(6, abs=0.9 * max(spacing))


def test_area_counts_not_the_number_of_voxels():
    # Two plates that share one face and differ by 8 mm at the other: with slices 8 mm thick the few voxels of the rim
    # stand for more area than their number says.
    spacing = (1.0, 1.0, 8.0)
    thin = box((4, 4, 4), (20, 24, 6), spacing=spacing)
    thick = box((4, 4, 4), (20, 24, 7), spacing=spacing)
    faces, rim = 16 * 20, 2 * (16 + 20) * 8.0
    # thin: only the upper face's inner voxels lie off the other's surface, up to 7 mm from its rim, 8 mm from its top.
    inner = [min(8, x, 15 - x, y, 19 - y) for x in range(16) for y in range(20)]
    upper = 8 * faces + 8 * rim
    expected = (sum(inner) + upper) / (2 * faces + 2 * rim + 2 * faces + 3 * rim)
    assert surface_distances(thin, thick).assd_mm == pytest.approx(expected)


def test_hausdorff_distance_and_dice_equal_those_of_simpleitk():
    spacing = (0.8, 1.1, 3.0)
    first, second = ball((30, 35, 33), 17, spacing), ball((36, 32, 38), 21, spacing)
    hausdorff, overlap = sitk.HausdorffDistanceImageFilter(), sitk.LabelOverlapMeasuresImageFilter()
    hausdorff.Execute(first, second)
    overlap.Execute(first, second)
    metrics = compare_labels(first, second)[1]
    assert metrics.hd_mm == pytest.approx(hausdorff.GetHausdorffDistance(), rel=1e-5)
    assert metrics.dice == pytest.approx(overlap.GetDiceCoefficient(1))
    assert dice_per_label(first, second) == {1: pytest.approx(metrics.dice)}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:surface_distance")
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.5, 1.5, 5.0)])
def test_agrees_with_surface_distance_within_a_voxel(spacing):
    peer = pytest.importorskip("surface_distance")
    first, second = ball((33, 35, 34), 20, spacing), ball((38, 34, 37), 23, spacing)
    masks = [sitk.GetArrayFromImage(mask).astype(bool) for mask in (first, second)]
    theirs = peer.compute_surface_distances(*masks, spacing[::-1])
    ours = surface_distances(first, second)
    average = np.mean(peer.compute_average_surface_distance(theirs))
    assert ours.assd_mm == pytest.approx(average, abs=max(spacing) / 3 + 0.2)
    assert ours.hd95_mm == pytest.approx(peer.compute_robust_hausdorff(theirs, 95), abs=max(spacing) / 2)
    assert ours.hd_mm == pytest.approx(peer.compute_robust_hausdorff(theirs, 100), abs=max(spacing) / 2)


def test_a_far_voxel_moves_the_hausdorff_distance_but_not_its_95th_percentile():
    reference = box((4, 4, 4), (14, 14, 14))
    outlier = sitk.Image(reference)
    outlier[22, 9, 9] = 1
    found = surface_distances(outlier, reference)
    assert found.hd_mm == pytest.approx(9)
    assert found.hd95_mm == 0


def test_what_is_too_much_counts_as_much_as_what_is_missing():
    reference = box((4, 4, 4), (10, 10, 10))
    more = reference | box((18, 4, 4), (22, 10, 10))
    assert surface_distances(more, reference) == surface_distances(reference, more)
    assert surface_distances(more, reference).hd95_mm > 8


def test_a_structure_cut_by_the_edge_has_a_surface_there():
    first, second = box((0, 0, 0), (24, 28, 10)), box((0, 0, 0), (24, 28, 12))
    assert surface_distances(first, second).hd_mm == pytest.approx(2)


def test_empty_structures_are_reported_with_a_status():
    prediction, reference = box((2, 2, 2), (6, 6, 6), value=1), box((2, 2, 2), (6, 6, 6), value=2)
    metrics = compare_labels(prediction, reference, [1, 2, 3])
    assert [metrics[v].status for v in (1, 2, 3)] == [MISSING_IN_REFERENCE, MISSING_IN_PREDICTION, MISSING_IN_BOTH]
    assert [metrics[v].dice for v in (1, 2)] == [0, 0] and math.isnan(metrics[3].dice)
    assert all(math.isnan(m.hd_mm) and math.isnan(m.hd95_mm) and math.isnan(m.assd_mm) for m in metrics.values())
    assert math.isnan(metrics[1].volume_error_percent) and metrics[2].volume_error_percent == -100
    assert math.isnan(dice_per_label(prediction, reference, [3])[3])


def test_labels_of_both_images_are_reported_when_none_are_named():
    prediction, reference = box((2, 2, 2), (6, 6, 6), value=4), box((2, 2, 2), (6, 6, 6), value=2)
    assert list(compare_labels(prediction, reference)) == [2, 4]
    assert dice_per_label(prediction, reference) == {2: 0, 4: 0}


def test_volumes_are_in_millilitres():
    labels = box((2, 2, 2), (12, 12, 12), value=3, spacing=(0.5, 1.0, 2.0))
    assert volumes_ml(labels) == {3: pytest.approx(1.0)}
    assert volumes_ml(labels, [3, 5]) == {3: pytest.approx(1.0), 5: 0}


def test_labels_on_another_grid_are_refused():
    first, second = box((2, 2, 2), (6, 6, 6)), box((2, 2, 2), (6, 6, 6), spacing=(1.0, 1.0, 1.2))
    with pytest.raises(InputError, match=r"another grid than the reference: .*\(1, 1, 1\).*\(1, 1, 1\.2\)"):
        compare_labels(first, second)
    with pytest.raises(InputError, match="another grid"):
        dice_per_label(first, box((2, 2, 2), (6, 6, 6), size=(24, 28, 31)))


def test_an_image_of_reals_is_refused_as_labels():
    reals = sitk.Cast(box((2, 2, 2), (6, 6, 6)), sitk.sitkFloat32)
    with pytest.raises(InputError, match=r"float.*expected a 3D image of integers"):
        compare_labels(reals, reals)
    with pytest.raises(InputError, match="expected a 3D image of integers"):
        volumes_ml(reals)


def test_folding_is_the_share_of_determinants_that_are_not_positive():
    determinants = np.ones((4, 5, 5), np.float32)
    determinants[0, 0, :2] = (0, -1)
    mask = np.zeros((4, 5, 5), np.uint8)
    mask[0, 0] = 1
    assert folding_fraction(image(determinants)) == pytest.approx(0.02)
    assert folding_fraction(image(determinants), image(mask)) == pytest.approx(0.4)
    assert math.isnan(folding_fraction(image(determinants), image(0 * mask)))


def test_log_jacobian_deviation_leaves_folds_to_the_folding_fraction():
    determinants = np.full((2, 4, 4), math.e, np.float32)
    determinants[0] = 1 / math.e
    assert log_jacobian_std(image(determinants)) == pytest.approx(1)
    determinants[0, 0, 0] = -2
    determinants[1, 0, 0] = -2
    assert log_jacobian_std(image(determinants)) == pytest.approx(1)
    assert math.isnan(log_jacobian_std(image(-determinants[:1, :1, 1:] * 0)))


def test_inverse_consistency_is_the_distance_to_the_point_of_departure():
    grid = box((0, 0, 0), (1, 1, 1), spacing=(1.0, 2.0, 3.0))
    there = sitk.Euler3DTransform((10, 10, 10), 0.1, 0.2, 0.3, (1, 2, 3))
    exact = inverse_consistency(there, there.GetInverse(), grid)
    assert exact.mean_mm < 1e-9 and exact.points > 50
    off = sitk.CompositeTransform([sitk.TranslationTransform(3, (3, 0, 4)), there.GetInverse()])
    assert inverse_consistency(there, off, grid).mean_mm == pytest.approx(5)
    assert inverse_consistency(there, off, grid).max_mm == pytest.approx(5)
