"""All frames of a sequence and several volumes: one press, one progress, one table; what is done stays."""

import numpy as np
import phantom
import pytest
import SimpleITK as sitk
from qt_fixtures import begin, column, fake_engine, finish, leftovers, show_frame, wait_until

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
import vtk
from CLMorphSlicerLib import display
from CLMorphSlicerLib.frames import KEPT
from CLMorphSlicerLib.geometry import ijk_to_ras
from CLMorphSlicerLib.results import is_result, results_of


def volumes_in_the_scene() -> int:
    return len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))


def test_window_offers_the_frames_of_the_sequence_that_is_shown(beating, patient, window):
    assert window.ui.scopeSelector.itemText(1) == "All 4 frames of its sequence"
    window.ui.scopeSelector.currentIndex = 1
    assert window.ui.runButton.enabled and not window.ui.outputSegmentationSelector.isVisibleTo(window.parent)
    window.ui.inputVolumeSelector.setCurrentNode(patient)
    assert "is no frame of a sequence" in window.ui.statusLabel.text and not window.ui.runButton.enabled


def test_all_frames_are_segmented_without_a_node_for_each(beating, window):
    _sequence, browser, proxy = beating
    window.ui.scopeSelector.currentIndex = 1
    window._parameterNode.keepFiles = False
    before = volumes_in_the_scene()
    run = begin(window, "works")
    finish(window)
    assert run.error is None, run.error
    results = run.results
    assert results.volume is proxy and is_result(results.transform)
    assert volumes_in_the_scene() - before == 5  # Jacobian, uncertainty, and the atlas: as it is, before and after
    sequences = {node.GetName(): node for node in slicer.util.getNodesByClass("vtkMRMLSequenceNode")}
    assert len(sequences) == 1 + len(KEPT) and all(each.GetNumberOfDataNodes() == 4 for each in sequences.values())
    assert all(browser.IsSynchronizedSequenceNode(each, True) for each in sequences.values())
    gathered = sequences["Heart segmentation"]
    assert gathered.GetNthIndexValue(2) == "80" and gathered.GetIndexUnit() == "ms"
    assert browser.GetProxyNode(gathered) is results.segmentation
    proxies = len(list(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")))
    assert proxies == 1 and leftovers() == []
    assert window.ui.statusLabel.text.startswith("Done: 4 images.")


def test_series_counts_its_verdicts(beating, window):
    window.ui.scopeSelector.currentIndex = 1
    begin(window, "judged")
    finish(window)
    assert window.ui.statusLabel.text == "Done: 4 images. Verdicts: 0 pass, 4 to review, 0 rejected."


def test_series_tells_how_many_of_its_labels_follow_the_tissue(beating, window):
    window.ui.scopeSelector.currentIndex = 1
    begin(window, "follows")
    finish(window)
    assert window.ui.statusLabel.text == "Done: 4 images. The labels of 4 follow the scan's tissue."


def test_one_table_lists_volumes_over_time(beating, window):
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "works")
    finish(window)
    table = results_of(run.results.transform).table
    assert window.ui.figuresTable.mrmlTableNode() is table and table.GetName() == "Heart figures"
    assert column(table, "time (ms)") == ["0", "40", "80", "120"]
    volumes = [float(text) for text in column(table, "Ventricle (ml)")]
    assert len(volumes) == 4 and min(volumes) > 1.0
    assert len(slicer.util.getNodesByClass("vtkMRMLTableNode")) == 1


def test_results_play_with_the_sequence(beating, window):
    _, browser, _ = beating
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "works")
    finish(window)
    results = run.results
    transforms = next(
        each for each in slicer.util.getNodesByClass("vtkMRMLSequenceNode") if each.GetName() == "Heart transform"
    )
    shift = vtk.vtkTransform()
    shift.Translate(0.0, 0.0, 9.0)
    transforms.GetNthDataNode(3).SetAndObserveTransformToParent(shift)
    show_frame(browser, 3)
    there = [0.0] * 3
    results.transform.GetTransformToParent().TransformPoint((0.0, 0.0, 0.0), there)
    assert there == [0.0, 0.0, 9.0] and is_result(results.transform)
    assert results_of(results.transform).segmentation is results.segmentation


