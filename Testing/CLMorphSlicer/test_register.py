"""Two volumes laid onto each other: by the window with a played engine, and with the real one in a child process."""

import json

import numpy as np
import phantom
import pytest
import SimpleITK as sitk
from places import TOLERANCE_MM, greatest_distance, labelmap_node, ras_points, segment_points
from qt_fixtures import begin, fake_engine, finish, leftovers, node_ids, wait_until

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
import vtk
from CLMorphSlicerLib.results import results_of


@pytest.fixture
def moving(headless, module, tmp_path):
    """(volume, labelmap) of the phantom's atlas, whose grid runs the other way."""
    for image, name in zip(phantom.atlas(), ("Template", "labels"), strict=True):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    return headless.load_volume(tmp_path / "Template.nii.gz"), labelmap_node(phantom.atlas()[1])


@pytest.fixture
def pair(patient, moving, window):
    """The window's second tab with both volumes chosen; returns (fixed, moving, labels)."""
    window.ui.taskTabs.currentIndex = 1
    window.ui.fixedVolumeSelector.setCurrentNode(patient)
    window.ui.movingVolumeSelector.setCurrentNode(moving[0])
    return patient, *moving


def arguments_of(run) -> dict[str, str]:
    words = run.arguments
    return {word: words[at + 1] for at, word in enumerate(words[:-1]) if word.startswith("-")}


# -- the tab


def test_tab_says_what_is_missing(patient, moving, window):
    window.ui.taskTabs.currentIndex = 1
    assert window.ui.runButton.text == "Register" and not window.ui.runButton.enabled
    window.ui.fixedVolumeSelector.setCurrentNode(patient)
    assert window.ui.statusLabel.text == "Choose the moving image."
    window.ui.movingVolumeSelector.setCurrentNode(patient)
    assert "same volume" in window.ui.statusLabel.text
    window.ui.movingVolumeSelector.setCurrentNode(moving[0])
    assert window.ui.runButton.enabled
    window.ui.stepsSpinBox.value = 0
    assert "optimisation is all there is" in window.ui.statusLabel.text
    window.ui.registerModelSelector.currentIndex = 1
    assert window.ui.runButton.enabled and "Needs: MRI T1" in window.ui.registerDescriptionLabel.text
    window.ui.taskTabs.currentIndex = 0
    assert window.ui.runButton.text == "Segment"


def test_what_only_segmenting_uses_is_hidden(pair, window):
    for name in ("refineSpinBox", "atlasesSpinBox", "fusionSelector", "sceneAtlasCheckBox", "standardNamesCheckBox",
                 "safeColorsCheckBox"):  # fmt: skip
        assert not getattr(window.ui, name).isVisibleTo(window.ui.advancedSection), name
    window.ui.taskTabs.currentIndex = 0
    assert window.ui.refineSpinBox.isVisibleTo(window.ui.advancedSection)


def test_engine_gets_what_the_tab_shows(pair, window):
    *_, labels = pair
    window.ui.movingLabelsSelector.setCurrentNode(labels)
    window.ui.similaritySelector.currentIndex, window.ui.stepsSpinBox.value = 1, 30
    run = begin(window, "works")
    told = arguments_of(run)
    assert run.arguments[:3] == ["register", "image.nii", "moving.nii"]
    assert (told["--similarity"], told["--refine"], told["--moving-labels"]) == ("mind", "30", "labels.nii.gz")
    assert "--model" not in told
    finish(window)


def test_registration_without_labels_gives_transform_and_warped_volume(pair, window):
    fixed, template, _ = pair
    run = begin(window, "works")
    finish(window)
    assert run.error is None, run.error
    results = run.results
    assert window.ui.statusLabel.text == "Done: Template lies on Ärztin Größe 1."
    assert (results.volume, results.atlas, results.segmentation) == (fixed, template, None)
    assert results.warped.GetName() == "Template warped to Ärztin Größe 1"
    assert window.ui.resultSelector.currentNode() is results.transform
    assert not window.ui.segmentsTable.isVisibleTo(window.ui.resultsSection)
    window.ui.showDeformationCheckBox.checked = True  # the panel below serves both
    assert results.field.GetDisplayNode().GetVisibility()
    assert leftovers() == []


def test_labels_are_carried_along_with_their_names(pair, window):
    *_, labels = pair
    window.ui.movingLabelsSelector.setCurrentNode(labels)
    run = begin(window, "works")
    finish(window)
    segmentation = run.results.segmentation.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 3
    assert run.results.segmentation.GetName() == "Template segmentation warped to Ärztin Größe 1"
    shown = labels.GetDisplayNode().GetColorNode()
    names = [shown.GetColorName(value) if shown else f"Label {value}" for value in (1, 2, 5)]
    assert [segmentation.GetNthSegment(i).GetName() for i in range(3)] == names


