"""Points along transforms, inverses and chains, against ITK's own."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_transforms import GRIDS, TURN, smooth_field, spline

from CLMorphCore.applying.maps import Step, flat, inverse_of, map_points, on_grid
from CLMorphCore.errors import InputError

KINDS = {"field": smooth_field, "spline": spline, "rigid": lambda grid: TURN}
kinds = pytest.mark.parametrize("kind", KINDS)


def by_itk(transform, points):
    return np.array([transform.TransformPoint(p) for p in points.tolist()])


@kinds
def test_points_go_where_itk_takes_them(kind, grid, points):
    transform = KINDS[kind](grid)
    outside = points + 60.0
    for where in (points, outside):
        moved, error = map_points(where, transform)
        assert np.abs(moved - by_itk(transform, where)).max() < 1e-9 and not error.any()
    assert np.abs(map_points(points, transform)[0] - points).max() > 0.5


@kinds
def test_an_inverse_leads_back_to_itks_points(kind, grid, points):
    transform = KINDS[kind](grid)
    back, error = map_points(by_itk(transform, points), Step(transform, inverse=True))
    assert np.abs(by_itk(transform, back) - by_itk(transform, points)).max() < 1e-3
    assert np.abs(back - points).max() < 1e-3 and error.max() < 1e-3


def test_a_chain_is_the_composition_of_which_the_last_is_applied_first(grid, points):
    chain = [smooth_field(grid), TURN, spline(grid)]
    expected = by_itk(chain[0], by_itk(chain[1], by_itk(chain[2], points)))
    assert np.abs(map_points(points, chain)[0] - expected).max() < 1e-9
    assert np.abs(map_points(points, sitk.CompositeTransform(chain))[0] - expected).max() < 1e-9
    for inverse in (inverse_of(chain), [Step(sitk.CompositeTransform(chain), inverse=True)]):
        assert np.abs(map_points(expected, inverse)[0] - points).max() < 1e-3
    assert [step.inverse for step in flat(inverse_of(inverse_of(chain)))] == [False] * 3


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), amplitude=st.floats(0.1, 4.0), name=st.sampled_from(sorted(GRIDS)))
def test_to_and_fro_is_the_identity(seed, amplitude, name):
    grid = GRIDS[name]
    points = grid.points_mm(np.random.default_rng(seed).uniform(0, np.array(grid.shape) - 1, (50, 3)))
    field = smooth_field(grid, seed, amplitude)
    there, error = map_points(points, Step(field, inverse=True))
    sound = error < 1e-3
    assert sound.all() and np.abs(map_points(there, field)[0] - points).max() < 1e-3


def test_on_a_grid_an_inverse_is_exact_at_every_voxel(grid):
    field, other = smooth_field(grid), GRIDS["oblique"]
    transform, share, off = on_grid([Step(field, inverse=True), TURN], other)
    centres = other.points_mm(np.moveaxis(np.indices(other.shape), 0, -1).reshape(-1, 3))
    there = by_itk(transform, centres)
    assert np.abs(by_itk(field, there) - by_itk(TURN, centres)).max() < 2e-3  # 1e-3, and ITK's rounding at borders
    assert share == 0 and off < 1e-3


def test_a_large_set_of_points_takes_the_sampled_spline(grid, monkeypatch):
    from CLMorphCore.applying import maps

    transform = spline(grid)
    points = grid.points_mm(np.random.default_rng(2).uniform(1, np.array(grid.shape) - 2, (300, 3)))
    monkeypatch.setattr(maps, "MAX_EXACT_POINTS", 10)
    back, _ = map_points(by_itk(transform, points), Step(transform, inverse=True))
    assert 0 < np.abs(back - points).max() < 0.02


def test_a_fold_is_told(grid):
    folded = smooth_field(grid, amplitude_mm=40.0)
    points = grid.points_mm(np.random.default_rng(1).uniform(0, np.array(grid.shape) - 1, (200, 3)))
    moved, error = map_points(points, Step(folded, inverse=True))
    residual = np.linalg.norm(map_points(moved, folded)[0] - points, axis=1)
    assert np.abs(residual - error).max() < 1e-9


def test_what_has_no_inverse_is_refused():
    with pytest.raises(InputError, match="no inverse"):
        map_points(np.zeros((1, 3)), Step(sitk.AffineTransform([1, 0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0]), inverse=True))
    with pytest.raises(InputError, match="2D; expected 3D"):
        map_points(np.zeros((1, 3)), sitk.AffineTransform(2))