def test_cancel_in_the_middle_of_a_sequence_leaves_a_usable_scene(beating, window, headless, tmp_path):
    _sequence, browser, _proxy = beating
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "two_then_waits")
    wait_until(lambda: len(run.done) == 2 and run.progress.fraction > 0.5, "the third frame")
    assert "80 (3 of 4) · " in window.ui.statusLabel.text or run.progress.step.startswith("80 (3 of 4)")
    window.ui.cancelButton.click()
    finish(window)
    assert run.state.value == "cancelled"
    assert "80 (3 of 4)" in str(run.error) and "the results of the 2 before it are kept" in str(run.error)
    gathered = browser.GetSequenceNode(run.results.segmentation)
    assert [gathered.GetNthIndexValue(i) for i in range(gathered.GetNumberOfDataNodes())] == ["0", "40"]
    assert column(results_of(run.results.transform).table, "time (ms)") == ["0", "40"]
    assert window.ui.resultSelector.currentNode() is run.results.transform and window.ui.runButton.enabled
    for number, found in ((3, 0), (0, 3), (1, 3), (2, 0)):  # the browser plays on, and shows nothing that is another's
        show_frame(browser, number)
        assert run.results.segmentation.GetSegmentation().GetNumberOfSegments() == found
    window.ui.showDeformationCheckBox.checked = True
    window.ui.atlasCheckBox.checked = True
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    for number, told in ((2, "nothing was found in this frame"), (1, "mm here")):
        show_frame(browser, number)
        crosshair.SetCursorPositionRAS((-16.0 + number, 4.0, 12.0))
        assert told in window.ui.displacementLabel.text
        window.ui.scaleSlider.value = 1.0 + number  # drawn anew
    assert run.results.field.GetDisplayNode().GetVisibility()
    headless.save_scene(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    headless.load_scene(tmp_path / "scene.mrb")
    result = next(node for node in slicer.util.getNodesByClass("vtkMRMLTransformNode") if is_result(node))
    assert window._parameterNode.result is result and leftovers() == []
    (browser,) = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
    for number, found in ((3, 0), (0, 3), (2, 0), (1, 3)):
        show_frame(browser, number)
        assert results_of(result).segmentation.GetSegmentation().GetNumberOfSegments() == found
        assert is_result(result) and window.ui.resultSelector.currentNode() is result
    assert results_of(result).warped.GetTransformNodeID() == result.GetID()


def test_frame_that_is_looked_at_and_was_not_reached_shows_nothing(beating, window):
    _sequence, browser, _proxy = beating
    show_frame(browser, 3)
    window.ui.scopeSelector.currentIndex = 1
    window.ui.showDeformationCheckBox.checked = window.ui.jacobianCheckBox.checked = True
    run = begin(window, "two_then_waits")
    wait_until(lambda: len(run.done) == 2 and run.job.progress.fraction > 0, "the third frame")
    window.ui.cancelButton.click()
    finish(window)
    segmentation = run.results.segmentation.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 0
    assert window.ui.displacementLabel.text == "nothing was found in this frame"
    show_frame(browser, 0)
    assert segmentation.GetNumberOfSegments() == 3 and is_result(run.results.transform)


def test_cancel_in_the_middle_of_a_sequence_with_the_real_engine(real_model, beating, window, headless, tmp_path):
    _sequence, browser, proxy = beating
    window.ui.scopeSelector.currentIndex = 1
    window.ui.runButton.click()
    run = window.logic.run
    wait_until(lambda: (len(run.done) == 2 and run.job.progress.step) or not run.active, "the third frame")
    assert run.active, run.error
    child = run.job
    window.ui.cancelButton.click()
    finish(window)
    assert run.state.value == "cancelled" and "(3 of 4)" in str(run.error), run.error
    assert child._process.poll() is not None and leftovers() == []  # the engine is gone, with all its files
    gathered = browser.GetSequenceNode(run.results.segmentation)
    assert [gathered.GetNthIndexValue(i) for i in range(gathered.GetNumberOfDataNodes())] == ["0", "40"]
    table = results_of(run.results.transform).table
    assert column(table, "time (ms)") == ["0", "40"] and min(map(float, column(table, "Body (ml)"))) > 100.0
    truth = phantom.atlas()[1], phantom.grid("coarse"), phantom.transform(), sitk.sitkNearestNeighbor
    body = sitk.GetArrayFromImage(sitk.Resample(*truth)) == 1
    for number in (0, 1):
        show_frame(browser, number)
        segment = run.results.segmentation.GetSegmentation().GetSegmentIdBySegmentName("Body")
        found = slicer.util.arrayFromSegmentBinaryLabelmap(run.results.segmentation, segment, proxy) > 0
        assert 2 * np.sum(found & body) / (found.sum() + body.sum()) > 0.85
    headless.save_scene(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    headless.load_scene(tmp_path / "scene.mrb")
    assert results_of(window._parameterNode.result).segmentation.GetSegmentation().GetNumberOfSegments() == 3
    window.ui.scopeSelector.currentIndex = 0  # and the next run, of one frame, goes its way
    begin(window, "works")
    finish(window)
    assert window.logic.run.results is not None, window.logic.run.error
    assert leftovers() == []


def test_undo_takes_a_whole_series_back(beating, window):
    before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLStorableNode")}
    window.ui.scopeSelector.currentIndex = 1
    begin(window, "works")
    finish(window)
    window.ui.undoButton.click()
    kinds = {
        node.GetClassName() for node in slicer.util.getNodesByClass("vtkMRMLStorableNode") if node.GetID() not in before
    }
    assert kinds <= {"vtkMRMLColorTableNode"}  # that of Jacobian maps, made once for a scene
    assert window._parameterNode.result is None


def pictures(view, window, blends) -> list[np.ndarray]:
    """Brightness of the view, by where the slider between before and after stands."""
    found = []
    for blend in blends:
        window.ui.blendSlider.value = blend
        found.append(view.grab().mean(axis=-1))
    return found


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_before_and_after_are_seen_in_the_frame_that_is_played(beating, window, headless):
    _, browser, proxy = beating
    view = headless.add_slice_view("Red", "Axial", 120)
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "works")
    finish(window)
    results = run.results
    assert results.warped.GetImageData() is results.affine_warped.GetImageData() is results.atlas.GetImageData()
    run.results.segmentation.GetDisplayNode().SetVisibility(False)
    view.show(proxy)
    view.node.JumpSliceByOffsetting(-16.0, 4.0, 10.0)
    patient = view.grab().mean(axis=-1)
    window.ui.atlasCheckBox.checked = True
    before, between, after = pictures(view, window, (0.0, 0.5, 1.0))
    assert likeness(after, patient) > likeness(between, patient) > likeness(before, patient)
    assert likeness(after, patient) > 0.99
    shift = vtk.vtkTransform()
    shift.Translate(0.0, 30.0, 0.0)
    browser.GetSequenceNode(results.transform).GetNthDataNode(3).SetAndObserveTransformToParent(shift)
    show_frame(browser, 3)
    assert likeness(view.grab().mean(axis=-1), after) < 0.95  # drawn anew by the browser alone
    window.ui.undoButton.click()
    assert volumes_in_the_scene() == 2  # the frame that is shown, and the volume that the sequence was made from


def test_before_and_after_of_frames_with_different_atlases_is_refused_with_the_reason(beating, window, monkeypatch):
    from CLMorphSlicerLib import nodes

    make, made = nodes._Work._new_atlas, []

    def another(self):
        node = make(self)
        made.append(node)
        if len(made) == 3:
            slicer.util.updateVolumeFromArray(node, slicer.util.arrayFromVolume(node) + 1)
        return node

    monkeypatch.setattr(nodes._Work, "_new_atlas", another)
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "works")
    finish(window)
    assert run.error is None and results_of(run.results.transform).warped is None
    window.ui.atlasCheckBox.checked = True
    assert "frames were warped from different atlases" in window.ui.displacementLabel.text


