"""Frames that were reached and frames that were not, and what goes away while a series lasts or is looked at."""

import contextlib

import pytest
from qt_fixtures import begin, finish, leftovers, show_frame, wait_until

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
from CLMorphSlicerLib import display
from CLMorphSlicerLib.results import results_of


def test_frame_without_a_result_whose_browser_is_deleted_is_told_and_does_no_harm(beating, window, capfd):
    _, browser, _ = beating
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "two_then_waits")
    wait_until(lambda: len(run.done) == 2 and run.job.progress.fraction > 0, "the third frame")
    window.ui.cancelButton.click()
    finish(window)
    show_frame(browser, 3)
    slicer.mrmlScene.RemoveNode(browser)
    window._parameterNode.result = None
    window._parameterNode.result = run.results.transform
    window.ui.showDeformationCheckBox.checked = True
    assert "deformation for display of this result was deleted" in window.ui.displacementLabel.text
    window.ui.undoButton.click()
    assert "Traceback" not in capfd.readouterr().err
    assert window._parameterNode.result is None and window.ui.displacementLabel.text == "–"
    assert len(slicer.util.getNodesByClass("vtkMRMLSequenceNode")) == 1


def test_before_and_after_show_nothing_in_a_frame_that_was_not_reached(beating, window, headless):
    from standins import application

    _, browser, _ = beating
    view = headless.add_slice_view("Red", "Axial", 80)
    composite = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "two_then_waits")
    wait_until(lambda: len(run.done) == 2 and run.job.progress.fraction > 0, "the third frame")
    window.ui.cancelButton.click()
    finish(window)
    results = run.results
    window.ui.showDeformationCheckBox.checked = window.ui.atlasCheckBox.checked = True
    over = {results.warped.GetID(), results.affine_warped.GetID()}

    def seen() -> set[str]:
        return over & {composite.GetNthLayerVolumeID(layer) for layer in display.LAYERS}

    for number, there in ((0, over), (2, set()), (1, over), (3, set())):
        show_frame(browser, number)
        assert seen() == there
        assert ("nothing was found in this frame" in window.ui.displacementLabel.text) is (not there)
        window.ui.blendSlider.value = 0.1 + 0.1 * number
        assert seen() == there
        with contextlib.nullcontext() if there else pytest.raises(ValueError, match="nothing was found"):
            display.show_slices(results.transform, blend=0.5)
    application.leave_module(window)  # the sequence is played behind another module
    show_frame(browser, 0)
    assert seen() == over
    show_frame(browser, 3)
    assert seen() == set()
    window.cleanup()
    show_frame(browser, 0)
    assert seen() == set()  # nobody looks after it any more
    assert view.grab().size


def test_largest_displacement_is_that_of_the_frame_that_is_shown(beating, window):
    _, browser, _ = beating
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "works")
    finish(window)
    told = window.ui.displacementLabel.text
    assert told.startswith("at most ")
    field = browser.GetSequenceNode(run.results.field).GetNthDataNode(2)
    slicer.util.arrayFromGridTransform(field)[:] *= 3.0
    show_frame(browser, 2)
    largest = display.max_displacement_mm(run.results.transform)
    assert window.ui.displacementLabel.text == f"at most {largest:.1f} mm; point at a slice to see it there" != told


@pytest.mark.parametrize("entered", [True, False])
def test_scene_closed_when_some_frames_are_done_leaves_a_window_that_can_be_used(beating, window, entered, capfd):
    from standins import application

    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "two_then_waits")
    wait_until(lambda: len(run.done) == 1 and run.job.progress.fraction > 0, "the second frame")
    if not entered:
        application.leave_module(window)
    slicer.mrmlScene.Clear(0)
    finish(window)
    assert "scene was closed" in str(run.error) and leftovers() == []
    if not entered:
        application.enter_module(window)
    assert window._parameterNode.result is None and not window.ui.undoButton.enabled
    assert not window.ui.progressBar.isVisibleTo(window.parent) and not window.ui.cancelButton.enabled
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["segmentation", "transform", "field", "jacobian", "warped", "table"])
def test_part_of_the_results_that_is_deleted_in_the_middle_is_no_end_of_the_series(beating, window, name, capfd):
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "two_then_waits")
    wait_until(lambda: len(run.done) == 1, "the first frame")
    slicer.mrmlScene.RemoveNode(getattr(results_of(run.results.transform), name))
    wait_until(lambda: not run.active or (len(run.done) == 2 and run.job.progress.fraction > 0), "the third frame")
    window.ui.cancelButton.click()
    finish(window)
    assert "Traceback" not in capfd.readouterr().err
    assert "80 (3 of 4)" in str(run.error) and "cancelled" in str(run.error)
