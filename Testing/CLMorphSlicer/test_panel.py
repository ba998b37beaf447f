"""What the window shows of a result: structures, figures, deformation and overlays, and what it says of a run."""

import numpy as np
import pytest
from qt_fixtures import begin, finish

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util


@pytest.fixture
def done(patient, window, headless):
    headless.add_slice_view("Red", "Axial", 200)
    begin(window, "works")
    finish(window)
    return window.logic.run.results


def test_deformation_is_drawn_as_the_controls_say(done, window, module):
    display = done.field.GetDisplayNode()
    assert display is None or not display.GetVisibility()
    window.ui.showDeformationCheckBox.checked = True
    window.ui.modeSelector.currentIndex = 1
    window.ui.spacingSlider.value = 8.0
    window.ui.inSlicesCheckBox.checked = False
    window.ui.in3DCheckBox.checked = True
    display = done.field.GetDisplayNode()
    assert display.GetVisibility() and display.GetVisualizationMode() == display.VIS_MODE_GLYPH
    assert display.GetGlyphSpacingMm() == 8.0
    assert display.GetVisibility3D() and not display.GetVisibility2D()
    window.ui.showDeformationCheckBox.checked = False
    assert not display.GetVisibility()


def test_slider_goes_from_before_to_after(done, window):
    composite = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
    window.ui.atlasCheckBox.checked = True
    window.ui.blendSlider.value = 0.0
    assert composite.GetNthLayerVolumeID(1) == done.affine_warped.GetID() and composite.GetNthLayerOpacity(3) == 0.0
    window.ui.blendSlider.value = 1.0
    assert composite.GetNthLayerVolumeID(3) == done.warped.GetID() and composite.GetNthLayerOpacity(3) > 0.0


def test_views_are_left_alone_until_an_overlay_is_asked_for(done, window, headless):
    composite = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
    assert composite.GetBackgroundVolumeID() == done.volume.GetID()  # a new result brings its patient
    composite.SetForegroundVolumeID(done.warped.GetID())
    window.deformation.forget()
    window.enter()
    window.ui.spacingSlider.value = 7.0
    assert composite.GetForegroundVolumeID() == done.warped.GetID()


@pytest.fixture
def other():
    """A volume of the user's own."""
    return slicer.util.addVolumeFromArray(np.ones((6, 6, 6), np.float32), name="Own")


def test_new_result_brings_its_patient_where_no_view_shows_it(patient, window, headless, other):
    layers = [headless.add_slice_view(name, "Axial", 50).logic.GetSliceCompositeNode() for name in ("Red", "Green")]
    layers[0].SetBackgroundVolumeID(other.GetID())
    begin(window, "works")
    finish(window)
    assert [each.GetBackgroundVolumeID() for each in layers] == [patient.GetID()] * 2


def test_new_result_leaves_views_that_compare_as_they_are(patient, window, headless, other):
    names = ("Red", "Green", "Yellow")
    layers = [headless.add_slice_view(name, "Axial", 50).logic.GetSliceCompositeNode() for name in names]
    for each, volume in zip(layers, (patient, other, None), strict=True):
        each.SetBackgroundVolumeID(volume and volume.GetID())
        each.SetForegroundVolumeID(other.GetID())
    begin(window, "works")
    finish(window)
    assert [each.GetBackgroundVolumeID() for each in layers] == [patient.GetID(), other.GetID(), patient.GetID()]
    assert [each.GetForegroundVolumeID() for each in layers] == [other.GetID()] * 3


def test_overlay_that_is_switched_off_takes_no_layer_of_the_user_along(done, window, headless, other):
    composite = headless.views["Red"].logic.GetSliceCompositeNode()
    window.ui.jacobianCheckBox.checked = True
    composite.SetForegroundVolumeID(other.GetID())
    composite.SetNthLayerVolumeID(3, done.warped.GetID())
    window.ui.jacobianCheckBox.checked = False
    assert composite.GetForegroundVolumeID() == other.GetID() and composite.GetNthLayerVolumeID(3) is None


def test_overlays_of_the_result_before_are_cleared(done, window, headless):
    composite = headless.views["Red"].logic.GetSliceCompositeNode()
    window.ui.jacobianCheckBox.checked = True
    begin(window, "works")
    finish(window)
    assert composite.GetForegroundVolumeID() == window.logic.run.results.jacobian.GetID() != done.jacobian.GetID()
    window.ui.resultSelector.setCurrentNode(done.transform)
    window.ui.jacobianCheckBox.checked = False
    assert composite.GetForegroundVolumeID() is None


def test_jacobian_lies_over_the_slices_when_on(done, window):
    composite = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
    window.ui.jacobianCheckBox.checked = True
    assert composite.GetNthLayerVolumeID(1) == done.jacobian.GetID()
    window.ui.jacobianCheckBox.checked = False
    assert composite.GetNthLayerVolumeID(1) != done.jacobian.GetID()


def test_displacement_is_told_at_the_pointer(done, window):
    from CLMorphSlicerLib import display

    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    point = (-16.0, 4.0, 12.0)
    crosshair.SetCursorPositionRAS(point)
    length = np.linalg.norm(display.displacement_mm(done.transform, point))
    assert length > 0.5 and window.ui.displacementLabel.text.startswith(f"{length:.1f} mm here")


def test_structures_can_be_hidden_in_3d(done, window):
    closed = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    segmentation = done.segmentation.GetSegmentation()
    assert window.ui.show3DButton.checked and segmentation.ContainsRepresentation(closed)
    window.ui.show3DButton.checked = False
    assert not segmentation.ContainsRepresentation(closed)
    window.ui.show3DButton.checked = True
    assert done.segmentation.GetDisplayNode().GetVisibility3D() and segmentation.ContainsRepresentation(closed)