def test_frame_under_a_transform_lies_where_it_is_seen(beating, window):
    _sequence, _browser, proxy = beating
    turn, shift = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Turn"), vtk.vtkTransform()
    shift.Translate(30.0, 0.0, 0.0)
    turn.SetMatrixTransformToParent(shift.GetMatrix())
    proxy.SetAndObserveTransformNodeID(turn.GetID())
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "works")
    finish(window)
    assert run.error is None, run.error
    bounds, seen = [0.0] * 6, [0.0] * 6
    run.results.jacobian.GetRASBounds(bounds)
    proxy.GetRASBounds(seen)
    assert bounds == pytest.approx(seen, abs=0.01)


def test_scene_closed_while_a_series_runs_ends_it(beating, window):
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "waits")
    slicer.mrmlScene.Clear(0)
    finish(window)
    assert "scene was closed" in str(run.error) and leftovers() == []
    assert not slicer.util.getNodesByClass("vtkMRMLSequenceNode")


def test_results_stay_as_long_as_the_frame_where_another_sequence_sets_the_pace(beating, window):
    sequence, browser, proxy = beating
    pace = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Needle")
    pace.SetIndexName("time")
    needle = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Needle")
    for time in range(0, 160, 20):
        pace.SetDataNodeAtValue(needle, str(time))
    browser.AddSynchronizedSequenceNode(pace)
    browser.SetAndObserveMasterSequenceNodeID(pace.GetID())
    browser.AddSynchronizedSequenceNode(sequence)
    slicer.modules.sequences.logic().UpdateAllProxyNodes()
    proxy = browser.GetProxyNode(sequence)
    window.ui.inputVolumeSelector.setCurrentNode(proxy)
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "works")
    finish(window)
    assert run.error is None, run.error
    for number in range(8):
        show_frame(browser, number)
        assert run.results.segmentation.GetSegmentation().GetNumberOfSegments() == 3
        assert display.max_displacement_mm(run.results.transform) > 1.0


