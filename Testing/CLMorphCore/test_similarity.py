"""Gradients that are written out are the automatic ones; forces point to where an image has to be fetched."""

import pytest
import torch
import torch.nn.functional as F

from CLMorphCore import losses, similarity
from CLMorphCore.similarity import LocalCorrelation, Mind, forces
from CLMorphCore.spatial import gaussian, warp

SHAPE = (19, 23, 21)


def texture(seed=0):
    image = gaussian(torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(seed)), (1.5,) * 3)
    return image / image.std()


def gradient_by_autograd(function, warped):
    warped = warped.clone().requires_grad_()
    value = function(warped)
    value.backward()
    return value.item(), warped.grad


def test_the_gradient_of_local_correlation_is_the_automatic_one():
    fixed, warped = texture().double(), texture(3).double() + 0.5 * texture().double()
    value, gradient = LocalCorrelation(fixed, (5, 5, 5))(warped)
    expected = gradient_by_autograd(lambda w: 1.0 - losses.local_correlation(fixed, w, 5), warped)
    assert value.item() == pytest.approx(expected[0], rel=1e-4)
    inside = (slice(None), slice(None)) + (slice(4, -4),) * 3
    torch.testing.assert_close(gradient[inside], expected[1][inside], rtol=1e-2, atol=1e-7)


def test_correlation_has_the_sign_of_the_contrast():
    fixed, other = texture(), texture(3)
    same = similarity.signed_correlation_map(fixed, fixed + 0.3 * other, 5)
    opposite = similarity.signed_correlation_map(fixed, 2.0 - fixed - 0.3 * other, 5)
    assert same.mean() > 0.8
    torch.testing.assert_close(opposite, -same, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(same**2, similarity.local_correlation_map(fixed, fixed + 0.3 * other, 5))


def test_the_gradient_of_mind_is_the_automatic_one():
    fixed, warped = similarity.mind(texture()), similarity.mind(texture(3))
    value, gradient = Mind(fixed)(warped)
    expected = gradient_by_autograd(lambda w: -0.5 * F.mse_loss(w, fixed), warped)
    assert value.item() == pytest.approx(expected[0], rel=1e-5)
    torch.testing.assert_close(gradient, expected[1])


@pytest.mark.parametrize("axis", range(3))
def test_forces_point_to_where_the_image_has_to_be_fetched(axis):
    moving = texture()
    shift = torch.zeros(1, 3, *SHAPE)
    shift[:, axis] = 0.7
    fixed = warp(moving, shift, padding="border")
    found = forces(LocalCorrelation(fixed, 5)(moving)[1], moving)[:, :, 3:-3, 3:-3, 3:-3].mean(dim=(0, 2, 3, 4))
    assert found[axis] > 5 * found[[a for a in range(3) if a != axis]].abs().max()


def test_forces_of_several_channels_add_up():
    gradient, warped = torch.cat([texture(1), texture(2)], dim=1), torch.cat([texture(3), texture(4)], dim=1)
    apart = sum(forces(gradient[:, [c]], warped[:, [c]]) for c in range(2))
    torch.testing.assert_close(forces(gradient, warped), apart)
