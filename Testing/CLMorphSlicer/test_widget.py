"""The window, from its real .ui over the real scene: what it shows in each state, and what it leaves behind."""

import gc
import time
import weakref
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import phantom
import pytest
import SimpleITK as sitk
from qt_fixtures import add_atlases, begin, finish, get_started, leftovers, node_ids, wait_until, write_bundle

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util

UI = Path(__file__).parents[2] / "CLMorphSlicer" / "Resources" / "UI" / "CLMorphSlicer.ui"
INTERACTIVE = ("QPushButton", "QCheckBox", "QComboBox", "QSpinBox", "QProgressBar", "qMRML", "ctkSlider", "ctkPath")


# -- the .ui file


def test_every_mrml_widget_is_given_the_scene():
    tree = ET.parse(UI)
    known = {widget.get("name") for widget in tree.iter("widget") if widget.get("class").startswith("qMRML")}
    given = {
        connection.findtext("receiver")
        for connection in tree.iter("connection")
        if connection.findtext("sender") == "CLMorphSlicer"
        and connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        and connection.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }
    assert given == known - {"CLMorphSlicer"}


def test_every_parameter_has_its_widget(module):
    named = [
        prop.findtext("string") for prop in ET.parse(UI).iter("property") if prop.get("name") == "SlicerParameterName"
    ]
    by_hand = {"model", "modelFolder"}  # their choices are known only at run time
    assert sorted(named) == sorted(set(module.CLMorphSlicerParameterNode.allParameters) - by_hand)


def test_everything_that_can_be_used_is_explained():
    for widget in ET.parse(UI).iter("widget"):
        if widget.get("class").startswith(INTERACTIVE) and widget.get("name") != "CLMorphSlicer":
            tips = [prop for prop in widget.findall("property") if prop.get("name") == "toolTip"]
            assert tips and len(tips[0].findtext("string")) > 10, widget.get("name")


def test_qt_has_no_complaint_about_the_ui_file(window):
    import qt

    assert qt.complaints == []


# -- idle


def test_empty_scene_says_what_to_do(window):
    assert not window.ui.segmentButton.enabled
    assert window.ui.statusLabel.text == window.ui.segmentButton.toolTip == "Choose the image to segment."


def test_first_volume_is_chosen_and_segment_is_enabled(patient, window):
    assert window.ui.inputVolumeSelector.currentNode() is patient
    assert window.ui.segmentButton.enabled and window.ui.statusLabel.text == "Ready."
    assert not window.ui.cancelButton.enabled


def test_only_a_volume_that_can_be_chosen_is_chosen(patient, module):
    from standins import application

    labels = slicer.util.addVolumeFromArray(np.ones((6, 6, 6), np.int16), nodeClassName="vtkMRMLLabelMapVolumeNode")
    slicer.mrmlScene.RemoveNode(patient)
    slicer.mrmlScene.AddNode(patient)  # now behind the labelmap
    slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(labels.GetID())
    window = application.make_widget(module)
    assert window._parameterNode.inputVolume is window.ui.inputVolumeSelector.currentNode() is patient
    window.cleanup()


def test_volume_that_is_looked_at_is_chosen(patient, module):
    from standins import application

    second = slicer.util.addVolumeFromArray(np.ones((6, 6, 6), np.float32))
    slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(second.GetID())
    window = application.make_widget(module)
    assert window._parameterNode.inputVolume is window.ui.inputVolumeSelector.currentNode() is second
    window.cleanup()


def test_volume_that_cannot_be_used_is_refused_with_a_sentence(patient, window):
    patient.SetAndObserveImageData(None)
    window._refresh()
    assert not window.ui.segmentButton.enabled
    assert "has no voxels" in window.ui.statusLabel.text


def test_model_is_described_and_another_folder_can_be_given(patient, window, tmp_path):
    assert window.ui.modelDescriptionLabel.text == "Tests · Head · MRI T1"
    window.ui.modelSelector.currentIndex = 1
    assert "model" in window.ui.statusLabel.text and not window.ui.segmentButton.enabled
    window.ui.modelFolderEdit.currentPath = str(tmp_path)
    assert "card.toml" in window.ui.statusLabel.text
    window.ui.modelFolderEdit.currentPath = str(write_bundle(tmp_path / "mein Modell"))
    assert window.ui.segmentButton.enabled


