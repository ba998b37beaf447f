"""The window while the engine works, and after each end that a run can have: what it shows and leaves behind."""

import time

import numpy as np
import pytest
from places import linear_node
from qt_fixtures import begin, finish, get_started, leftovers, node_ids, wait_until

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util


def test_run_shows_step_time_left_and_cancel(patient, window):
    get_started(window, "waits")
    assert not window.ui.runButton.enabled and window.ui.cancelButton.enabled
    assert window.ui.statusLabel.text == "Network · about 72 s left"
    assert window.ui.progressBar.isVisibleTo(window.parent)


def test_results_fill_the_scene_and_the_window(patient, window):
    run = begin(window, "works")
    finish(window)
    assert run.error is None
    assert window.ui.statusLabel.text == "Done: 3 structures in Ärztin Größe 1."
    assert window.ui.resultSelector.currentNode() is run.results.transform
    assert window.ui.segmentsTable.segmentationNode() is run.results.segmentation
    assert window.ui.figuresTable.mrmlTableNode() is run.results.table
    assert window.ui.runButton.enabled and not window.ui.cancelButton.enabled
    assert "a warning on the error stream" in window.ui.logText.toPlainText()
    assert leftovers() == []


def test_labels_that_follow_the_tissue_are_told(patient, window):
    begin(window, "follows")
    finish(window)
    said = "Done: 3 structures in Ärztin Größe 1. The labels follow the scan's tissue."
    assert window.ui.statusLabel.text == said


def test_the_verdict_is_told_and_the_table_has_intervals(patient, window):
    run = begin(window, "judged")
    finish(window)
    said = "Done: 3 structures in Ärztin Größe 1. Verdict: review the labels before use."
    assert window.ui.statusLabel.text == said
    intervals = run.results.table.GetTable().GetColumnByName("90 % interval")
    assert [intervals.GetValue(row) for row in range(3)] == ["0.71 – 0.86", "", ""]


def test_tissue_that_was_of_no_help_is_told_once(patient, window):
    begin(window, "falls_back")
    finish(window)
    said = window.ui.statusLabel.text
    assert said.count("tissue") == 1 and "does not tell more: it is of one grey value" in said


def test_cancel_leaves_the_scene_as_it_was(patient, window):
    before = node_ids()
    run = get_started(window, "waits")
    started = time.monotonic()
    window.ui.cancelButton.click()
    assert run.state.value == "cancelling" and window.ui.statusLabel.text == "Cancelling …"
    assert not window.ui.cancelButton.enabled and not window.ui.runButton.enabled
    finish(window)
    assert time.monotonic() - started < 20
    assert run.state.value == "cancelled"
    assert "cancelled" in window.ui.statusLabel.text and window.ui.runButton.enabled
    assert node_ids() == before and leftovers() == []


@pytest.mark.parametrize(
    "mood, sentence",
    [
        ("refuses", "the image has 2 slices"),
        ("crashes", "ended by the system"),
        ("babbles", "ended without a result"),
        ("half_done", "warped.nii.gz"),
    ],
)
def test_failure_shows_the_reason_and_leaves_nothing(patient, window, monkeypatch, mood, sentence):
    told = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, *_, **details: told.append(text), raising=False)
    before = node_ids()
    begin(window, mood)
    finish(window)
    assert window.logic.run.state.value == "failed"
    assert sentence in window.ui.statusLabel.text and told == []  # once: no box beside the line
    assert not window.ui.logSection.collapsed and window.ui.runButton.enabled
    assert node_ids() == before and leftovers() == []


def test_failure_is_told_with_the_tail_of_the_log(patient, window):
    begin(window, "crashes")
    finish(window)
    assert "MemoryError: too little memory" in window.ui.logText.toPlainText()
    assert "MemoryError: too little memory" in window.logic.run.error.log


def test_engine_that_hangs_is_ended_after_cancel(patient, window):
    run = get_started(window, "hangs")
    window.ui.cancelButton.click()
    finish(window)
    assert run.state.value == "cancelled" and run.job._process.poll() is not None and leftovers() == []


