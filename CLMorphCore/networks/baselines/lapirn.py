"""LapIRN: Mok and Chung, Large Deformation Diffeomorphic Image Registration with Laplacian Pyramid Networks,
MICCAI 2020.

Three levels of the same architecture work at 1/4, 1/2 and full resolution. Level i takes the fixed image, the moving
image warped by the current map, and the current velocity, and predicts a residual,

    v_i = up(v_{i−1}) + c · softsign(·);

the map is exp(v_i), its inverse exp(−v_i): the diffeomorphic variant.

Training goes from coarse to fine: levels finer than the one being trained do not run, the parameters of coarser ones
are frozen for the first steps of a stage, and each stage restarts the learning-rate schedule. In stage p the loss is
the paper's similarity pyramid, NCC of fixed and warped image at the resolutions 1 … p, and |∇v_p|² · 2^(p − 3): the
coarser similarities come from ``loss.coarse``. A coarse stage's ``displacement`` carries no gradient, so that it costs
little at full resolution.

Simplified: the stages share the training as their steps cost, 10, 20 and 70 %, not in thirds of the steps, so that the
finest level learns in a short training too; the coarser similarities have one weight instead of 2^(i − p), and compare
downsampled images under the downsampled map instead of downsampled warped images; the field fades out at the border of
the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...spatial import integrate, resize_field, resize_image, taper, warp
from ..blocks import Conv3d, initialise
from ..contract import Capabilities, RegistrationNetwork, System, TrainingPrediction
from ..halvings import Halvings

LEVELS = 3
STAGES = (0.0, 0.1, 0.3, 1.0)  # where each begins, as a fraction of the training, and where the last one ends
FROZEN = 1 / 15  # fraction of a stage in which the coarser levels are frozen: 2000 of the paper's 30000 steps
MAX_RESIDUAL = 0.4  # c: of the velocity of a level, in units of half the image


@dataclass(frozen=True)
class LapIRNConfig:
    """Settings of the network; the defaults are the paper's."""

    channels: int = 28  # of every convolution
    blocks: int = 5  # residual blocks of a level
    flat_levels: int = 0  # first halvings, in the plane alone: for slices much thicker than voxels are wide