def test_atlas_of_the_scene_needs_image_and_labels(patient, window, headless, tmp_path):
    shown = window.ui.atlasVolumeSelector.isVisibleTo(window.parent)
    assert not shown
    window.ui.sceneAtlasCheckBox.checked = True
    assert window.ui.atlasVolumeSelector.isVisibleTo(window.parent)
    assert window.ui.statusLabel.text == "Choose the atlas image."
    window.ui.atlasVolumeSelector.setCurrentNode(patient)
    assert "labels" in window.ui.statusLabel.text
    for image, name in zip(phantom.atlas(), ("atlas", "labels"), strict=True):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    labels = headless.load_volume(tmp_path / "labels.nii.gz", labels=True)
    window.ui.atlasLabelsSelector.setCurrentNode(labels)
    assert "same volume" in window.ui.statusLabel.text
    window.ui.atlasVolumeSelector.setCurrentNode(headless.load_volume(tmp_path / "atlas.nii.gz"))
    assert window.ui.segmentButton.enabled
    run = begin(window, "works")
    finish(window)
    assert run.state.value == "done", run.error
    assert run.results.atlas is window._parameterNode.atlasVolume


def test_transform_of_the_initial_alignment_is_asked_for(patient, window, choices):
    window._parameterNode.alignment = choices.Alignment.TRANSFORM
    assert "initial alignment" in window.ui.statusLabel.text
    window._parameterNode.initialTransform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    assert window.ui.segmentButton.enabled


def test_number_of_atlases_can_be_chosen_where_the_model_has_several(patient, window, models_folder):
    def shown(name: str) -> bool:
        return getattr(window.ui, name).isVisibleTo(window.parent)

    assert not shown("atlasesSpinBox") and not shown("fusionSelector")
    assert window.ui.oneAtlasLabel.text == "the model's only one"
    add_atlases(models_folder / "phantom", "second", "third")
    window._refresh()
    assert shown("atlasesSpinBox") and not shown("oneAtlasLabel") and not shown("fusionSelector")
    assert (window.ui.atlasesSpinBox.minimum, window.ui.atlasesSpinBox.maximum) == (0, 3)
    window.ui.atlasesSpinBox.value = 2
    assert shown("fusionSelector") and window.ui.segmentButton.enabled
    window.ui.sceneAtlasCheckBox.checked = True
    assert not shown("atlasesSpinBox") and window.ui.oneAtlasLabel.text == "the one from the scene"


def test_atlases_of_another_model_are_not_asked_of_this_one(patient, window, module, models_folder):
    window._parameterNode.atlases = 5
    assert window.ui.segmentButton.enabled and module.options_of(window._parameterNode).atlases == 0
    add_atlases(models_folder / "phantom", "second", "third")
    window._refresh()
    assert window._parameterNode.atlases == window.ui.atlasesSpinBox.value == 3
    assert module.options_of(window._parameterNode).atlases == 3


# -- parameters


@pytest.fixture
def choices(module):
    from CLMorphSlicerLib import parameters

    return parameters


def test_parameters_follow_the_widgets_and_the_widgets_the_parameters(patient, window, choices):
    parameters, ui = window._parameterNode, window.ui
    ui.spacingSlider.value = 4.5
    ui.deviceSelector.currentIndex = 1
    ui.keepFilesCheckBox.checked = True
    assert (parameters.spacing, parameters.device, parameters.keepFiles) == (4.5, choices.Device.CPU, True)
    parameters.threads, parameters.mode, parameters.blend = 3, choices.Mode.CONTOUR, 0.25
    assert (ui.threadsSpinBox.value, ui.modeSelector.currentText, ui.blendSlider.value) == (3, "Contours", 0.25)


