"""The deformation in real slice and 3D views: what is switched on is seen, in the right place and colour."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import phantom
import slicer.util
from CLMorphSlicerLib import colors, display, exporting, nodes
from CLMorphSlicerLib.errors import NodeError
from CLMorphSlicerLib.results import Results, is_result, watch_scene_loading

FLIP = np.array([-1.0, -1.0, 1.0])
ONE_GREY_LEVEL = 1.0 / 255.0


@pytest.fixture
def shown(phantom_case, headless):
    """(results, axial view) of a run, the patient shown in the view, structures hidden."""
    case = phantom_case("RAS")
    results = nodes.import_results(case.output, case.volume, case.atlas)
    results.segmentation.GetDisplayNode().SetVisibility(False)
    view = headless.add_slice_view("Red", "Axial", 300)
    view.show(case.volume)
    return results, view


def changed_pixels(before: np.ndarray, after: np.ndarray) -> int:
    return int((np.abs(before.astype(int) - after).max(axis=-1) > 20).sum())


@pytest.mark.parametrize("mode", display.MODES)
def test_deformation_is_seen_in_slices_when_on_and_not_when_off(shown, mode):
    results, view = shown
    empty = view.grab()
    display.show_deformation(results.transform, display.DeformationStyle(mode, line_width=2.0))
    assert changed_pixels(empty, view.grab()) > 300
    display.hide_deformation(results.transform)
    assert changed_pixels(empty, view.grab()) == 0
    display.show_deformation(results.transform, display.DeformationStyle(mode, in_slices=False, in_3d=True))
    assert changed_pixels(empty, view.grab()) == 0


@pytest.mark.parametrize("mode", display.MODES)
def test_deformation_is_seen_in_3d_when_on_and_not_when_off(shown, headless, mode):
    results, _ = shown
    view = headless.add_three_d_view("1", 200)
    results.segmentation.GetDisplayNode().SetVisibility(True)
    view.fit()
    empty = view.grab()
    style = display.DeformationStyle(mode, in_slices=False, in_3d=True, spacing_mm=15.0, line_width=2.0)
    display.show_deformation(results.transform, style)
    assert changed_pixels(empty, view.grab()) > 100
    display.hide_deformation(results.transform)
    assert changed_pixels(empty, view.grab()) == 0


def test_lines_are_closer_and_wider_when_asked(shown):
    results, view = shown
    empty = view.grab()
    counts = {}
    for spacing, width in ((20.0, 1.0), (10.0, 1.0), (20.0, 3.0)):
        style = display.DeformationStyle(spacing_mm=spacing, line_width=width)
        display.show_deformation(results.transform, style)
        counts[spacing, width] = changed_pixels(empty, view.grab())
    assert counts[10.0, 1.0] > 1.5 * counts[20.0, 1.0]
    assert counts[20.0, 3.0] > 2.0 * counts[20.0, 1.0]


def test_lines_bend_where_the_patient_was_deformed_and_as_far_as_the_scale_says(shown):
    results, view = shown
    pictures = []
    for scale in (0.001, 1.0, 3.0):
        style = display.DeformationStyle(scale=scale, color_by_displacement=False)
        display.show_deformation(results.transform, style)
        pictures.append(view.grab())
    straight, true_size, exaggerated = pictures
    corner = np.s_[:30, :30]
    assert changed_pixels(straight[corner], true_size[corner]) == 0
    assert 0 < changed_pixels(straight, true_size) < changed_pixels(straight, exaggerated)


def test_lines_have_the_colour_of_the_displacement_or_one_colour(shown):
    results, view = shown
    empty = view.grab()
    drawn = {}
    for by_displacement in (True, False):
        style = display.DeformationStyle(line_width=3.0, color_by_displacement=by_displacement)
        display.show_deformation(results.transform, style)
        picture = view.grab()
        drawn[by_displacement] = picture[np.abs(picture.astype(int) - empty).max(axis=-1) > 20] / 255.0
    plain = {key: np.abs(rgb - display.PLAIN_COLOR).max(axis=-1) < 0.02 for key, rgb in drawn.items()}
    assert plain[False].mean() > 0.5  # the others are at the smoothed sides of the lines
    assert plain[True].mean() < 0.1
    lowest, highest = np.array(display.DISPLACEMENT_COLORS[0][1]), np.array(display.DISPLACEMENT_COLORS[-1][1])
    assert (np.abs(drawn[True] - lowest).max(axis=-1) < 0.05).any()
    assert (np.abs(drawn[True] - highest).max(axis=-1) < 0.1).any()


# -- Jacobian map


def set_jacobian(results: Results, ijk: tuple[int, int, int], value: float) -> tuple:
    """Set 5 x 5 x 5 voxels of the map, and return the point in their middle."""
    i, j, k = ijk
    array = slicer.util.arrayFromVolume(results.jacobian)
    array[k - 2 : k + 3, j - 2 : j + 3, i - 2 : i + 3] = value
    slicer.util.arrayFromVolumeModified(results.jacobian)
    return tuple((exporting.world_matrix(results.jacobian) @ [i, j, k, 1])[:3])


@pytest.mark.parametrize("value", [-0.3, 0.0, 0.001, 0.5, 0.8, 1.0, 1.3, 2.0, 7.0])
def test_map_shows_the_colour_of_a_known_voxel(shown, value):
    results, view = shown
    point = set_jacobian(results, (30, 30, 25), value)
    row, column = view.pixel_at(point)
    display.show_slices(results.transform, jacobian_opacity=1.0)
    seen = view.grab()[row, column] / 255.0
    assert seen == pytest.approx(colors.jacobian_color(value), abs=0.02)
    assert (np.abs(seen - colors.FOLD_COLOR).max() < 0.02) == (value <= 0.0)


def test_map_is_translucent_over_the_patient(shown):
    results, view = shown
    point = set_jacobian(results, (30, 30, 25), 2.0)
    row, column = view.pixel_at(point)
    patient = view.grab()[row, column] / 255.0
    display.show_slices(results.transform, jacobian_opacity=0.4)
    expected = 0.6 * patient + 0.4 * np.array(colors.GROW_COLOR)
    assert view.grab()[row, column] / 255.0 == pytest.approx(expected, abs=0.02)
    display.show_slices(results.transform)
    assert view.grab()[row, column] / 255.0 == pytest.approx(patient, abs=ONE_GREY_LEVEL)


def test_legend_of_the_map_is_shown_with_it_and_says_what_a_fold_is(shown):
    results, view = shown
    slicer.util.arrayFromVolume(results.jacobian)[:] = 1.0
    slicer.util.arrayFromVolumeModified(results.jacobian)
    display.show_slices(results.transform, jacobian_opacity=1.0)
    with_legend = view.grab() / 255.0
    assert (np.abs(with_legend - colors.FOLD_COLOR).max(axis=-1) < 0.02).sum() > 20
    display.show_slices(results.transform)
    assert not (np.abs(view.grab() / 255.0 - colors.FOLD_COLOR).max(axis=-1) < 0.02).any()


def test_colours_are_neutral_at_one_and_full_where_a_volume_is_halved_or_doubled():
    assert colors.jacobian_color(1.0) == pytest.approx(colors.NEUTRAL_COLOR)
    assert colors.jacobian_color(0.5) == pytest.approx(colors.SHRINK_COLOR)
    assert colors.jacobian_color(2.0) == pytest.approx(colors.GROW_COLOR)


def test_only_folds_have_the_colour_of_folds():
    assert colors.jacobian_color(0.0) == colors.jacobian_color(-3.0) == colors.FOLD_COLOR
    assert colors.jacobian_color(1e-9) == pytest.approx(colors.SHRINK_COLOR)


# -- before and after


def test_slider_mixes_affine_and_warped_atlas_over_the_patient(shown):
    results, view = shown
    patient = view.grab().astype(float)
    pictures = {}
    for blend, opacity in ((0.0, 1.0), (1.0, 1.0), (0.0, 0.6), (0.3, 0.6), (1.0, 0.6)):
        display.show_slices(results.transform, blend=blend, atlas_opacity=opacity)
        pictures[blend, opacity] = view.grab().astype(float)
    affine, warped = pictures[0.0, 1.0], pictures[1.0, 1.0]
    assert changed_pixels(affine.astype(int), warped.astype(int)) > 200
    for blend in (0.0, 0.3, 1.0):
        expected = 0.4 * patient + 0.6 * ((1.0 - blend) * affine + blend * warped)
        assert np.abs(pictures[blend, 0.6] - expected).max() <= 3.0
    display.show_slices(results.transform)
    assert np.array_equal(view.grab(), patient)


def test_atlas_and_map_are_shown_together(shown):
    results, view = shown
    point = set_jacobian(results, (30, 30, 25), -1.0)
    row, column = view.pixel_at(point)
    display.show_slices(results.transform, blend=1.0, atlas_opacity=1.0)
    atlas = view.grab()[row, column] / 255.0
    display.show_slices(results.transform, blend=1.0, atlas_opacity=1.0, jacobian_opacity=0.5)
    expected = 0.5 * atlas + 0.5 * np.array(colors.FOLD_COLOR)
    assert view.grab()[row, column] / 255.0 == pytest.approx(expected, abs=0.02)


# -- millimetres


def true_displacement(ras: tuple) -> np.ndarray:
    without_affine = sitk.CompositeTransform([phantom.affine().GetInverse(), phantom.transform()])
    return np.array(without_affine.TransformPoint((ras * FLIP).tolist())) * FLIP - ras


@pytest.mark.parametrize("ras", [(0.0, 0.0, 0.0), (-18.0, -4.0, 9.0), (14.0, 12.0, 10.0)])
def test_displacement_at_a_point_is_that_of_the_deformation_alone(shown, ras):
    results, _ = shown
    assert display.displacement_mm(results.transform, ras) == pytest.approx(true_displacement(ras), abs=0.01)


def test_displacement_is_the_same_after_loading_the_scene(shown, headless, tmp_path):
    headless.save_scene(tmp_path / "scene.mrb")
    watch_scene_loading()
    headless.load_scene(tmp_path / "scene.mrb")
    transform = next(n for n in slicer.util.getNodesByClass("vtkMRMLTransformNode") if is_result(n))
    ras = (-18.0, -4.0, 9.0)
    assert display.displacement_mm(transform, ras) == pytest.approx(true_displacement(ras), abs=0.01)
    view = headless.views["Red"]
    empty = view.grab()
    display.show_deformation(transform, display.DeformationStyle())
    assert changed_pixels(empty, view.grab()) > 300


@pytest.mark.parametrize("inverse_given", [True, False])
def test_drawn_field_moves_points_as_the_engine_does(phantom_case, tmp_path, inverse_given):
    case = phantom_case("RAS")
    output = shutil.copytree(case.output, tmp_path / "output")
    if not inverse_given:  # some models give none
        (output / "inverse.h5").unlink()
    results = nodes.import_results(output, case.volume, case.atlas)
    for ras in ((-18.0, -4.0, 9.0), (14.0, 12.0, 10.0), (0.0, 0.0, 0.0)):
        aligned = ras + true_displacement(ras)
        drawn = [0.0] * 3
        results.field.GetTransformToParent().TransformPoint(aligned, drawn)
        assert np.linalg.norm(np.subtract(drawn, ras)) < 0.25  # an eighth of the patient's voxel


def test_largest_displacement_is_that_of_the_bumps(shown):
    results, _ = shown
    assert 6.0 < display.max_displacement_mm(results.transform) < 9.0


def test_deleted_node_is_named_in_the_error(shown):
    results, _ = shown
    slicer.mrmlScene.RemoveNode(results.jacobian)
    with pytest.raises(NodeError, match="Jacobian map of this result was deleted"):
        display.show_slices(results.transform, jacobian_opacity=0.5)


# -- numbers


@pytest.mark.parametrize(
    ("highest", "levels"),
    [(0.0, []), (6.9, [1, 2, 3, 4, 5, 6]), (0.8, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]), (25, [5, 10, 15, 20])],
)
def test_contour_levels_are_round_and_below_the_largest(highest, levels):
    assert display.contour_levels_mm(highest) == pytest.approx(levels)


@pytest.mark.parametrize(
    ("value", "rounded"), [(1.0, 1.0), (1.99, 1.0), (2.0, 2.0), (7.3, 5.0), (0.031, 0.02), (450.0, 200.0)]
)
def test_round_numbers(value, rounded):
    assert display.round_number(value) == pytest.approx(rounded)


def test_suggested_spacing_fits_the_patient(shown):
    results, _ = shown
    assert display.suggested_spacing_mm(results.transform) == 5.0  # 140 mm


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "cloud"}, "unknown mode 'cloud'"),
        ({"spacing_mm": 0.0}, "spacing_mm is 0.0"),
        ({"scale": -1.0}, "scale is -1.0"),
    ],
)
def test_wrong_styles_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        display.DeformationStyle(**wrong)


# -- the map above the atlas, and its legend


@pytest.mark.parametrize("opacities", [[0.3], [0.0, 0.5], [0.25, 0.5, 0.4], [1.0, 0.5, 0.0], [0.2, 1.0, 0.3]])
def test_opacities_come_back_from_the_parts_of_the_picture(opacities):
    weights = display.layer_weights(opacities)
    assert sum(weights) <= 1.0 + 1e-12
    assert display.layer_weights(display.stacked_opacities(weights)) == pytest.approx(weights)


def test_layers_in_another_order_make_the_same_picture():
    layers, opacities = np.array([0.2, 0.9, 0.5]), [0.25, 0.5, 0.4]
    weights = display.layer_weights(opacities)
    expected = 0.1 * (1.0 - sum(weights)) + np.dot(weights, layers)
    turned = display.stacked_opacities([weights[2], weights[0], weights[1]])
    picture = 0.1
    for value, opacity in zip(layers[[2, 0, 1]], turned, strict=True):
        picture = opacity * value + (1.0 - opacity) * picture
    assert picture == pytest.approx(expected)


def test_legend_of_the_map_stays_when_the_atlas_is_shown_too(shown, headless):
    results, view = shown
    display.show_slices(results.transform, blend=1.0)
    atlas = view.grab()
    display.show_slices(results.transform, blend=1.0, jacobian_opacity=0.5)
    composite = view.logic.GetSliceCompositeNode()
    assert composite.GetForegroundVolumeID() == results.jacobian.GetID()
    layers = [composite.GetNthLayerVolumeID(index) for index in (3, 4)]
    assert layers == [results.affine_warped.GetID(), results.warped.GetID()]
    both = view.grab()
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(results.jacobian)
    legend.SetVisibility(False)
    assert changed_pixels(both, view.grab()) > 300  # it was drawn
    assert changed_pixels(both, atlas) > 300


def test_map_over_the_atlas_looks_as_if_it_lay_on_top(shown):
    results, view = shown
    display.show_slices(results.transform, blend=1.0)
    atlas = view.grab().astype(float)
    display.show_slices(results.transform, jacobian_opacity=1.0)
    slicer.modules.colors.logic().GetColorLegendDisplayNode(results.jacobian).SetVisibility(False)
    jacobian = view.grab().astype(float)
    display.show_slices(results.transform, blend=1.0, jacobian_opacity=0.5)
    slicer.modules.colors.logic().GetColorLegendDisplayNode(results.jacobian).SetVisibility(False)
    assert np.abs(view.grab() - (atlas + jacobian) / 2.0).max() < 3.0
