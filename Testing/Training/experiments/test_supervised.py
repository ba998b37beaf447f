"""The supervised U-Net learns labels, and its classes reach the patient's grid once, through the affine alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from made_up import ellipsoid_atlas

from CLMorphCore.bundles import checkpoint
from CLMorphCore.bundles.config import to_dict
from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.errors import InputError
from CLMorphCore.geometry import Grid, resample, to_image, to_tensor
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.network_input import network_grid, network_input
from CLMorphCore.training.batches import Dataset, Volume
from Training.experiments.supervised import (
    Labeller,
    UNet,
    UNetConfig,
    draw_batch,
    fit,
    from_dict,
    label_agreement,
    network_of,
    validate,
)

CPU = torch.device("cpu")
STEPS = 60
TREE = {"network": {"name": "unet", "channels": [8, 16], "labels": [1, 2]}, "data": {"spacing_mm": [3.0, 3.0, 3.0]}}
SMALL = TREE | {
    "network": {"name": "unet", "channels": [4, 8], "labels": [1, 2]},
    "training": {"steps": 6, "batch_size": 2, "checkpoint_every": 2, "validate_every": 3},
    "augment": {"flip": "x", "rotation_degrees": 5.0, "crop": [12, 16, 8]},
}


@pytest.fixture(scope="module")
def atlas():
    return ellipsoid_atlas((36, 40, 32))


@pytest.fixture(scope="module")
def trained(atlas):
    """A U-Net that learned the atlas' labels by heart in ``STEPS`` steps."""
    config = from_dict(TREE)
    torch.manual_seed(0)
    network = network_of(config)
    grid = network_grid(atlas.image, config.data.spacing_mm, margin_voxels=(4, 4, 4), divisor=network.divisor)
    image = network_input(atlas.image, grid)
    labels = to_tensor(resample(atlas.labels, grid, labels=True))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(STEPS):
        noisy = image * (1 + 0.2 * torch.randn(1)) + 0.1 * torch.randn_like(image)
        optimizer.zero_grad()
        label_agreement(network(noisy), labels, network.label_values).backward()
        optimizer.step()
    return Labeller(config, network.eval(), CPU)


@pytest.fixture(scope="module")
def volumes():
    """Four labelled volumes, of one train split, and their image as random numbers."""
    made = []
    for n in range(4):
        image = torch.rand(1, 1, 8, 16, 16, generator=torch.Generator().manual_seed(n))
        made.append(Volume(f"v{n}", image, (3 * image).floor().int()))
    return made


def on_an_oblique_grid(image, labels):
    """Both on a turned grid of thick slices."""
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.3, -0.2, 0.25)
    old, spacing, size = Grid.of(image), (1.3, 1.7, 3.0), (56, 48, 26)
    matrix = np.array(turn.GetMatrix()).reshape(3, 3) @ np.array(old.direction).reshape(3, 3)
    origin = old.corners_mm().mean(axis=0) - matrix @ ((np.array(size) - 1) / 2 * np.array(spacing))
    grid = Grid(size, spacing, tuple(origin.tolist()), tuple(matrix.ravel().tolist()))
    return resample(image, grid, outside=0.0), resample(labels, grid, labels=True)


def test_it_learns_to_label_an_image(trained, atlas):
    found, seconds = trained.segment(atlas.image, atlas.image, sitk.AffineTransform(3))
    scores = dice_per_label(found, sitk.Cast(atlas.labels, sitk.sitkInt32))
    assert min(scores.values()) > 0.7 and seconds > 0  # voxels of 3 mm, structures of 14


def test_its_classes_reach_an_oblique_anisotropic_grid_through_the_affine(trained, atlas):
    phantom = make_phantom(atlas, seed=3, deformation_mm=1.0)
    image, labels = on_an_oblique_grid(phantom.image, phantom.labels)
    away = sitk.TranslationTransform(3, (30.0, -20.0, 5.0))  # image → reference
    for moved in (image, labels):
        moved.SetOrigin(np.subtract(moved.GetOrigin(), away.GetOffset()).tolist())
    found, _ = trained.segment(image, atlas.image, away)
    assert Grid.of(found) == Grid.of(image)
    assert min(dice_per_label(found, sitk.Cast(labels, sitk.sitkInt32)).values()) > 0.6
    spacing, divisor = trained.config.data.spacing_mm, trained.network.divisor
    grid = network_grid(atlas.image, spacing, margin_voxels=(4, 4, 4), divisor=divisor)
    classes = to_image(trained.network.label(network_input(image, grid, away.GetInverse())), grid)
    expected = sitk.Resample(classes, image, away, sitk.sitkLabelLinear, 0)
    differ = sitk.GetArrayViewFromImage(expected) != sitk.GetArrayViewFromImage(found)
    assert differ.mean() < 1e-4  # a point midway between two voxels may fall to either


def test_the_loss_is_zero_for_sure_and_right_classes_alone():
    labels = torch.zeros(1, 1, 4, 4, 4)
    labels[..., 2:] = 7
    sure = torch.stack([labels[:, 0] == 0, labels[:, 0] == 7], dim=1) * 40.0
    for logits, expected in ((sure, 0.0), (torch.zeros_like(sure), np.log(2) + 0.5 - 0.25 / 33)):
        assert label_agreement(logits, labels, (0, 7)).item() == pytest.approx(expected, abs=0.01)