class LapIRN(RegistrationNetwork):
    """(fixed, moving), each (B, 1, D, H, W) → Prediction."""

    active: Tensor  # how many levels run, 1 (the coarsest) to 3; saved with the weights

    def __init__(self, config: LapIRNConfig) -> None:
        super().__init__()
        self.halvings = Halvings(LEVELS + 1, config.flat_levels)  # each level halves once more inside
        levels = [
            _Level(5 if index else 2, config, stride) for index, stride in enumerate(reversed(self.halvings.strides))
        ]
        self.levels = nn.ModuleList(levels)  # coarsest first
        initialise(self)
        for level in levels:
            nn.init.normal_(level.head.weight, 0.0, 1e-5)
        self.register_buffer("active", torch.tensor(LEVELS))
        self.frozen = False

    def begin_step(self, fraction: float) -> None:
        """One level, two, three; at the start of each stage the coarser levels are frozen."""
        active, done = _stage(fraction)
        self.active.fill_(active)
        self.frozen = active > 1 and done < FROZEN

    def schedule_fraction(self, fraction: float) -> float:
        """The fraction of the stage done."""
        return _stage(fraction)[1]

    def forward(self, fixed: Tensor, moving: Tensor) -> TrainingPrediction:
        active = int(self.active)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            state = None
            for index in range(active - 1):
                state = self._refine(index, fixed, moving, state)
        velocity, _ = self._refine(active - 1, fixed, moving, state)
        displacement = integrate(velocity)
        shapes = [self._shape(fixed, index) for index in range(active)]
        coarse = tuple(resize_field(displacement, shape) for shape in reversed(shapes[: LEVELS - 1]))
        whole, inverse = (resize_field(u, fixed.shape[2:]) for u in (displacement, integrate(-velocity)))
        if active < LEVELS:
            whole, inverse = whole.detach(), inverse.detach()
        # The roughness is quadratic: the root of the stage's weight.
        return TrainingPrediction(whole, inverse, coarse=coarse, regularised=velocity * 2.0 ** ((active - LEVELS) / 2))

    def _shape(self, image: Tensor, index: int) -> tuple[int, ...]:
        return self.halvings.shape_at(image.shape[2:], LEVELS - 1 - index)

    def _refine(
        self, index: int, fixed: Tensor, moving: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """(v, features) of a level from those of the coarser one; v is (B, 3, …) in voxels of the level."""
        shape = self._shape(fixed, index)
        fixed, moving = resize_image(fixed, shape), resize_image(moving, shape)
        if state is None:
            residual, features = self.levels[index](torch.cat([fixed, moving], dim=1), None)
            before = torch.zeros_like(residual)
        else:
            before = resize_field(state[0], shape)
            images = torch.cat([fixed, warp(moving, integrate(before)), before / _half(shape, before)], dim=1)
            residual, features = self.levels[index](images, state[1])
        residual = MAX_RESIDUAL * F.softsign(residual.float()) * _half(shape, before)
        return before + taper(residual, self.halvings.taper_width(LEVELS - 1 - index)), features


def _stage(fraction: float) -> tuple[int, float]:
    """The stage, 1 to 3, at a fraction of the training, and the fraction of the stage done."""
    stage = max(1, sum(begin <= fraction for begin in STAGES[:-1]))
    begin, end = STAGES[stage - 1 : stage + 1]
    return stage, (fraction - begin) / (end - begin)


class _Level(nn.Module):
    """Residual network: (B, inputs, D, H, W) and the coarser level's features → (B, 3, D, H, W), its own features."""

    def __init__(self, inputs: int, config: LapIRNConfig, stride: tuple[int, int, int]) -> None:
        super().__init__()
        width = config.channels
        self.encoder = nn.Sequential(_convolution(inputs, width), nn.LeakyReLU(0.2), _convolution(width, width))
        self.down = Conv3d(width, width, 3, stride=stride, padding=1)
        self.blocks = nn.Sequential(*(_ResidualBlock(width) for _ in range(config.blocks)))
        self.up = nn.ConvTranspose3d(width, width, stride, stride=stride)
        self.decoder = nn.Sequential(_convolution(2 * width, width), nn.LeakyReLU(0.2), _convolution(width, width))
        self.head = Conv3d(width, 3, 5, padding=2)

    def forward(self, images: Tensor, coarser: Tensor | None) -> tuple[Tensor, Tensor]:
        skip = self.encoder(images)
        features = self.down(F.leaky_relu(skip, 0.2))
        if coarser is not None:
            features = features + F.interpolate(coarser, size=features.shape[2:], mode="trilinear", align_corners=True)
        features = self.blocks(features)
        up = F.leaky_relu(self.up(F.leaky_relu(features, 0.2)), 0.2)
        return self.head(F.leaky_relu(self.decoder(torch.cat([up, skip], dim=1)), 0.2)), features


class _ResidualBlock(nn.Module):
    """x + conv(a(conv(a(x)))) with a the leaky ReLU: activation first (He et al., ECCV 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LeakyReLU(0.2), _convolution(width, width), nn.LeakyReLU(0.2), _convolution(width, width)
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.body(features)


def _convolution(inputs: int, outputs: int) -> nn.Conv3d:
    return Conv3d(inputs, outputs, 3, padding=1)


def _half(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Half the image's sides in voxels, (1, 3, 1, 1, 1): the unit of velocities in which −1 and 1 are its faces."""
    return torch.tensor([(n - 1) / 2 for n in shape], dtype=like.dtype, device=like.device).view(1, 3, 1, 1, 1)


SYSTEM = System(
    LapIRNConfig,
    LapIRN,
    {
        "loss": {
            "similarity": "lncc",
            "window_voxels": (7, 7, 7),
            "regulariser": "diffusion",
            "smooth": 1.0,
            "contrast": 0.0,
            "coarse": 1.0,
        },
        "training": {"batch_size": 1, "learning_rate": 1e-4, "decay_factor": 1.0},
    },
    capabilities=lambda _: Capabilities(inverse=True, coarse_stages=True),
)
