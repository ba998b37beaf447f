"""Where results go: new nodes named after the input, or chosen ones, which one undo brings back."""

import numpy as np
import pytest
from qt_fixtures import begin, finish, node_ids, segment_names, show_frame, wait_until

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
import vtk
from CLMorphSlicerLib.outputs import Outputs
from CLMorphSlicerLib.results import browser_of, is_result, results_of


@pytest.fixture
def own_segmentation():
    """A segmentation that somebody drew: one segment called Mine, of 8 voxels, under a transform."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "By hand")
    node.CreateDefaultDisplayNodes()
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(2, 2, 2)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    image.GetPointData().GetScalars().Fill(1)
    node.AddSegmentFromBinaryLabelmapRepresentation(image, "Mine", (0.1, 0.2, 0.3))
    above = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Above")
    node.SetAndObserveTransformNodeID(above.GetID())
    return node


@pytest.fixture
def own_transform():
    """A transform that shifts by 5 mm to the right."""
    node, shift = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Kept"), vtk.vtkTransform()
    shift.Translate(5.0, 0.0, 0.0)
    node.SetAndObserveTransformToParent(shift)
    return node


def moved(transform_node, point=(0.0, 0.0, 0.0)) -> list[float]:
    there = [0.0] * 3
    transform_node.GetTransformToParent().TransformPoint(point, there)
    return there


def test_new_outputs_are_named_after_the_image(patient, window):
    begin(window, "works")
    finish(window)
    results = window.logic.run.results
    assert results.segmentation.GetName() == "Ärztin Größe 1 segmentation"
    assert results.transform.GetName() == "Ärztin Größe 1 transform"


def test_results_go_into_the_chosen_nodes(patient, window, own_segmentation, own_transform):
    window.ui.outputSegmentationSelector.setCurrentNode(own_segmentation)
    window.ui.outputTransformSelector.setCurrentNode(own_transform)
    begin(window, "works")
    finish(window)
    results = window.logic.run.results
    assert results.segmentation is own_segmentation and results.transform is own_transform
    assert segment_names(own_segmentation) == ["Body", "Anterior hippocampus", "Ventricle"]
    assert (own_segmentation.GetName(), own_transform.GetName()) == ("By hand", "Kept")
    assert own_segmentation.GetParentTransformNode() is None  # the labels lie where the patient is seen
    assert is_result(own_transform) and results_of(own_transform).segmentation is own_segmentation
    assert window.ui.resultSelector.currentNode() is own_transform


def test_undo_brings_back_what_chosen_nodes_held(patient, window, own_segmentation, own_transform):
    above = own_segmentation.GetParentTransformNode()
    window._parameterNode.outputSegmentation, window._parameterNode.outputTransform = own_segmentation, own_transform
    before = node_ids()
    assert not window.ui.undoButton.enabled
    begin(window, "works")
    assert not window.ui.undoButton.enabled
    finish(window)
    assert window.ui.undoButton.enabled
    window.ui.undoButton.click()
    assert segment_names(own_segmentation) == ["Mine"] and moved(own_transform) == [5.0, 0.0, 0.0]
    assert own_segmentation.GetParentTransformNode() is above
    segment = own_segmentation.GetSegmentation().GetNthSegmentID(0)
    assert slicer.util.arrayFromSegmentInternalBinaryLabelmap(own_segmentation, segment).sum() == 8
    assert not is_result(own_transform) and own_transform.GetNodeReference("CLMorph.field") is None
    assert window._parameterNode.result is None and not window.ui.undoButton.enabled
    left = {slicer.mrmlScene.GetNodeByID(node_id).GetClassName() for node_id in node_ids() - before}
    assert not left & {"vtkMRMLSegmentationNode", "vtkMRMLTransformNode", "vtkMRMLScalarVolumeNode"}


def test_run_into_an_earlier_result_uses_all_of_its_nodes_again(patient, window):
    begin(window, "works")
    finish(window)
    first = window.logic.run.results
    field = slicer.util.arrayFromGridTransform(first.field).copy()
    before = node_ids()
    window._parameterNode.outputTransform = first.transform
    begin(window, "works")
    finish(window)
    second = window.logic.run.results
    for name in ("transform", "affine", "field", "segmentation", "warped", "affine_warped", "jacobian", "table"):
        assert getattr(second, name) is getattr(first, name), name
    added = [slicer.mrmlScene.GetNodeByID(node_id) for node_id in node_ids() - before]
    assert {node.GetName() for node in added if node.IsA("vtkMRMLVolumeNode")} == {second.atlas.GetName()}
    assert np.array_equal(slicer.util.arrayFromGridTransform(second.field), field)
    window.ui.undoButton.click()
    assert np.array_equal(slicer.util.arrayFromGridTransform(first.field), field)
    assert is_result(first.transform) and results_of(first.transform).atlas is first.atlas


def test_failure_leaves_chosen_nodes_as_they_were(patient, window, own_segmentation, own_transform):
    window._parameterNode.outputSegmentation, window._parameterNode.outputTransform = own_segmentation, own_transform
    begin(window, "half_done")
    finish(window)
    assert window.logic.run.state.value == "failed"
    assert segment_names(own_segmentation) == ["Mine"] and moved(own_transform) == [5.0, 0.0, 0.0]


def test_failure_in_the_middle_of_loading_leaves_chosen_nodes_as_they_were(
    patient, window, own_segmentation, monkeypatch
):
    from CLMorphSlicerLib import nodes

    def fails(*arguments):
        raise RuntimeError("no memory for the table")

    monkeypatch.setattr(nodes, "fill_table", fails)
    window._parameterNode.outputSegmentation = own_segmentation
    before = node_ids()
    begin(window, "works")
    finish(window)
    assert "no memory for the table" in window.ui.statusLabel.text
    assert segment_names(own_segmentation) == ["Mine"] and node_ids() == before


def test_input_is_never_an_output(patient, window, own_segmentation):
    window._parameterNode.useSceneAtlas = True
    atlas = slicer.util.addVolumeFromArray(np.ones((6, 6, 6), np.float32), name="Atlas")
    window._parameterNode.atlasVolume, window._parameterNode.atlasLabels = atlas, own_segmentation
    assert window.ui.runButton.enabled, window.ui.statusLabel.text
    window._parameterNode.outputSegmentation = own_segmentation
    assert window.ui.statusLabel.text == "“By hand” is an input of this run: choose another output, or a new one."


def test_transform_that_can_hold_no_deformation_is_refused(headless):
    linear = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Turn")
    assert "cannot hold a deformation" in Outputs(transform=linear).why_not([])


def test_output_that_is_deleted_meanwhile_ends_the_run(patient, window, own_segmentation):
    from qt_fixtures import get_started

    window._parameterNode.outputSegmentation = own_segmentation
    run = get_started(window, "waits")
    slicer.mrmlScene.RemoveNode(own_segmentation)
    assert "By hand was deleted" in str(run.error)
    finish(window)


def test_there_is_nothing_to_undo_in_another_scene(patient, window):
    begin(window, "works")
    finish(window)
    assert window.ui.undoButton.enabled
    slicer.mrmlScene.Clear(0)
    assert not window.ui.undoButton.enabled


# -- what was drawn by hand since the run


def draw(segmentation_node, volume_node) -> None:
    """As the Segment Editor does: the voxels of the first segment are others now."""
    segment = segmentation_node.GetSegmentation().GetNthSegmentID(0)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation_node, segment, volume_node)
    slicer.util.updateSegmentBinaryLabelmapFromArray(array[::-1] * 1, segmentation_node, segment, volume_node)


@pytest.mark.parametrize("existing", [False, True])
def test_undo_asks_before_it_takes_what_was_drawn_since_the_run(
    patient, window, own_segmentation, existing, monkeypatch
):
    questions, answer = [], [False]
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, *_: questions.append(text) or answer[0], raising=False
    )
    if existing:
        window.ui.outputSegmentationSelector.setCurrentNode(own_segmentation)
    begin(window, "works")
    finish(window)
    segmentation = window.logic.run.results.segmentation
    draw(segmentation, patient)
    window.ui.undoButton.click()
    assert len(questions) == 1 and f"“{segmentation.GetName()}” was changed since the run" in questions[0]
    assert segmentation.GetScene() and segment_names(segmentation)[0] == "Body" and window.ui.undoButton.enabled
    answer[0] = True
    window.ui.undoButton.click()
    assert segment_names(own_segmentation) == ["Mine"]
    assert bool(segmentation.GetScene()) is existing and not window.ui.undoButton.enabled


def test_undo_asks_nothing_where_the_result_was_only_looked_at(patient, window, headless, monkeypatch):
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", None, raising=False)
    begin(window, "works")
    finish(window)
    segmentation = window.logic.run.results.segmentation
    for checked in (False, True):
        window.ui.show3DButton.checked = checked
    view = headless.add_slice_view("Red", "Axial", 60)
    view.show(patient)
    view.grab()
    segmentation.GetDisplayNode().SetOpacity2DFill(0.2)
    draw_none = slicer.util.arrayFromSegmentBinaryLabelmap(
        segmentation, segmentation.GetSegmentation().GetNthSegmentID(1), patient
    )
    assert draw_none.any()
    window.ui.undoButton.click()
    assert segmentation.GetScene() is None


def test_undo_of_several_asks_too(patient, window, monkeypatch):
    import qt

    questions = []
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, *_: bool(questions.append(text)), raising=False
    )
    window.ui.scopeSelector.currentIndex = 2
    window.ui.severalSelector.setCheckState(patient, qt.Qt.Checked)
    begin(window, "works")
    finish(window)
    draw(window.logic.run.done[0].segmentation, patient)
    window.ui.undoButton.click()
    assert len(questions) == 1 and window.logic.run.done[0].segmentation.GetScene()


def frames_done(window) -> tuple:
    """(browser, segmentation that it plays, its sequence) after all frames."""
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "works")
    finish(window)
    played = run.results.segmentation
    browser = browser_of(played)
    return browser, played, browser.GetSequenceNode(played)


@pytest.fixture
def declined(monkeypatch) -> list[str]:
    """The questions that are asked, each answered with no."""
    questions = []
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, *_: bool(questions.append(text)), raising=False
    )
    return questions


@pytest.mark.parametrize("kept_in_the_sequence", [False, True])
def test_undo_of_frames_asks_before_it_takes_what_was_drawn(beating, window, declined, kept_in_the_sequence):
    browser, played, sequence = frames_done(window)
    browser.SetSaveChanges(sequence, kept_in_the_sequence)  # Slicer's own default is not to
    show_frame(browser, 2)
    draw(played, beating[2])
    if kept_in_the_sequence:
        slicer.modules.sequences.logic().UpdateSequencesFromProxyNodes(browser, played)
        show_frame(browser, 0)
    window.ui.undoButton.click()
    assert len(declined) == 1 and declined[0].startswith(f"“{played.GetName()}” was changed since the run")
    assert sequence.GetScene() and window.ui.undoButton.enabled


def test_undo_of_frames_asks_nothing_where_they_were_only_played(beating, window, declined):
    browser, _played, sequence = frames_done(window)
    for number in (3, 1, 0, 2):
        show_frame(browser, number)
    window.ui.undoButton.click()
    assert declined == [] and sequence.GetScene() is None


def test_undo_of_frames_that_were_not_all_reached_asks_nothing_either(beating, window, declined):
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "two_then_waits")
    wait_until(lambda: len(run.done) == 2, "the third frame")
    window.ui.cancelButton.click()
    finish(window)
    browser = browser_of(run.results.segmentation)
    show_frame(browser, 3)  # which shows no segment at all
    window.ui.undoButton.click()
    assert declined == [] and not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


@pytest.mark.parametrize("mood", ["refuses", "half_done"])
def test_run_that_failed_does_not_cost_the_undo_of_the_one_before(patient, window, own_segmentation, mood):
    window.ui.outputSegmentationSelector.setCurrentNode(own_segmentation)
    begin(window, "works")
    finish(window)
    begin(window, mood)
    finish(window)
    assert segment_names(own_segmentation) != ["Mine"] and window.ui.undoButton.enabled
    window.ui.undoButton.click()
    assert segment_names(own_segmentation) == ["Mine"] and not window.ui.undoButton.enabled


def test_undo_takes_one_run_back(patient, window, own_segmentation):
    window.ui.outputSegmentationSelector.setCurrentNode(own_segmentation)
    for _ in range(2):
        begin(window, "works")
        finish(window)
    window.ui.undoButton.click()
    assert segment_names(own_segmentation)[0] == "Body" and not window.ui.undoButton.enabled


@pytest.mark.parametrize("used", [False, True])
def test_undo_takes_the_folder_of_the_results_along(patient, window, used):
    """But for one that somebody has put something else into."""
    from CLMorphSlicerLib.outputs import items_below

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    begin(window, "works")
    finish(window)
    folder = hierarchy.GetItemByName(f"{patient.GetName()} CLMorph")
    assert folder and len(items_below(hierarchy, folder)) > 5
    if used:
        note = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "Findings")
        hierarchy.CreateItem(folder, note)
    window.ui.undoButton.click()
    assert (folder in items_below(hierarchy, hierarchy.GetSceneItemID())) is used
    assert patient.GetScene() is not None and (not used or note.GetScene() is not None)
