"""What is the pyramid's own: it finds shifts, its inverse is exact, its field fades out at the border."""

from dataclasses import replace

import pytest
import torch

from CLMorphCore.errors import InputError
from CLMorphCore.networks.pyramid import Pyramid, PyramidConfig, local_cost
from CLMorphCore.spatial import compose, folding_fraction, jacobian_determinant, warp

SHAPE = (24, 16, 32)


def small(**changes):
    torch.manual_seed(0)
    return Pyramid(replace(PyramidConfig(), channels=(4, 8, 8), embedding=16, **changes)).eval()


def images(seed):
    noise = torch.randn(2, 1, 6, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=SHAPE, mode="trilinear", align_corners=True)


def test_starts_near_the_identity():
    assert small()(images(0), images(1)).displacement.abs().max() < 0.01


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({}, 0.15),
        ({"field_level": 1}, 0.15),
        ({"flat_levels": 1}, 0.2),
        ({"field_level": 1, "passes": 2, "force_window_voxels": (5, 5, 5)}, 0.2),
    ],
)
def test_the_inverse_undoes_the_displacement(changes, limit):
    network = small(**changes)
    for name, parameter in network.named_parameters():
        if name.endswith("head.bias"):
            torch.nn.init.normal_(parameter, 0.15 / network.config.passes, 0.05)
    prediction = network(images(0), images(1))
    assert prediction.displacement.abs().max() > 0.8
    left = compose(prediction.displacement, prediction.inverse).abs()
    # Interpolation of the rim, where the field fades within 4 voxels, or within 2 between flat levels' slices.
    assert left.mean() < 0.02 and left.max() < limit


def test_an_answer_does_not_fold_but_a_training_feels_the_folds():
    network = small(norm="none")
    torch.nn.init.normal_(network.levels[0].head.weight, 0.0, 0.5)
    trained = network.train()(images(0), images(1)).displacement
    answer = network.eval()(images(0), images(1)).displacement
    assert 0 < folding_fraction(jacobian_determinant(trained)) < 0.01
    assert folding_fraction(jacobian_determinant(answer)) == 0
    assert (answer != trained).any(dim=1).float().mean() < 0.2


def test_displacement_vanishes_at_the_border():
    network = small()
    for level in network.levels:
        torch.nn.init.normal_(level.head.weight, 0.0, 0.05)
    displacement = network(images(0), images(1)).displacement
    assert displacement.abs().max() > 0.3
    for axis in (2, 3, 4):
        assert displacement.select(axis, 0).abs().max() < 1e-5 and displacement.select(axis, -1).abs().max() < 1e-5


def test_a_second_pass_goes_on_from_the_first():
    once, twice = small(field_level=2), small(field_level=2, passes=2)
    for network in (once, twice):
        torch.nn.init.constant_(network.levels[0].head.bias, 0.1)  # the same answer, whatever is left
        torch.nn.init.zeros_(network.levels[0].head.weight)
    middle = (slice(None), slice(None), 12, 8, 16)
    first, second = (network(images(0), images(1)).displacement[middle] for network in (once, twice))
    torch.testing.assert_close(second, 2 * first, rtol=0.1, atol=0.0)


@pytest.mark.parametrize("changes", [{}, {"field_level": 1}, {"flat_levels": 1}])
def test_a_level_sees_in_which_direction_local_correlation_rises(changes):
    network, seen = small(force_window_voxels=(5, 5, 5), **changes), []
    for level in network.levels:
        level.register_forward_pre_hook(lambda level, inputs: seen.append(inputs[2]))
    moving = images(0)
    fixed = warp(moving, torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1, 1).expand(2, 3, *SHAPE), padding="border")
    network(fixed, moving)
    assert len(seen) == len(network.levels) and not any(force.requires_grad for force in seen)
    z, y, x = seen[-1].mean(dim=(0, 2, 3, 4))
    assert x > 3 * max(z.abs(), y.abs()) and 0.1 < seen[-1].std() < 4 and seen[-1].abs().max() <= 5


def test_a_second_pass_sees_what_the_first_has_left():
    network, seen = small(field_level=2, passes=2, force_window_voxels=(5, 5, 5)), []
    torch.nn.init.constant_(network.levels[0].head.bias, 0.3)
    network.levels[0].register_forward_pre_hook(lambda level, inputs: seen.append(inputs[2]))
    network(images(0), images(1))
    assert (seen[0] - seen[1]).abs().max() > 0.1


def test_weights_from_before_there_were_forces_still_fit():
    state = small().state_dict()
    small().load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"body\.0\.0\.weight"):
        small(force_window_voxels=(5, 5, 5)).load_state_dict(state)


def test_a_window_without_a_middle_is_refused():
    with pytest.raises(InputError, match=r"network\.force_window_voxels is \[5, 5, 4\]; expected odd numbers"):
        small(force_window_voxels=(4, 5, 5))


def test_no_pass_at_all_is_refused():
    with pytest.raises(InputError, match=r"network\.passes is 0; expected 1 or more"):
        small(passes=0)


def test_local_cost_finds_the_shift():
    features = torch.randn(1, 8, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    cost = local_cost(features.roll(-1, dims=4), features)  # fixed(x) = moving(x + 1)
    assert cost[0, :, 3, 3, 3].argmax() == 14  # offset (0, 0, +1) among the 27
