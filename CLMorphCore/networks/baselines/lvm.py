"""LVM-S3: Krebs, Delingette, Mailhé, Ayache and Mansi, Learning a Probabilistic Model for Diffeomorphic Registration,
IEEE TMI 2019.

A conditional variational autoencoder: an encoder of both images gives q(z | F, M) = N(μ, diag σ²), z of 32 numbers; a
decoder of z, which sees the moving image downsampled to each of its levels, gives stationary velocities at three
scales, smoothed by a Gaussian, v = G_σ ∗ v̂; exp(v) is the map and exp(−v) its inverse. The loss is the symmetric local
cross-correlation, at every scale, plus KL(q ‖ N(0, I)): ``loss.symmetric``, ``loss.coarse`` and
``loss.regulariser = "kl"``. The same z with another moving image is the same kind of deformation of that image.

Simplified: images are compared on each other's grids instead of halfway between them, the coarser scales in one
direction; features are pooled to 4×4×4 before they become z, and z becomes a grid of that size, so that any image
fits; channels and smoothing suit grids of 1 to 2 mm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...spatial import gaussian, integrate, resize_image, taper
from ..blocks import Norm, conv_block, field_head, initialise, noise_like
from ..contract import Capabilities, RegistrationNetwork, System, TrainingPrediction
from ..halvings import Halvings

SCALES = 3
POOLED = 4  # sides of the grid between convolutions and z


@dataclass(frozen=True)
class LVMConfig:
    """Settings of the network."""

    channels: tuple[int, ...] = (16, 32, 32, 32)  # of the decoder, image resolution first; the encoder's from 1/2 on
    latent: int = 32  # d, how many numbers z has
    smoothing_voxels: tuple[float, float, float] = (3.0, 3.0, 3.0)  # σ of the Gaussian
    norm: Norm = "none"  # of each convolution
    flat_levels: int = 0  # first halvings, in the plane alone: for slices much thicker than voxels are wide


class LVM(RegistrationNetwork):
    """(fixed, moving), each (B, 1, D, H, W) → Prediction; mean and log_variance are (B, latent)."""

    def __init__(self, config: LVMConfig) -> None:
        super().__init__()
        self.config = config
        self.halvings = Halvings(len(config.channels), config.flat_levels)
        inputs = (2, *config.channels[1:-1])
        self.encoder = nn.Sequential(
            *(
                conv_block(before, after, stride=stride, norm=config.norm)
                for stride, before, after in zip(self.halvings.strides, inputs, config.channels[1:], strict=True)
            )
        )
        self.posterior = nn.Linear(config.channels[-1] * POOLED**3, 2 * config.latent)
        self.decoder = _Decoder(config)
        initialise(self)
        self.decoder.reset_heads()
        nn.init.normal_(self.posterior.weight, 0.0, 1e-2)

    def forward(self, fixed: Tensor, moving: Tensor) -> TrainingPrediction:
        features = F.adaptive_avg_pool3d(self.encoder(torch.cat([fixed, moving], dim=1)), POOLED)
        mean, log_variance = self.posterior(features.flatten(1)).float().chunk(2, dim=1)
        z = mean
        if self.training or self.sampling:
            z = mean + (0.5 * log_variance).exp() * noise_like(mean, self.first_row)
        velocities = self.decode(z, moving)
        displacement, *coarse = (integrate(v) for v in velocities)
        return TrainingPrediction(
            displacement, integrate(-velocities[0]), mean=mean, log_variance=log_variance, coarse=tuple(coarse)
        )

    def decode(self, z: Tensor, moving: Tensor) -> list[Tensor]:
        """Velocities (B, 3, …) of z (B, latent) for a moving image (B, 1, D, H, W), finest first, voxels of each."""
        shapes = [self.halvings.shape_at(moving.shape[2:], level) for level in range(self.halvings.levels)]
        rough = self.decoder(z, [resize_image(moving, shape) for shape in shapes])
        smooth = [smoothed(v, self._sigma(level)) for level, v in enumerate(rough)]
        return [taper(v, self.halvings.taper_width(level)) for level, v in enumerate(smooth)]

    def _sigma(self, level: int) -> tuple[float, ...]:
        """σ along D, H, W in voxels of a level."""
        voxels = self.halvings.factor(level)
        return tuple(s / n for s, n in zip(self.config.smoothing_voxels, voxels, strict=True))


class _Decoder(nn.Module):
    """z (B, latent) and the moving image at every level, finest first → velocities (B, 3, …) of the finest scales."""

    def __init__(self, config: LVMConfig) -> None:
        super().__init__()
        widths = config.channels
        self.seed = nn.Linear(config.latent, widths[-1] * POOLED**3)
        self.stages = nn.ModuleList(  # finest first
            conv_block(before + 1, after, norm=config.norm)
            for before, after in zip((*widths[1:], widths[-1]), widths, strict=True)
        )
        self.heads = nn.ModuleList(field_head(width) for width in widths[:SCALES])

    def reset_heads(self) -> None:
        """Initialises the heads: velocities are near zero."""
        self.heads = nn.ModuleList(field_head(head.in_channels) for head in self.heads)

    def forward(self, z: Tensor, images: list[Tensor]) -> list[Tensor]:
        features = F.leaky_relu(self.seed(z), 0.2).view(len(z), -1, POOLED, POOLED, POOLED)
        velocities = []
        for level in reversed(range(len(images))):
            up = F.interpolate(features, size=images[level].shape[2:], mode="trilinear", align_corners=True)
            features = self.stages[level](torch.cat([up, images[level]], dim=1))
            if level < SCALES:
                velocities.insert(0, self.heads[level](features).float())
        return velocities


def smoothed(field: Tensor, sigma: tuple[float, ...]) -> Tensor:
    """G_σ ∗ u, (B, C, D, H, W); beyond the border the field is extended by its nearest value."""
    reach = [math.ceil(3 * width) for width in sigma]
    padded = F.pad(field, [n for n in reversed(reach) for _ in range(2)], mode="replicate")
    inside = (slice(n, n + side) for n, side in zip(reach, field.shape[2:], strict=True))
    return gaussian(padded, sigma)[(..., *inside)]


SYSTEM = System(
    LVMConfig,
    LVM,
    {
        "loss": {
            "similarity": "lncc",
            "regulariser": "kl",
            "smooth": 0.01,
            "symmetric": True,
            "coarse": 1.0,
            "contrast": 0.0,
        },
        "training": {"learning_rate": 1e-3, "schedule": "cosine"},
    },
    capabilities=lambda _: Capabilities(inverse=True, posterior=True),
)
