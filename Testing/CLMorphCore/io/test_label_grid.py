"""Labels of a part of their scan's grid, or of its voxels in another order, are put in place; others are refused."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_dicom import AXES, ORIGIN, SPACING, series

from CLMorphCore.errors import InputError
from CLMorphCore.geometry import Grid, placed
from CLMorphCore.io.images import read_image
from CLMorphCore.io.label_grid import on_grid_of
from CLMorphCore.io.manifest import Subject, read_subject

TURN = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.3, -0.2, 0.5).GetMatrix()
GRID = Grid((6, 5, 4), (1.25, 0.9, 3.1), (-12.0, 31.5, 7.25), TURN)
NAMES = ("the scan", "the labels")


def labels(grid=GRID):
    return placed(np.arange(1, 1 + np.prod(grid.shape), dtype=np.int16).reshape(grid.shape), grid)


@settings(max_examples=40, deadline=None)
@given(
    order=st.permutations([0, 1, 2]),
    flips=st.tuples(*[st.booleans()] * 3),
    box=st.tuples(*[st.tuples(st.integers(0, 3), st.integers(1, 6))] * 3),
)
def test_a_part_with_its_axes_turned_about_is_put_back_voxel_by_voxel(order, flips, box):
    whole = labels()
    cut = tuple(slice(start, start + length) for start, length in box)
    part = sitk.PermuteAxes(sitk.Flip(whole[cut], flips, False), order)
    found = on_grid_of(whole, part, names=NAMES)
    expected = np.zeros(GRID.shape, np.int16)
    place = cut[::-1]
    expected[place] = sitk.GetArrayFromImage(whole)[place]
    assert Grid.of(found).agrees_with(GRID) and found.GetPixelID() == part.GetPixelID()
    assert np.array_equal(sitk.GetArrayFromImage(found), expected)


@pytest.mark.parametrize(
    "other",
    [
        Grid(GRID.size, GRID.spacing_mm, (-11.5, 31.5, 7.25), TURN),
        Grid((3, 3, 2), (2.5, 1.8, 6.2), GRID.origin_mm, TURN),
        Grid((3, 3, 2), GRID.spacing_mm, GRID.origin_mm),
        GRID.part((slice(0, 4), slice(0, 5), slice(1, 7))),
        GRID.part((slice(-1, 3), slice(0, 5), slice(0, 6))),
    ],
    ids=["half a voxel", "every second voxel", "another direction", "beyond the end", "before the start"],
)
def test_a_grid_that_is_no_part_is_refused(other):
    with pytest.raises(InputError, match="the labels lie on another grid than the scan"):
        on_grid_of(labels(), labels(other), names=NAMES)


def test_what_was_said_when_the_labels_were_read_goes_along():
    part = labels()[1:]
    part.SetMetaData("clmorph_warning_0", "a guess")
    assert on_grid_of(labels(), part, names=NAMES).GetMetaData("clmorph_warning_0") == "a guess"


def test_a_series_of_dicom_and_its_labels_as_a_converter_turns_them_belong_together(tmp_path):
    values = np.random.default_rng(0).integers(0, 900, (7, 9, 8)).astype(np.uint16)
    made = Grid((8, 9, 7), SPACING, tuple(ORIGIN.tolist()), tuple(AXES.ravel().tolist()))
    scan = series(placed(values, made), tmp_path / "dicom")
    image = read_image(scan)
    expected = sitk.Cast(image > 500, sitk.sitkUInt8)
    turned = sitk.PermuteAxes(sitk.Flip(expected, (False, True, True), False), (2, 0, 1))
    sitk.WriteImage(turned[1:], str(tmp_path / "labels.nii.gz"))
    _, labels = read_subject(Subject("a", scan, tmp_path / "labels.nii.gz", "train"))
    kept = sitk.GetArrayFromImage(expected)
    kept[-1] = 0  # the slice that was cut off
    assert labels is not None and np.array_equal(sitk.GetArrayFromImage(labels), kept)
