"""Fixtures of the engine's tests: a small atlas, an untrained model around it, a made-up scan, and the command."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from CLMorphCore.models import Atlas, Structure, load_model, save_atlas
from CLMorphCore.phantom import make_phantom

SIZE, SPACING_MM = (36, 40, 32), 1.5
# centre and radii (mm) about the middle of the grid, and brightness, of the structures
ELLIPSOIDS = {1: ((-9, -6, 2), (8, 9, 7), 900.0), 2: ((9, -5, -2), (7, 8, 9), 300.0), 3: ((0, 10, 1), (9, 7, 8), 700.0)}
STRUCTURES = (Structure(1, "Left part", "#d8654f", "SCT^1^Left part"), Structure(2, "Right part", "#4f8fd8"),
              Structure(3, "Back part", "#6fbf5f"))
CARD = """[model]
name = "tiny"
title = "Untrained network for tests"
version = "0.0"
purpose = "tests"
licence = "Apache-2.0"
commit = "none"
"""


@dataclass(frozen=True)
class Ran:
    """What one call of the command left: exit code, stdout and stderr (all of it, C libraries' lines too)."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums in one order only, and no competition for the cores."""
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


@pytest.fixture(scope="session")
def atlas() -> Atlas:
    """Three ellipsoids in a textured body on a slightly oblique grid."""
    return make_atlas()


def make_atlas(degrees: float = 4.0) -> Atlas:
    """A body (zero outside) with smooth texture and three labelled ellipsoids; the grid is turned by ``degrees``."""
    z, y, x = np.meshgrid(*[SPACING_MM * (np.arange(n) - (n - 1) / 2) for n in SIZE[::-1]], indexing="ij")
    body = (x / 24) ** 2 + (y / 27) ** 2 + (z / 21) ** 2 < 1
    intensity = 500 + 60 * np.sin(x / 4) * np.cos(y / 5) + 60 * np.sin(z / 4 + x / 9)
    labels = np.zeros(x.shape, np.uint8)
    for value, ((cx, cy, cz), (rx, ry, rz), brightness) in ELLIPSOIDS.items():
        inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 < 1
        intensity[inside] += brightness - 500
        labels[inside] = value
    image, labels = (sitk.GetImageFromArray(a) for a in (np.where(body, intensity, 0).astype(np.float32), labels))
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*np.deg2rad([degrees, -degrees, 2 * degrees]).tolist())
    for placed in (image, labels):
        placed.SetSpacing([SPACING_MM] * 3)
        placed.SetDirection(turn.GetMatrix())
        placed.SetOrigin((-30.0, 12.0, 40.0))
    return Atlas("ellipsoids", image, labels, STRUCTURES)


@pytest.fixture(scope="session")
def tiny_model(atlas, tmp_path_factory) -> Path:
    """Folder of a model bundle: a small pyramid with fresh weights (almost the identity) and the atlas."""
    from CLMorphCore.config import from_dict
    from CLMorphCore.networks import build
    from CLMorphCore.training import save_weights

    folder = tmp_path_factory.mktemp("models") / "tiny"
    config = from_dict({"network": {"name": "clmorph-pyramid", "channels": [4, 8, 8], "width": 8, "embedding": 8},
                        "data": {"spacing_mm": [2.0, 2.0, 2.0]}, "loss": {"regulariser": "diffusion"}})
    torch.manual_seed(0)
    save_weights(folder / "weights.safetensors", build(config.network.name, config.network.settings), config, step=0)
    (folder / "card.toml").write_text(CARD, encoding="utf-8")
    save_atlas(folder / "atlases" / "ellipsoids", atlas)
    return folder


@pytest.fixture(scope="session")
def model(tiny_model):
    """The model of ``tiny_model``, loaded."""
    return load_model(tiny_model)


@pytest.fixture(scope="session")
def phantom(atlas):
    """A subject made from the atlas by a known deformation, with noise, bias and an oblique grid."""
    return make_phantom(atlas, seed=3, deformation_mm=1.5)


@pytest.fixture(scope="session")
def scan(phantom, tmp_path_factory) -> Path:
    """The image file of ``phantom``; its labels lie beside it as labels.nii.gz."""
    folder = tmp_path_factory.mktemp("scan")
    sitk.WriteImage(phantom.image, str(folder / "scan.nii.gz"))
    sitk.WriteImage(phantom.labels, str(folder / "labels.nii.gz"))
    return folder / "scan.nii.gz"


@pytest.fixture
def clmorph(capfd) -> Callable[..., Ran]:
    """Runs the command in this process, on the CPU, without a progress bar unless the arguments say otherwise."""
    from CLMorphCore.cli import main

    def run(*arguments: object) -> Ran:
        words = [str(a) for a in arguments]
        for option, value in (("--device", "cpu"), ("--progress", "none")):
            if option not in words:
                words += [option, value]
        capfd.readouterr()
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
        return Ran(code, *capfd.readouterr())

    return run