def test_surfaces_of_many_structures_are_made_when_they_are_asked_for(patient, window, headless, monkeypatch):
    from CLMorphSlicerLib import nodes

    monkeypatch.setattr(nodes, "MAX_SURFACES", 2)
    begin(window, "works")
    finish(window)
    segmentation = window.logic.run.results.segmentation.GetSegmentation()
    closed = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    assert not segmentation.ContainsRepresentation(closed) and not window.ui.show3DButton.checked
    view = headless.add_three_d_view("1", 200)
    empty = view.grab()
    window.ui.show3DButton.checked = True
    assert segmentation.ContainsRepresentation(closed) and slicer.app.cursors == []
    view.fit()
    assert (view.grab() != empty).any(axis=-1).mean() > 0.05


def test_part_of_a_result_that_was_deleted_is_told_and_does_no_harm(done, window):
    slicer.mrmlScene.RemoveNode(done.jacobian)
    window.ui.jacobianCheckBox.checked = True
    assert "Jacobian map of this result was deleted" in window.ui.displacementLabel.text


def test_pointer_over_an_emptied_scene_does_no_harm(done, window):
    slicer.mrmlScene.Clear(0)
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    crosshair.SetCursorPositionRAS((1.0, 2.0, 3.0))
    assert window.ui.displacementLabel.text == "–"


def test_figures_have_titles_and_cannot_be_overwritten(done, window):
    from PySide6 import QtCore

    cells = window.ui.figuresTable.model()
    header = [cells.headerData(column, QtCore.Qt.Orientation.Horizontal) for column in range(cells.columnCount())]
    assert header[:3] == ["Name", "Value", "Unit"]
    assert cells.item(0, 0).text() == "Body" and not cells.item(0, 1).isEditable()


def test_scene_loaded_behind_the_panel_shows_its_own_result(done, window, headless, tmp_path):
    from CLMorphSlicerLib.results import results_of
    from standins import application

    shown = window.ui.figuresTable.mrmlTableNode
    shown().SetName("of the other patient")
    headless.save_scene(tmp_path / "other.mrb")
    shown().SetName("of this patient")
    application.leave_module(window)
    headless.load_scene(tmp_path / "other.mrb")  # its nodes have the IDs of those that were shown
    application.enter_module(window)
    assert shown().GetName() == "of the other patient" and shown().GetScene() is slicer.mrmlScene
    result = window.ui.resultSelector.currentNode()
    assert window.ui.segmentsTable.segmentationNode() is results_of(result).segmentation


def test_result_that_is_deleted_leaves_an_empty_panel(done, window):
    slicer.mrmlScene.RemoveNode(done.transform)
    window._refresh()
    assert window.ui.segmentsTable.segmentationNode() is None
    assert not window.ui.showDeformationCheckBox.enabled


def test_engine_that_says_nothing_for_long_is_told():
    from CLMorphSlicerLib.job import Progress, State
    from CLMorphSlicerLib.panel import progress_text, time_left

    assert progress_text(Progress("affine", 0.1, 30.0), State.RUNNING) == "Affine · about 30 s left"
    assert "no word from the engine for 75 s" in progress_text(Progress("affine", 0.1), State.RUNNING, 75.0)
    assert time_left(300.0) == "about 5 min left" and time_left(None) == ""


@pytest.mark.parametrize("way", ["unticked", "undone", "deleted", "unloaded"])
def test_views_show_again_what_they_did_before_the_overlays(done, patient, window, headless, other, way):
    """Another background, a foreground and its opacity: all three are in use by an overlay."""
    composite = headless.views["Red"].logic.GetSliceCompositeNode()
    composite.SetBackgroundVolumeID(other.GetID())
    composite.SetForegroundVolumeID(patient.GetID())
    composite.SetForegroundOpacity(0.25)
    window.ui.jacobianCheckBox.checked = window.ui.atlasCheckBox.checked = True
    window.ui.blendSlider.value = 0.4
    assert composite.GetBackgroundVolumeID() == patient.GetID() and composite.GetNthLayerVolumeID(3)
    if way == "unticked":
        window.ui.jacobianCheckBox.checked = window.ui.atlasCheckBox.checked = False
    elif way == "undone":
        window.ui.undoButton.click()
    elif way == "deleted":  # what knows the other nodes of the result, which stay
        slicer.mrmlScene.RemoveNode(done.transform)
    else:
        window.cleanup()
    layers = [composite.GetNthLayerVolumeID(layer) for layer in (0, 1, 3, 4)]
    assert layers == [other.GetID(), patient.GetID(), None, None] and composite.GetForegroundOpacity() == 0.25


def test_what_was_chosen_over_the_overlays_stays(done, patient, window, headless, other):
    composite = headless.views["Red"].logic.GetSliceCompositeNode()
    composite.SetBackgroundVolumeID(patient.GetID())
    window.ui.jacobianCheckBox.checked = True
    composite.SetBackgroundVolumeID(other.GetID())
    window.ui.jacobianCheckBox.checked = False
    assert composite.GetBackgroundVolumeID() == other.GetID() and composite.GetForegroundVolumeID() is None


def test_names_are_shown_as_they_are_written(patient, window):
    """Qt would take a tag in them for a format of the line, and leave it out."""
    import qt

    patient.SetName("T1 <b>late</b>")
    begin(window, "works")
    finish(window)
    assert window.ui.statusLabel.text == "Done: 3 structures in T1 <b>late</b>."
    assert window.ui.statusLabel.textFormat == qt.Qt.PlainText
