"""The contract of every network; what is one network's own is tested in the file of its name."""

import pytest
import torch

from CLMorphCore.bundles.config import from_dict
from CLMorphCore.errors import InputError
from CLMorphCore.networks import NETWORKS, TrainingPrediction, build, system
from CLMorphCore.spatial import compose, warp
from CLMorphCore.training.batches import Batch
from CLMorphCore.training.objective import loss_terms, weighted

SHAPE = (24, 16, 32)
UNET = {"channels": [4, 8]}
SMALL = {"channels": [4, 8, 8], "embedding": 16}
# variant → (network, small settings); the first of each network's is its paper's
VARIANTS = {
    "clmorph": ("clmorph", SMALL),
    "clmorph for use": (
        "clmorph",
        SMALL | {"probabilistic": False, "diffeomorphic": True, "norm": "instance", "field_level": 1},
    ),
    "clmorph for thick slices": ("clmorph", SMALL | {"flat_levels": 2}),
    "clmorph-byol": ("clmorph-byol", SMALL),
    "clmorph-pyramid": ("clmorph-pyramid", SMALL),
    "clmorph-pyramid at half resolution": ("clmorph-pyramid", SMALL | {"field_level": 1}),
    "clmorph-pyramid for thick slices": ("clmorph-pyramid", SMALL | {"flat_levels": 1}),
    "clmorph-pyramid for use": ("clmorph-pyramid", SMALL | {"field_level": 1, "passes": 2, "force_window_voxels": 5}),
    "voxelmorph": ("voxelmorph", UNET | {"decoder": [8, 8, 8, 4]}),
    "voxelmorph for thick slices": ("voxelmorph", UNET | {"decoder": [8, 8, 4], "flat_levels": 1, "field_level": 1}),
    "faim": ("faim", {"channels": [4, 8, 8]}),
    "faim for thick slices": ("faim", {"channels": [4, 8, 8], "flat_levels": 1}),
    "vtn": ("vtn", UNET | {"decoder": [8, 8]}),
    "vtn for thick slices": ("vtn", UNET | {"decoder": [8, 8, 8], "flat_levels": 1, "field_level": 0, "cascades": 1}),
    "lapirn": ("lapirn", {"channels": 4, "blocks": 1}),
    "lapirn for thick slices": ("lapirn", {"channels": 4, "blocks": 1, "flat_levels": 2}),
    "lvm-s3": ("lvm-s3", {"channels": [4, 8, 8, 8], "latent": 8}),
    "lvm-s3 for thick slices": ("lvm-s3", {"channels": [4, 8, 8, 8], "flat_levels": 2}),
    "pdd-net": ("pdd-net", {"channels": 4, "capture_voxels": [4, 4, 4]}),
    "pdd-net for thick slices": ("pdd-net", {"channels": 4, "capture_voxels": [4, 6, 1], "flat_levels": 1}),
    "syn": ("syn", {"transform": "antsRegistrationSyNQuick[so]"}),
    "lddmm": ("lddmm", {"iterations": [4, 2]}),
}
# variant → (steps, learning rate, share of the dissimilarity that is gone by then) of learning one pair by heart
LEARNING = {
    "clmorph": (40, 3e-3, 0.3),
    "clmorph for use": (40, 3e-3, 0.3),
    "clmorph-byol": (40, 3e-3, 0.3),
    "clmorph-pyramid": (30, 3e-3, 0.3),
    "clmorph-pyramid for use": (30, 3e-3, 0.3),
    "voxelmorph": (20, 3e-3, 0.7),
    "faim": (20, 3e-3, 0.7),
    "vtn": (20, 3e-3, 0.7),
    "lapirn": (24, 3e-3, 0.5),
    "lvm-s3": (15, 3e-3, 0.4),
    "pdd-net": (8, 3e-3, 0.5),
}


def blobs(seed, shape=SHAPE, pairs=2):
    """Smooth random images (pairs, 1, *shape)."""
    noise = torch.randn(pairs, 1, 6, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=shape, mode="trilinear", align_corners=True)


