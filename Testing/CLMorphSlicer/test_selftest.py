"""The module's own self-test and the real engine, from the press on Segment to the labels in the scene."""

import json
import time

import numpy as np
import phantom
import pytest
import SimpleITK as sitk
from qt_fixtures import add_atlases, wait_until

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util


def dice_of_structures(segmentation, volume, truth: sitk.Image) -> dict[str, float]:
    """Dice of each structure of the phantom against its true labels."""
    labels, scores = sitk.GetArrayFromImage(truth), {}
    for structure in phantom.STRUCTURES:
        segment = segmentation.GetSegmentation().GetSegmentIdBySegmentName(structure["name"])
        found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment, volume) > 0
        wanted = labels == structure["value"]
        scores[structure["name"]] = 2 * np.sum(found & wanted) / (found.sum() + wanted.sum())
    return scores


def report_of(run) -> dict:
    """What the engine wrote of a run whose files are kept."""
    return json.loads((run.folder / "output" / "report.json").read_text("utf-8"))


def test_press_on_segment_runs_the_real_engine(real_model, patient, window):
    import qt

    ticks, timer = [], qt.QTimer()
    timer.setInterval(20)
    timer.connect("timeout()", lambda: ticks.append(time.monotonic()))
    timer.start()
    window.ui.runButton.click()
    wait_until(lambda: window.logic.run.job.state.value != "running", "the engine")
    timer.stop()
    wait_until(lambda: not window.logic.running, "the results")
    results = window.logic.run.results
    assert results is not None, f"{window.logic.run.error} {window.logic.run.error.log}"
    truth = sitk.Resample(
        phantom.atlas()[1], phantom.grid("RAS"), phantom.transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8
    )
    scores = dice_of_structures(results.segmentation, patient, truth)
    assert scores["Body"] > 0.9 and min(scores.values()) > 0.55, scores  # the network has no training, the affine has
    assert len(ticks) >= 10 * (ticks[-1] - ticks[0])


def test_press_on_segment_refines_and_tells_the_time_left(real_model, patient, window):
    window.ui.refineSpinBox.value, window.ui.keepFilesCheckBox.checked = 5, True
    said = set()
    window.ui.runButton.click()
    run = window.logic.run

    def over() -> bool:
        said.add((window.ui.statusLabel.text, window.ui.progressBar.value))
        return not window.logic.running

    wait_until(over, "the results")
    assert run.results is not None, f"{run.error} {run.error.log}"
    refining = [(text, value) for text, value in said if text.startswith("Refinement · ") and text.endswith(" left")]
    assert refining and all(0 < value < 100 for _, value in refining), said
    assert 0 < report_of(run)["refinement_steps"] <= 15  # 5 at each of three resolutions
    truth = sitk.Resample(
        phantom.atlas()[1], phantom.grid("RAS"), phantom.transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8
    )
    scores = dice_of_structures(run.results.segmentation, patient, truth)
    assert min(scores.values()) > 0.85, scores  # 0.69 without refinement


def test_several_atlases_of_a_model_are_fused_by_the_real_engine(real_model, models_folder, patient, module):
    add_atlases(models_folder / "phantom", "second", "third")
    logic = module.CLMorphSlicerLogic()
    options = module.Options(model="phantom", refine=1, atlases=2, fusion="majority", keep_files=True)
    run = logic.start(module.Segmentation(patient, options))
    wait_until(lambda: not logic.running, "the results")
    assert run.results is not None, f"{run.error} {run.error.log}"
    report = report_of(run)
    assert report["fusion"]["method"] == "majority" and len(report["fusion"]["atlases"]) == 2
    assert report["refinement_steps"] > 0
    assert run.results.segmentation.GetSegmentation().GetNumberOfSegments() == 3


def test_tissue_is_followed_by_the_real_engine_as_it_is_asked(real_model, patient, window):
    from CLMorphSlicerLib.parameters import Tissue

    window.ui.keepFilesCheckBox.checked = True
    window._parameterNode.tissue = Tissue.ON
    window.ui.runButton.click()
    run = window.logic.run
    wait_until(lambda: not window.logic.running, "the results")
    assert run.results is not None, f"{run.error} {run.error.log}"
    tissue = report_of(run)["tissue"]
    assert tissue["used"] and len(tissue["classes"]) > 1, tissue
    assert "The labels follow the scan's tissue." in window.ui.statusLabel.text


def test_real_engine_stops_when_cancelled(real_model, patient, window):
    window.ui.runButton.click()
    run = window.logic.run
    wait_until(lambda: run.job.progress.step != "", "the first step")
    window.ui.cancelButton.click()
    wait_until(lambda: not window.logic.running, "the end of the run")
    assert run.state.value == "cancelled" and not run.folder.exists()
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_real_engine_says_what_is_wrong_with_the_input(real_model, patient, module):
    from CLMorphSlicerLib.job import EngineError

    with pytest.raises(EngineError, match="cuda:99"):
        module.CLMorphSlicerLogic().segment(patient, device="cuda:99")


def test_atlas_of_the_scene_goes_through_the_real_engine(real_model, patient, module, headless, tmp_path):
    for image, name in zip(phantom.atlas(), ("my atlas", "my labels"), strict=True):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    atlas = headless.load_volume(tmp_path / "my atlas.nii.gz")
    labels = headless.load_volume(tmp_path / "my labels.nii.gz", labels=True)
    results = module.CLMorphSlicerLogic().segment(patient, atlas=atlas, atlas_labels=labels)
    assert results.atlas is atlas
    assert results.segmentation.GetSegmentation().GetNumberOfSegments() == 3


def test_self_test_passes_with_the_real_engine(real_model, module):
    module.CLMorphSlicerTest().runTest()


def test_score_of_the_self_test_is_one_for_the_truth_and_low_for_labels_elsewhere(module, headless, tmp_path):
    card = module.models.shipped_models()[0]
    volume, truth = module.sample.add_sample(card), module.sample.synthetic_patient(card)[1]
    elsewhere = sitk.Resample(truth, truth, sitk.TranslationTransform(3, (25.0, 0.0, 0.0)), sitk.sitkNearestNeighbor)
    scores = []
    for labels in (truth, elsewhere):
        sitk.WriteImage(labels, str(tmp_path / "labels.nii.gz"))
        node = headless.load_volume(tmp_path / "labels.nii.gz", labels=True)
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(node, segmentation)
        for number, structure in enumerate(phantom.STRUCTURES):
            segmentation.GetSegmentation().GetNthSegment(number).SetName(structure["name"])
        scores.append(module.sample.mean_dice(card, segmentation, volume))
    assert scores[0] == pytest.approx(1.0) and scores[1] < 0.5
