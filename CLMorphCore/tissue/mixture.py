"""p(I) of each tissue on one scan: Gaussians and a smooth bias field, fitted by EM with the atlas' probabilities.

Van Leemput et al., IEEE TMI 1999; Ashburner and Friston, NeuroImage 2005.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

ROUNDS = 20
BIAS_ORDER = 3  # of the polynomial that is the logarithm of the bias field
BIAS_FROM = 4  # round from which on it is fitted, when the Gaussians have found their places
BIAS_PENALTY = 1e-2  # per voxel: where nothing speaks for a bias there is none
MIN_SD = 0.02  # of the scan's standard deviation
PSEUDO_VOXELS = 20.0  # of the narrowest kind, that every Gaussian has beside its own: none can collapse onto a voxel
TINY = 1e-9


@dataclass(frozen=True)
class Mixture:
    """One Gaussian for each tissue, mean and standard deviation (C,), of intensities that the bias is taken from.

    bias  coefficients of ``powers``
    """

    mean: Tensor
    sd: Tensor
    bias: Tensor

    def corrected(self, intensity: Tensor, *axes: Tensor) -> Tensor:
        """I / b at places of −1…1 along z, y and x, which have the intensity's shape or one to be broadcast to it."""
        return intensity if not self.bias.any() else intensity * torch.exp(-field(self.bias, *axes))

    def density(self, tissue: int, intensity: Tensor) -> Tensor:
        """N(I; mean, sd) of one tissue."""
        return _normal(intensity, self.mean[tissue], self.sd[tissue])


def fit(intensity: Tensor, prior: Tensor, places: Tensor, *, bias: bool = True, voxels_each: int = 1) -> Mixture:
    """argmax Σₓ log Σₜ prior_t(x) N(I(x) / b(x); mean_t, sd_t): intensity (N,), prior (C, N), places (3, N) in −1…1.

    Each sample stands for ``voxels_each`` voxels: small tissues have few samples where not every voxel is one.
    """
    pseudo = PSEUDO_VOXELS / voxels_each
    spread = intensity.std()
    least = (MIN_SD * spread).square()
    terms = torch.stack(list(powers(*places)))
    coefficients = torch.zeros(len(terms), dtype=intensity.dtype, device=intensity.device)
    values, share = intensity, prior
    mean = variance = torch.zeros(len(prior), dtype=intensity.dtype, device=intensity.device)
    for turn in range(ROUNDS):
        if turn:
            share = _normal(values, mean[:, None], variance.sqrt()[:, None]).mul_(prior)
            share /= share.sum(dim=0) + TINY
        total = share.sum(dim=1)
        overall = values.mean() if not turn else mean
        mean = torch.where(total > pseudo, share @ values / total.clamp_min(1.0), overall)
        squares = torch.stack([one @ (values - m).square_() for one, m in zip(share, mean, strict=True)])
        variance = (squares + pseudo * 25 * least) / (total + pseudo)
        variance = variance.clamp_min(least)
        if bias and turn >= BIAS_FROM:
            coefficients = _bias(intensity, share / variance[:, None], mean, terms)
            values = intensity * torch.exp(-(coefficients @ terms))
    return Mixture(mean, variance.sqrt(), coefficients)


def _bias(intensity: Tensor, precision: Tensor, mean: Tensor, terms: Tensor) -> Tensor:
    """Coefficients of log b, by least squares of log (I / expected I), weighted by how surely the latter is known."""
    total = precision.sum(dim=0)
    expected = (mean @ precision / total.clamp_min(TINY)).clamp_min(TINY)
    seen = (intensity > 0.1 * expected) & (intensity < 10 * expected)
    weight = torch.where(seen, total * expected.square(), 0.0)
    weight = weight / weight.mean().clamp_min(TINY)
    weight = weight.clamp_max(10.0)  # a narrow tissue must not speak for all
    target = torch.log(torch.where(seen, intensity / expected, 1.0))
    gram = (terms * weight) @ terms.T + BIAS_PENALTY * len(intensity) * torch.eye(len(terms)).to(terms)
    return torch.linalg.solve(gram, (terms * weight) @ target)


def powers(z: Tensor, y: Tensor, x: Tensor) -> Iterator[Tensor]:
    """zᵃ yᵇ xᶜ for 1 ≤ a + b + c ≤ BIAS_ORDER, one after the other."""
    orders = range(BIAS_ORDER + 1)
    return (z**a * y**b * x**c for a, b, c in product(orders, orders, orders) if 1 <= a + b + c <= BIAS_ORDER)


def field(coefficients: Tensor, z: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Σ coefficient · zᵃ yᵇ xᶜ, the logarithm of the bias field."""
    total = torch.zeros(np.broadcast_shapes(z.shape, y.shape, x.shape), dtype=z.dtype, device=z.device)
    for coefficient, power in zip(coefficients.tolist(), powers(z, y, x), strict=True):
        total += coefficient * power
    return total


def _normal(x: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    """N(x; mean, sd) without its constant."""
    return (x - mean).div_(sd).square_().mul_(-0.5).exp_().div_(sd)