def settings_of(variant, **loss):
    """The configuration of a variant: its network's paper's losses."""
    name, settings = VARIANTS[variant]
    tree = {"network": {"name": name, **settings}, "loss": loss}
    if settings.get("probabilistic") is False:
        tree["loss"] = {"regulariser": "diffusion", **loss}
    return from_dict(tree)


@pytest.fixture(params=VARIANTS)
def variant(request):
    return request.param


@pytest.fixture
def network(variant):
    return fresh(variant)


def fresh(variant):
    if VARIANTS[variant][0] == "syn":
        pytest.importorskip("ants", reason="syn needs antspyx, see the extra peers")
    config = settings_of(variant)
    torch.manual_seed(0)
    return build(config.network.name, config.network.settings)


def loss_of(config, network, batch):
    network.begin_step(1.0)
    terms = loss_terms(config.loss, batch, network(batch.fixed, batch.moving))
    return weighted(config.loss, terms)


def test_every_network_is_tried_here():
    assert {name for name, _ in VARIANTS.values()} == set(NETWORKS)


def test_its_papers_settings_are_the_defaults(variant):
    config = settings_of(variant)
    for section, values in system(config.network.name).paper.items():
        if section != "network":
            assert all(getattr(getattr(config, section), key) == value for key, value in values.items())


def test_shapes_of_the_prediction(variant, network):
    prediction = network(blobs(0), blobs(1))
    assert prediction.displacement.shape == (2, 3, *SHAPE)
    assert prediction.displacement.dtype == torch.float32
    assert prediction.inverse is None or prediction.inverse.shape == (2, 3, *SHAPE)
    assert isinstance(prediction, TrainingPrediction) == system(VARIANTS[variant][0]).trained
    if not isinstance(prediction, TrainingPrediction):
        return
    assert all(e.shape == (2, 16) for e in prediction.embeddings or ())
    assert all(field.shape[:2] == (2, 3) for field in prediction.coarse)
    assert prediction.penalty is None or prediction.penalty.shape == ()


def test_it_can_do_what_is_declared_of_it(variant, network):
    can = settings_of(variant).network.capabilities
    images = blobs(0), blobs(1)
    prediction = network.train()(*images)
    assert can.inverse == (prediction.inverse is not None)
    if isinstance(prediction, TrainingPrediction):
        assert can.posterior == (prediction.log_variance is not None)
        assert can.projection == (prediction.embeddings is not None)
    network.begin_step(0.0)
    trains_the_displacement = network(*images).displacement.requires_grad or not list(network.parameters())
    assert can.coarse_stages != trains_the_displacement
    network.eval().sampling = True
    assert can.posterior != torch.equal(network(*images).displacement, network(*images).displacement)


def test_a_small_grid_is_enough(network):
    shape = tuple(max(2 * d, 4) for d in network.divisor)
    assert network.eval()(blobs(0, shape), blobs(1, shape)).displacement.shape == (2, 3, *shape)


def test_only_what_has_weights_is_trained(variant, network):
    config = settings_of(variant)
    assert system(config.network.name).trained == any(p.requires_grad for p in network.parameters())


def test_gradients_reach_every_parameter(variant, network):
    config = settings_of(variant)
    if not system(config.network.name).trained:
        pytest.skip("no parameters")
    # Heads start all but at zero and so does what passes through them: look for exact zeros only.
    for name, parameter in network.named_parameters():
        if parameter.abs().max() < 1e-3:
            torch.nn.init.normal_(parameter, 0.0, 0.01, generator=torch.Generator().manual_seed(len(name)))
    loss_of(config, network, Batch(blobs(0), blobs(1))).backward()
    untouched = [
        name
        for name, p in network.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().max() > 0)
    ]
    # A convolution's bias in front of a normalisation is cancelled by it, its gradient is round-off or zero.
    assert [name for name in untouched if not name.endswith("bias")] == []


