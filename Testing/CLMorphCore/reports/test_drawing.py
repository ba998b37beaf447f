"""Slices, pictures and grids: orientation, aspect, lines where a known field puts them, PNGs that SimpleITK reads."""

import base64
import re

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.reports import drawing
from CLMorphCore.reports.drawing import AXIAL, CORONAL, SAGITTAL, VIEWS

IDENTITY = sitk.AffineTransform(3)
OBLIQUE = sitk.Euler3DTransform((0, 0, 0), 0.15, -0.2, 0.25).GetMatrix()
# LPS directions of the voxel axes of images stored in these orientations, and of one turned against the axes.
DIRECTIONS = {
    "LPS": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "RAS": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    "LAS": (1, 0, 0, 0, -1, 0, 0, 0, 1),
    "SPR": (0, 0, -1, 0, 1, 0, 1, 0, 0),
    "oblique": OBLIQUE,
}


def volume(direction=DIRECTIONS["LPS"], size=(30, 34, 26), spacing=(1.5, 1.0, 2.0)):
    image = sitk.Image(size, sitk.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    image.SetOrigin((12.0, -7.0, 30.0))
    return image


def centre(image):
    return np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))


def with_marker(direction, offset_mm):
    """A volume with a cube about a point that lies `offset_mm` (LPS) from the centre."""
    image = volume(direction)
    x, y, z = image.TransformPhysicalPointToIndex((centre(image) + offset_mm).tolist())
    image[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = 200
    return image


def whole_frame(view, image, place=None):
    bounds = drawing.bounds_mm(image)
    return drawing.frame(view, bounds, tuple(centre(image) if place is None else place), 0.5)


def brightest(image, view, offset_mm):
    """Row and column of the marker, as shares of the picture, in the slice through it."""
    where = whole_frame(view, image, centre(image) + offset_mm)
    values = drawing.sample(image, where)
    rows, columns = np.nonzero(values > 100)
    assert rows.size > 0
    return rows.mean() / values.shape[0], columns.mean() / values.shape[1]


@pytest.mark.parametrize("name", DIRECTIONS)
def test_patient_left_is_on_the_right_and_front_above(name):
    row, column = brightest(with_marker(DIRECTIONS[name], (8, 0, 0)), AXIAL, (8, 0, 0))
    assert column > 0.6 and row == pytest.approx(0.5, abs=0.1)
    row, column = brightest(with_marker(DIRECTIONS[name], (0, -8, 0)), AXIAL, (0, -8, 0))
    assert row < 0.4 and column == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_head_is_above_and_the_sagittal_view_looks_to_the_left(name):
    row, _ = brightest(with_marker(DIRECTIONS[name], (0, 0, 10)), CORONAL, (0, 0, 10))
    assert row < 0.4
    row, column = brightest(with_marker(DIRECTIONS[name], (0, -8, 10)), SAGITTAL, (0, -8, 10))
    assert row < 0.4 and column < 0.4


@pytest.mark.parametrize("view", VIEWS)
def test_letters_name_the_directions_of_the_edges(view):
    letters = {(-1, 0, 0): "R", (1, 0, 0): "L", (0, -1, 0): "A", (0, 1, 0): "P", (0, 0, -1): "I", (0, 0, 1): "S"}
    right, down = np.array(view.right), np.array(view.down)
    assert "".join(letters[tuple(edge.tolist())] for edge in (-right, right, -down, down)) == view.letters
    svg = drawing.svg_letters(whole_frame(view, volume()))
    assert re.findall(r">(\w)</text>", svg) == list(view.letters)


def test_a_cube_is_square_whatever_the_spacing():
    image = volume(spacing=(0.5, 1.0, 3.0), size=(60, 30, 10))
    image[20:40, 10:20, 3:7] = 1  # 10 mm by 10 mm by 12 mm
    for view, height in ((AXIAL, 10), (CORONAL, 12), (SAGITTAL, 12)):
        where = whole_frame(view, image)
        drawn = drawing.sample(image, where, nearest=True)
        rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
        assert len(columns) * where.pixel_mm == pytest.approx(10, abs=0.51)
        assert len(rows) * where.pixel_mm == pytest.approx(height, abs=0.51)


def test_the_frame_covers_the_outer_edges_of_the_voxels():
    image = volume()
    where = whole_frame(AXIAL, image)
    assert (where.width_mm, where.height_mm) == (45.0, 34.0)
    assert where.corner_mm[:2] == (12.0 - 0.75, -7.0 - 0.5)
    assert where.pixels == (90, 68)


def test_position_is_told_in_anatomical_words():
    image = volume()
    assert whole_frame(AXIAL, image, (0, 0, 12)).position == "S 12 mm"
    assert whole_frame(CORONAL, image, (0, -5, 0)).position == "A 5 mm"
    assert whole_frame(SAGITTAL, image, (-3, 0, 0)).position == "R 3 mm"


def test_the_fullest_plane_goes_through_one_of_two_structures_and_not_between_them():
    labels = volume(spacing=(1, 1, 1))
    labels[2:6, 10:20, 8:12] = 1
    labels[22:29, 10:20, 8:12] = 2
    place = drawing.fullest_position(drawing.labelled_points_mm(labels), 1.0)
    index = labels.TransformPhysicalPointToIndex(place)
    assert labels[index] == 2


def test_labelled_points_are_where_simpleitk_says():
    labels = volume(OBLIQUE)
    labels[4, 9, 17] = 3
    expected = labels.TransformIndexToPhysicalPoint((4, 9, 17))
    assert drawing.labelled_points_mm(labels)[0] == pytest.approx(expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_is_read_back_as_it_was_written(tmp_path, channels):
    shape = (13, 17) if channels == 1 else (13, 17, channels)
    picture = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    path = tmp_path / "picture.png"
    path.write_bytes(drawing.png(picture))
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), picture)


