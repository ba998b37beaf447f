"""LDDMM: large deformation diffeomorphic metric mapping, by optimisation on the pair; nothing is trained.

Beg, Miller, Trouvé and Younes, IJCV 2005: the map is the end of the flow of a velocity that changes with time,
v = argmin ½ ∫ ‖v_t‖²_V dt + dissimilarity(fixed, moving ∘ φ). The norm is that of a sum of Gaussian kernels of several
widths (Risser et al., IEEE TMI 2011: the kernels of UtilzReg; the geodesics of Vialard et al., IJCV 2012, are the
minima of this energy). In white coordinates w, with v = K^½ ∗ w, the norm ‖v‖_V is |w|, and a step along the plain
gradient in w is one along the gradient in V that Beg et al. take in v.

Simplified: the path has a few time steps, each the exponential of v_t / T by scaling and squaring; gradients are those
of the discrete energy, by automatic differentiation; images are compared by local correlation instead of squared
differences; coarse to fine with momentum instead of plain descent; velocities are tapered at the faces of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...losses import local_correlation
from ...spatial import compose, integrate, resize_image, taper, warp
from ..contract import Capabilities, Prediction, RegistrationNetwork, System

SQUARINGS = 2  # of a time step, which is a fraction of the map already
MIN_SIDE = 16  # voxels: an axis that would become shorter is not halved
FADING_VOXELS = 4  # of a velocity, towards the faces
MOMENTUM = 0.9


@dataclass(frozen=True)
class LddmmConfig:
    """Settings of the optimisation."""

    iterations: tuple[int, ...] = (50, 40, 20)  # at each resolution, coarsest first; the last is the images' own
    kernel_voxels: tuple[float, ...] = (3.0, 6.0)  # standard deviations of the Gaussians, in voxels of the images
    time_steps: int = 3  # velocities along the path
    weight: float = 0.03  # of the path's energy
    window_voxels: int = 5  # of the local correlation
    step_voxels: float = 1.0  # length of the first step at each resolution, in its voxels; decreases linearly to zero


class Lddmm(RegistrationNetwork):
    """LDDMM: a time-dependent velocity, optimised for each pair (Beg et al., IJCV 2005; Risser et al., IEEE TMI 2011)

    (fixed, moving), each (B, 1, D, H, W) → Prediction with the inverse map; no weights.
    """

    def __init__(self, config: LddmmConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, fixed: Tensor, moving: Tensor) -> Prediction:
        with torch.inference_mode(False), torch.enable_grad():  # callers predict without gradients; this needs them
            pairs = zip(fixed.float().clone().split(1), moving.float().clone().split(1), strict=True)
            path = torch.stack([self._path(*pair) for pair in pairs], dim=1)
        return Prediction(flow(path), flow(-path.flip(0)))

    def _path(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """The velocities (T, 3, D, H, W) in voxels that map one pair."""
        white = fixed.new_zeros(self.config.time_steps, 3, 1, 1, 1)
        shapes = _shapes(fixed.shape[2:], len(self.config.iterations))
        spaces = [VelocitySpace(shape, fixed.shape[2:], self.config.kernel_voxels, like=fixed) for shape in shapes]
        for shape, space, iterations in zip(shapes, spaces, self.config.iterations, strict=True):
            white = F.interpolate(white, size=shape, mode="trilinear", align_corners=True)
            white = self._descend(white, resize_image(fixed, shape), resize_image(moving, shape), space, iterations)
        return spaces[-1].velocity(white)

    def _descend(self, white: Tensor, fixed: Tensor, moving: Tensor, space: VelocitySpace, iterations: int) -> Tensor:
        """Gradient descent with momentum at one resolution; gradients are scaled to a velocity of at most one voxel."""
        settings, trend = self.config, torch.zeros_like(white)
        for iteration in range(iterations):
            white = white.detach().requires_grad_()
            warped = warp(moving, flow(space.velocity(white)[:, None]), padding="border")
            energy = local_correlation(fixed, warped, settings.window_voxels) + settings.weight * white.square().mean()
            (gradient,) = torch.autograd.grad(energy, white)
            with torch.no_grad():
                moved = space.velocity(gradient).mean(dim=0).norm(dim=0).max().clamp_min(1e-12)
                trend = MOMENTUM * trend + (1 - MOMENTUM) * gradient / moved
                white = white - settings.step_voxels * (1 - iteration / iterations) * trend
        return white.detach()


class VelocitySpace:
    """V with the norm ‖v‖ = |w|, v = K^½ ∗ w, on a grid of ``shape`` that spans the corners of one of ``finest``.

    K is the mean of Gaussians of the standard deviations ``kernel_voxels``, in voxels of the finest grid, as w is.
    """

    def __init__(
        self, shape: Sequence[int], finest: Sequence[int], kernel_voxels: Sequence[float], *, like: Tensor
    ) -> None:
        scale = [(n - 1) / max(m - 1, 1) for n, m in zip(finest, shape, strict=True)]
        self.scale = like.new_tensor(scale).view(1, 3, 1, 1, 1)
        axes = [torch.fft.fftfreq(shape[0]), torch.fft.fftfreq(shape[1]), torch.fft.rfftfreq(shape[2])]
        angular = [2 * math.pi * axis.to(like) / s for axis, s in zip(axes, scale, strict=True)]  # per finest voxel
        z, y, x = torch.meshgrid(*angular, indexing="ij")
        squared = z.square() + y.square() + x.square()
        self.root = torch.stack([torch.exp(-0.5 * sigma**2 * squared) for sigma in kernel_voxels]).mean(dim=0).sqrt()

    def velocity(self, white: Tensor) -> Tensor:
        """v = K^½ ∗ w, fading out at the faces: (T, 3, D, H, W), w in voxels of the finest grid, v in this one's."""
        axes, shape = (2, 3, 4), white.shape[2:]
        smooth = torch.fft.irfftn(self.root * torch.fft.rfftn(white, dim=axes), s=shape, dim=axes)
        return taper(smooth / self.scale, FADING_VOXELS)


def flow(path: Tensor) -> Tensor:
    """u = exp(v_T / T) first, exp(v_1 / T) last: velocities (T, B, 3, D, H, W) → displacement (B, 3, D, H, W).

    ``flow(-path.flip(0))`` is the inverse.
    """
    displacement = torch.zeros_like(path[0])
    for velocity in path:
        displacement = compose(integrate(velocity / len(path), SQUARINGS), displacement)
    return displacement


def _shapes(shape: Sequence[int], levels: int) -> list[tuple[int, ...]]:
    """The grids' shapes, coarsest first, each half of the next one along the axes that are long enough."""
    shapes = [tuple(shape)]
    while len(shapes) < levels:
        shapes.insert(0, tuple((n + 1) // 2 if n >= 2 * MIN_SIDE else n for n in shapes[0]))
    return shapes


# Nothing is trained; the losses only have to be valid.
SYSTEM = System(
    LddmmConfig,
    Lddmm,
    {
        "data": {"spacing_mm": (0.0, 0.0, 0.0)},
        "loss": {"similarity": "lncc", "regulariser": "diffusion", "contrast": 0.0},
    },
    trained=False,
    capabilities=lambda _: Capabilities(inverse=True),
)
