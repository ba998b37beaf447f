"""Fixtures of the Slicer module's tests: a scene of the real MRML library, without the application."""

import ctypes.util
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Slicer puts the scripted module's folder on sys.path, so that `CLMorphSlicerLib` has this name there too
sys.path += [str(HERE), str(HERE.parents[1] / "CLMorphSlicer")]

if importlib.util.find_spec("qt_fixtures") is not None:
    from qt_fixtures import *  # fixtures must be names of a conftest


def missing_for_scene() -> str | None:
    """Say what keeps a headless scene from running here, or None."""
    if importlib.util.find_spec("slicer_core") is None:
        return "the MRML library is not installed: pip install slicer-core==5.12.4.0"
    if ctypes.util.find_library("EGL") is None:
        return "off-screen drawing needs EGL: apt-get install libegl1 libgl1 libgl1-mesa-dri"
    return None


@pytest.fixture
def headless():
    """An empty scene of a headless Slicer (see standins/scene.py)."""
    reason = missing_for_scene()
    if reason:
        pytest.skip(reason)
    from standins.scene import HeadlessSlicer

    with HeadlessSlicer() as slicer_without_application:
        yield slicer_without_application


@dataclass(frozen=True)
class Case:
    """A phantom patient in the scene, and what the engine wrote for it."""

    volume: object
    image: Path  # as it was loaded into the scene
    output: Path
    atlas: Path


@pytest.fixture(scope="session")
def phantom_files(tmp_path_factory):
    """Folder with Patient.nii.gz, by name of the grid and size of the deformation: written once, for all tests."""
    written = {}

    def files(grid_name, amplitude_mm=7.0):
        import phantom
        import SimpleITK as sitk

        key = (grid_name, amplitude_mm)
        if key not in written:
            written[key] = tmp_path_factory.mktemp(grid_name)
            sitk.WriteImage(phantom.patient(*key), str(written[key] / "Patient.nii.gz"))
        return written[key]

    return files


@pytest.fixture
def phantom_case(headless, phantom_files):
    """Make a Case on one of the phantom's grids: node -> file -> what the engine would write."""

    def case(grid_name="RAS", amplitude_mm=7.0):
        import phantom
        from CLMorphSlicerLib import exporting

        folder = phantom_files(grid_name, amplitude_mm)
        volume = headless.load_volume(folder / "Patient.nii.gz")
        if not (folder / "output").exists():
            exporting.export_volume(volume, folder / "input.nii.gz")
            phantom.write_engine_output(folder / "output", folder / "input.nii.gz", amplitude_mm)
        return Case(volume, folder / "Patient.nii.gz", folder / "output", folder / "atlas.nii.gz")

    return case