@pytest.mark.parametrize("which", ["browser", "sequence", "proxy"])
def test_sequence_that_is_deleted_in_the_middle_ends_the_series(beating, window, which, capfd):
    sequence, browser, proxy = beating
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "two_then_waits")
    wait_until(lambda: len(run.done) == 1 and run.job.progress.fraction > 0, "the second frame")
    gone = {"browser": browser, "sequence": sequence, "proxy": proxy}[which]
    slicer.mrmlScene.RemoveNode(gone)
    finish(window)
    assert "was deleted" in str(run.error) and run.state.value == "cancelled"
    assert run.job._process.poll() is not None and leftovers() == []
    assert "Traceback" not in capfd.readouterr().err
    window.ui.showDeformationCheckBox.checked = True  # what was done stays, and can be looked at
    assert run.results.field.GetDisplayNode().GetVisibility()


def test_frames_of_different_grids_each_keep_their_own(patient, window):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Changing")
    grids = ("coarse", "anisotropic")
    for number, name in enumerate(grids):
        image = phantom.patient(name)
        slicer.util.updateVolumeFromArray(patient, sitk.GetArrayFromImage(image))
        patient.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(image)))
        sequence.SetDataNodeAtValue(patient, str(number))
    window.logic.runner.start_process = fake_engine("works")
    results = window.logic.segment(sequence)
    told = column(results_of(results.transform).table, "Body (ml)")
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForProxyNode(results.volume)
    for number, name in enumerate(grids):
        show_frame(browser, number)
        assert results.jacobian.GetImageData().GetDimensions() == phantom.grid(name).GetSize()
        segment = results.segmentation.GetSegmentation().GetSegmentIdBySegmentName("Body")
        found = slicer.util.arrayFromSegmentBinaryLabelmap(results.segmentation, segment, results.volume) > 0
        assert found.sum() * np.prod(results.volume.GetSpacing()) / 1000.0 == pytest.approx(
            float(told[number]), rel=0.01
        )
