"""A folder of made-up scans, a tiny plan and a run that nobody stopped, for the tests of whole trainings."""

from contextlib import contextmanager
from functools import partial

import pytest
import SimpleITK as sitk
import torch
from made_up import Ellipsoid, ellipsoid_atlas

from CLMorphCore.bundles.atlas import Structure
from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.bundles.refinement import Refinement
from CLMorphCore.io.layouts import find_scans
from CLMorphCore.tissue import choosing
from CLMorphCore.training.plan import read_plan
from CLMorphCore.training.workflow import train_scans

PLAN = """
[network]
name = "clmorph-pyramid"
channels = [4, 8, 8]
width = 8
embedding = 8
[data]
spacing_mm = [4.0, 4.0, 4.0]
alignment = "centres"
[loss]
similarity = "lncc"
window_voxels = 5
regulariser = "diffusion"
contrast = 0
symmetric = true
[augment]
flip = "none"
[training]
steps = 8
batch_size = 1
learning_rate = 1e-3
checkpoint_every = 3
validate_every = 4
[atlas]
subjects = 3
"""
CPU = torch.device("cpu")
ELLIPSOIDS = {
    1: Ellipsoid((-9, -6, 2), (8, 9, 7), 900.0),
    2: Ellipsoid((9, -5, -2), (7, 8, 9), 300.0),
    3: Ellipsoid((0, 10, 1), (9, 7, 8), 700.0),
}
STRUCTURES = [Structure(value, str(value), "#000000") for value in ELLIPSOIDS]


@pytest.fixture(scope="session", autouse=True)
def short_measuring():
    """A training's step is measured on a smaller volume, which takes a tenth of the time and tells nearly the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("CLMorphCore.training.measuring.CPU_VOXELS", 15_000)
        yield


@contextmanager
def quick_stages():
    """Quality fitted without scans of another organ, which are large; refinement tried for a few steps only, and few
    settings of the tissue model."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SMOOTHING_VOXELS", "EXPONENTS", "BACKGROUNDS"):
            patch.setattr(choosing, name, getattr(choosing, name)[:2])
        patch.setattr("CLMorphCore.training.workflow.bundled_models", list)
        patch.setattr("CLMorphCore.training.workflow.Refinement", partial(Refinement, steps=3))
        yield


@pytest.fixture
def quick():
    """A training's last stages in less time."""
    with quick_stages():
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Six labelled scans with their splits and a table of names, as other programs write it, and a tiny plan."""
    folder = tmp_path_factory.mktemp("organ")
    atlas = ellipsoid_atlas((24, 27, 22), 2.2, ellipsoids=ELLIPSOIDS, structures=STRUCTURES)
    for seed in range(6):
        phantom = make_phantom(atlas, seed=seed, deformation_mm=1.0)
        sitk.WriteImage(phantom.image, str(folder / f"s{seed}.nii.gz"))
        sitk.WriteImage(phantom.labels, str(folder / f"s{seed}_labels.nii.gz"))
    splits = ("train", "train", "train", "validation", "validation", "test")
    (folder / "split.csv").write_text("subject,split\n" + "".join(f"s{n},{s}\n" for n, s in enumerate(splits)))
    (folder / "labels.csv").write_text("Label,Structure\n1,First part\n2,Second part\n")
    return folder


@pytest.fixture(scope="session")
def plan_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    path.write_text(PLAN)
    return path


@pytest.fixture(scope="session")
def made(folder, plan_file, tmp_path_factory):
    """A run that nobody stopped."""
    run = tmp_path_factory.mktemp("made") / "run"
    with quick_stages():
        train_scans(find_scans(folder), run, minutes=1.0, device=CPU, plan=read_plan(plan_file))
    return run
