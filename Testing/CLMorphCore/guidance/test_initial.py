"""A transform to begin with is in the result once and exactly, on oblique and left-handed grids, against ITK."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_transforms import GRIDS, smooth_field, spline

from CLMorphCore.bundles.model import affine_model
from CLMorphCore.errors import InputError
from CLMorphCore.geometry import Grid, linear_parts, placed
from CLMorphCore.guidance.initial import split
from CLMorphCore.guidance.landmarks import Landmarks
from CLMorphCore.instance_optimization import InstanceOptimization
from CLMorphCore.matching import prepare_image
from CLMorphCore.registration import register
from CLMorphCore.segmentation import segment

STEPS = InstanceOptimization(2)
AFFINE = sitk.AffineTransform([1.03, 0.05, 0, -0.06, 0.98, 0.04, 0.02, 0, 1.01], [2.0, -1.5, 1.0])


def composite(grid):
    """Two transforms that bend and an affine one, the last one first."""
    return sitk.CompositeTransform([smooth_field(grid, 1, 4.0), spline(grid), AFFINE])


@pytest.fixture(params=GRIDS)
def grid(request):
    return GRIDS[request.param]


@pytest.fixture
def image(grid):
    points = grid.points_mm(np.indices(grid.shape).reshape(3, -1).T)
    waves = 100 + 40 * np.sin(points @ [0.22, 0.17, 0.15]) + 20 * np.cos(points @ [0.13, -0.29, 0.22])
    values = waves * (np.linalg.norm(points - points.mean(axis=0), axis=1) < 14)
    return placed(values.reshape(grid.shape).astype(np.float32), grid)


def points_in(grid):
    return grid.points_mm(np.random.default_rng(2).uniform(2, np.array(grid.shape) - 3.0, (200, 3))).tolist()


def distance_mm(first, second, points):
    return np.linalg.norm([np.subtract(first(p), second(p)) for p in points], axis=1).max()


@pytest.mark.parametrize("kind", [composite, spline, lambda grid: smooth_field(grid, 3)])
def test_the_affine_part_and_what_bends_besides_are_the_whole(grid, kind):
    initial = kind(grid)
    affine, residual = split(initial, grid)
    assert residual is not None
    whole = sitk.CompositeTransform([residual, affine])
    assert distance_mm(whole.TransformPoint, initial.TransformPoint, points_in(grid)) < 1e-6
    rest, _ = split(residual, grid)
    matrix, _ = linear_parts(rest)
    assert np.abs(matrix - np.eye(3)).max() < 0.06


def test_a_linear_transform_is_all_affine(grid):
    affine, residual = split(sitk.CompositeTransform([AFFINE, sitk.Euler3DTransform((0, 0, 0), 0.1, 0, 0)]), grid)
    assert residual is None
    both = sitk.CompositeTransform([AFFINE, sitk.Euler3DTransform((0, 0, 0), 0.1, 0, 0)])
    assert distance_mm(affine.TransformPoint, both.TransformPoint, points_in(grid)) < 1e-9


def test_the_result_is_that_of_the_moving_image_resampled_by_itk(grid, image, tmp_path):
    """T = R ∘ T' with T' of the pair whose moving image ITK has resampled through R."""
    initial = composite(grid)
    found = register(image, image, initial=initial, optimization=STEPS)
    affine, _ = split(initial, grid)
    through = sitk.CompositeTransform([initial, affine.GetInverse()])
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(image)
    resampler.SetTransform(through)
    resampler.SetUseNearestNeighborExtrapolator(True)
    rest = register(image, resampler.Execute(image), affine=found.affine, optimization=STEPS)
    found.save(tmp_path / "out")
    for transform in (found.transform, sitk.ReadTransform(str(tmp_path / "out" / "transform.h5"))):

        def whole(point):
            return initial.TransformPoint(affine.GetInverse().TransformPoint(rest.transform.TransformPoint(point)))

        assert distance_mm(transform.TransformPoint, whole, points_in(grid)) < 1e-3
    warped = sitk.GetArrayFromImage(found.warp(image))
    by_itk = sitk.GetArrayFromImage(sitk.Resample(image, image, found.transform, sitk.sitkLinear, 0.0))
    assert np.abs(warped - by_itk).max() < 1e-3


def test_the_inverse_leads_back_and_the_jacobian_is_that_of_the_whole(grid, image):
    found = register(image, image, initial=composite(grid), optimization=STEPS)
    inner = grid.points_mm(np.random.default_rng(2).uniform(5, np.array(grid.shape) - 6.0, (50, 3))).tolist()
    assert found.inverse is not None
    back, there = found.inverse.TransformPoint, found.transform.TransformPoint
    errors = [np.linalg.norm(np.subtract(back(there(p)), p)) for p in inner]
    assert max(errors) < 0.5 and np.mean(errors) < 0.1
    point = inner[0]
    sides = [[found.transform.TransformPoint((np.array(point) + s * d).tolist()) for s in (1, -1)] for d in np.eye(3)]
    by_points = np.linalg.det([np.subtract(*each) / 2 for each in sides])
    linear = np.linalg.det(linear_parts(found.affine)[0])
    assert found.jacobian.EvaluateAtPhysicalPoint(found.affine.TransformPoint(point)) * linear == pytest.approx(
        by_points, rel=0.12
    )


def test_a_bend_that_was_known_is_kept(atlas):
    """Of a deformation that is given as it is nothing is left to find."""
    true = sitk.CompositeTransform([smooth_field(Grid.of(atlas.image), 5, 6.0), AFFINE])
    fixed = sitk.Resample(atlas.image, atlas.image, true)
    inside = Grid.of(fixed).points_mm(np.argwhere(sitk.GetArrayFromImage(fixed) > 300)[::97]).tolist()
    found, alone = (
        register(fixed, atlas.image, affine_model(), initial=initial) for initial in (true, sitk.AffineTransform(3))
    )
    errors = [
        np.mean([np.linalg.norm(np.subtract(each.transform.TransformPoint(p), true.TransformPoint(p))) for p in inside])
        for each in (found, alone)
    ]
    assert errors[0] < 0.35 and errors[0] < 0.3 * errors[1]


def test_landmarks_are_taken_back_through_the_bend(grid, image):
    initial = composite(grid)
    where = np.array(points_in(grid)[:8])
    aims = np.array([initial.TransformPoint(p) for p in where.tolist()])
    known = Landmarks(tuple("abcdefgh"), where, aims)
    fixed = sitk.Resample(image, image, initial)
    found = register(fixed, image, initial=initial, landmarks=known, optimization=STEPS)
    assert known.errors_mm(found.transform.TransformPoint).mean() < 1.0


def test_what_does_not_go_together_ends_in_one_line(grid, image, atlas):
    with pytest.raises(InputError, match=r"affine.* and .*initial"):
        register(image, image, affine=AFFINE, initial=AFFINE, optimization=STEPS)
    with pytest.raises(InputError, match="prepared already"):
        register(image, prepare_image(affine_model(), image), initial=composite(grid), optimization=STEPS)
    with pytest.raises(InputError, match=r"`?initial`? bends"):
        segment(atlas.image, atlases=[atlas], initial=composite(grid))
    with pytest.raises(InputError, match="no inverse"):
        register(image, image, initial=sitk.AffineTransform(np.zeros(9).tolist(), [0.0] * 3), optimization=STEPS)


def test_the_commands_begin_with_a_transform(clmorph, scan, tiny_model, tmp_path):
    moving = tiny_model / "atlases" / "ellipsoids" / "image.nii.gz"
    grid = Grid.of(sitk.ReadImage(str(moving)))
    field = smooth_field(grid, 1)
    sitk.WriteImage(field.GetDisplacementField(), tmp_path / "field.nii.gz")
    sitk.WriteTransform(AFFINE, str(tmp_path / "affine.tfm"))
    model = "--model", tiny_model
    ran = clmorph("register", scan, moving, *model, "--initial", tmp_path / "field.nii.gz", "-o", tmp_path / "a")
    assert ran.code == 0, ran.err
    parts = sitk.CompositeTransform(sitk.ReadTransform(str(tmp_path / "a" / "transform.h5")))
    point = grid.points_mm(np.array([[16.0, 20, 18]]))[0].tolist()
    read = sitk.DisplacementFieldTransform(sitk.ReadImage(str(tmp_path / "field.nii.gz"), sitk.sitkVectorFloat64))
    assert np.allclose(parts.GetNthTransform(0).TransformPoint(point), read.TransformPoint(point), atol=1e-5)
    ran = clmorph("segment", scan, *model, "--initial", tmp_path / "affine.tfm", "-o", tmp_path / "b")
    assert ran.code == 0, ran.err
    ran = clmorph(
        "segment", scan, *model, "--initial", tmp_path / "affine.tfm", "--affine", "none", "-o", tmp_path / "c"
    )
    assert ran.code == 2 and "--affine and --initial" in ran.err and ran.err.count("\n") == 1
