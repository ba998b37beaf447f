"""What is LapIRN's own: stages from coarse to fine, saved with the weights, a bounded velocity and its inverse."""

import pytest
import torch

from CLMorphCore.bundles.config import check_trainable, from_dict
from CLMorphCore.bundles.model import load_model
from CLMorphCore.errors import InputError
from CLMorphCore.networks import build
from CLMorphCore.spatial import compose, resize_field
from CLMorphCore.training.batches import Batch
from CLMorphCore.training.loop import save_weights
from CLMorphCore.training.objective import loss_terms, weighted

SHAPE = (24, 16, 32)
CONFIG = from_dict({"network": {"name": "lapirn", "channels": 4, "blocks": 1}})


def fresh():
    torch.manual_seed(0)
    return build("lapirn", CONFIG.network.settings)


def images(seed):
    noise = torch.randn(2, 1, 6, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=SHAPE, mode="trilinear", align_corners=True)


def trained_levels(network, fraction):
    """Which levels, coarsest first, a training step at that share of the training changes."""
    network.zero_grad()
    network.begin_step(fraction)
    prediction = network(images(0), images(1))
    weighted(CONFIG.loss, loss_terms(CONFIG.loss, Batch(images(0), images(1)), prediction)).backward()
    return [any(p.grad is not None and p.grad.abs().max() > 0 for p in level.parameters()) for level in network.levels]


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.0, [True, False, False]),
        (0.09, [True, False, False]),
        (0.11, [False, True, False]),
        (0.2, [True, True, False]),  # held for a fifteenth of the stage
        (0.31, [False, False, True]),
        (0.4, [True, True, True]),
        (1.0, [True, True, True]),
    ],
)
def test_stages_go_from_coarse_to_fine_and_hold_what_was_learned(fraction, expected):
    assert trained_levels(fresh(), fraction) == expected


def test_the_schedule_starts_anew_with_each_stage():
    found = [fresh().schedule_fraction(done) for done in (0.0, 0.05, 0.1, 0.2, 0.3, 0.65, 1.0)]
    assert found == pytest.approx([0.0, 0.5, 0.0, 0.5, 0.0, 0.5, 1.0])


def test_a_coarse_stage_answers_on_its_own_grid_and_enlarged():
    network = fresh()
    for active, done, shapes in (
        (1, 0.05, [(6, 4, 8)]),
        (2, 0.2, [(12, 8, 16), (6, 4, 8)]),
        (3, 0.6, [(12, 8, 16), (6, 4, 8)]),
    ):
        network.begin_step(done)
        prediction = network(images(0), images(1))
        assert [tuple(field.shape[2:]) for field in prediction.coarse] == shapes
        assert prediction.displacement.requires_grad == (active == 3) and prediction.coarse[0].requires_grad
        if active < 3:
            assert torch.equal(prediction.displacement, resize_field(prediction.coarse[0], SHAPE))


def test_a_new_level_starts_from_the_map_of_the_coarser_one():
    network = fresh()
    torch.nn.init.constant_(network.levels[0].head.bias, 0.5)
    before, after = (moved(network, fraction) for fraction in (0.09, 0.11))
    assert before.abs().max() > 2
    assert (after - before).abs().mean() < 0.03 * before.abs().max()  # exp on a finer grid


def moved(network, fraction):
    network.begin_step(fraction)
    return network(images(0), images(1)).displacement.detach()


@pytest.mark.parametrize("fraction", [0.05, 0.2, 1.0])
def test_weights_saved_in_any_stage_answer_as_they_did(tmp_path, fraction):
    network = fresh()
    for level in network.levels:
        torch.nn.init.normal_(level.head.bias, 0.2, 0.1)
    expected = moved(network, fraction)
    save_weights(tmp_path / "weights.safetensors", network, CONFIG, step=1)
    loaded = load_model(tmp_path).network
    assert torch.equal(loaded(images(0), images(1)).displacement, expected)


def test_fresh_weights_use_every_level():
    assert int(fresh().active) == 3


def test_the_inverse_undoes_the_displacement():
    network = fresh()
    for level in network.levels:
        torch.nn.init.normal_(level.head.bias, 0.15, 0.05)
    prediction = network(images(0), images(1))
    assert prediction.displacement.abs().max() > 1
    for pair in ((prediction.displacement, prediction.inverse), (prediction.inverse, prediction.displacement)):
        assert compose(*pair).abs().mean() < 0.02


def test_a_velocity_stays_in_reach_whatever_the_head_says():
    network = fresh()
    for level in network.levels:
        torch.nn.init.constant_(level.head.bias, 1e6)
    velocity, _ = network._refine(0, images(0), images(1), None)
    assert (velocity.amax(dim=(0, 2, 3, 4)) <= 0.4 * torch.tensor([5, 3, 7]) / 2 + 1e-4).all()


def test_coarse_levels_need_their_loss():
    with pytest.raises(InputError, match=r"loss\.coarse is 0, the coarse levels of lapirn learn from nothing else"):
        check_trainable(from_dict({"network": {"name": "lapirn"}, "loss": {"coarse": 0.0}}))