def read(data, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_labels_have_their_colours_and_the_background_none(tmp_path):
    labels = np.zeros((20, 20), np.uint8)
    labels[5:15, 5:15] = 4
    areas = read(drawing.areas_png(labels, {4: (10, 200, 30)}), tmp_path)
    assert tuple(areas[10, 10]) == (10, 200, 30, drawing.AREA_OPACITY) and areas[0, 0, 3] == 0
    outlines = read(drawing.outlines_png(labels, {4: (10, 200, 30)}), tmp_path)
    assert tuple(outlines[5, 10]) == (10, 200, 30, 255)
    assert outlines[10, 10, 3] == 0 and outlines[4, 10, 3] == 0
    assert (outlines[..., 3] > 0).sum() == 4 * 9


def test_jacobian_colours_are_white_at_one_and_opposite_for_reciprocals():
    low, one, high = drawing.jacobian_color(np.array([0.5, 1.0, 2.0])).astype(int)
    assert one.min() > 240
    assert low[2] > low[0] and high[0] > high[2]
    assert np.array_equal(*drawing.jacobian_color(np.array([3.0, 50.0])))


def test_folds_are_marked_and_nothing_else_is(tmp_path):
    folds = np.zeros((30, 30), bool)
    folds[10, 12] = True
    picture = read(drawing.jacobian_png(np.ones((30, 30)), folds, np.zeros((30, 30), np.uint8)), tmp_path)
    marked = (picture == drawing.FOLD_COLOR).all(axis=-1)
    assert marked[10, 12] and marked.sum() == 9
    none = read(drawing.jacobian_png(np.ones((30, 30)), 0 * folds > 0, np.zeros((30, 30), np.uint8)), tmp_path)
    assert not (none == drawing.FOLD_COLOR).all(axis=-1).any()


def lines_of(svg):
    """The polylines of a grid, each (N, 2) of mm."""
    path = re.search(r' d="([^"]*)"', svg).group(1)
    return [np.array(line.split(), float).reshape(-1, 2) for line in path.split("M")[1:]]


@pytest.mark.parametrize("view", VIEWS)
def test_the_grid_of_the_identity_is_straight_and_regular(view):
    where = whole_frame(view, volume())
    lines = lines_of(drawing.svg_grid(where, IDENTITY, IDENTITY, 5.0))
    upright = [line for line in lines if np.ptp(line[:, 0]) < 0.11]
    level = [line for line in lines if np.ptp(line[:, 1]) < 0.11]
    assert len(upright) + len(level) == len(lines)
    assert np.diff(sorted(line[:, 0].mean() for line in upright)) == pytest.approx(5.0, abs=0.11)
    assert len(upright) == pytest.approx(where.width_mm / 5, abs=1)
    assert len(level) == pytest.approx(where.height_mm / 5, abs=1)


def test_the_affine_part_does_not_bend_the_grid():
    where = whole_frame(AXIAL, volume())
    affine = sitk.AffineTransform((1.2, 0.1, 0, -0.2, 0.9, 0.1, 0, 0.05, 1.1), (3, 4, 5))
    assert drawing.svg_grid(where, affine, affine, 5.0) == drawing.svg_grid(where, IDENTITY, IDENTITY, 5.0)


def bump_field(image, amplitude_mm):
    """Displacement along x (LPS) by amplitude · exp(−r²/2σ²) about the image's centre, σ = 6 mm."""
    wide = sitk.Image([60, 60, 60], sitk.sitkVectorFloat64, 3)
    wide.SetOrigin((centre(image) - 59 / 2).tolist())
    z, y, x = np.meshgrid(*[np.arange(60) - 59 / 2] * 3, indexing="ij")
    array = np.zeros((60, 60, 60, 3))
    array[..., 0] = amplitude_mm * np.exp(-(x**2 + y**2 + z**2) / (2 * 6.0**2))
    field = sitk.GetImageFromArray(array, isVector=True)
    field.CopyInformation(wide)
    return sitk.DisplacementFieldTransform(field)


def test_grid_lines_bend_where_the_field_is_and_by_its_amount():
    image = volume()
    where = whole_frame(AXIAL, image)
    lines = lines_of(drawing.svg_grid(where, bump_field(image, 3.0), IDENTITY, 5.0))
    upright = [line for line in lines if np.ptp(line[:, 1]) > 0.9 * where.height_mm and np.ptp(line[:, 0]) < 5]
    # The line at level c passes where x + u(x, y) = c: straight far from the bump, up to 3 mm to the left beside it.
    for line in upright:
        x, y = line[:, 0] - where.width_mm / 2, line[:, 1] - where.height_mm / 2
        level = x + 3.0 * np.exp(-(x**2 + y**2) / (2 * 6.0**2))
        assert np.ptp(level) < 0.35
    assert max(np.ptp(line[:, 0]) for line in upright) > 2
    edge = min(upright, key=lambda line: line[:, 0].mean())
    assert np.ptp(edge[:, 0]) < 0.3


def test_a_folding_field_is_drawn_without_failing():
    image = volume()
    lines = lines_of(drawing.svg_grid(whole_frame(AXIAL, image), bump_field(image, 25.0), IDENTITY, 5.0))
    assert lines and all(np.isfinite(line).all() for line in lines)


def test_pictures_are_described_and_embedded():
    where = whole_frame(AXIAL, volume())
    image = drawing.svg_image(drawing.png(np.zeros((4, 4), np.uint8)), where, "slice")
    assert base64.b64decode(re.search(r"base64,([^\"]+)", image).group(1)).startswith(b"\x89PNG")
    panel = drawing.svg_panel(where, 'left <"ventricle">', image)
    assert 'aria-label="left &lt;&quot;ventricle&quot;&gt;"' in panel and 'viewBox="0 0 45.00 34.00"' in panel


@pytest.mark.parametrize(("length", "expected"), [(1, 1), (4.9, 2), (5, 5), (11, 10), (49, 20), (0.07, 0.05)])
def test_round_lengths(length, expected):
    assert drawing.round_length(length) == pytest.approx(expected)


def test_a_constant_image_is_drawn():
    low, high = drawing.window(volume())
    assert high > low