def test_scene_closed_while_running_ends_the_engine(patient, window):
    run = get_started(window, "waits")
    slicer.mrmlScene.Clear(0)
    assert run.job._process.poll() is not None and leftovers() == []
    finish(window)
    assert "scene was closed" in str(run.error)
    assert not window.ui.runButton.enabled and not window.ui.cancelButton.enabled
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_scene_imported_beside_the_patient_lets_the_run_go_on(patient, window, headless, tmp_path):
    patient.SetName("Another")
    headless.save_scene(tmp_path / "other.mrml")
    patient.SetName("Patient")
    run = get_started(window, "works")
    slicer.mrmlScene.SetURL(str(tmp_path / "other.mrml"))
    assert slicer.mrmlScene.Import()  # its nodes had the same IDs
    finish(window)
    assert run.error is None and run.results.volume is patient
    assert run.results.segmentation.GetName() == "Patient segmentation"
    assert window.ui.resultSelector.currentNode() is run.results.transform
    assert len(slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")) == 1
    assert slicer.util.getNode("Another") is not patient and window.ui.runButton.enabled


def test_volume_deleted_while_running_ends_the_engine(patient, window):
    run = get_started(window, "waits")
    slicer.mrmlScene.RemoveNode(patient)
    assert run.job._process.poll() is not None and leftovers() == []
    assert "was deleted" in str(run.error)
    finish(window)


def test_slicer_that_quits_leaves_nothing_running(patient, window):
    run = get_started(window, "waits")
    slicer.app.emit("aboutToQuit")
    assert run.job._process.poll() is not None and leftovers() == []


def test_module_that_is_unloaded_leaves_nothing_running(patient, window):
    run = get_started(window, "waits")
    slicer.app.emit("moduleAboutToBeUnloaded", "CLMorphSlicer")
    assert run.job._process.poll() is not None and leftovers() == []


def test_leaving_the_module_lets_the_run_go_on(patient, window):

    run = get_started(window, "works")
    window.exit()
    finish(window)
    assert run.state.value == "done"
    window.enter()
    assert window.ui.runButton.enabled
    assert window.ui.resultSelector.currentNode() is run.results.transform


def test_working_files_are_kept_when_asked_for(patient, window):
    window._parameterNode.keepFiles = True
    run = begin(window, "works")
    finish(window)
    assert (run.folder / "output" / "report.json").exists()
    assert str(run.folder) in window.ui.logText.toPlainText()


def test_pointer_says_that_slicer_is_busy_while_results_are_loaded(patient, window, monkeypatch):
    import qt
    from CLMorphSlicerLib import nodes

    import_results, cursors = nodes.import_results, []

    def looks(*arguments, **options):
        cursors.extend(slicer.app.cursors)
        return import_results(*arguments, **options)

    monkeypatch.setattr(nodes, "import_results", looks)
    begin(window, "works")
    finish(window)
    assert cursors == [qt.Qt.WaitCursor] and slicer.app.cursors == []


def test_missing_packages_stop_the_run_with_their_reason(patient, window, module, monkeypatch):
    def fails(during, heads):
        raise module.dependencies.InstallationError("torch could not be installed")

    monkeypatch.setattr(module.dependencies, "ensure", fails)
    window.ui.runButton.click()
    assert window.logic.run is None and window.ui.statusLabel.text == "torch could not be installed"


def test_installation_is_told_and_cannot_be_started_twice(patient, window, monkeypatch):
    import qt
    from standins.packages import Computer

    computer, seen = Computer(monkeypatch), []

    def second_click() -> None:
        slicer.app.processEvents()
        window.ui.scaleSlider.value += 1.0  # any change of a parameter makes the window look again
        window.ui.runButton.click()
        seen.append((window.ui.runButton.enabled, window.ui.statusLabel.text, list(slicer.app.cursors)))

    computer.meanwhile = second_click
    begin(window, "works")
    assert len(computer.questions) == 1 and len(computer.events) == 2
    text = "Installing packages; this takes minutes. The log is in the Python console."
    assert seen == [(False, text, [qt.Qt.WaitCursor])] * 2
    assert slicer.app.cursors == []
    finish(window)
    assert window.logic.run.state.value == "done"


def test_installation_that_fails_leaves_a_window_that_can_be_used(patient, window, monkeypatch):
    from standins.packages import Computer

    Computer(monkeypatch).torch_arrives = False
    window.ui.runButton.click()
    assert "PyTorch was not installed" in window.ui.statusLabel.text
    assert window.ui.runButton.enabled and slicer.app.cursors == []


def test_declined_installation_leaves_a_window_that_can_be_used(patient, window, monkeypatch):
    from standins.packages import Computer

    Computer(monkeypatch, answer=False)
    window.ui.runButton.click()
    assert window.logic.run is None and window.ui.statusLabel.text == "Ready." and window.ui.runButton.enabled


# -- the event loop


def test_window_stays_alive_while_the_engine_works(patient, window):
    import qt

    ticks, timer = [], qt.QTimer()
    timer.setInterval(20)
    timer.connect("timeout()", lambda: ticks.append(time.monotonic()))
    timer.start()
    get_started(window, "waits")
    end = time.monotonic() + 1.0
    wait_until(lambda: time.monotonic() > end)
    window.ui.cancelButton.click()
    finish(window)
    timer.stop()
    assert len(ticks) >= 10 * (ticks[-1] - ticks[0])


@pytest.mark.parametrize("tab", [0, 1])
def test_patient_that_is_moved_meanwhile_costs_no_result(patient, window, tab):
    """One can go on working: what comes back lies where the patient was, and is told."""
    other = slicer.util.addVolumeFromArray(np.ones((6, 6, 6), np.float32), name="Other")
    window.ui.taskTabs.currentIndex = tab
    window.ui.fixedVolumeSelector.setCurrentNode(patient)
    window.ui.movingVolumeSelector.setCurrentNode(other)
    before = [0.0] * 6
    patient.GetRASBounds(before)
    run = begin(window, "works")
    patient.SetAndObserveTransformNodeID(linear_node().GetID())
    finish(window)
    assert window.ui.statusLabel.text.endswith(
        f"“{patient.GetName()}” was moved or changed during the run: the results belong to where it was."
    )
    bounds = [0.0] * 6
    run.results.warped.GetRASBounds(bounds)
    assert bounds == pytest.approx(before, abs=0.01)
