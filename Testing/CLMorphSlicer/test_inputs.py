"""Nodes and choices that a run must not take for what they are not: each is refused with a sentence, before it runs."""

import numpy as np
import phantom
import pytest
import SimpleITK as sitk
from places import labelmap_node
from qt_fixtures import fake_engine, write_bundle

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
import vtk
from CLMorphSlicerLib import exporting, options
from CLMorphSlicerLib.outputs import Outputs


@pytest.fixture
def second(headless):
    """Another image of the scene."""
    return slicer.util.addVolumeFromArray(np.ones((6, 6, 6), np.float32), name="Second")


def segmenting(volume, **chosen) -> str:
    return options.why_not(volume, options.Options(model="phantom", **chosen))


def registering(fixed, moving, **chosen) -> str:
    return options.why_not_register(fixed, moving, options.RegisterOptions(**chosen))


# -- labels where an image is expected, and the other way round


def test_labelmap_is_no_image(patient, second, module):
    labels = labelmap_node(phantom.atlas()[1])
    told = "“Labelmap” is a labelmap: choose the image that it belongs to"
    assert segmenting(labels) == registering(labels, patient) == registering(patient, labels) == told
    assert segmenting(patient, atlas=labels, atlas_labels=labels) == told
    assert registering(patient, second, labels=labels) == ""


def test_sequence_of_labelmaps_holds_no_images(patient, module):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Drawn")
    sequence.SetDataNodeAtValue(labelmap_node(phantom.atlas()[1]), "0")
    with pytest.raises(ValueError, match="is a labelmap: choose the image"):
        module.CLMorphSlicerLogic(fake_engine("works")).segment(sequence, "phantom")


@pytest.mark.parametrize("given", ["MRHead", 7])
def test_what_is_no_node_is_told_as_it_was_given(patient, module, given):
    told = f"{given!r} is no image: give the node of a scalar volume"
    assert segmenting(given) == registering(given, patient) == registering(patient, given) == told


def test_node_of_another_kind_is_no_image(patient, second, module):
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "Skin")
    assert segmenting(model) == "“Skin” is no image: give the node of a scalar volume"
    told = "“Skin” holds no labels: choose a segmentation or a labelmap"
    assert registering(patient, second, labels=model) == told
    assert segmenting(patient, atlas=second, atlas_labels=model) == told


# -- the folder of a model


def test_folder_of_a_model_that_was_not_chosen_is_no_registration_without_a_model(patient, second, window):
    window.ui.taskTabs.currentIndex = 1
    window.ui.fixedVolumeSelector.setCurrentNode(patient)
    window.ui.movingVolumeSelector.setCurrentNode(second)
    assert window.ui.runButton.enabled
    window.ui.registerModelSelector.currentIndex = window.ui.registerModelSelector.count - 1
    assert window.ui.statusLabel.text.startswith("Choose the folder of the model on the tab Segment")
    assert not window.ui.runButton.enabled


def test_folder_is_the_one_that_is_seen_in_its_line(patient, window, tmp_path):
    folder = write_bundle(tmp_path / "mine")
    window.ui.modelSelector.currentIndex = window.ui.modelSelector.count - 1
    assert window.ui.statusLabel.text == "Choose the folder of the model."
    for typed, told in ((folder, "Ready."), (f"{folder}-2", f"There is no folder {folder}-2"), (folder, "Ready."),
                        ("", "Choose the folder of the model.")):  # fmt: skip
        window.ui.modelFolderEdit.currentPath = str(typed)
        assert window.ui.statusLabel.text.startswith(told)
        assert window.ui.modelFolderEdit.currentPath == str(typed)
        assert window.ui.runButton.enabled is (told == "Ready.")
    window.ui.modelSelector.currentIndex = 0  # a shipped model: the line is of no matter
    assert window.ui.runButton.enabled


# -- outputs that would change an input, or be lost


@pytest.mark.parametrize("depth", [1, 2])
def test_transform_above_an_input_is_not_written_into(patient, second, module, depth):
    above = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLTransformNode", "Table height"
    )  # a linear one of the general kind
    above.SetAndObserveTransformToParent(vtk.vtkTransform())
    node = second
    for _ in range(depth - 1):
        between = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Between")
        node.SetAndObserveTransformNodeID(between.GetID())
        node = between
    node.SetAndObserveTransformNodeID(above.GetID())
    outputs = Outputs(transform=above)
    told = "“Table height” moves an input of this run: choose another output, or a new one."
    assert segmenting(second, outputs=outputs) == told
    assert registering(patient, second, outputs=outputs) == registering(second, patient, outputs=outputs) == told
    assert segmenting(patient, outputs=outputs) == ""


@pytest.mark.parametrize("chosen", ["segmentation", "transform"])
def test_node_that_plays_a_sequence_is_not_written_into(patient, module, chosen):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Heart")
    for value in ("0", "1"):
        sequence.SetDataNodeAtValue(patient, value)
    played = module.CLMorphSlicerLogic(fake_engine("works")).segment(sequence, "phantom")
    outputs = Outputs(**{chosen: getattr(played, chosen)})
    said = segmenting(patient, outputs=outputs)
    assert "shows the frames of a sequence" in said and getattr(played, chosen).GetName() in said


@pytest.mark.parametrize("kind", [vtk.VTK_CHAR, vtk.VTK_LONG, vtk.VTK_UNSIGNED_LONG, vtk.VTK_LONG_LONG,
                                  vtk.VTK_UNSIGNED_LONG_LONG])  # fmt: skip
def test_voxels_of_every_whole_number_of_c_reach_the_engine(headless, tmp_path, kind):
    """Of one size there are several; NRRD's int64 is another one than numpy's."""
    image = vtk.vtkImageData()
    image.SetDimensions(3, 4, 5)
    image.AllocateScalars(kind, 1)
    image.GetPointData().GetScalars().Fill(100)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Counts")
    node.SetAndObserveImageData(image)
    exporting.export_volume(node, tmp_path / "image.nii")
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "image.nii")))
    assert written.shape == (5, 4, 3) and (written == 100).all()


def test_model_of_a_scene_that_is_not_here_is_told_and_not_replaced(patient, window):
    node = window._parameterNode.parameterNode
    for name in ("model", "registerModel"):
        node.SetParameter(name, "spine")
    selector = window.ui.modelSelector
    assert selector.itemText(selector.currentIndex) == "spine (not in this version)"
    assert window.ui.statusLabel.text.startswith("no model 'spine'") and not window.ui.runButton.enabled
    selector.currentIndex = 0
    assert window._parameterNode.model == "phantom" and window.ui.runButton.enabled
    window.ui.taskTabs.currentIndex = 1
    assert window._parameterNode.registerModel == "spine" and not window.ui.runButton.enabled
