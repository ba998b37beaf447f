"""Sides are halved level by level; those across thick slices later, until voxels are about cubes."""

import math

from hypothesis import given
from hypothesis import strategies as st

from CLMorphCore.networks.halvings import Halvings

pyramids = st.builds(Halvings, levels=st.integers(1, 6), flat_levels=st.integers(0, 4))


def test_shapes_of_levels_leave_thick_slices_alone():
    assert [Halvings(4, flat_levels=1).shape_at((12, 32, 48), level) for level in range(4)] == [
        (12, 32, 48),
        (12, 16, 24),
        (6, 8, 12),
        (3, 4, 6),
    ]


def test_strides_and_divisor_of_a_cardiac_stack():
    stack = Halvings(4, flat_levels=2)
    assert stack.strides == ((1, 2, 2), (1, 2, 2), (2, 2, 2)) and stack.divisor == (2, 8, 8)
    assert Halvings(1).divisor == (1, 1, 1) and Halvings(1).strides == ()


@given(pyramids, st.tuples(*[st.integers(1, 5)] * 3))
def test_strides_lead_from_the_image_to_the_coarsest_level(pyramid, coarsest):
    shape = tuple(n * unit for n, unit in zip(coarsest, pyramid.divisor, strict=True))
    sides = shape
    for level, stride in enumerate(pyramid.strides, start=1):
        assert all(n % step == 0 for n, step in zip(sides, stride, strict=True))
        sides = tuple(n // step for n, step in zip(sides, stride, strict=True))
        assert pyramid.shape_at(shape, level) == sides
    assert sides == coarsest


@given(pyramids, st.integers(0, 5))
def test_a_field_fades_out_over_as_many_millimetres_at_every_level(pyramid, level):
    thickness = 2**pyramid.flat_levels  # of a slice, in voxels of the plane
    for axis, (width, factor) in enumerate(zip(pyramid.taper_width(level), pyramid.factor(level), strict=True)):
        voxel = factor * (thickness if axis == 0 else 1)
        assert width * voxel == max(4, voxel)  # of the image's plane; no narrower than a voxel of the level
        assert math.log2(factor).is_integer()
