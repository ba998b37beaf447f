"""Similarities with their gradients written out: automatic differentiation takes several times as long.

For instance optimization, and for the forces that the pyramid's levels take. The derivative of S(f, m ∘ φ ∘ (id + d))
with respect to d is S′ · ∇(m ∘ φ), so that nothing but the warped image is differentiated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .spatial import box_mean, derivative

# Added to the product of the variances: images have unit variance, so this much is noise, or the round-off of it.
NOISE, TINY = 1e-3, 1e-6


class LocalCorrelation:
    """S(w) = mean of cov²(f, w) / (var f · var w) in windows (D, H, W), with its gradient with respect to w.

    As ``local_correlation_map``. What depends on the fixed image alone is computed once. The mean over windows is
    self-adjoint except at the faces, where fields vanish. With ``weights`` (1, 1, D, H, W) it is the weighted mean.
    """

    def __init__(self, fixed: Tensor, window_voxels: int | tuple[int, ...], weights: Tensor | None = None) -> None:
        self.fixed, self.window, self.weights = fixed, window_voxels, weights
        self.mean = self._mean(fixed)
        self.variance = (self._mean(fixed * fixed) - self.mean**2).clamp_min(0)

    def __call__(self, warped: Tensor) -> tuple[Tensor, Tensor]:
        """(S, ∂S/∂w): a scalar, and (B, 1, D, H, W) for images of that shape."""
        if self.weights is not None:
            value, slope, _ = self.weighted(warped, self.weights)
            total = self.weights.sum().clamp_min(TINY)
            return (value * self.weights).sum() / total, slope / total
        value, by_covariance, by_variance, mean, _ = self._terms(warped)
        return value.mean(), self._slope(warped, by_covariance, by_variance, mean) / value.numel()

    def weighted(self, warped: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(s, ∂Σ ws/∂w, h): the summands, the gradient of their weighted sum, and about half its curvature, negated.

        All (B, 1, D, H, W). The curvature is Gauss and Newton's: squared correlation is the share of the variance that
        a line from one image to the other explains, and its residual is linear in w.
        """
        value, by_covariance, by_variance, mean, variance = self._terms(warped)
        slope = self._slope(warped, by_covariance * weights, by_variance * weights, mean)
        return value, slope, self._mean(weights * value / (variance + NOISE))

    def _terms(self, warped: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Of each window: the value, its derivatives by covariance and variance, and the warped image's moments."""
        mean = self._mean(warped)
        variance = (self._mean(warped * warped) - mean**2).clamp_min(0)
        covariance = self._mean(warped * self.fixed) - mean * self.mean
        denominator = self.variance * variance + NOISE * (self.variance + variance) + TINY
        by_covariance = 2 * covariance / denominator
        value = 0.5 * by_covariance * covariance
        return value, by_covariance, -value * (self.variance + NOISE) / denominator, mean, variance

    def _slope(self, warped: Tensor, by_covariance: Tensor, by_variance: Tensor, mean: Tensor) -> Tensor:
        return (
            self.fixed * self._mean(by_covariance)
            + 2 * warped * self._mean(by_variance)
            - self._mean(by_covariance * self.mean + 2 * by_variance * mean)
        )

    def _mean(self, image: Tensor) -> Tensor:
        return box_mean(image, self.window)


class Mind:
    """S(w) = −½ mean (f − w)² of MIND features, with its gradient with respect to w; a weighted mean with weights."""

    def __init__(self, fixed: Tensor, weights: Tensor | None = None) -> None:
        self.fixed, self.weights = fixed, weights

    def __call__(self, warped: Tensor) -> tuple[Tensor, Tensor]:
        """(S, ∂S/∂w): a scalar, and (B, C, D, H, W) for features of that shape."""
        difference = self.fixed - warped
        if self.weights is not None:
            forced, total = difference * self.weights, self.weights.sum().clamp_min(TINY) * difference.shape[1]
            return -0.5 * (forced * difference).sum() / total, forced / total
        return -0.5 * difference.square().mean(), difference / difference.numel()


def forces(gradient: Tensor, warped: Tensor) -> Tensor:
    """Σ_c ∂S/∂w_c · ∂w_c/∂x: the derivative of S by the displacement, (B, C, D, H, W) twice → (B, 3, D, H, W)."""
    return torch.cat([(gradient * derivative(warped, axis)).sum(1, keepdim=True) for axis in range(3)], dim=1)


def local_correlation_map(fixed: Tensor, warped: Tensor, window_voxels: int | tuple[int, ...] = 9) -> Tensor:
    """cov²(f, w) / (var f · var w) in the window (D, H, W) around every voxel: (B, C, D, H, W), values in [0, 1]."""
    cov, product = _covariance(fixed, warped, window_voxels)
    return cov**2 / product


def signed_correlation_map(fixed: Tensor, warped: Tensor, window_voxels: int | tuple[int, ...] = 9) -> Tensor:
    """cov(f, w) / √(var f · var w) in the window (D, H, W) around every voxel: (B, C, D, H, W), values in [−1, 1]."""
    cov, product = _covariance(fixed, warped, window_voxels)
    return cov / product.sqrt()


def _covariance(fixed: Tensor, warped: Tensor, window_voxels: int | tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """cov(f, w) and var f · var w, which is above 0, in the window around every voxel."""
    f, w = fixed.float(), warped.float()
    mean_f, mean_w = box_mean(f, window_voxels), box_mean(w, window_voxels)
    cov = box_mean(f * w, window_voxels) - mean_f * mean_w
    var_f = box_mean(f * f, window_voxels) - mean_f**2
    var_w = box_mean(w * w, window_voxels) - mean_w**2
    return cov, var_f.clamp_min(0) * var_w.clamp_min(0) + NOISE * (var_f + var_w).clamp_min(0) + TINY


def mind(image: Tensor, window_voxels: int = 3) -> Tensor:
    """exp(−D(x, x + r) / V(x)), D = mean over windows of (I(x) − I(x + r))², V = mean of D over r: MIND.

    Modality independent neighbourhood descriptor (Heinrich et al., Medical Image Analysis 2012, equations 3 to 6) for
    the six neighbours r, divided by its maximum: (1, 1, D, H, W) → (1, 6, D, H, W), values in (0, 1]. The same for
    a · I + b, a of either sign. V is at least a thousandth of its mean, so that flat background has no pattern.
    """
    sides = image.shape[2:]
    padded = F.pad(image, (1,) * 6, mode="replicate")
    distance = torch.cat(
        [
            box_mean(
                (image - padded[:, :, z : z + sides[0], y : y + sides[1], x : x + sides[2]]).square(), window_voxels
            )
            for z, y, x in ((0, 1, 1), (2, 1, 1), (1, 0, 1), (1, 2, 1), (1, 1, 0), (1, 1, 2))
        ],
        dim=1,
    )
    variance = distance.mean(dim=1, keepdim=True)
    exponent = distance / variance.clamp_min(1e-3 * variance.mean()).clamp_min(torch.finfo(image.dtype).tiny)
    return (exponent.amin(dim=1, keepdim=True) - exponent).exp()
