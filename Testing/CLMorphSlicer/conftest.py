"""Fixtures of the Slicer module's tests: a scene of the real MRML library, without the application."""

import ctypes.util
import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Slicer puts the scripted module's folder on sys.path, so that `CLMorphSlicerLib` has this name there too
sys.path += [str(HERE), str(HERE.parents[1] / "CLMorphSlicer")]

if importlib.util.find_spec("qt_fixtures") is not None:
    from qt_fixtures import *  # noqa: F403  (fixtures must be names of a conftest)


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
