"""Brain extraction: what a made-up network sees in a made-up head, and the package's own masks of real ones."""

import os
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from CLMorphCore.errors import InputError
from CLMorphCore.extraction import weights
from CLMorphCore.extraction.brain import extract_brain, masked
from CLMorphCore.geometry import Grid, resample
from CLMorphCore.io.images import read_image

BESIDE = Path(__file__).parents[4] / "shared" / "data"
DATA = Path(os.environ["CLMORPH_DATA"]) if "CLMORPH_DATA" in os.environ else BESIDE if BESIDE.exists() else None
HEADS = DATA / "heads" if DATA is not None and (DATA / "heads").is_dir() else None
REAL = [
    "chris_t1.nii.gz",
    "ch2.nii.gz",
    "ms3d/patient01/study1_T2W.nii.gz",
    "ms3d/patient12/study1_T1W.nii.gz",
    "ms3d/patient12/study1_FLAIR.nii.gz",
]
real = pytest.mark.skipif(
    HEADS is None or not weights.installed(), reason="no real heads (CLMORPH_DATA) or deepbet is not installed"
)


class Brightest(torch.nn.Module):
    """Calls brain what is brighter than the mean by a standard deviation of what it is given."""

    def forward(self, cube: torch.Tensor) -> torch.Tensor:
        brain = torch.sigmoid((cube - 0.449 - 0.226) * 60)
        return torch.cat([1 - brain, brain], dim=1)


@pytest.fixture
def made_up_network(tmp_path, monkeypatch):
    path = tmp_path / "network.pt"
    torch.jit.script(Brightest()).save(str(path))
    monkeypatch.setattr(weights, "weights_path", lambda name: path)


def made_up_head():
    """A bright ellipsoid with a dark hole in grey surroundings, off the middle, and a bright crumb: (image, brain)."""
    z, y, x = np.indices((60, 80, 70), dtype=float)
    brain = ((z - 38) / 14) ** 2 + ((y - 36) / 22) ** 2 + ((x - 32) / 18) ** 2 < 1
    values = np.where(((z - 30) / 28) ** 2 + ((y - 40) / 36) ** 2 + ((x - 34) / 30) ** 2 < 1, 300.0, 0.0)
    values[brain] = 1000.0
    values[36:40, 34:38, 30:34] = 0.0
    values[5:9, 60:64, 30:34] = 1000.0
    images = [sitk.GetImageFromArray(array.astype(np.float32)) for array in (values, brain)]
    for image in images:
        image.SetSpacing((2.0, 2.0, 2.5))
        image.SetOrigin((-60.0, -90.0, 30.0))
    return images


def dice(found, expected):
    found, expected = (sitk.GetArrayFromImage(mask) > 0 for mask in (found, expected))
    return 2 * (found & expected).sum() / (found.sum() + expected.sum())


def test_finds_the_largest_bright_part_without_holes_and_crumbs(made_up_network):
    image, brain = made_up_head()
    found = extract_brain(image)
    assert found.mask.GetPixelID() == sitk.sitkUInt8 and Grid.of(found.mask) == Grid.of(image)
    assert dice(found.mask, brain) > 0.97
    values = sitk.GetArrayFromImage(found.mask)
    assert values[38, 36, 32] == 1 and values[7, 62, 32] == 0
    assert found.volume_ml == pytest.approx(values.sum() * 10 / 1000)
    assert 0.9 < found.certainty <= 1


@pytest.mark.parametrize("order", ["LAS", "RAS", "PIR", "ASL", "SRP"])
def test_a_reoriented_scan_has_the_same_brain(order, made_up_network):
    image, _ = made_up_head()
    turned = extract_brain(sitk.DICOMOrient(image, order)).mask
    assert dice(sitk.DICOMOrient(turned, "LPS"), extract_brain(image).mask) == 1


def test_an_oblique_scan_of_other_voxels_has_the_same_brain(made_up_network):
    image, brain = made_up_head()
    turn = sitk.Euler3DTransform(image.TransformContinuousIndexToPhysicalPoint((35, 40, 30)), 0.2, -0.3, 0.4)
    grid = Grid.of(image)
    direction = np.array(turn.GetMatrix()).reshape(3, 3)
    origin = turn.TransformPoint(grid.origin_mm)
    other = Grid((140, 100, 40), (1.0, 1.6, 3.75), origin, tuple(direction.ravel().tolist()))
    found = extract_brain(resample(image, other)).mask
    assert dice(found, resample(brain, other, labels=True)) > 0.95


def test_one_grey_value_and_no_brain_are_refused_in_one_line(made_up_network):
    for values in (np.ones((20, 20, 20)), np.random.default_rng(1).uniform(0, 1, (20, 20, 20)) * 1e-9 + 1.0):
        with pytest.raises(InputError, match="no brain was found in the scan") as refused:
            extract_brain(sitk.GetImageFromArray(values.astype(np.float32)))
        assert "\n" not in str(refused.value)


def test_a_masked_scan_has_padding_instead_of_its_head():
    image, brain = made_up_head()
    values, inside = sitk.GetArrayFromImage(masked(image, brain)), sitk.GetArrayFromImage(brain) > 0
    assert (values[inside] == sitk.GetArrayFromImage(image)[inside]).all() and (values[~inside] == 0).all()
    shifted = sitk.GetArrayFromImage(masked(image - 500.0, brain))
    assert (shifted[~inside] == -500).all()


def test_where_the_networks_are_not_installed_one_line_says_how(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    for files in (missing, lambda name: None, lambda name: []):
        monkeypatch.setattr(weights, "files", files)
        with pytest.raises(InputError, match=r"pip install --no-deps deepbet==\d"):
            weights.load(weights.EXTRACTOR)
        assert not weights.installed()


@real
@pytest.mark.parametrize("name", REAL)
def test_the_masks_are_those_of_the_package(name):
    """The package's own import needs its windows' toolkit: skipped where that is missing."""
    package, nibabel = pytest.importorskip("deepbet.bet"), pytest.importorskip("nibabel")
    _, mask, _ = package.BrainExtraction(no_gpu=True).run(nibabel.load(HEADS / name))
    image = read_image(HEADS / name)
    expected = sitk.GetImageFromArray(np.asarray(mask.dataobj).squeeze().T.astype(np.uint8))
    assert dice(extract_brain(image).mask, expected) >= 0.995


@real
def test_a_real_head_turned_and_resampled_has_the_same_brain():
    image = read_image(HEADS / "chris_t1.nii.gz")
    first = extract_brain(image).mask
    turned = extract_brain(sitk.DICOMOrient(image, "PIR")).mask
    assert dice(resample(turned, Grid.of(image), labels=True), first) == 1
    grid = Grid.of(image)
    thick = Grid((150, 180, 50), (1.2, 1.2, 4.0), grid.origin_mm, grid.direction)
    assert dice(extract_brain(resample(image, thick)).mask, resample(first, thick, labels=True)) > 0.95