def test_every_weight_learns_and_thick_slices_are_left_alone():
    network = UNet(UNetConfig(channels=(4, 8, 8), flat_levels=1))
    assert network.divisor == (2, 4, 4)
    logits = network(torch.randn(2, 1, 6, 8, 12, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, 2, 6, 8, 12) and logits.dtype == torch.float32
    label_agreement(logits, torch.ones(2, 1, 6, 8, 12), network.label_values).backward()
    # A convolution's bias in front of a normalisation is cancelled by it.
    untouched = [name for name, p in network.named_parameters() if not p.grad.abs().max() > 0]
    assert [name for name in untouched if not name.endswith("bias")] == []


def test_it_is_shown_labelled_volumes_alone(volumes, tmp_path):
    config = from_dict(SMALL)
    data = Dataset(None, [replace(volumes[0], labels=None), volumes[1]], [])
    fit(config, data, tmp_path / "one", device=CPU)
    fit(config, Dataset(None, [volumes[1]], []), tmp_path / "same", device=CPU)
    one, same = (weights(tmp_path / name) for name in ("one", "same"))
    assert all(torch.equal(one[name], same[name]) for name in one)
    nothing = Dataset(None, [replace(volume, labels=None) for volume in volumes], volumes)
    with pytest.raises(InputError, match="no subject with split train has labels"):
        fit(config, nothing, tmp_path / "nothing", device=CPU)
    assert not (tmp_path / "nothing").exists()


def test_labels_are_flipped_rotated_and_cropped_with_their_image():
    labels = (torch.arange(16) % 4).float().view(1, 1, 1, 1, 16).expand(1, 1, 16, 16, 16).contiguous()
    config = from_dict(SMALL | {"augment": {"flip": "x", "rotation_degrees": 25.0, "crop": [12, 16, 8]}})
    volume = Volume("v", labels + 0.25, labels.to(torch.uint8))
    for step in range(5):
        images, found = draw_batch([volume], config, (4, 4, 4), step, CPU)
        assert images.shape == found.shape == (2, 1, 8, 16, 12)
        assert set(found.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}
        assert (images - 0.25 - found).abs().median() < 0.5  # what is linear between voxels, and the nearest
        again = draw_batch([volume], config, (4, 4, 4), step, CPU)
        assert torch.equal(images, again[0]) and torch.equal(found, again[1])


def test_a_resumed_training_ends_in_the_same_weights_bit_for_bit(volumes, tmp_path):
    config, data = from_dict(SMALL), Dataset(None, volumes[:3], volumes[3:])
    fit(config, data, tmp_path / "whole", device=CPU)

    def interrupt(text, fraction):
        if text.startswith("training 3/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # one step after a checkpoint, so that this step is done again
        fit(config, data, tmp_path / "parts", device=CPU, progress=interrupt)
    fit(config, data, tmp_path / "parts", device=CPU, resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    logs = [[{k: v for k, v in r.items() if k != "seconds"} for r in records(tmp_path / n)] for n in ("whole", "parts")]
    assert logs[0] == logs[1] and [r["step"] for r in logs[0]] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert all(0 <= r["validation_dice"] <= 1 for r in logs[0] if "loss" not in r)
    other = from_dict(SMALL | {"training": SMALL["training"] | {"learning_rate": 0.5}})
    with pytest.raises(InputError, match="trained with other settings"):
        fit(other, data, tmp_path / "parts", device=CPU, resume=True)


def test_training_brings_the_loss_down(atlas, tmp_path):
    image, labels = to_tensor(atlas.image), to_tensor(atlas.labels)
    inside = (..., slice(8, 24), slice(8, 32), slice(4, 32))
    volume = Volume("v", (image[inside] - image.mean()) / image.std(), labels[inside])
    settings = {"steps": 12, "batch_size": 1, "learning_rate": 1e-2}
    fit(from_dict(TREE | {"training": settings}), Dataset(None, [volume], [volume]), tmp_path, device=CPU)
    losses = [r["loss"] for r in records(tmp_path) if "loss" in r]
    assert len(losses) == 12 and losses[-1] < 0.7 * losses[0]


def test_validation_needs_labels(volumes):
    network = network_of(from_dict(SMALL))
    assert validate(network, [replace(volumes[0], labels=None)], CPU) == {}
    assert network.training


def test_its_configuration_is_the_engines_but_for_the_network():
    config = from_dict(SMALL)
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert config.network.settings == UNetConfig(labels=(1, 2), channels=(4, 8))
    assert (config.training.schedule, config.training.learning_rate, config.loss.contrast) == ("cosine", 1e-3, 0.0)
    with pytest.raises(InputError, match=r"network\.chanels; did you mean channels"):
        from_dict(SMALL | {"network": {"name": "unet", "chanels": [4]}})


@pytest.mark.parametrize("labels", [(), (0, 1), (2, 2)])
def test_classes_that_are_none_are_refused(labels):
    with pytest.raises(InputError, match=r"network.labels is .*; expected the values of the labels"):
        UNetConfig(labels=labels)


def weights(run):
    return checkpoint.load(run / "model" / "weights.safetensors")[0]


def records(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
