"""Several volumes: one press, one progress, one table; each has its own result, and what is done stays."""

import numpy as np
import phantom
import pytest
import SimpleITK as sitk
from qt_fixtures import begin, column, fake_engine, finish, wait_until

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
from CLMorphSlicerLib.job import Progress
from CLMorphSlicerLib.results import results_of


@pytest.fixture
def three(patient, headless, tmp_path):
    """Three volumes, the last one of a kind that is refused."""
    path = tmp_path / "Second.nii.gz"
    sitk.WriteImage(phantom.patient("coarse"), str(path))
    flat = slicer.util.addVolumeFromArray(np.ones((1, 6, 6), np.float32), name="Flat")
    return [patient, headless.load_volume(path), flat]


def test_several_volumes_get_results_of_their_own_and_one_table(three, window):
    import qt

    window.ui.scopeSelector.currentIndex = 2
    assert window.ui.statusLabel.text == "Choose the images to segment."
    for volume in three[:2]:
        window.ui.severalSelector.setCheckState(volume, qt.Qt.Checked)
    assert window.ui.runButton.enabled, window.ui.statusLabel.text
    run = begin(window, "works")
    finish(window)
    assert [results.volume for results in run.done] == three[:2]
    tables = [results_of(results.transform).table for results in run.done]
    assert tables[0] is tables[1] and column(tables[0], "Image") == ["Ärztin Größe 1", "Second"]
    names = [results.segmentation.GetName() for results in run.done]
    assert names == ["Ärztin Größe 1 segmentation", "Second segmentation"]


def test_one_of_several_that_cannot_be_used_is_told_before_anything_runs(three, window):
    import qt

    window.ui.scopeSelector.currentIndex = 2
    for volume in three:
        window.ui.severalSelector.setCheckState(volume, qt.Qt.Checked)
    assert "“Flat” has the size" in window.ui.statusLabel.text and not window.ui.runButton.enabled
    window.ui.severalSelector.setCheckState(three[2], qt.Qt.Unchecked)
    assert window.ui.runButton.enabled


def test_volumes_to_segment_are_kept_with_the_scene(three, window, headless, tmp_path):
    import qt

    window.ui.scopeSelector.currentIndex = 2
    window.ui.severalSelector.setCheckState(three[1], qt.Qt.Checked)
    headless.save_scene(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    headless.load_scene(tmp_path / "scene.mrb")
    assert [node.GetName() for node in window.ui.severalSelector.checkedNodes()] == ["Second"]


def test_failure_of_one_keeps_those_before_it(three, module):
    from CLMorphSlicerLib.job import EngineError
    from CLMorphSlicerLib.options import Options
    from CLMorphSlicerLib.series import Series, Volumes

    works, refuses = fake_engine("works"), fake_engine("refuses")
    started = []

    def start(command, folder):
        started.append(folder)
        return (works if len(started) == 1 else refuses)(command, folder)

    series = Series(Volumes(three[:2], Options(model="phantom")), start=start)
    wait_until(lambda: series.poll() and not series.active)
    assert isinstance(series.error, EngineError) and "Second (2 of 2): the image has 2 slices" in str(series.error)
    assert len(series.done) == 1 and series.results.segmentation.GetScene() is slicer.mrmlScene


def test_progress_is_that_of_all(three, module):
    from CLMorphSlicerLib.options import Options
    from CLMorphSlicerLib.series import Series, Volumes

    now = [0.0]
    series = Series(Volumes(three[:2], Options(model="phantom")), start=fake_engine("works"), clock=lambda: now[0])
    series.run.job.progress = Progress("network", 0.5, 4.0)
    assert series.progress == Progress("Ärztin Größe 1 (1 of 2) · network", 0.25, None)
    wait_until(lambda: series.poll() and len(series.done) == 1)
    now[0] = 30.0
    series.run.job.progress = Progress("network", 0.5, 4.0)
    assert series.progress == Progress("Second (2 of 2) · network", 0.75, pytest.approx(10.0))
    series.abort("")
