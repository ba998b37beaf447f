"""Similarities with their gradients written out: automatic differentiation takes several times as long.

They say where a map should go on, to the refinement on a pair and to a network. The derivative of
S(f, m ∘ φ ∘ (id + d)) to d is S′ · ∇(m ∘ φ), so that nothing but the warped image is differentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .spatial import box_mean, derivative


class LocalCorrelation:
    """S(w) = mean of cov²(f, w) / (var f · var w) in windows (D, H, W), with its gradient to w.

    As ``losses.local_correlation_map``. What depends on the fixed image alone is computed once. The mean over windows
    is its own adjoint but at the faces, where fields are still.
    """

    def __init__(self, fixed: Tensor, window_voxels: int | tuple[int, ...]) -> None:
        self.fixed, self.window = fixed, window_voxels
        self.mean = self._mean(fixed)
        self.variance = (self._mean(fixed * fixed) - self.mean**2).clamp_min(0)

    def __call__(self, warped: Tensor) -> tuple[Tensor, Tensor]:
        """(S, ∂S/∂w): a scalar, and (B, 1, D, H, W) for images of that shape."""
        mean = self._mean(warped)
        variance = (self._mean(warped * warped) - mean**2).clamp_min(0)
        covariance = self._mean(warped * self.fixed) - mean * self.mean
        below = self.variance * variance + 1e-3 * (self.variance + variance) + 1e-6
        by_covariance = 2 * covariance / below
        value = 0.5 * by_covariance * covariance
        by_variance = -value * (self.variance + 1e-3) / below
        gradient = (self.fixed * self._mean(by_covariance) + 2 * warped * self._mean(by_variance)
                    - self._mean(by_covariance * self.mean + 2 * by_variance * mean))
        return value.mean(), gradient / value.numel()

    def _mean(self, image: Tensor) -> Tensor:
        return box_mean(image, self.window)


class Mind:
    """S(w) = −½ mean (f − w)² of MIND features, with its gradient to w."""

    def __init__(self, fixed: Tensor) -> None:
        self.fixed = fixed

    def __call__(self, warped: Tensor) -> tuple[Tensor, Tensor]:
        """(S, ∂S/∂w): a scalar, and (B, C, D, H, W) for features of that shape."""
        difference = self.fixed - warped
        return -0.5 * difference.square().mean(), difference / difference.numel()


def forces(gradient: Tensor, warped: Tensor) -> Tensor:
    """Σ_c ∂S/∂w_c · ∂w_c/∂x: how S grows with a displacement of each voxel, (B, C, D, H, W) twice → (B, 3, D, H, W)."""
    return torch.cat([(gradient * derivative(warped, axis)).sum(1, keepdim=True) for axis in range(3)], dim=1)
