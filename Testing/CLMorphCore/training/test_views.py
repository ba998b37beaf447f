"""Random views: another contrast, bias, sharpness and noise of the same anatomy."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from CLMorphCore.bundles.config import check_trainable, from_dict
from CLMorphCore.errors import SettingError
from CLMorphCore.network_input import normalise
from CLMorphCore.networks import build
from CLMorphCore.training.batches import Batch, Dataset, Volume, draw_batch
from CLMorphCore.training.learner import predicted
from CLMorphCore.training.views import curve, view

SPACING = (3.0, 1.0, 2.0)
TREE = {
    "network": {"name": "clmorph-pyramid", "channels": [4, 8], "width": 8, "embedding": 8},
    "loss": {"regulariser": "diffusion", "contrast": 0.05, "contrasted": "views"},
    "augment": {"flip": "none", "rotation_degrees": 0.0, "views": 1.0},
    "training": {"batch_size": 2},
}


def head(seed=0):
    """A ball of random tissue in an empty background, normalised."""
    rng = torch.Generator().manual_seed(seed)
    places = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 16)] * 3, indexing="ij"))
    inside = places.square().sum(dim=0) < 0.8
    return normalise((inside * (1 + torch.rand(16, 16, 16, generator=rng)))[None, None]), inside


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), scan=st.integers(0, 20))
def test_a_view_is_a_networks_input_with_the_background_darkest(seed, scan):
    image, inside = head(scan)
    seen = view(image, torch.Generator().manual_seed(seed), spacing_mm=SPACING)
    assert seen.shape == image.shape and torch.isfinite(seen).all()
    assert seen[0, 0][~inside].unique().tolist() == [seen.min().item()]
    foreground = seen[seen > seen.min()]
    assert abs(foreground.mean()) < 0.05 and abs(foreground.std() - 1) < 0.05
    again = view(image, torch.Generator().manual_seed(seed), spacing_mm=SPACING)
    assert torch.equal(seen, again)


def test_a_constant_image_has_finite_views():
    assert torch.isfinite(view(torch.zeros(1, 1, 8, 8, 8), torch.Generator().manual_seed(0), spacing_mm=SPACING)).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_curve_maps_equal_intensities_equally_and_stays_in_its_range(seed):
    x = torch.linspace(0, 1, 57)
    y = curve(x, torch.Generator().manual_seed(seed))
    assert y.min() >= 0 and y.max() <= 1
    order = torch.randperm(57)
    torch.testing.assert_close(curve(x[order], torch.Generator().manual_seed(seed)), y[order])


def test_curves_keep_turn_and_bend_the_order_of_intensities():
    ramps = [curve(torch.linspace(0, 1, 8), torch.Generator().manual_seed(seed)) for seed in range(300)]
    rising = sum(bool((ramp.diff() > 0).all()) for ramp in ramps)
    assert 10 < rising < 150  # a faint change, as of a scanner
    assert any(ramp[-1] < ramp[0] - 0.3 for ramp in ramps)


def volumes():
    return Dataset(None, [Volume(str(seed), head(seed)[0], None) for seed in range(3)], [])


def test_losses_see_the_scans_and_the_network_their_views():
    config = from_dict(TREE)
    network = build(config.network.name, config.network.settings)
    batch = draw_batch(volumes(), config, network, 0)
    scans = [v.image[0] for v in volumes().train]
    assert all(any(torch.equal(image, scan) for scan in scans) for image in torch.cat([batch.fixed, batch.moving]))
    assert batch.seen is not None and batch.again is not None
    views = torch.cat([*batch.seen, batch.again])
    assert views.shape[0] == 8 and not any(torch.equal(v, scan) for v in views for scan in scans)
    prediction = predicted(network, batch)
    first, second = prediction.embeddings
    assert first.shape == second.shape == (4, 8)
    torch.testing.assert_close(second, network.embed(batch.again))
    shown = predicted(network, replace(batch, seen=None, again=None))
    torch.testing.assert_close(shown.displacement, network(batch.fixed, batch.moving).displacement)


def test_the_share_of_views_is_kept():
    config = from_dict(TREE | {"loss": {"regulariser": "diffusion", "contrast": 0.0}, "augment": {"views": 0.5}})
    network = build(config.network.name, config.network.settings)
    changed = 0
    for step in range(30):
        batch = draw_batch(volumes(), config, network, step)
        assert batch.again is None
        changed += sum(
            not torch.equal(a, b)
            for a, b in zip(torch.cat(batch.seen), torch.cat([batch.fixed, batch.moving]), strict=True)
        )
    assert 35 < changed < 85  # of 120


def test_no_views_is_what_it_was():
    config = from_dict(TREE | {"loss": {"regulariser": "diffusion"}, "augment": {}})
    assert draw_batch(volumes(), config, build(config.network.name, config.network.settings), 0).seen is None


@pytest.mark.parametrize(
    "change",
    [{"augment": {"views": 0.0}}, {"loss": {"regulariser": "diffusion", "contrasted": "views", "contrastive": "byol"}}],
)
def test_contrasting_views_needs_views_and_negatives(change):
    with pytest.raises(SettingError, match="contrasted views needs views and nt-xent"):
        check_trainable(from_dict(TREE | change))


def test_two_views_of_one_pair_are_enough():
    check_trainable(from_dict(TREE | {"training": {"batch_size": 1}}))


def test_a_batch_without_views_is_two_images():
    image = torch.zeros(1, 1, 4, 4, 4)
    assert Batch(image, image).seen is None
