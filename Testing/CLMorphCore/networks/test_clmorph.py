"""What the paper asks of CLMorph's network."""

from dataclasses import replace

import pytest
import torch

from CLMorphCore.bundles.config import LossConfig
from CLMorphCore.networks.clmorph import CLMorph, CLMorphConfig
from CLMorphCore.training.batches import Batch
from CLMorphCore.training.objective import loss_terms

SHAPE = (24, 16, 32)


def small(**changes):
    torch.manual_seed(0)
    return CLMorph(replace(CLMorphConfig(), channels=(4, 8, 8), embedding=16, **changes))


def images(seed, pairs=2):
    noise = torch.randn(pairs, 1, 6, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=SHAPE, mode="trilinear", align_corners=True)


def test_starts_near_the_identity():
    assert small().eval()(images(0), images(1)).displacement.abs().max() < 0.01


def test_siamese_one_encoder_embeds_both_images():
    network = small().eval()
    fixed, moving = images(0), images(1)
    prediction = network(fixed, moving)
    torch.testing.assert_close(prediction.embeddings[0], network.embed(fixed), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(prediction.embeddings[1], network.embed(moving), atol=1e-5, rtol=1e-4)


def test_embeddings_tell_images_apart():
    embedded = torch.nn.functional.normalize(small().eval().embed(images(0, pairs=4)), dim=1)
    assert (embedded @ embedded.T - torch.eye(4)).max() < 0.999


def test_features_of_half_the_resolution_are_contrasted_voxel_by_voxel():
    network = small().eval()
    fixed, moving = images(0), images(1)
    prediction = network(fixed, moving)
    for image, of_image in zip((fixed, moving), prediction.features, strict=True):
        assert of_image.shape == (2, 8, *(n // 2 for n in SHAPE))
        torch.testing.assert_close(of_image, network.encoder(image)[1], atol=1e-5, rtol=1e-4)
    config = LossConfig(regulariser="diffusion", contrast=0.0, voxel_contrast=1.0)
    loss = loss_terms(config, Batch(fixed, moving), prediction)["voxel_contrast"]
    loss.backward()
    assert next(network.encoder.parameters()).grad is not None
    assert network.mean.weight.grad is not None  # through the map that warps the moving features
    one_level = CLMorph(CLMorphConfig(channels=(4,), embedding=16)).eval()
    assert one_level(fixed, moving).features[0].shape == (2, 4, *SHAPE)


def test_samples_in_training_and_takes_the_mean_at_test_time():
    network = small(norm="none")
    torch.nn.init.constant_(network.log_variance.bias, -4.0)
    network.train()
    first, second = (network(images(0), images(1)) for _ in range(2))
    torch.testing.assert_close(first.mean, second.mean)
    noise = (first.displacement - first.mean)[..., 5:-5, 5:-5, 5:-5]
    assert not torch.equal(first.displacement, second.displacement)
    assert noise.std().item() == pytest.approx(0.1353, rel=0.1)  # exp(−4 / 2): σ, not log σ²
    network.eval()
    assert torch.equal(network(images(0), images(1)).displacement, network(images(0), images(1)).displacement)


def test_thick_slices_are_not_halved_at_first():
    network = small(flat_levels=1)
    assert network.divisor == (2, 4, 4)
    assert [f.shape[2:] for f in network.encoder(images(0))] == [(24, 16, 32), (24, 8, 16), (12, 4, 8)]