def test_labels_that_lie_outside_the_fixed_image_are_told(pair, window):
    window.ui.movingLabelsSelector.setCurrentNode(pair[2])
    begin(window, "loses_labels")
    finish(window)
    told = "Done: Template lies on Ärztin Größe 1. None of the labels of Labelmap lies inside it."
    assert window.ui.statusLabel.text == told


def test_outputs_of_a_registration_can_be_chosen_and_taken_back(pair, window):
    warped = slicer.util.addVolumeFromArray(np.full((4, 4, 4), 7.0, np.float32), name="Into this")
    window.ui.registerVolumeSelector.setCurrentNode(warped)
    run = begin(window, "works")
    finish(window)
    assert run.results.warped is warped and warped.GetName() == "Into this"
    assert warped.GetImageData().GetDimensions() == pair[0].GetImageData().GetDimensions()
    window.ui.undoButton.click()
    assert slicer.util.arrayFromVolume(warped).shape == (4, 4, 4) and slicer.util.arrayFromVolume(warped).max() == 7.0


def test_moving_volume_is_never_written_into(pair, window):
    window.ui.registerVolumeSelector.setCurrentNode(pair[1])
    assert "is an input of this run" in window.ui.statusLabel.text


def test_both_tabs_keep_their_choices_with_the_scene(pair, window, headless, tmp_path):
    window.ui.stepsSpinBox.value, window.ui.similaritySelector.currentIndex = 20, 1
    headless.save_scene(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    headless.load_scene(tmp_path / "scene.mrb")
    assert window.ui.taskTabs.currentIndex == 1 and window.ui.runButton.text == "Register"
    assert window._parameterNode.movingVolume.GetName() == "Template"
    assert (window._parameterNode.steps, window._parameterNode.similarity.value) == (20, "mind")


def test_failure_of_a_registration_leaves_nothing(pair, window):
    before = node_ids()
    begin(window, "half_done")
    finish(window)
    assert "warped.nii.gz" in window.ui.statusLabel.text and node_ids() == before and leftovers() == []


def test_logic_registers_from_python(patient, moving, module):
    results = module.CLMorphSlicerLogic(fake_engine("works")).register(patient, moving[0], labels=moving[1])
    assert results.segmentation.GetSegmentation().GetNumberOfSegments() == 3
    with pytest.raises(ValueError, match="same volume"):
        module.CLMorphSlicerLogic(fake_engine("works")).register(patient, patient)


# -- the real engine


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * np.sum(a & b) / (np.sum(a) + np.sum(b))


def test_press_on_register_runs_the_real_engine(pair, window):
    pytest.importorskip("torch", reason="the real engine needs torch")
    fixed, _, labels = pair
    turn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Turn")
    shift = vtk.vtkTransform()
    shift.RotateZ(8.0)
    turn.SetMatrixTransformToParent(shift.GetMatrix())
    fixed.SetAndObserveTransformNodeID(turn.GetID())  # results lie where it is seen
    window.ui.movingLabelsSelector.setCurrentNode(labels)
    window.ui.stepsSpinBox.value, window.ui.keepFilesCheckBox.checked = 10, True
    window.ui.runButton.click()
    wait_until(lambda: not window.logic.running, "the results")
    run = window.logic.run
    assert run.results is not None, f"{run.error} {getattr(run.error, 'log', '')}"
    output = run.folder / "output"
    file = sitk.ReadImage(str(output / "labels.nii.gz"))
    segmentation = run.results.segmentation
    for number, value in enumerate((1, 2, 5)):
        name = segmentation.GetSegmentation().GetNthSegment(number).GetName()
        assert greatest_distance(segment_points(segmentation, name), ras_points(file, value)) < TOLERANCE_MM
        segment = segmentation.GetSegmentation().GetNthSegmentID(number)
        in_node = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment, run.results.warped) > 0
        assert dice(in_node, sitk.GetArrayFromImage(file) == value) >= 0.99
    warped = sitk.GetArrayFromImage(sitk.ReadImage(str(output / "warped.nii.gz")))
    assert np.array_equal(slicer.util.arrayFromVolume(run.results.warped), warped)
    truth = sitk.GetArrayFromImage(
        sitk.Resample(phantom.atlas()[1], phantom.grid("RAS"), phantom.transform(), sitk.sitkNearestNeighbor, 0)
    )
    found = sitk.GetArrayFromImage(file)
    assert dice(found == 1, truth == 1) > 0.9 and dice(found == 2, truth == 2) > 0.7
    report = json.loads((output / "report.json").read_text("utf-8"))
    table = results_of(run.results.transform).table.GetTable()
    values = {
        table.GetValue(row, 0).ToString(): table.GetValue(row, 1).ToDouble() for row in range(table.GetNumberOfRows())
    }
    assert values["folding fraction"] == pytest.approx(report["folding_fraction"])
