"""The bridge between voxels and millimetres, against SimpleITK on oblique, anisotropic, unequal grids."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from CLMorphCore.geometry import (
    Grid,
    chain,
    crop_padding,
    displacement_transform,
    foreground_box,
    grid_over,
    pasted,
    reach,
    resample,
    resample_labels,
    to_image,
    to_tensor,
    without_zeros,
)
from CLMorphCore.spatial import warp


def oblique_direction(mirrored=False):
    rotation = sitk.Euler3DTransform()
    rotation.SetRotation(math.radians(20), math.radians(-12), math.radians(35))
    matrix = np.array(rotation.GetMatrix()).reshape(3, 3)
    if mirrored:
        matrix[:, 0] *= -1
    return tuple(matrix.ravel().tolist())


GRIDS = {
    "LPS": Grid((20, 24, 28), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
    "RAS": Grid((20, 24, 28), (1.2, 0.9, 2.0), (30.0, -20.0, 10.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    "LAS": Grid((20, 24, 28), (1.0, 1.0, 3.0), (5.0, 6.0, 7.0), (1, 0, 0, 0, -1, 0, 0, 0, 1)),
    "oblique": Grid((20, 24, 28), (1.1, 0.7, 2.3), (12.0, -40.0, 33.0), oblique_direction()),
    "oblique, left-handed": Grid((20, 24, 28), (1.1, 0.7, 2.3), (12.0, -40.0, 33.0), oblique_direction(mirrored=True)),
}


@pytest.fixture(params=GRIDS)
def grid(request):
    return GRIDS[request.param]


def smooth(channels, grid, seed=0):
    noise = torch.randn(1, channels, 5, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.interpolate(noise, size=grid.shape, mode="trilinear", align_corners=True)


def test_warping_voxels_is_resampling_through_the_written_transform(grid, tmp_path):
    image, displacement = smooth(1, grid), smooth(3, grid, 1)
    path = tmp_path / "transform.h5"
    sitk.WriteTransform(chain(displacement_transform(displacement, grid)), str(path))
    expected = sitk.GetArrayFromImage(
        sitk.Resample(to_image(image, grid), sitk.ReadTransform(str(path)), sitk.sitkLinear, 0.0)
    )
    inner = (slice(4, -4),) * 3
    np.testing.assert_allclose(warp(image, displacement)[0, 0].numpy()[inner], expected[inner], atol=1e-9)


def test_a_transform_read_back_moves_the_same_points(grid, tmp_path):
    affine = sitk.AffineTransform([1.1, 0.1, 0, -0.05, 0.9, 0.02, 0, 0.1, 1.05], (3.0, -2.0, 1.0))
    transform = chain(displacement_transform(smooth(3, grid), grid), affine)
    sitk.WriteTransform(transform, str(tmp_path / "t.h5"))
    again = sitk.ReadTransform(str(tmp_path / "t.h5"))
    corners = grid.corners_mm()
    for p in np.random.default_rng(0).uniform(corners.min(0), corners.max(0), (200, 3)).tolist():
        np.testing.assert_allclose(again.TransformPoint(p), transform.TransformPoint(p), atol=1e-6)


def test_a_chain_applies_its_last_transform_first_and_is_flat():
    shift, scale = sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), sitk.ScaleTransform(3, (2.0, 2.0, 2.0))
    both = chain(shift, chain(scale))
    assert both.TransformPoint((1.0, 1.0, 1.0)) == (3.0, 4.0, 5.0)
    assert [both.GetNthTransform(n).GetName() for n in range(2)] == ["TranslationTransform", "ScaleTransform"]


def test_image_to_tensor_and_back_keeps_values_and_places(grid):
    image = to_image(smooth(1, grid).float(), grid)
    again = to_image(to_tensor(image), Grid.of(image))
    assert Grid.of(again) == Grid.of(image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(again), sitk.GetArrayFromImage(image))


def test_resampling_onto_the_own_grid_changes_nothing(grid):
    image = to_image(smooth(1, grid).float(), grid)
    np.testing.assert_allclose(sitk.GetArrayFromImage(resample(image, grid)), sitk.GetArrayFromImage(image), atol=1e-5)


def test_beyond_an_image_lies_its_nearest_voxel_or_what_was_asked_for():
    image = to_image(smooth(1, GRIDS["LPS"]).float() + 10, GRIDS["LPS"])
    beyond = Grid((20, 24, 28), (1.0, 1.0, 1.0), (-30.0, 0.0, 0.0))
    array = sitk.GetArrayFromImage(image)
    np.testing.assert_allclose(sitk.GetArrayFromImage(resample(image, beyond))[..., 0], array[..., 0], atol=1e-4)
    assert (sitk.GetArrayFromImage(resample(image, beyond, outside=-1.0))[..., 0] == -1).all()


def test_the_foreground_box_ignores_padding(grid):
    array = np.zeros(grid.shape, np.float32)
    array[8:20, 6:18, 5:15] = 1
    box = np.array(foreground_box(to_image(torch.from_numpy(array)[None, None], grid)))
    index = np.array([(x, y, z) for x in (4.5, 14.5) for y in (5.5, 17.5) for z in (7.5, 19.5)])
    corners = index @ grid.to_mm().T + np.array(grid.origin_mm)
    np.testing.assert_allclose(box, [corners.min(0), corners.max(0)], atol=1e-6)


def test_a_label_goes_to_where_its_trilinear_weight_is_largest(grid):
    values = 2 * (smooth(1, grid) > 0).float() + (smooth(1, grid, 1) > 0.3).float()  # 0, 1, 2, 3
    labels = sitk.Cast(to_image(values, grid), sitk.sitkUInt8)
    shift = sitk.TranslationTransform(3, (0.37 * min(grid.spacing_mm), -0.2, 0.3))
    found = sitk.GetArrayFromImage(resample_labels(labels, grid, shift))
    weights = [
        sitk.GetArrayFromImage(resample(sitk.Cast(labels == k, sitk.sitkFloat32), grid, shift, outside=0.0))
        for k in range(4)
    ]
    inner = (slice(2, -2),) * 3
    clear = np.sort(weights, axis=0)[-1] - np.sort(weights, axis=0)[-2] > 1e-3
    assert (found == np.argmax(weights, axis=0))[inner][clear[inner]].all()


@pytest.mark.parametrize("points_at_once", [300, 1_000_000])
def test_labels_are_resampled_as_itk_does_it(grid, points_at_once, monkeypatch):
    """Through a deformation and an affine, out of the image on some sides, onto a finer grid of another direction."""
    monkeypatch.setattr("CLMorphCore.geometry.POINTS_AT_ONCE", points_at_once)
    labels = sitk.Cast(to_image((smooth(1, grid) * 3).round().abs() + (smooth(1, grid, 1) > 0), grid), sitk.sitkInt16)
    turned = sitk.Euler3DTransform(labels.TransformContinuousIndexToPhysicalPoint((9.5, 11.5, 13.5)), 0.1, -0.2, 0.05)
    transform = chain(displacement_transform(0.5 * smooth(3, grid).float(), grid), turned)
    finer = GRIDS["oblique, left-handed"].with_shape((37, 23, 31))
    for points in (grid, grid.about_its_centre((20, 30, 26)), finer):
        ours = resample_labels(labels, points, transform)
        itk = sitk.Resample(
            labels,
            points.size,
            transform,
            sitk.sitkLabelLinear,
            points.origin_mm,
            points.spacing_mm,
            points.direction,
            0,
            sitk.sitkInt16,
        )
        assert Grid.of(ours) == Grid.of(itk) and ours.GetPixelID() == itk.GetPixelID()
        different = sitk.GetArrayFromImage(ours) != sitk.GetArrayFromImage(itk)
        assert different.mean() < 1e-4  # equal weights but for rounding


def test_of_labels_with_equal_weight_the_smallest_wins():
    line = np.array([5, 2, 0, 0, 7], np.uint8)
    labels = sitk.GetImageFromArray(np.broadcast_to(line, (3, 3, 5)).copy())
    found = resample_labels(labels, Grid.of(labels), sitk.TranslationTransform(3, (0.5, 0.0, 0.0)))
    assert sitk.GetArrayFromImage(found)[1, 1].tolist() == [2, 0, 0, 0, 7]


def test_labels_that_lie_elsewhere_leave_an_empty_image():
    labels = sitk.Cast(to_image(smooth(1, GRIDS["LPS"]).float(), GRIDS["LPS"]) > 0, sitk.sitkUInt8)
    away = resample_labels(labels, GRIDS["LPS"], sitk.TranslationTransform(3, (500.0, 0.0, 0.0)))
    assert sitk.GetArrayViewFromImage(away).max() == 0 and away.GetSize() == labels.GetSize()


def test_a_frame_is_cut_away_and_air_is_not(grid):
    crop = to_image(smooth(1, grid).float() + 10, grid)
    framed = sitk.ConstantPad(crop, (3, 0, 2), (1, 4, 0), 0.0)
    cut = crop_padding(framed)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(cut), sitk.GetArrayFromImage(crop))
    np.testing.assert_allclose(cut.GetOrigin(), crop.GetOrigin(), atol=1e-9)
    assert crop_padding(framed > 0).GetSize() == framed.GetSize()  # else nothing would be left to see
    blob = sitk.GaussianSource(sitk.sitkFloat32, (20, 24, 28), (5.0,) * 3, (10.0, 12.0, 14.0))
    ball = sitk.Cast(blob > 120, sitk.sitkFloat32)
    assert crop_padding(ball).GetSize() == ball.GetSize()


def test_the_networks_grid_covers_the_box_with_its_margin():
    lower, upper = (-30.0, 10.0, 5.0), (31.0, 55.5, 41.0)
    grid = grid_over(lower, upper, (1.0, 1.5, 2.0), margin_voxels=(3, 3, 3), divisor=(16, 16, 16))
    assert all(n % 16 == 0 for n in grid.size)
    corners = grid.corners_mm()
    margin = 3 * np.array(grid.spacing_mm)
    assert (corners.min(0) <= np.array(lower) - margin + 1e-9).all()
    assert (corners.max(0) >= np.array(upper) + margin - 1e-9).all()
    np.testing.assert_allclose(corners.mean(0), (np.array(lower) + upper) / 2)


def test_a_grid_between_the_same_corners_has_their_points():
    grid = Grid((9, 12, 7), (1.0, 2.0, 3.0), (5.0, -4.0, 2.0), (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    finer = grid.with_shape((7, 23, 17))
    assert finer.spacing_mm == (0.5, 1.0, 3.0) and finer.origin_mm == grid.origin_mm
    far = [np.array(g.origin_mm) + g.to_mm() @ (np.array(g.size) - 1) for g in (grid, finer)]
    np.testing.assert_allclose(*far)


@pytest.mark.parametrize("moved_mm", [(0.0, 0.0, 0.0), (7.0, 0.0, 0.0), (0.0, -5.0, 3.0)])
@pytest.mark.parametrize("beside_mm", [0.0, 9.0, 500.0])
def test_nothing_of_an_image_is_seen_outside_of_what_it_reaches(grid, beside_mm, moved_mm):
    own = Grid((9, 8, 7), (1.5, 1.0, 1.2), (4.0, 3.0, 2.0), oblique_direction())
    image = to_image(smooth(1, own).float() + 9.0, own)
    matrix = np.array([[1.1, 0.1, 0.0], [-0.1, 0.9, 0.0], [0.0, 0.2, 1.0]])
    here, there = (each.corners_mm().mean(axis=0) for each in (grid, own))
    shift = there - matrix @ here + [beside_mm, 0.0, 0.0]
    affine = sitk.AffineTransform(matrix.ravel().tolist(), shift.tolist())
    moved = chain(sitk.TranslationTransform(3, moved_mm), affine)  # as far as is said, whatever the direction
    place = reach(grid, own, affine, float(np.linalg.norm(moved_mm)))
    part = resample(image, grid.part(place), moved, outside=0.0)
    whole = resample(image, grid, moved, outside=0.0)
    found, expected = (sitk.GetArrayFromImage(each) for each in (pasted(part, grid, place), whole))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert bool(expected.any()) == (beside_mm < 500)
    assert min(Grid.of(part).size) >= 1


def test_an_image_without_its_zeros_is_resampled_to_the_same(grid):
    values = np.zeros(grid.shape, np.float32)
    values[6:15, 8:11, 4:9] = 5.0
    image = pasted(to_image(torch.from_numpy(values)[None, None], grid), grid, (slice(None),) * 3)
    small = without_zeros(image)
    assert small.GetSize() == (7, 5, 11)
    shift = sitk.TranslationTransform(3, (0.4, -0.3, 0.7))
    found, expected = (sitk.GetArrayFromImage(resample(each, grid, shift, outside=0.0)) for each in (small, image))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert without_zeros(image * 0).GetSize() == grid.size
