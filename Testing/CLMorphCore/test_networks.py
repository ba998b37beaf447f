"""The contract of every network, and what the paper asks of CLMorph's."""

from dataclasses import replace

import pytest
import torch

from CLMorphCore.contrast import Byol
from CLMorphCore.errors import InputError
from CLMorphCore.losses import diffusion, kl_divergence, local_correlation, nt_xent
from CLMorphCore.networks import NETWORKS, build, settings_of
from CLMorphCore.networks.pyramid import local_cost
from CLMorphCore.spatial import compose, warp

SHAPE = (24, 16, 32)
VARIANTS = {
    "paper": ("clmorph", {}),
    "for use": ("clmorph", {"probabilistic": False, "diffeomorphic": True, "norm": "instance", "field_level": 1}),
    "pyramid": ("clmorph-pyramid", {}),
    "pyramid at half resolution": ("clmorph-pyramid", {"field_level": 1}),
}


def small(name, changes):
    torch.manual_seed(0)
    return build(name, replace(settings_of(name)(), channels=(4, 8, 8), embedding=16, **changes))


def blobs(seed, shape=SHAPE, pairs=2):
    """Smooth random images (pairs, 1, *shape)."""
    noise = torch.randn(pairs, 1, 6, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=shape, mode="trilinear", align_corners=True)


@pytest.fixture(params=VARIANTS)
def network(request):
    return small(*VARIANTS[request.param])


def test_every_network_is_tried_here():
    assert {name for name, _ in VARIANTS.values()} == set(NETWORKS)


def test_shapes_of_the_prediction(network):
    prediction = network(blobs(0), blobs(1))
    assert prediction.displacement.shape == (2, 3, *SHAPE)
    assert prediction.inverse is None or prediction.inverse.shape == (2, 3, *SHAPE)
    assert [e.shape for e in prediction.embeddings] == [(2, 16), (2, 16)]


def test_starts_near_the_identity(network):
    assert network.eval()(blobs(0), blobs(1)).displacement.abs().max() < 0.01


def test_gradients_reach_every_parameter(network):
    prediction = network(blobs(0), blobs(1))
    loss = local_correlation(blobs(0), warp(blobs(1), prediction.displacement + 0.5), 5)
    loss = loss + nt_xent(*prediction.embeddings, 0.5) + diffusion(prediction.displacement)
    if prediction.log_variance is not None:
        loss = loss + kl_divergence(prediction.mean, prediction.log_variance)
    # At the start the heads are all but zero, and so is what passes through them: look for exact zeros only.
    loss.backward()
    untouched = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # A convolution's bias in front of a normalisation is cancelled by it, its gradient is round-off or zero.
    assert [name for name in untouched if not name.endswith("bias")] == []


def test_any_batch_size_down_to_one(network):
    network.eval()
    both, one = network(blobs(0), blobs(1)), network(blobs(0)[:1], blobs(1)[:1])
    torch.testing.assert_close(both.displacement[:1], one.displacement, atol=1e-5, rtol=0)


def test_siamese_one_encoder_embeds_both_images(network):
    network.eval()
    fixed, moving = blobs(0), blobs(1)
    prediction = network(fixed, moving)
    torch.testing.assert_close(prediction.embeddings[0], network.embed(fixed), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(prediction.embeddings[1], network.embed(moving), atol=1e-5, rtol=1e-4)


def test_embeddings_tell_images_apart(network):
    embedded = torch.nn.functional.normalize(network.eval().embed(blobs(0, pairs=4)), dim=1)
    similarity = embedded @ embedded.T
    assert (similarity - torch.eye(4)).max() < 0.999


@pytest.mark.parametrize("variant", ["for use", "pyramid", "pyramid at half resolution"])
def test_the_inverse_undoes_the_displacement(variant):
    network = small(*VARIANTS[variant]).eval()
    for name, parameter in network.named_parameters():
        if name.endswith(("head.bias", "mean.bias")):
            torch.nn.init.normal_(parameter, 0.15, 0.05)
    prediction = network(blobs(0), blobs(1))
    assert prediction.displacement.abs().max() > (0.2 if variant == "for use" else 0.8)
    left = compose(prediction.displacement, prediction.inverse).abs()
    assert left.mean() < 0.02 and left.max() < 0.15  # interpolation of the rim, where the field fades within 4 voxels


def test_displacement_vanishes_at_the_border():
    network = small(*VARIANTS["pyramid"]).eval()
    for level in network.levels:
        torch.nn.init.normal_(level.head.weight, 0.0, 0.05)
    displacement = network(blobs(0), blobs(1)).displacement
    assert displacement.abs().max() > 0.3
    for axis in (2, 3, 4):
        assert displacement.select(axis, 0).abs().max() < 1e-5 and displacement.select(axis, -1).abs().max() < 1e-5


def test_the_papers_network_samples_in_training_and_takes_the_mean_at_test_time():
    network = small("clmorph", {"norm": "none"})
    torch.nn.init.constant_(network.log_variance.bias, -4.0)
    network.train()
    first, second = (network(blobs(0), blobs(1)) for _ in range(2))
    torch.testing.assert_close(first.mean, second.mean)
    noise = (first.displacement - first.mean)[..., 5:-5, 5:-5, 5:-5]
    assert not torch.equal(first.displacement, second.displacement)
    assert noise.std().item() == pytest.approx(0.1353, rel=0.1)  # exp(−4 / 2): σ, not log σ²
    network.eval()
    assert torch.equal(network(blobs(0), blobs(1)).displacement, network(blobs(0), blobs(1)).displacement)


def test_local_cost_finds_the_shift():
    features = torch.randn(1, 8, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    cost = local_cost(features.roll(-1, dims=4), features)  # fixed(x) = moving(x + 1)
    assert cost[0, :, 3, 3, 3].argmax() == 14  # offset (0, 0, +1) among the 27


def test_byol_target_follows_slowly_and_learns_nothing_itself():
    network = small("clmorph", {"norm": "none"})
    contrast = Byol(network)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1.0)
    before = {k: v.clone() for k, v in contrast.target.state_dict().items()}
    contrast.update(network)
    for name, value in contrast.target.state_dict().items():
        torch.testing.assert_close(value, before[name] + 0.01, atol=1e-5, rtol=0)
    prediction = network(blobs(0), blobs(1))
    contrast.loss(blobs(0), blobs(1), prediction.embeddings).backward()
    assert all(p.grad is None for p in contrast.target.parameters())
    assert all(p.grad is not None for p in contrast.predictor.parameters())


def test_an_unknown_network_is_named():
    with pytest.raises(InputError, match=r"unknown network\.name 'clmorf'; did you mean clmorph\?"):
        settings_of("clmorf")
