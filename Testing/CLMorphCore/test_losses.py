"""Each loss against the closed form of its equation."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from CLMorphCore import losses, similarity, spatial
from CLMorphCore.errors import InputError


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pairs", [2, 3, 8])
def test_nt_xent_of_identical_embeddings_is_log_2b_minus_1(pairs):
    same = torch.ones(pairs, 16)
    assert losses.nt_xent(same, same, 0.5).item() == pytest.approx(math.log(2 * pairs - 1), rel=1e-6)


def test_nt_xent_by_hand():
    first, second, tau = rand(3, 4) - 0.5, rand(3, 4, seed=1) - 0.5, 0.3
    everything = [*first, *second]
    expected = 0.0
    for anchor in range(6):
        scores = {
            k: math.exp(torch.cosine_similarity(everything[anchor], everything[k], dim=0).item() / tau)
            for k in range(6)
            if k != anchor
        }
        expected -= math.log(scores[(anchor + 3) % 6] / sum(scores.values())) / 6
    assert losses.nt_xent(first, second, tau).item() == pytest.approx(expected, rel=1e-5)


def test_nt_xent_without_a_negative_says_what_to_do():
    with pytest.raises(InputError, match=r"at least 2 pairs in a batch, this one has 1; raise training\.batch_size"):
        losses.nt_xent(torch.ones(1, 4), torch.ones(1, 4), 0.5)


def test_kl_agrees_with_torch_distributions():
    mean, log_variance = rand(2, 3, 4, 5, 6) - 0.5, rand(2, 3, 4, 5, 6, seed=1) - 0.5
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(losses.kl_divergence(mean, log_variance), expected)


def test_reconstruction_is_the_gaussian_log_likelihood_up_to_its_constant():
    fixed, warped, sigma = rand(1, 1, 4, 4, 4), rand(1, 1, 4, 4, 4, seed=1), 0.2
    likelihood = Normal(warped, sigma)
    constant = likelihood.log_prob(warped)
    expected = (constant - likelihood.log_prob(fixed)).mean()
    torch.testing.assert_close(losses.reconstruction(fixed, warped, sigma), expected)


def test_byol_of_equal_directions_is_zero_and_of_opposite_ones_four():
    v = rand(3, 8) + 0.1
    assert losses.byol(v, 2 * v).item() == pytest.approx(0, abs=1e-6)
    assert losses.byol(v, -v).item() == pytest.approx(4, abs=1e-6)


def test_byol_sends_no_gradient_into_the_target():
    prediction, target = rand(2, 4).requires_grad_(), rand(2, 4, seed=1).requires_grad_()
    losses.byol(prediction, target).backward()
    assert prediction.grad is not None and target.grad is None


def test_correlation_is_one_minus_pearsons():
    image, other = rand(2, 1, 4, 5, 6), rand(2, 1, 4, 5, 6, seed=1)
    pearson = [torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] for a, b in zip(image, other, strict=True)]
    assert losses.correlation(image, other).item() == pytest.approx(1 - torch.stack(pearson).mean().item(), abs=1e-6)
    assert losses.correlation(image, 3 * image + 5).item() == pytest.approx(0, abs=1e-6)
    assert losses.correlation(image, -image).item() == pytest.approx(2, abs=1e-6)


def test_local_correlation_ignores_local_gain_and_offset():
    image = torch.randn(1, 1, 12, 14, 10, generator=torch.Generator().manual_seed(0))
    assert losses.local_correlation(image, 3 * image + 5, 5).item() < 5e-3
    assert losses.local_correlation(image, -image, 5).item() < 5e-3


def test_local_correlation_of_one_window_is_the_squared_pearson_correlation():
    a, b = (torch.randn(1, 1, 5, 5, 5, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    b = a + 0.7 * b
    centre = similarity.local_correlation_map(a, b, 5)[0, 0, 2, 2, 2].item()
    assert centre == pytest.approx(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item() ** 2, rel=5e-3)


def test_background_without_contrast_earns_nothing():
    flat = torch.zeros(1, 1, 8, 8, 8)
    assert losses.local_correlation(flat, flat, 5).item() == 1.0


def test_box_mean_shrinks_at_the_faces():
    ramp = torch.arange(6.0).view(1, 1, 1, 1, 6).expand(1, 1, 6, 6, 6)
    mean = spatial.box_mean(ramp, 3)[0, 0, 0, 0]
    torch.testing.assert_close(mean, torch.tensor([0.5, 1, 2, 3, 4, 4.5]))


def test_diffusion_of_a_linear_field_is_its_mean_squared_slope():
    x = torch.arange(8.0)
    field = torch.stack([0.3 * x.view(8, 1, 1).expand(8, 8, 8), 0.2 * x.expand(8, 8, 8), torch.zeros(8, 8, 8)])[None]
    assert losses.diffusion(field).item() == pytest.approx((0.3**2 + 0.2**2) / 9, rel=1e-5)


def test_box_mean_has_windows_of_each_axis_no_wider_than_the_image():
    image = torch.rand(1, 1, 4, 6, 8)
    mean = spatial.box_mean(image, (1, 3, 9))
    assert mean[0, 0, 1, 2, 4].item() == pytest.approx(image[0, 0, 1, 1:4, 1:8].mean().item())


def test_mind_is_the_same_for_any_gain_even_a_negative_one():
    image = torch.randn(1, 1, 12, 14, 10, generator=torch.Generator().manual_seed(0))
    found = similarity.mind(image)
    torch.testing.assert_close(similarity.mind(-3 * image + 5), found, atol=1e-4, rtol=0)
    assert found.shape == (1, 6, 12, 14, 10) and (found > 0).all()
    torch.testing.assert_close(found.amax(dim=1), torch.ones(1, 12, 14, 10))


def test_mind_by_hand_at_the_edge_of_a_plane():
    image = torch.zeros(1, 1, 9, 9, 9)
    image[..., 5:] = 1  # D over the window is 1/3 towards the plane (x + 1) at x = 3, 4 and 5, else 0
    found = similarity.mind(image)[0, :, 4, 4]
    torch.testing.assert_close(found[:, 4], torch.tensor([1, 1, 1, 1, math.exp(-3), math.exp(-3)]))
    torch.testing.assert_close(found[:, 1], torch.ones(6))
