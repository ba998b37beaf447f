"""An organ of both sides, found in a whole: labels and table of both, a transform for each."""

import phantom
import pytest
from qt_fixtures import begin, finish, leftovers, node_ids, segment_names, show_frame

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
from CLMorphSlicerLib.results import browser_of, is_result, results_of

SIDED = ["Left anterior hippocampus", "Left ventricle", "Right anterior hippocampus", "Right ventricle"]


@pytest.fixture
def both(patient, window, headless):
    headless.add_slice_view("Red", "Axial", 60)
    begin(window, "finds_both_sides")
    finish(window)
    assert window.logic.run.error is None, window.logic.run.error
    return window.logic.run.results


def test_both_sides_give_labels_table_and_a_transform_each(both, patient, window):
    assert segment_names(both.segmentation) == SIDED and segment_names(both.brain_mask) == ["Brain mask"]
    assert both.transform is both.affine is both.field is both.warped is both.jacobian is both.atlas is None
    assert "Both sides were found in the whole." in window.ui.statusLabel.text
    for node, shift in ((both.left, 4.0), (both.right, -4.0)):
        there = [0.0] * 3
        node.GetTransformFromParent().TransformPoint((500.0, 0.0, 0.0), there)  # outside of the field
        assert there == pytest.approx([500.0 - shift, 0.0, 0.0])
    assert window.ui.segmentsTable.segmentationNode() is both.segmentation
    assert window.ui.figuresTable.mrmlTableNode() is both.table
    assert window.ui.resultSelector.currentNode() is both.left and leftovers() == []
    cells = both.table.GetTable()
    assert [cells.GetValue(row, 0).ToString() for row in range(4)] == SIDED


def test_deformation_panel_says_why_it_is_empty_and_can_be_used(both, window):
    why = "each side was warped by itself: there is no one deformation to draw"
    assert window.ui.displacementLabel.text == why and not window.ui.showDeformationCheckBox.enabled
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    crosshair.SetCursorPositionRAS((1.0, 2.0, 3.0))
    assert window.ui.displacementLabel.text == why
    window._parameterNode.showDeformation = window._parameterNode.showJacobian = True
    window._parameterNode.showAtlas = True
    assert window.ui.displacementLabel.text == why


def test_what_was_drawn_of_another_result_goes_when_both_sides_are_shown(patient, window, headless):
    composite = headless.add_slice_view("Red", "Axial", 60).logic.GetSliceCompositeNode()
    begin(window, "works")
    finish(window)
    first = window.logic.run.results
    window.ui.showDeformationCheckBox.checked = window.ui.jacobianCheckBox.checked = True
    assert composite.GetForegroundVolumeID() == first.jacobian.GetID()
    begin(window, "finds_both_sides")
    finish(window)
    assert composite.GetForegroundVolumeID() is None and not first.field.GetDisplayNode().GetVisibility()
    window.ui.resultSelector.setCurrentNode(first.transform)
    assert composite.GetForegroundVolumeID() == first.jacobian.GetID() and first.field.GetDisplayNode().GetVisibility()


def test_both_sides_are_found_again_in_a_saved_scene(both, window, headless, tmp_path):
    headless.save_scene(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    headless.load_scene(tmp_path / "scene.mrb")
    result = window._parameterNode.result
    found = results_of(result)
    assert is_result(result) and found.left is result and found.transform is None
    assert segment_names(found.segmentation) == SIDED and found.right is not None and found.brain_mask is not None


def test_undo_of_both_sides_leaves_nothing(patient, window):
    before = node_ids()
    begin(window, "finds_both_sides")
    finish(window)
    window.ui.undoButton.click()
    left = {slicer.mrmlScene.GetNodeByID(each).GetClassName() for each in node_ids() - before}
    assert not left & {"vtkMRMLSegmentationNode", "vtkMRMLTransformNode", "vtkMRMLTableNode", "vtkMRMLScalarVolumeNode"}
    assert window._parameterNode.result is None


def test_both_sides_into_chosen_outputs_and_into_an_earlier_result(both, patient, window):
    own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Mine")
    window._parameterNode.outputTransform, window._parameterNode.outputSegmentation = own, both.segmentation
    begin(window, "finds_both_sides")
    finish(window)
    second = window.logic.run.results
    assert second.segmentation is both.segmentation and second.left is not both.left and not is_result(own)
    assert "“Mine” stays as it was" in window.ui.statusLabel.text
    window._parameterNode.outputTransform, window._parameterNode.outputSegmentation = second.left, None
    begin(window, "finds_both_sides")
    finish(window)
    third = window.logic.run.results
    for name in ("left", "right", "segmentation", "brain_mask", "uncertainty", "table"):
        assert getattr(third, name) is getattr(second, name), name


def test_crop_into_the_result_of_both_sides_is_a_result_with_a_deformation(both, window):
    window._parameterNode.outputTransform = both.left
    begin(window, "works")
    finish(window)
    results = window.logic.run.results
    assert results.transform is both.left and results.left is None
    assert results_of(both.left).transform is both.left and results_of(both.left).right is None
    assert window.ui.showDeformationCheckBox.enabled and "mm" in window.ui.displacementLabel.text


def test_both_sides_of_all_frames(beating, window):
    _sequence, browser, _proxy = beating
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "finds_both_sides")
    finish(window)
    assert run.error is None, run.error
    assert browser_of(run.results.segmentation) is browser and browser_of(run.results.left) is browser
    assert segment_names(run.results.segmentation) == SIDED
    show_frame(browser, 3)
    assert window.ui.resultSelector.currentNode() is run.results.left
    assert "each side was warped by itself" in window.ui.displacementLabel.text
    window.ui.undoButton.click()
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


@pytest.mark.parametrize("missing", ["left_transform.h5", "right_transform.h5", "labels.nii.gz"])
def test_half_of_both_sides_is_refused(phantom_case, missing, tmp_path):
    import shutil

    from CLMorphSlicerLib import nodes

    case = phantom_case()
    folder = shutil.copytree(case.output, tmp_path / "output")
    phantom.make_both_sides(folder)
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=missing):
        nodes.import_results(folder, case.volume, case.atlas)
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_time_of_both_sides_is_not_that_of_a_crop(patient, window, looks_for_both):
    window._refresh()
    begin(window, "finds_both_sides")
    finish(window)
    assert window.ui.segmentTimeLabel.text.startswith("about ")
    patient.SetSpacing(0.6, 0.6, 0.6)
    window._refresh()
    assert window.ui.segmentTimeLabel.text == "not run on this computer yet"
