"""Frames of a sequence that follow one of them: one run, labels that play, volumes over time, ejection fraction."""

import numpy as np
import phantom
import pytest
import SimpleITK as sitk
from qt_fixtures import begin, fake_engine, finish, get_started, leftovers, show_frame, wait_until, write_bundle

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
import vtk
from CLMorphSlicerLib import models
from CLMorphSlicerLib.exporting import image_of
from CLMorphSlicerLib.following import Following
from CLMorphSlicerLib.frames import Frames
from CLMorphSlicerLib.geometry import ijk_to_ras
from CLMorphSlicerLib.options import Options
from CLMorphSlicerLib.results import RESULT_ATTRIBUTE, is_result, results_of
from CLMorphSlicerLib.sequence_file import Frame, export_sequence
from CLMorphSlicerLib.series import SequenceFrames, work_on
from places import segment_points
from test_series import column

FOLLOW = 1  # of the panel's choices


def ventricle_ml(segmentation, proxy) -> float:
    segment = segmentation.GetSegmentation().GetSegmentIdBySegmentName("Ventricle")
    found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment, proxy) > 0
    return float(found.sum() * np.prod(proxy.GetSpacing()) / 1000.0)


def follow(window, mood: str = "frames_follow"):
    window.ui.scopeSelector.currentIndex = 1
    window.ui.framesSelector.currentIndex = FOLLOW
    return begin(window, mood)


# -- the choice


def make_heart(models_folder) -> None:
    """The one model gets labels of a heart."""
    table = models_folder / "phantom" / "atlases" / "phantom" / "labels.csv"
    text = table.read_text("utf-8").replace("SCT^35764002^Brain ventricle", "SCT^87878005^Left ventricle")
    table.write_text(text, encoding="utf-8")
    models._cards_in.cache_clear()


def test_shipped_heart_beats_and_the_others_do_not(module, monkeypatch):
    monkeypatch.undo()
    shipped = {card.name: card.beats for card in models.shipped_models()}
    assert shipped["heart"] and sum(shipped.values()) == 1


def test_frames_follow_by_themselves_where_the_model_is_a_hearts(beating, window, models_folder):
    sequence, _, _ = beating
    frames = Frames.of_sequence(sequence)
    assert isinstance(work_on(frames, Options(model="phantom")), SequenceFrames)
    assert isinstance(work_on(frames, Options(model="phantom", frames="follow")), Following)
    make_heart(models_folder)
    assert isinstance(work_on(frames, Options(model="phantom")), Following)
    assert isinstance(work_on(frames, Options(model="phantom", frames="each")), SequenceFrames)
    assert isinstance(work_on(frames, Options(model="unknown")), SequenceFrames)


def test_panel_says_what_suits_the_model(beating, window, models_folder):
    ui = window.ui
    assert not ui.framesSelector.isVisibleTo(window.parent)
    ui.scopeSelector.currentIndex = 1
    assert ui.framesSelector.isVisibleTo(window.parent) and ui.framesLabel.text == "Frames:"
    told = [ui.framesSelector.itemText(number) for number in range(3)]
    assert told == ["As suits the model: each by itself", "One is segmented, the others follow", "Each by itself"]
    make_heart(models_folder)
    window._refresh()
    assert ui.framesSelector.itemText(0) == "As suits the model: one is segmented, the others follow"
    ui.taskTabs.currentIndex = 1
    assert not ui.framesSelector.isVisibleTo(window.parent)


def test_word_that_is_no_choice_is_refused(beating, window):
    with pytest.raises(ValueError, match="Unknown frames 'all'; expected one of auto, follow, each"):
        window.logic.segment(beating[0], model="phantom", frames="all")


# -- the file


KINDS = {"LAS": np.uint8, "oblique": np.float64, "anisotropic": np.float32}  # of voxels; int16 on the others


