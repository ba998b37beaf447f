"""Fixtures of the engine's tests: a small atlas, an untrained model around it, a made-up scan, and the command."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from aligned_once import aligned_once
from forked_reader import forked_reader
from made_up import ONE_STEP, Ellipsoid, ellipsoid_atlas, fresh_model
from made_up_faults import make_faulty_files

from CLMorphCore.bundles.atlas import Atlas, Structure
from CLMorphCore.bundles.model import load_model
from CLMorphCore.bundles.phantom import make_phantom

ELLIPSOIDS = {
    1: Ellipsoid((-9, -6, 2), (8, 9, 7), 900.0),
    2: Ellipsoid((9, -5, -2), (7, 8, 9), 300.0),
    3: Ellipsoid((0, 10, 1), (9, 7, 8), 700.0),
}
STRUCTURES = (
    Structure(1, "Left part", "#d8654f", "SCT^1^Left part"),
    Structure(2, "Right part", "#4f8fd8"),
    Structure(3, "Back part", "#6fbf5f"),
)
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


@pytest.fixture(scope="module", name="aligned_once")
def align_once():
    """No two images are aligned twice: for modules that are about other things."""
    with aligned_once():
        yield


@pytest.fixture(scope="module", name="forked_reader")
def fork_reader():
    """No file costs a start of Python: for folders that read many transforms."""
    with forked_reader():
        yield


@pytest.fixture(scope="session")
def atlas() -> Atlas:
    """Three ellipsoids in a textured body on a slightly oblique grid."""
    return oblique_atlas((27, 30, 24), 2.0)


@pytest.fixture(scope="session")
def fine_atlas() -> Atlas:
    """The same in smaller voxels, for what needs many of them or looks at parts of a millimetre."""
    return oblique_atlas((36, 40, 32), 1.5)


def oblique_atlas(size: tuple[int, int, int], spacing_mm: float) -> Atlas:
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*np.deg2rad([4.0, -4.0, 8.0]).tolist())
    return ellipsoid_atlas(
        size,
        spacing_mm,
        direction=turn.GetMatrix(),
        origin=(-30.0, 12.0, 40.0),
        ellipsoids=ELLIPSOIDS,
        structures=STRUCTURES,
    )


@pytest.fixture(scope="session")
def tiny_model(atlas, tmp_path_factory) -> Path:
    """Folder of a model bundle: a small pyramid with fresh weights (almost the identity) and the atlas."""
    folder = fresh_model(tmp_path_factory.mktemp("models") / "tiny", atlas)
    (folder / "card.toml").write_text(CARD, encoding="utf-8")
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


@pytest.fixture
def place(tmp_path, scan, tiny_model):
    """A folder of the user's with everything that a verb reads."""
    for name in ("scan", "labels", "other"):
        shutil.copy(scan if name != "labels" else scan.with_name("labels.nii.gz"), tmp_path / f"{name}.nii.gz")
    shutil.copytree(tiny_model, tmp_path / "model")
    shutil.copytree(tiny_model / "atlases" / "ellipsoids", tmp_path / "atlases" / "one")
    (tmp_path / "fast.toml").write_text(ONE_STEP, encoding="utf-8")
    rows = "".join(f"{n},scan.nii.gz,labels.nii.gz,{split}\n" for n, split in (("a", "train"), ("b", "train")))
    (tmp_path / "m.csv").write_text("subject,image,labels,split\n" + rows + "c,scan.nii.gz,labels.nii.gz,test\n")
    sitk.WriteTransform(sitk.AffineTransform(3), str(tmp_path / "t.tfm"))
    return tmp_path


@pytest.fixture(scope="session")
def bad(tmp_path_factory, atlas, phantom, tiny_model) -> Path:
    """A folder of files with one fault each."""
    folder = tmp_path_factory.mktemp("bad")
    make_faulty_files(folder, atlas, phantom, tiny_model)
    return folder
