"""The supervised U-Net learns labels, and its own classes reach the patient's grid once, through the affine alone."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from CLMorphCore.bundles.atlas import save_atlas
from CLMorphCore.bundles.config import from_dict
from CLMorphCore.bundles.model import load_model
from CLMorphCore.errors import InputError
from CLMorphCore.evaluation import evaluate
from CLMorphCore.fusion import choose_atlases
from CLMorphCore.geometry import Grid, resample, to_tensor
from CLMorphCore.io.manifest import Subject
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.network_input import network_grid, network_input
from CLMorphCore.networks import build
from CLMorphCore.networks.baselines.unet import UNet, UNetConfig
from CLMorphCore.registration import register
from CLMorphCore.segmentation import segment
from CLMorphCore.training.batches import Batch
from CLMorphCore.training.loop import save_weights
from CLMorphCore.training.objective import loss_terms, weighted

STEPS = 60
SETTINGS = {
    "network": {"name": "unet", "channels": [8, 16, 16], "labels": [1, 2, 3]},
    "data": {"spacing_mm": [3.0, 3.0, 3.0]},
}


@pytest.fixture(scope="module")
def trained(atlas, tmp_path_factory):
    """A model bundle whose U-Net learned the atlas' labels by heart in ``STEPS`` steps."""
    config = from_dict(SETTINGS)
    torch.manual_seed(0)
    network = build(config.network.name, config.network.settings)
    grid = network_grid(atlas.image, config.data.spacing_mm, margin_voxels=(4, 4, 4), divisor=network.divisor)
    image = network_input(atlas.image, grid)
    labels = to_tensor(resample(atlas.labels, grid, labels=True))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(STEPS):
        noisy = image * (1 + 0.2 * torch.randn(1)) + 0.1 * torch.randn_like(image)
        terms = loss_terms(
            config.loss, Batch(noisy, image, labels), network(noisy, image), label_values=network.label_values
        )
        optimizer.zero_grad()
        weighted(config.loss, terms).backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("unet")
    save_weights(folder / "weights.safetensors", network, config, step=STEPS)
    save_atlas(folder / "atlases" / "ellipsoids", atlas)
    return load_model(folder)


@pytest.fixture(scope="module")
def oblique(phantom):
    """The phantom's scan and labels on a turned grid of thick slices."""
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.3, -0.2, 0.25)
    old, spacing, size = Grid.of(phantom.image), (1.3, 1.7, 3.0), (56, 48, 26)
    matrix = np.array(turn.GetMatrix()).reshape(3, 3) @ np.array(old.direction).reshape(3, 3)
    origin = old.corners_mm().mean(axis=0) - matrix @ ((np.array(size) - 1) / 2 * np.array(spacing))
    grid = Grid(size, spacing, tuple(origin.tolist()), tuple(matrix.ravel().tolist()))
    return resample(phantom.image, grid, outside=0.0), resample(phantom.labels, grid, labels=True)


@pytest.fixture(scope="module")
def segmented(trained, oblique):
    return segment(oblique[0], trained)


def test_it_learns_to_label_a_phantom(trained, atlas):
    found = segment(atlas.image, trained, affine=sitk.AffineTransform(3))
    scores = dice_per_label(found.labels, sitk.Cast(atlas.labels, sitk.sitkInt32))
    assert min(scores.values()) > 0.7  # voxels of 3 mm, structures of 16


def test_its_classes_reach_an_oblique_anisotropic_grid(segmented, oblique):
    registration = segmented.registration
    expected = sitk.Resample(registration.classes, oblique[0], registration.affine, sitk.sitkLabelLinear, 0)
    assert Grid.of(segmented.labels) == Grid.of(oblique[0])
    differ = sitk.GetArrayViewFromImage(expected) != sitk.GetArrayViewFromImage(segmented.labels)
    assert differ.mean() < 1e-4  # a point midway between two voxels may fall to either
    assert min(dice_per_label(segmented.labels, sitk.Cast(oblique[1], sitk.sitkInt32)).values()) > 0.6


def test_the_atlas_labels_have_no_part_in_it(trained, oblique, atlas, segmented):
    emptier = sitk.Cast(atlas.labels == 1, sitk.sitkUInt8)
    own = type(atlas)("one label", atlas.image, emptier, atlas.structures[:1])
    found = segment(oblique[0], trained, atlases=[own], affine=segmented.registration.affine)
    assert (sitk.GetArrayViewFromImage(found.labels) == sitk.GetArrayViewFromImage(segmented.labels)).all()
    assert [s["name"] for s in found.report["structures"]] == ["Left part", "Label 2", "Label 3"]


def test_the_transform_is_the_affine_and_the_report_says_so(segmented, tmp_path):
    segmented.save(tmp_path)
    transform, affine = (sitk.ReadTransform(str(tmp_path / f"{name}.h5")) for name in ("transform", "affine"))
    inverse = sitk.ReadTransform(str(tmp_path / "inverse.h5"))
    for point in ((0.0, 0.0, 0.0), (-20.0, 30.0, 60.0)):
        assert transform.TransformPoint(point) == affine.TransformPoint(point)
        np.testing.assert_allclose(inverse.TransformPoint(transform.TransformPoint(point)), point, atol=1e-6)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["labels_from"] == "network" and report["similarity"]["affine"] == report["similarity"]["warped"]
    assert any("the transform is the affine alignment, nothing was deformed" in w for w in report["warnings"])
    assert "nothing was deformed" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_it_is_evaluated_like_any_model(trained, scan):
    found = evaluate(trained, [Subject("phantom", scan, scan.with_name("labels.nii.gz"), "test")])
    assert [row.name for row in found.rows] == ["Left part", "Right part", "Back part"]
    assert found.summary["folding_fraction_max"] == 0 and found.summary["dice"] > 0.6


def test_other_networks_give_no_classes(model, phantom, atlas):
    assert register(phantom.image, atlas.image, model, affine=sitk.AffineTransform(3)).classes is None


@pytest.mark.parametrize("labels", [(), (0, 1), (2, 2)])
def test_classes_that_are_none_are_refused(labels):
    with pytest.raises(InputError, match=r"network.labels is .*; expected the values of the labels"):
        UNet(UNetConfig(labels=labels))


def test_several_atlases_are_refused(trained, atlas):
    with pytest.raises(InputError, match="labels scans without an atlas"):
        choose_atlases(trained, [atlas, atlas])