@pytest.mark.parametrize("grid", phantom.GRIDS)
def test_sequence_file_holds_voxels_grid_and_times_as_they_are(headless, tmp_path, grid):
    from CLMorphCore.io.series import read_series

    image, turn, kind = phantom.patient(grid), vtk.vtkMatrix4x4(), KINDS.get(grid, np.int16)
    turn.SetElement(0, 3, 31.0 / 3.0)
    above = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    above.SetMatrixTransformToParent(turn)
    frames = []
    for number, value in enumerate(("0", "33.25", "71.5")):
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        slicer.util.updateVolumeFromArray(volume, (sitk.GetArrayFromImage(image) // 9 + number).astype(kind))
        volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(image)))
        volume.SetAndObserveTransformNodeID(above.GetID())
        frames.append(Frame(value, volume))
    path = tmp_path / "image.seq.nrrd"
    export_sequence(frames, frames[0].volume, "ms", path)
    by_itk, by_engine = sitk.ReadImage(str(path)), read_series(path)
    assert by_engine.times_s == pytest.approx((0.0, 0.03325, 0.0715), abs=1e-12) and not by_engine.warnings
    for number, frame in enumerate(frames):
        true = image_of(frame.volume)
        for read in (sitk.VectorIndexSelectionCast(by_itk, number), by_engine.frames[number]):
            assert np.array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(true))
            for what in ("GetOrigin", "GetSpacing", "GetDirection"):
                assert getattr(read, what)() == pytest.approx(getattr(true, what)(), abs=1e-9)
    export_sequence([Frame("early", frames[0].volume), Frame("late", frames[1].volume)], frames[0].volume, "s", path)
    assert read_series(path).times_s is None and len(read_series(path)) == 2


# -- a run


def test_labels_of_all_frames_play_after_one_run(beating, window):
    _, browser, proxy = beating
    run = follow(window)
    finish(window)
    assert run.error is None, run.error
    results = run.results
    assert results.volume is proxy and results.transform is None and leftovers() == []
    gathered = browser.GetSequenceNode(results.segmentation)
    assert gathered.GetName() == "Heart segmentation" and browser.IsSynchronizedSequenceNode(gathered, True)
    assert [gathered.GetNthIndexValue(i) for i in range(4)] == ["0", "40", "80", "120"]
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1
    told = [float(text) for text in column(results.table, "Ventricle (ml)")]
    assert told[0] > told[1] > told[2] == told[3] > 1.0
    heights = []
    for number in (2, 0, 3, 1):
        show_frame(browser, number)
        assert results.segmentation.GetSegmentation().GetNumberOfSegments() == 3
        assert ventricle_ml(results.segmentation, proxy) == pytest.approx(told[number], abs=0.001)
        assert results.segmentation.GetSegmentation().GetNthSegment(2).GetName() == "Ventricle"
        segment = results.segmentation.GetSegmentation().GetNthSegment(2)
        bounds = segment.GetRepresentation("Closed surface").GetBounds()
        heights.append(bounds[5] - bounds[4])
    assert heights[0] == heights[2] < heights[3] < heights[1]  # the surfaces beat too


def test_line_tells_the_ejection_fraction_and_warnings(beating, window):
    run = follow(window)
    finish(window)
    diastole, systole = (float(column(run.results.table, "Ventricle (ml)")[number]) for number in (0, 2))
    assert window.ui.statusLabel.text == (
        "Done: labels of 4 frames, which follow that at time 0 ms. "
        f"Ejection fraction {100 * (1 - systole / diastole):.0f} %: {diastole:.1f} ml at time 0 ms, "
        f"{systole:.1f} ml at time 80 ms. the two ways round the beat end 2.5 mm apart in frame 3"
    )


def test_panel_shows_the_table_as_the_result_and_no_deformation(beating, window):
    run = follow(window)
    finish(window)
    table = run.results.table
    assert is_result(table) and results_of(table) == run.results
    assert window.ui.resultSelector.currentNode() is table is window._parameterNode.result
    assert window.ui.figuresTable.mrmlTableNode() is table and table.GetName() == "Heart volumes over time"
    assert window.ui.segmentsTable.segmentationNode() is run.results.segmentation
    assert not window.ui.showDeformationCheckBox.enabled
    assert "labels follow one frame" in window.ui.displacementLabel.text
    window.ui.scopeSelector.currentIndex = 0
    begin(window, "works")
    finish(window)
    assert window._parameterNode.result.IsA("vtkMRMLTransformNode") and window.ui.showDeformationCheckBox.enabled
    window.ui.resultSelector.setCurrentNode(table)
    assert window._parameterNode.result is table and not window.ui.showDeformationCheckBox.enabled


