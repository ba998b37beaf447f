"""What is LVM-S3's own: a latent code that alone, with the moving image, makes a smooth field at three scales."""

from dataclasses import replace

import pytest
import torch

from CLMorphCore.bundles.config import from_dict
from CLMorphCore.losses import diffusion
from CLMorphCore.networks.baselines.lvm import LVM, LVMConfig, smoothed
from CLMorphCore.spatial import compose, integrate
from CLMorphCore.training.batches import Batch
from CLMorphCore.training.objective import loss_terms

SHAPE = (16, 16, 32)
CONFIG = from_dict({"network": {"name": "lvm-s3", "channels": [4, 8, 8, 8], "latent": 6}})


def small(**changes):
    """A network whose heads answer with fields of about a voxel."""
    torch.manual_seed(0)
    network = LVM(replace(CONFIG.network.settings, **changes)).eval()
    for head in network.decoder.heads:
        torch.nn.init.normal_(head.weight, 0.0, 0.3)
    return network


def images(seed, shape=SHAPE):
    noise = torch.randn(2, 1, 6, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=shape, mode="trilinear", align_corners=True)


def test_the_divergence_is_zero_where_the_posterior_is_the_prior():
    network = small()
    terms = loss_terms(CONFIG.loss, Batch(images(0), images(1)), network(images(0), images(1)))
    assert terms["regulariser"] > 0
    torch.nn.init.zeros_(network.posterior.weight)
    terms = loss_terms(CONFIG.loss, Batch(images(0), images(1)), network(images(0), images(1)))
    assert terms["regulariser"] == 0


def test_the_code_and_the_moving_image_alone_make_the_field():
    network = small()
    prediction = network(images(0), images(1))
    assert prediction.mean.shape == prediction.log_variance.shape == (2, 6)
    finest, *_ = network.decode(prediction.mean, images(1))
    assert torch.equal(prediction.displacement, integrate(finest))
    assert not torch.allclose(network.decode(prediction.mean + 1, images(1))[0], finest, atol=1e-3)
    assert not torch.allclose(network.decode(prediction.mean, images(2))[0], finest, atol=1e-3)


def test_the_code_is_sampled_in_training_only():
    network = small().train()
    first, second = (network(images(0), images(1)) for _ in range(2))
    assert torch.equal(first.mean, second.mean) and not torch.equal(first.displacement, second.displacement)


def test_fields_at_three_scales():
    prediction = small()(images(0), images(1))
    assert [tuple(f.shape[2:]) for f in (prediction.displacement, *prediction.coarse)] == [SHAPE, (8, 8, 16), (4, 4, 8)]


def test_the_inverse_undoes_the_displacement():
    prediction = small()(images(0), images(1))
    assert prediction.displacement.abs().max() > 0.3
    assert compose(prediction.displacement, prediction.inverse).abs().mean() < 0.01


def test_more_smoothing_makes_a_smoother_velocity():
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    rough, smooth = (small(smoothing_voxels=(s, s, s)).decode(z, images(1))[0] for s in (0.5, 3.0))
    assert diffusion(smooth) < 0.3 * diffusion(rough)


def test_the_gaussian_has_its_widths_and_keeps_constants():
    point = torch.zeros(1, 2, 21, 25, 29)
    point[:, :, 10, 12, 14] = 1.0
    spread = smoothed(point, (1.0, 1.5, 2.0))[0, 1]
    assert spread.sum().item() == pytest.approx(1.0, abs=1e-5)
    for axis, sigma in enumerate((1.0, 1.5, 2.0)):
        profile = spread.sum(dim=[a for a in range(3) if a != axis])
        offset = torch.arange(len(profile)) - len(profile) // 2
        assert (profile * offset**2).sum().item() == pytest.approx(sigma**2, rel=0.05)
    ones = torch.ones(1, 3, 4, 5, 6)
    torch.testing.assert_close(smoothed(ones, (3.0, 3.0, 3.0)), ones)


def test_smoothing_is_the_same_length_at_every_level():
    network = LVM(LVMConfig(channels=(4, 4, 4, 4), smoothing_voxels=(1.0, 4.0, 4.0), flat_levels=1))
    assert [network._sigma(level) for level in range(3)] == [(1.0, 4.0, 4.0), (1.0, 2.0, 2.0), (0.5, 1.0, 1.0)]


def test_any_grid_fits():
    for shape in ((8, 8, 8), (8, 40, 24)):
        assert small()(images(0, shape), images(1, shape)).displacement.shape[2:] == shape
