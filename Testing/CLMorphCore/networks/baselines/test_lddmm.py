"""LDDMM finds a known smooth map, answers with a diffeomorphism and its inverse, and works where gradients are off."""

import pytest
import torch
import torch.nn.functional as F

from CLMorphCore.bundles.model import load_model
from CLMorphCore.networks.baselines.lddmm import Lddmm, LddmmConfig, VelocitySpace, flow
from CLMorphCore.spatial import compose, integrate, jacobian_determinant, taper, warp

SHAPE = (24, 32, 28)
INSIDE = (..., slice(5, -5), slice(5, -5), slice(5, -5))
SETTINGS = LddmmConfig(iterations=(25, 15))


def random_smooth(seed, nodes, channels):
    noise = torch.randn(1, channels, nodes, nodes, nodes, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size=SHAPE, mode="trilinear", align_corners=True)


@pytest.fixture(scope="module")
def pair():
    """(fixed, moving, true displacement): fixed is moving under a smooth diffeomorphism of up to three voxels."""
    moving = random_smooth(1, 9, 1)
    true = integrate(taper(1.5 * random_smooth(2, 4, 3), 6))
    return warp(moving, true, padding="border"), moving, true


@pytest.fixture(scope="module")
def found(pair):
    with torch.inference_mode():  # as register() calls it
        return Lddmm(SETTINGS)(pair[0], pair[1])


def test_a_known_smooth_map_is_recovered(pair, found):
    fixed, moving, true = pair
    error, size = ((u[INSIDE]).norm(dim=1).mean() for u in (found.displacement - true, true))
    assert error < 0.35 * size
    before, after = (F.mse_loss(x[INSIDE], fixed[INSIDE]) for x in (moving, warp(moving, found.displacement)))
    assert after < 0.1 * before


def test_it_is_a_diffeomorphism_that_its_inverse_undoes(found):
    assert jacobian_determinant(found.displacement).min() > 0 and jacobian_determinant(found.inverse).min() > 0
    for left in (compose(found.displacement, found.inverse), compose(found.inverse, found.displacement)):
        assert left.abs().mean() < 0.03 and left.abs().max() < 0.4
    assert found.displacement[:, :, 0].abs().max() == 0  # the map goes on as the identity outside of the grid


def test_equal_images_stay_where_they_are(pair):
    still = Lddmm(LddmmConfig(iterations=(3,)))(pair[0], pair[0])
    assert still.displacement.abs().max() < 0.2


def test_modes_of_gradients_change_nothing(pair):
    network = Lddmm(LddmmConfig(iterations=(2, 1)))
    with torch.no_grad():
        without = network(pair[0], pair[1])
    assert not without.displacement.requires_grad
    assert torch.equal(without.displacement, network(pair[0], pair[1]).displacement)


def test_the_kernel_smooths_as_its_gaussians_do():
    """K^½ applied twice to a point is the mean of the Gaussians, by their standard deviations."""
    shape, sigmas = (33, 33, 33), (1.5, 3.0)
    space = VelocitySpace(shape, shape, sigmas, like=torch.zeros(()))
    point = torch.zeros(1, 3, *shape)
    point[..., 16, 16, 16] = 1.0
    smooth = torch.fft.irfftn(space.root**2 * torch.fft.rfftn(point, dim=(2, 3, 4)), s=shape, dim=(2, 3, 4))
    distance = torch.arange(33.0) - 16
    gaussians = [torch.exp(-(distance**2) / (2 * s**2)) / (s * (2 * torch.pi) ** 0.5) for s in sigmas]
    expected = sum(torch.einsum("i,j,k->ijk", g, g, g) for g in gaussians) / 2
    torch.testing.assert_close(smooth[0, 0], expected, atol=1e-5, rtol=0)


def test_a_coarser_grid_holds_the_same_velocity_in_its_own_voxels():
    coarse, fine = (17, 17, 17), (33, 33, 33)
    white = F.interpolate(
        torch.randn(1, 3, 5, 5, 5, generator=torch.Generator().manual_seed(0)),
        size=fine,
        mode="trilinear",
        align_corners=True,
    )
    at_fine = VelocitySpace(fine, fine, (3.0,), like=white).velocity(white)
    at_coarse = VelocitySpace(coarse, fine, (3.0,), like=white).velocity(white[..., ::2, ::2, ::2])
    middle = (..., slice(5, -5), slice(5, -5), slice(5, -5))
    torch.testing.assert_close(2 * at_coarse[middle], at_fine[..., ::2, ::2, ::2][middle], atol=0.1, rtol=0)


def test_a_flow_of_one_steady_velocity_is_its_exponential():
    velocity = taper(random_smooth(3, 4, 3), 6)
    torch.testing.assert_close(flow(velocity[None].repeat(4, 1, 1, 1, 1, 1)), integrate(velocity), atol=0.05, rtol=0)


def test_it_is_a_model_by_its_name(clmorph):
    assert load_model("lddmm").folder is None
    assert "lddmm          LDDMM: a time-dependent velocity" in clmorph("models").out