def test_volumes_over_time_are_a_chart_too(beating, window):
    run = follow(window)
    finish(window)
    (chart,) = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    curves = [chart.GetNthPlotSeriesNode(number) for number in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [curve.GetYColumnName() for curve in curves] == [
        "Body (ml)", "Anterior hippocampus (ml)", "Ventricle (ml)"
    ]  # fmt: skip
    assert all(curve.GetTableNode() is run.results.table for curve in curves)
    assert curves[2].GetXColumnName() == "time (ms)" == chart.GetXAxisTitle()
    assert curves[2].GetColor() == pytest.approx((0x4F / 255, 0x8F / 255, 0xD8 / 255))
    assert column(run.results.table, "time (ms)") == ["0", "40", "80", "120"]


def test_undo_takes_all_of_it_back_and_asks_for_what_was_drawn(beating, window, monkeypatch):
    _, browser, proxy = beating
    before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLStorableNode")}
    run = follow(window)
    finish(window)
    assert window.logic.runner.undo.would_lose == []
    for number in (1, 0):
        show_frame(browser, number)
    assert window.logic.runner.undo.would_lose == []
    frame = browser.GetSequenceNode(run.results.segmentation).GetNthDataNode(2)
    frame.GetSegmentation().RemoveSegment(frame.GetSegmentation().GetNthSegmentID(0))
    assert window.logic.runner.undo.would_lose == ["Heart segmentation"]
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_, **__: True, raising=False)
    window.ui.undoButton.click()
    assert {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLStorableNode")} <= before
    assert not slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    assert window._parameterNode.result is None and browser.GetProxyNode(beating[0]) is proxy


def test_cancel_leaves_the_scene_as_it_was(beating, window):
    nodes = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}
    window.ui.scopeSelector.currentIndex = 1
    window.ui.framesSelector.currentIndex = FOLLOW
    run = get_started(window, "waits")
    window.ui.cancelButton.click()
    finish(window)
    assert run.state.value == "cancelled" and leftovers() == []
    assert {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")} == nodes


def test_fault_at_the_end_leaves_nothing_half_made(beating, window, monkeypatch):
    from CLMorphSlicerLib import following

    nodes = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}

    def fails(*_):
        raise ValueError("the chart fell from the wall")

    monkeypatch.setattr(following, "add_chart", fails)
    follow(window)
    finish(window)
    assert "the chart fell from the wall" in window.ui.statusLabel.text
    assert {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")} == nodes


@pytest.mark.parametrize("fault", ["frames", "grid"])
def test_labels_that_are_not_of_the_frames_change_nothing(beating, window, fault, monkeypatch):
    from CLMorphSlicerLib import following

    nodes = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}
    written = following.Written
    spoilt = {
        "frames": lambda values, grid: written(values[:3], grid),
        "grid": lambda values, grid: written(values, following.Grid(grid.size, grid.matrix + np.eye(4)[:, [3]])),
    }
    monkeypatch.setattr(following, "Written", spoilt[fault])
    follow(window)
    finish(window)
    said = {"frames": "labels.nii.gz has 4 frames, expected 3", "grid": "labels.nii.gz lies on another grid"}
    assert said[fault] in window.ui.statusLabel.text
    assert {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")} == nodes


def test_frames_of_different_grids_are_refused_with_what_to_do(beating, window):
    sequence, _, _ = beating
    frame = sequence.GetNthDataNode(2)
    frame.SetOrigin(*np.add(frame.GetOrigin(), (0.0, 0.1, 0.0)))
    window.ui.scopeSelector.currentIndex = 1
    assert window.ui.runButton.enabled
    window.ui.framesSelector.currentIndex = FOLLOW
    assert window.ui.statusLabel.text == (
        "frame 80 lies on another grid than frame 0; those that follow need the same one: "
        "choose “Frames › Each by itself”"
    )
    assert not window.ui.runButton.enabled


def test_both_sides_of_a_head_are_refused_with_what_to_do(beating, window, models_folder):
    write_bundle(models_folder / "other")
    with open(models_folder / "phantom" / "card.toml", "a", encoding="utf-8") as file:
        file.write('[locator]\nmodel = "other"\n')
    models._cards_in.cache_clear()
    with pytest.raises(ValueError, match="found in one image at a time: choose “Frames › Each by itself”"):
        window.logic.segment(beating[0], model="phantom", frames="follow")


def test_sequence_that_is_deleted_ends_the_run(beating, window, capfd):
    run = follow(window, "waits")
    wait_until(lambda: run.job.progress.fraction > 0, "progress")
    slicer.mrmlScene.RemoveNode(beating[0])
    finish(window)
    assert "was deleted" in str(run.error) and leftovers() == [] and "Traceback" not in capfd.readouterr().err


def test_result_is_found_again_in_a_saved_scene(beating, window, headless, tmp_path):
    follow(window)
    finish(window)
    headless.save_scene(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    headless.load_scene(tmp_path / "scene.mrb")
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    assert window._parameterNode.result is table and table.GetAttribute(RESULT_ATTRIBUTE) == "frames"
    (browser,) = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
    results = results_of(table)
    for number in (3, 0):
        show_frame(browser, number)
        assert ventricle_ml(results.segmentation, results.volume) == pytest.approx(
            float(column(table, "Ventricle (ml)")[number]), abs=0.01
        )


def test_labels_lie_where_a_frame_under_a_transform_is_seen(beating, window):
    _, browser, proxy = beating
    turn, shift = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Turn"), vtk.vtkTransform()
    shift.Translate(30.0, 0.0, 0.0)
    centres = []
    for above in (None, turn.GetID()):  # the phantom stays where it is in the world, whatever grid sees it
        turn.SetMatrixTransformToParent(shift.GetMatrix())
        proxy.SetAndObserveTransformNodeID(above)
        run = follow(window)
        finish(window)
        show_frame(browser, 0)
        centres.append(segment_points(run.results.segmentation, "Ventricle").mean(axis=0))
    assert np.linalg.norm(np.subtract(*centres)) < 1.0
    assert run.task.written[0].grid.matrix[0, 3] - ijk_to_ras(phantom.patient("coarse"))[0, 3] == pytest.approx(30.0)


def test_frame_without_any_label_holds_no_segment_of_the_frame_before(beating, module):
    from CLMorphSlicerLib import nodes

    image = phantom.patient("coarse")
    labels = np.ones(image.GetSize()[::-1], np.uint8)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    for array, count in ((labels, 1), (labels * 0, 0), (labels, 1)):
        nodes.fill_segmentation(node, beating[2], array, ijk_to_ras(image), phantom.STRUCTURES)
        nodes.show_surfaces(node)
        assert node.GetSegmentation().GetNumberOfSegments() == count


def test_sequence_of_one_frame_has_one_row_and_no_curve(patient, window):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Still")
    sequence.SetIndexName("frame")
    sequence.SetIndexUnit("")
    sequence.SetDataNodeAtValue(patient, "7")
    window.logic.runner.start_process = fake_engine("frames_follow")
    results = window.logic.segment(sequence, model="phantom", frames="follow")
    assert column(results.table, "frame") == ["7"] and not slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    assert results.segmentation.GetSegmentation().GetNumberOfSegments() == 3


def test_real_engine_that_is_cancelled_among_the_frames_leaves_nothing(real_model, beating, window):
    window.ui.scopeSelector.currentIndex = 1
    window.ui.framesSelector.currentIndex = FOLLOW
    nodes = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}
    window.ui.runButton.click()
    run = window.logic.run
    wait_until(lambda: run.job.progress.step.startswith("frame ") or not run.active, "a frame that follows")
    assert run.active and window.ui.statusLabel.text.startswith("Frame "), run.error
    window.ui.cancelButton.click()
    finish(window)
    assert run.state.value == "cancelled" and run.job._process.poll() is not None and leftovers() == []
    assert {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")} == nodes


def test_real_engine_segments_one_frame_and_the_others_follow(real_model, models_folder, beating, window):
    _, browser, proxy = beating
    make_heart(models_folder)
    window.ui.scopeSelector.currentIndex = 1
    window.ui.effortSelector.currentIndex = 0  # Fast
    window.ui.runButton.click()
    run = window.logic.run
    finish(window)
    assert isinstance(run.task, Following) and run.error is None, run.error
    assert leftovers() == [] and "Ejection fraction" in window.ui.statusLabel.text
    assert column(run.results.table, "time (ms)") == ["0", "40", "80", "120"]
    truth = sitk.Resample(phantom.atlas()[1], phantom.grid("coarse"), phantom.transform(), sitk.sitkNearestNeighbor)
    body = sitk.GetArrayFromImage(truth) == 1
    for number in range(4):
        show_frame(browser, number)
        segment = run.results.segmentation.GetSegmentation().GetSegmentIdBySegmentName("Body")
        found = slicer.util.arrayFromSegmentBinaryLabelmap(run.results.segmentation, segment, proxy) > 0
        assert 2 * np.sum(found & body) / (found.sum() + body.sum()) > 0.85
        told = float(column(run.results.table, "Body (ml)")[number])
        assert found.sum() * np.prod(proxy.GetSpacing()) / 1000.0 == pytest.approx(told, rel=1e-3)
