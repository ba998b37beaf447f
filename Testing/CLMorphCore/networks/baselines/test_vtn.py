"""What is VTN's own: the affine stage and its penalty, the cascade, the identity at the start and at the border."""

import math

import pytest
import torch

from CLMorphCore.losses import correlation
from CLMorphCore.networks.baselines.vtn import AffineStage, Vtn, VtnConfig, affine_field, affine_penalty
from CLMorphCore.networks.halvings import Halvings
from CLMorphCore.spatial import identity_grid, warp

SHAPE = (24, 16, 32)


def config(**changes):
    return VtnConfig(channels=(4, 8), decoder=(8, 8), **changes)


def images(seed):
    noise = torch.randn(2, 1, 6, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=SHAPE, mode="trilinear", align_corners=True)


def turn(degrees):
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[[1.0, 0, 0], [0, cos, -sin], [0, sin, cos]]])


def test_starts_at_the_identity():
    torch.manual_seed(0)
    prediction = Vtn(config())(images(0), images(1))
    assert prediction.displacement.abs().max() < 0.01 and prediction.penalty.abs() < 1e-4


def test_affine_field_turns_about_the_middle_and_shifts():
    shape, shift = (7, 9, 11), torch.tensor([[1.0, -2.0, 0.5]])
    field = affine_field(turn(90) - torch.eye(3), shift, shape)
    assert torch.allclose(field[0, :, 3, 4, 5], shift[0])  # the middle stays but for the shift
    # (0, 2, 0) from the middle turns into (0, 0, 2).
    assert torch.allclose(field[0, :, 3, 6, 5], torch.tensor([0.0, -2.0, 2.0]) + shift[0], atol=1e-5)


def test_penalty_is_zero_for_rotations_only():
    eye = torch.eye(3)
    shear = torch.tensor([[[0.0, 0.5, 0], [0, 0, 0], [0, 0, 0]]])
    assert affine_penalty(turn(30) - eye).item() == pytest.approx(0, abs=1e-5)
    # M Mᵀ of a shear s has the trace 3 + s², its inverse's too, its determinant is one.
    assert affine_penalty(shear).item() == pytest.approx(2 * 0.25, abs=1e-5)
    assert affine_penalty(eye[None]).item() == pytest.approx(3 * 4 + 3 / 4 - 6 + 49, abs=1e-4)  # twice as large
    mirror = torch.diag(torch.tensor([-2.0, 0, 0]))[None]
    assert affine_penalty(mirror).item() == pytest.approx(4, abs=1e-5)  # det = −1


def test_affine_stage_finds_a_translation():
    shift = torch.tensor([[1.5, -1.0, 2.0]])
    moving = images(3)
    fixed = warp(moving, shift.view(1, 3, 1, 1, 1).expand(2, 3, *SHAPE), padding="border")
    torch.manual_seed(0)
    stage = AffineStage((4, 8), Halvings(3), norm="none")
    optimizer = torch.optim.Adam(stage.parameters(), lr=3e-3)
    for _ in range(50):
        matrix, found = stage(fixed, moving)
        warped = warp(moving, affine_field(matrix, found, SHAPE), padding="border")
        optimizer.zero_grad()
        (correlation(fixed, warped) + 0.1 * affine_penalty(matrix)).backward()
        optimizer.step()
    assert (found - shift).abs().max() < 0.15 and matrix.abs().max() < 0.03


def test_stages_are_composed_on_the_original_image():
    torch.manual_seed(0)
    network = Vtn(config(cascades=2))
    for k, stage in enumerate(network.dense):
        torch.nn.init.constant_(stage.head.bias, 1.0 + k)  # of half the resolution: near two and four voxels
    torch.nn.init.constant_(network.affine.head.bias[9:], 0.125)  # of half a side: 1.5, 1 and 2 voxels
    prediction = network(images(0), images(1))
    assert [c.shape for c in prediction.coarse] == [(2, 3, *SHAPE)] * 2  # finest first: affine and one, affine alone
    assert prediction.regularised.shape == (4, 3, *SHAPE)
    affine = prediction.coarse[-1]
    assert torch.allclose(affine[0, :, 12, 8, 16], torch.tensor([1.5, 1.0, 2.0]), atol=0.02)
    ramp = identity_grid(SHAPE, like=affine).expand(2, -1, -1, -1, -1)  # an image that interpolates exactly
    step_by_step = ramp
    for step in (affine, *prediction.regularised.split(2)):
        step_by_step = warp(step_by_step, step, padding="border")
    torch.testing.assert_close(warp(ramp, prediction.displacement, padding="border"), step_by_step)


def test_identity_at_the_border_whatever_the_stages_answer():
    torch.manual_seed(0)
    network = Vtn(config())
    torch.nn.init.normal_(network.affine.head.bias, 0.0, 0.1)
    for stage in network.dense:
        torch.nn.init.normal_(stage.head.weight, 0.0, 0.05)
    displacement = network(images(0), images(1)).displacement
    assert displacement.abs().max() > 0.5
    for axis in (2, 3, 4):
        assert displacement.select(axis, 0).abs().max() < 1e-5 and displacement.select(axis, -1).abs().max() < 1e-5
