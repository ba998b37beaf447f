"""What is PDD-Net's own: costs of all displacements, an inference that smooths them, known shifts found."""

import pytest
import torch

from CLMorphCore.bundles.config import check_trainable, from_dict
from CLMorphCore.errors import InputError
from CLMorphCore.networks.baselines.pdd_net import MeanField, PDDNet, PDDNetConfig, dissimilarity, lower_envelope

RADIUS = (1, 2, 3)


def features(seed, shape=(8, 8, 12)):
    return torch.randn(2, 5, *shape, generator=torch.Generator().manual_seed(seed))


def test_costs_are_the_squared_differences_at_every_displacement():
    fixed, moving = features(0), features(1)
    cost = dissimilarity(fixed, moving, RADIUS, (2, 2, 1)).view(2, 3, 5, 7, 4, 4, 12)
    for dz, dy, dx in ((0, 0, 0), (1, -2, 3), (-1, 1, -2)):
        for z, y, x in ((2, 4, 5), (4, 2, 7)):
            expected = (fixed[..., z, y, x] - moving[..., z + dz, y + dy, x + dx]).square().mean(dim=1)
            found = cost[:, dz + 1, dy + 2, dx + 3, z // 2, y // 2, x]
            torch.testing.assert_close(found, expected)


def test_gradients_are_those_of_costs_kept_in_memory():
    fixed, moving = features(0).double().requires_grad_(), features(1).double().requires_grad_()
    cost = dissimilarity(fixed, moving, (0, 0, 1), (1, 1, 1))
    padded = torch.nn.functional.pad(moving, (1, 1, 0, 0, 0, 0), mode="replicate")
    kept = torch.stack([(fixed - padded[..., d : d + 12]).square().mean(dim=1) for d in range(3)], dim=1)
    weights = torch.rand_like(kept)
    for ours, theirs in zip(
        *(torch.autograd.grad((c * weights).sum(), (fixed, moving)) for c in (cost, kept)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_known_shift_of_the_features_has_no_cost():
    moving = features(0)
    fixed = moving.roll((-1, 2, -3), dims=(2, 3, 4))  # fixed(x) = moving(x + (1, −2, 3))
    cost = dissimilarity(fixed, moving, RADIUS, (1, 1, 1))[:, :, 1:-1, 2:-2, 3:-3]
    assert (cost.argmin(dim=1) == (2 * 5 + 0) * 7 + 6).all()
    assert cost.amin(dim=1).max() < 1e-10


def test_the_envelope_grows_with_the_distance_from_the_least_cost():
    cost = torch.ones(1, 9 * 9 * 9, 1, 1, 1)
    cost[:, (4 * 9 + 4) * 9 + 4] = 0.0
    line = lower_envelope(cost, (4, 4, 4)).view(9, 9, 9)[4, 4, 4:]
    assert (line.diff()[:3] > 0).all() and line[0] >= 0 and line[-1] == 1


def test_the_inference_overrules_a_point_that_disagrees_with_its_neighbours():
    cost = torch.ones(1, 7 * 7 * 7, 5, 5, 5)
    cost[:, (3 * 7 + 3) * 7 + 4] = 0.0
    cost[:, :, 2, 2, 2] = 1.0
    cost[:, 100, 2, 2, 2] = 0.7
    chosen = MeanField(2)(cost, (3, 3, 3)).argmax(dim=1)
    assert cost[:, :, 2, 2, 2].argmin() == 100
    assert (chosen == (3 * 7 + 3) * 7 + 4).all()


def images(shape):
    noise = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.interpolate(noise, size=shape, mode="trilinear", align_corners=True)


@pytest.mark.parametrize("flat_levels", [0, 1, 2])
def test_a_shifted_image_is_found_without_training(flat_levels):
    torch.manual_seed(0)
    network = PDDNet(PDDNetConfig(channels=8, capture_voxels=(4, 4, 4), flat_levels=flat_levels)).eval()
    moving = images((48, 48, 48))  # the middle sees nothing of the border
    with torch.no_grad():
        field = network(moving.roll((-2, 2, -2), dims=(2, 3, 4)), moving).displacement
    middle = field[..., 20:28, 20:28, 20:28].mean(dim=(0, 2, 3, 4))
    torch.testing.assert_close(middle, torch.tensor([2.0, -2.0, 2.0]), atol=0.5, rtol=0)


def test_displacements_stay_within_the_capture_range():
    torch.manual_seed(0)
    network = PDDNet(PDDNetConfig(channels=4, capture_voxels=(1, 6, 2), flat_levels=1)).eval()
    with torch.no_grad():
        network.inference.log_weights += 5.0
        field = network(images((8, 24, 24)), images((8, 24, 24)).flip(2, 3, 4)).displacement
    assert (field.abs().amax(dim=(0, 2, 3, 4)) <= torch.tensor([1.0, 6.0, 2.0]) + 1e-4).all()
    assert field.abs().max() > 1


def test_there_is_no_inverse_to_compare_with():
    with pytest.raises(InputError, match=r"loss\.symmetric needs a network with an inverse"):
        check_trainable(from_dict({"network": {"name": "pdd-net"}, "loss": {"symmetric": True}}))