def test_parameters_are_kept_with_the_scene(patient, window, choices, headless, tmp_path):
    window._parameterNode.device, window._parameterNode.scale = choices.Device.CUDA, 2.5
    window._parameterNode.refine, window._parameterNode.fusion = 40, choices.Fusion.STAPLE
    headless.save_scene(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    assert window._parameterNode.scale == 1.0 and window._parameterNode.inputVolume is None
    headless.load_scene(tmp_path / "scene.mrb")
    assert (window._parameterNode.device, window._parameterNode.scale) == (choices.Device.CUDA, 2.5)
    assert (window._parameterNode.refine, window._parameterNode.fusion) == (40, choices.Fusion.STAPLE)
    assert window.ui.scaleSlider.value == 2.5 and window.ui.refineSpinBox.value == 40
    assert window.ui.inputVolumeSelector.currentNode().GetName() == "Ärztin Größe 1"


def test_chosen_image_of_a_scene_that_is_loaded_stays_chosen(window, headless, tmp_path):
    for name in ("first", "second"):
        slicer.util.addVolumeFromArray(np.ones((6, 6, 6), np.float32), name=name)
    window._parameterNode.inputVolume = slicer.util.getNode("second")
    headless.save_scene(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    headless.load_scene(tmp_path / "scene.mrb")
    assert window._parameterNode.inputVolume.GetName() == "second"
    assert window.ui.inputVolumeSelector.currentNode().GetName() == "second"


def test_engine_gets_what_the_window_shows(patient, window, choices, models_folder):
    add_atlases(models_folder / "phantom", "second")
    parameters = window._parameterNode
    window.ui.refineSpinBox.value, window.ui.atlasesSpinBox.value, window.ui.fusionSelector.currentIndex = 30, 2, 1
    parameters.device, parameters.threads, parameters.alignment = choices.Device.CPU, 2, choices.Alignment.NONE
    arguments = list(map(str, begin(window, "works")._inputs.arguments))
    for option, value in (("--device", "cpu"), ("--threads", "2"), ("--affine", "none"), ("--progress", "json"),
                          ("--refine", "30"), ("--atlases", "2"), ("--fusion", "majority")):  # fmt: skip
        assert arguments[arguments.index(option) + 1] == value
    finish(window)


def test_visits_leave_no_wrapper_behind(patient, window, choices):
    from standins import application

    wrapper = weakref.ref(window._parameterNode)
    for _ in range(5):
        application.leave_module(window)
        application.enter_module(window)
        assert window._parameterNode is wrapper()
    slicer.mrmlScene.Clear(1)  # another node
    assert window._parameterNode.parameterNode.GetScene() is slicer.mrmlScene
    gc.collect()
    assert wrapper() is None


def test_slider_reads_no_model_cards(patient, window, monkeypatch):
    from CLMorphSlicerLib import models

    read = []
    monkeypatch.setattr(models, "read_card", read.append)
    window.ui.scaleSlider.value = 3.0
    assert window._parameterNode.scale == 3.0 and read == []


# -- running and its ends


def test_run_shows_step_time_left_and_cancel(patient, window):
    get_started(window, "waits")
    assert not window.ui.segmentButton.enabled and window.ui.cancelButton.enabled
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
    assert window.ui.segmentButton.enabled and not window.ui.cancelButton.enabled
    assert "a warning on the error stream" in window.ui.logText.toPlainText()
    assert leftovers() == []


def test_cancel_leaves_the_scene_as_it_was(patient, window):
    before = node_ids()
    run = get_started(window, "waits")
    started = time.monotonic()
    window.ui.cancelButton.click()
    assert run.state.value == "cancelling" and window.ui.statusLabel.text == "Cancelling …"
    assert not window.ui.cancelButton.enabled and not window.ui.segmentButton.enabled
    finish(window)
    assert time.monotonic() - started < 20
    assert run.state.value == "cancelled"
    assert "cancelled" in window.ui.statusLabel.text and window.ui.segmentButton.enabled
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
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, *_, **details: told.append(text))
    before = node_ids()
    begin(window, mood)
    finish(window)
    assert window.logic.run.state.value == "failed"
    assert sentence in window.ui.statusLabel.text and sentence in told[0]
    assert not window.ui.logSection.collapsed and window.ui.segmentButton.enabled
    assert node_ids() == before and leftovers() == []


def test_failure_is_told_with_the_tail_of_the_log(patient, window, monkeypatch):
    told = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, *_, detailedText="": told.append(detailedText))
    begin(window, "crashes")
    finish(window)
    assert "MemoryError: too little memory" in told[0]


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
    assert not window.ui.segmentButton.enabled and not window.ui.cancelButton.enabled
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


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
    assert window.ui.segmentButton.enabled
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

    def looks(*arguments):
        cursors.extend(slicer.app.cursors)
        return import_results(*arguments)

    monkeypatch.setattr(nodes, "import_results", looks)
    begin(window, "works")
    finish(window)
    assert cursors == [qt.Qt.WaitCursor] and slicer.app.cursors == []


def test_missing_packages_stop_the_run_with_their_reason(patient, window, module, monkeypatch):
    def fails(during):
        raise module.dependencies.InstallationError("torch could not be installed")

    monkeypatch.setattr(module.dependencies, "ensure", fails)
    window.ui.segmentButton.click()
    assert window.logic.run is None and window.ui.statusLabel.text == "torch could not be installed"


def test_installation_is_told_and_cannot_be_started_twice(patient, window, monkeypatch):
    import qt
    from standins.packages import Computer

    computer, seen = Computer(monkeypatch), []

    def second_click() -> None:
        slicer.app.processEvents()
        window.ui.scaleSlider.value += 1.0  # any change of a parameter makes the window look again
        window.ui.segmentButton.click()
        seen.append((window.ui.segmentButton.enabled, window.ui.statusLabel.text, list(slicer.app.cursors)))

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
    window.ui.segmentButton.click()
    assert "PyTorch was not installed" in window.ui.statusLabel.text
    assert window.ui.segmentButton.enabled and slicer.app.cursors == []


def test_declined_installation_leaves_a_window_that_can_be_used(patient, window, monkeypatch):
    from standins.packages import Computer

    Computer(monkeypatch, answer=False)
    window.ui.segmentButton.click()
    assert window.logic.run is None and window.ui.statusLabel.text == "Ready." and window.ui.segmentButton.enabled


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
