"""What the real application does that a kinder one would not: each was a fault of this module once."""

import gc
import sys
import unittest

import numpy as np
import pytest
from qt_fixtures import begin, finish, get_started, wait_until

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util


@pytest.fixture
def library():
    """The modules of CLMorphSlicerLib are again those of before, after a test that reloads them."""
    before = {name: module for name, module in sys.modules.items() if name.startswith("CLMorphSlicer")}
    yield
    for name in [name for name in sys.modules if name.startswith("CLMorphSlicer")]:
        del sys.modules[name]
    sys.modules.update(before)


# -- parameters: the wrapper's cache, and connections that 5.10 leaves behind


def test_scene_that_is_loaded_brings_its_input_and_its_result(patient, window, headless, tmp_path):
    begin(window, "works")
    finish(window)
    result = window._parameterNode.result.GetName()
    window._parameterNode.scale = 3.0
    headless.save_scene(tmp_path / "scene.mrb")
    other = slicer.util.addVolumeFromArray(np.ones((6, 6, 6), np.float32), name="Other")
    window._parameterNode.inputVolume, window._parameterNode.result = other, None
    window._parameterNode.scale = 1.0
    slicer.mrmlScene.Clear(0)
    headless.load_scene(tmp_path / "scene.mrb")
    parameters = window._parameterNode
    assert parameters.inputVolume.GetName() == "Ärztin Größe 1" and parameters.inputVolume.GetScene()
    assert parameters.result.GetName() == result and parameters.scale == 3.0
    assert window.ui.resultSelector.currentNode() is parameters.result


@pytest.mark.parametrize("old", [True, False])
def test_one_change_updates_the_widgets_once_however_often_the_module_was_visited(patient, window, monkeypatch, old):
    from standins import application, parameters

    monkeypatch.setattr(parameters, "LEAVES_OBSERVERS", old)  # Slicer 5.10 does
    for _ in range(20):
        application.leave_module(window)
        application.enter_module(window)
    updates, show = [], parameters.Wrapper._show
    monkeypatch.setattr(parameters.Wrapper, "_show", lambda *arguments: updates.append(1) or show(*arguments))
    window._parameterNode.scale = 2.0
    assert len(updates) == 1


# -- Reload: cleanup and setup, without enter


def test_reload_leaves_a_window_that_lives_and_nothing_of_the_old_one(patient, window, module, library):
    from standins import application

    old_library, crosshair = sys.modules["CLMorphSlicerLib.display"], crosshair_node()
    begin(window, "works")
    finish(window)
    quits = len(slicer.app._slots["aboutToQuit"])
    window.onReload()
    new = slicer.modules.CLMorphSlicerWidget
    try:
        assert new is not window and sys.modules["CLMorphSlicerLib.display"] is not old_library
        assert len(slicer.app._slots["aboutToQuit"]) == quits == 1
        window.ui.displacementLabel.text, new.ui.displacementLabel.text = "old", "new"
        crosshair.SetCursorPositionRAS((-16.0, 4.0, 12.0))
        assert window.ui.displacementLabel.text == "old"  # it listens no more
        assert "mm here" in new.ui.displacementLabel.text
        new.ui.scaleSlider.value = 4.0
        assert new._parameterNode.scale == 4.0
        application.leave_module(new)
        new.ui.displacementLabel.text = "left"
        crosshair.SetCursorPositionRAS((-10.0, 4.0, 12.0))
        assert new.ui.displacementLabel.text == "left"
    finally:
        new.cleanup()


def test_reload_behind_another_module_is_not_entered(patient, window, library):
    from standins import application

    application.leave_module(window)
    window.onReload()
    new = slicer.modules.CLMorphSlicerWidget
    crosshair_node().SetCursorPositionRAS((1.0, 2.0, 3.0))
    assert new.ui.displacementLabel.text == "–"
    new.cleanup()


def test_reload_ends_a_run(patient, window, library):
    run = get_started(window, "waits")
    window.onReload()
    assert run.job._process.poll() is not None and "reloads the module" in str(run.error)
    slicer.modules.CLMorphSlicerWidget.cleanup()


def crosshair_node():
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")


# -- the self-test on a machine that builds extensions


@pytest.mark.parametrize("way", ["unittest", "Reload and Test"])
def test_self_test_is_skipped_with_a_reason_where_packages_are_missing(module, monkeypatch, way):
    monkeypatch.setattr(module.dependencies, "is_installed", lambda requirement: not requirement.startswith("torch"))
    slicer.app.testingEnabled = lambda: True
    told = []
    monkeypatch.setattr(module.CLMorphSlicerTest, "delayDisplay", lambda self, text, *_: told.append(text))
    if way == "unittest":  # as slicer.testing.runUnitTest
        result = unittest.TestResult()
        unittest.TestLoader().loadTestsFromTestCase(module.CLMorphSlicerTest).run(result)
        assert result.wasSuccessful() and result.testsRun == 1
        reason = result.skipped[0][1]
    else:
        module.CLMorphSlicerTest().runTest()
        reason = told[-1]
    assert "torch" in reason and "missing" in reason


# -- what goes wrong in ways that nobody thought of


def test_unexpected_error_while_a_run_is_looked_after_is_told_once(patient, window, monkeypatch):
    from CLMorphSlicerLib.job import Job

    run, looks = get_started(window, "waits"), []

    def fails(self):
        looks.append(1)
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr(Job, "poll", fails)
    wait_until(lambda: looks)
    finish(window)
    assert looks == [1] and run.job._process.poll() is not None
    assert window.ui.statusLabel.text == "nobody thought of this" and window.ui.runButton.enabled


def test_unexpected_error_while_results_are_shown_does_not_come_back(patient, window, monkeypatch):
    shown = []

    def fails(parameters):
        shown.append(1)
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr(window.deformation, "present", fails)
    begin(window, "works")
    finish(window)
    for _ in range(5):
        wait_until(lambda: True)
    assert shown == [1] and not window.logic.running and window.ui.runButton.enabled


def test_half_typed_model_folder_stays_as_it_is_typed(patient, window):
    window.ui.modelSelector.currentIndex = window.ui.modelSelector.count - 1
    window.ui.modelFolderEdit.currentPath = "/models/hippo"  # no such folder: CTK says nothing
    window.ui.scaleSlider.value = 2.0
    window._refresh()
    assert window.ui.modelFolderEdit.currentPath == "/models/hippo"


def test_model_folder_of_a_scene_is_shown(patient, window, tmp_path):
    window._parameterNode.modelFolder = str(tmp_path)
    assert window.ui.modelFolderEdit.currentPath == str(tmp_path)


def test_window_that_was_cleaned_up_is_let_go_of(patient, window):
    window.cleanup()
    gc.collect()
    window.cleanup()  # Slicer may do so twice, when it quits after a reload
    assert not slicer.app._slots["aboutToQuit"]