def test_any_batch_size_down_to_one(network):
    network.eval()
    both, one = network(blobs(0), blobs(1)), network(blobs(0)[:1], blobs(1)[:1])
    torch.testing.assert_close(both.displacement[:1], one.displacement, atol=1e-4, rtol=0)


def test_features_of_each_image_answer_as_the_images_do(network):
    network.eval()
    fixed, moving = blobs(0), blobs(1)
    matched = network.match(network.features_of(fixed), network.features_of(moving))
    torch.testing.assert_close(matched.displacement, network(fixed, moving).displacement, atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", ["clmorph", "clmorph-byol", "clmorph-pyramid"])
def test_a_match_projects_nothing(variant):
    network = fresh(variant).eval()
    network.projection.register_forward_hook(lambda *_: pytest.fail("projected"))
    assert network.match(network.features_of(blobs(0)), network.features_of(blobs(1))).displacement.isfinite().all()


def test_an_answer_at_test_time_is_always_the_same(network):
    network.eval()
    assert torch.equal(network(blobs(0), blobs(1)).displacement, network(blobs(0), blobs(1)).displacement)


def test_in_mixed_precision_it_trains_and_its_field_keeps_its_digits(variant, network):
    config = settings_of(variant)
    batch = Batch(blobs(0), blobs(1))
    with torch.autocast("cpu", torch.bfloat16):
        prediction = network(batch.fixed, batch.moving)
    assert prediction.displacement.dtype == torch.float32
    if not system(config.network.name).trained:
        return
    loss = weighted(config.loss, loss_terms(config.loss, batch, prediction))
    assert torch.isfinite(loss)
    if loss.requires_grad:
        loss.backward()


def test_where_there_is_an_inverse_it_undoes_the_displacement(variant, network):
    network.eval()
    for name, parameter in network.named_parameters():  # fields of about a voxel
        if parameter.ndim == 1 and parameter.shape[0] == 3 and name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0.3, 0.05)
    prediction = network(blobs(0), blobs(1))
    if prediction.inverse is None:
        pytest.skip("no inverse in this network's answer")
    assert prediction.displacement.abs().max() > 0.1
    left = compose(prediction.displacement, prediction.inverse).abs()
    assert left.mean() < 0.05 * prediction.displacement.abs().max()


@pytest.mark.parametrize("variant", LEARNING)
def test_learns_to_register_a_phantom_pair(variant):
    """Within the stated steps the stated share of the dissimilarity to the warped image is gone."""
    steps, rate, gone = LEARNING[variant]
    config = settings_of(variant)
    network = fresh(variant)
    fixed = blobs(3)
    batch = Batch(fixed, warp(fixed, bump(), padding="border"))
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    network.train()
    for step in range(steps):
        network.begin_step(step / steps)
        terms = loss_terms(config.loss, batch, network(batch.fixed, batch.moving))
        optimizer.zero_grad()
        weighted(config.loss, terms).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        warped = warp(batch.moving, network(batch.fixed, batch.moving).displacement)
    inside = (..., slice(4, -4), slice(4, -4), slice(4, -4))
    before, after = (torch.nn.functional.mse_loss(x[inside], fixed[inside]) for x in (batch.moving, warped))
    assert after < (1 - gone) * before


def bump():
    """A smooth displacement (1, 3, …) of up to two voxels that vanishes at the border."""
    z, y, x = torch.meshgrid(*[torch.linspace(0, torch.pi, n) for n in SHAPE], indexing="ij")
    envelope = torch.sin(z) * torch.sin(y) * torch.sin(x)
    return torch.stack([2.0 * envelope, -1.5 * envelope, 2.0 * envelope * torch.cos(x)])[None].repeat(2, 1, 1, 1, 1)


def test_an_unknown_network_is_named():
    with pytest.raises(InputError, match=r"unknown network\.name 'clmorf'; did you mean clmorph\?"):
        system("clmorf")
