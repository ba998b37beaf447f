"""Fixtures of the window: the real module and its real .ui over the real scene, with stand-ins for the application."""

import csv
import importlib.util
import json
import os
import shutil
import sys
import time
from pathlib import Path

import phantom
import pytest
import SimpleITK as sitk

ROOT = Path(__file__).parents[2]
FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
TIME_OUT_S = 60  # a safety net: what is waited for takes some hundred milliseconds


def fake_engine(mood: str):
    """A start(command, folder) that runs fake_engine.py in place of the engine."""
    from CLMorphSlicerLib.job import start_process

    def start(command: list[str], folder: Path):
        told = json.loads((folder / "arguments.json").read_text(encoding="ascii"))
        return start_process([sys.executable, str(FAKE_ENGINE), mood, *told["arguments"]], folder)

    return start


def wait_until(condition, what: str = "it") -> None:
    """Let the event loop run, once at least, until a condition holds."""
    from standins import pythonqt

    end = time.monotonic() + TIME_OUT_S
    pythonqt.application().processEvents()
    while not condition():
        assert time.monotonic() < end, f"waited {TIME_OUT_S} s for {what}"
        time.sleep(0.002)
        pythonqt.application().processEvents()


def node_ids() -> set[str]:
    import slicer.util

    return {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}


def leftovers() -> list[str]:
    """Folders of runs that were not removed."""
    import slicer

    return [path.name for path in Path(slicer.app.temporaryPath).glob("CLMorph-*")]


def segment_names(segmentation_node) -> list[str]:
    segmentation = segmentation_node.GetSegmentation()
    return [segmentation.GetNthSegment(i).GetName() for i in range(segmentation.GetNumberOfSegments())]


def column(table_node, name: str) -> list[str]:
    table = table_node.GetTable()
    values = table.GetColumnByName(name)
    return [values.GetVariantValue(row).ToString() for row in range(table.GetNumberOfRows())]


def choose_effort(window, name: str) -> None:
    box = window.ui.effortSelector
    box.currentIndex = [box.itemData(index) for index in range(box.count)].index(name)


def begin(window, mood: str):
    """Press the button with a fake engine of some mood; returns the run."""
    window.logic.runner.start_process = fake_engine(mood)
    window.ui.runButton.click()
    assert window.logic.run is not None, window.ui.statusLabel.text
    return window.logic.run


def finish(window) -> None:
    wait_until(lambda: not window.logic.running and not window.logic.runner.timer.isActive(), "the end of the run")


def get_started(window, mood: str):
    run = begin(window, mood)
    wait_until(lambda: run.job.progress.fraction > 0 and window.ui.progressBar.value > 0, "progress")
    return run


