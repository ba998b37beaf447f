"""The window, from its real .ui over the real scene, before a run: what it offers, refuses and keeps."""

import gc
import weakref

import numpy as np
import phantom
import pytest
import SimpleITK as sitk
from qt_fixtures import add_atlases, begin, finish, write_bundle

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util

# -- idle


def test_empty_scene_says_what_to_do(window):
    assert not window.ui.runButton.enabled
    assert window.ui.statusLabel.text == window.ui.runButton.toolTip == "Choose the image to segment."


def test_first_volume_is_chosen_and_segment_is_enabled(patient, window):
    assert window.ui.inputVolumeSelector.currentNode() is patient
    assert window.ui.runButton.enabled and window.ui.statusLabel.text == "Ready."
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
    assert not window.ui.runButton.enabled
    assert "has no voxels" in window.ui.statusLabel.text


def test_model_is_described_and_another_folder_can_be_given(patient, window, tmp_path):
    assert window.ui.modelDescriptionLabel.text == "Tests\nNeeds: MRI T1, Head"
    window.ui.modelSelector.currentIndex = 1
    assert "model" in window.ui.statusLabel.text and not window.ui.runButton.enabled
    window.ui.modelFolderEdit.currentPath = str(tmp_path)
    assert "card.toml" in window.ui.statusLabel.text
    window.ui.modelFolderEdit.currentPath = str(write_bundle(tmp_path / "mein Modell"))
    assert window.ui.runButton.enabled


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
    assert window.ui.runButton.enabled
    run = begin(window, "works")
    finish(window)
    assert run.state.value == "done", run.error
    assert run.results.atlas is window._parameterNode.atlasVolume


def test_transform_of_the_initial_alignment_is_asked_for(patient, window, choices):
    window._parameterNode.alignment = choices.Alignment.TRANSFORM
    assert "initial alignment" in window.ui.statusLabel.text
    window._parameterNode.initialTransform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    assert window.ui.runButton.enabled


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
    assert shown("fusionSelector") and window.ui.runButton.enabled
    window.ui.sceneAtlasCheckBox.checked = True
    assert not shown("atlasesSpinBox") and window.ui.oneAtlasLabel.text == "the one from the scene"


def test_atlases_of_another_model_are_not_asked_of_this_one(patient, window, choices, models_folder):
    window._parameterNode.atlases = 5
    assert window.ui.runButton.enabled and choices.options_of(window._parameterNode).atlases == 0
    add_atlases(models_folder / "phantom", "second", "third")
    window._refresh()
    assert window._parameterNode.atlases == window.ui.atlasesSpinBox.value == 3
    assert choices.options_of(window._parameterNode).atlases == 3


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
    window._parameterNode.effort, window._parameterNode.tissue = choices.Effort.FAST, choices.Tissue.OFF
    headless.save_scene(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    assert window._parameterNode.scale == 1.0 and window._parameterNode.inputVolume is None
    headless.load_scene(tmp_path / "scene.mrb")
    assert (window._parameterNode.device, window._parameterNode.scale) == (choices.Device.CUDA, 2.5)
    assert (window._parameterNode.refine, window._parameterNode.fusion) == (40, choices.Fusion.STAPLE)
    assert (window._parameterNode.effort, window._parameterNode.tissue) == (choices.Effort.FAST, choices.Tissue.OFF)
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
    arguments = list(map(str, begin(window, "works").arguments))
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


@pytest.mark.parametrize(
    ("name", "value"),
    [("mode", "STREAMLINE"), ("task", ""), ("refine", "9000"), ("spacing", "a lot"), ("scale", "nan")],
)
def test_scene_of_another_version_is_shown_as_far_as_it_is_known(patient, window, name, value):
    """And is no empty panel: a wrapper that cannot read one value has none of them."""
    window.ui.refineSpinBox.value = 7
    node, defaults = window._parameterNode.parameterNode, {"refine": 0, "spacing": 10.0, "scale": 1.0}
    slicer.mrmlScene.StartState(slicer.mrmlScene.ImportState)
    node.SetParameter(name, value)
    slicer.mrmlScene.EndState(slicer.mrmlScene.ImportState)
    shown = window._parameterNode
    first = next(iter(type(getattr(shown, name)))) if name in ("mode", "task") else defaults[name]
    assert getattr(shown, name) == first and shown.inputVolume is patient
    assert shown.refine == (0 if name == "refine" else 7) and window.ui.runButton.enabled