def write_bundle(folder: Path, **card: str) -> Path:
    """A model bundle with the phantom's atlas and no weights."""
    atlas = folder / "atlases" / "phantom"
    atlas.mkdir(parents=True)
    image, labels = phantom.atlas()
    sitk.WriteImage(image, str(atlas / "image.nii.gz"))
    sitk.WriteImage(labels, str(atlas / "labels.nii.gz"))
    with open(atlas / "labels.csv", "w", encoding="utf-8", newline="") as file:
        names = ("value", "name", "color", "terminology")
        csv.writer(file).writerows([names, *([s[name] for name in names] for s in phantom.STRUCTURES)])
    lines = [f'{key} = "{value}"' for key, value in {"name": folder.name, "title": "Phantom", **card}.items()]
    (folder / "card.toml").write_text("[model]\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return folder


def add_atlases(bundle: Path, *names: str) -> None:
    """Give a bundle further atlases, copies of the phantom's."""
    for name in names:
        shutil.copytree(bundle / "atlases" / "phantom", bundle / "atlases" / name)


@pytest.fixture(scope="session", autouse=True)
def phantom_cache(tmp_path_factory) -> None:
    """Where fake_engine.py keeps what it makes."""
    os.environ["PHANTOM_CACHE"] = str(tmp_path_factory.mktemp("phantom"))


@pytest.fixture(scope="session")
def real_weights(tmp_path_factory) -> Path:
    """Weights of a small network, as untrained as it was made; skips where the engine's packages are missing."""
    pytest.importorskip("torch", reason="the real engine needs torch")
    sys.path.append(str(ROOT))
    from CLMorphCore import networks
    from CLMorphCore.bundles import checkpoint, config

    network = {"name": "clmorph", "channels": [4, 4, 4], "embedding": 8, "norm": "none", "diffeomorphic": True}
    settings = config.from_dict({"network": network, "data": {"spacing_mm": [4.0, 4.0, 4.0]}})
    made = networks.build("clmorph", settings.network.settings)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    checkpoint.save(path, made.state_dict(), {"config": config.to_dict(settings)})
    return path


@pytest.fixture
def real_model(real_weights, models_folder) -> Path:
    """The one shipped model, with weights that the real engine takes."""
    return shutil.copy(real_weights, models_folder / "phantom")


@pytest.fixture
def models_folder(tmp_path, monkeypatch):
    """A folder of shipped models with one in it, named phantom."""
    from CLMorphSlicerLib import models

    write_bundle(tmp_path / "models" / "phantom", purpose="Tests", modality="MRI T1", anatomy="Head")
    monkeypatch.setattr(models, "models_folder", lambda: tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def looks_for_both(models_folder):
    """The shipped model has a locator."""
    from CLMorphSlicerLib import models

    with open(models_folder / "phantom" / "card.toml", "a", encoding="utf-8") as file:
        file.write('\n[locator]\nmodel = "brain"\nleft = 17\nright = 53\n')
    models._cards_in.cache_clear()


@pytest.fixture
def module(headless, models_folder, monkeypatch):
    """The real CLMorphSlicer.py, on a scene without nodes; all packages count as installed."""
    if importlib.util.find_spec("PySide6") is None:
        pytest.skip("the window's tests need PySide6: pip install PySide6-Essentials")
    from standins import application

    application.slicer_with_qt(headless)
    loaded = application.load_module()
    from CLMorphSlicerLib import runner

    monkeypatch.setattr(loaded.dependencies, "is_installed", lambda requirement: True)
    monkeypatch.setattr(runner, "POLL_MS", 10)  # a run of the played engine takes less than Slicer's tenth of a second
    return loaded


@pytest.fixture
def patient(module, headless, tmp_path):
    """A volume node of the phantom's patient."""
    path = tmp_path / "Ärztin Größe 1.nii.gz"
    sitk.WriteImage(phantom.patient("RAS"), str(path))
    return headless.load_volume(path)


@pytest.fixture
def window(module):
    """The panel as it is when the user opens the module."""
    from standins import application

    widget = application.make_widget(module)
    yield widget
    widget.cleanup()  # a second time, where a test has done so
    widget.parent.deleteLater()
    wait_until(lambda: True)


@pytest.fixture
def beating(patient, window):
    """(sequence, browser, proxy) of four small frames at 0, 40, 80, 120 ms: the phantom, the last two brighter."""
    import numpy as np
    import slicer.util
    from CLMorphSlicerLib.geometry import ijk_to_ras

    image = phantom.patient("coarse")
    patient.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(image)))
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Heart")
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("ms")
    for number, factor in enumerate((1, 2, 10, 11)):
        slicer.util.updateVolumeFromArray(patient, sitk.GetArrayFromImage(image) * np.int16(factor))
        sequence.SetDataNodeAtValue(patient, str(40 * number))
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Player")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateAllProxyNodes()
    proxy = browser.GetProxyNode(sequence)
    window.ui.inputVolumeSelector.setCurrentNode(proxy)
    return sequence, browser, proxy


def show_frame(browser, number: int) -> None:
    import slicer

    browser.SetSelectedItemNumber(number)
    slicer.modules.sequences.logic().UpdateAllProxyNodes()
