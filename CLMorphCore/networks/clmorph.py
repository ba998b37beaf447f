"""CLMorph, the network of Liu et al., Contrastive Registration for Unsupervised Medical Image Segmentation, Fig. 1.

One siamese encoder, features of both images concatenated at every resolution into a single decoder, heads for the mean
and the log-variance of q(z | y; x) (equation 2), a fully connected projection for the contrastive loss (equation 8).

For use, ``diffeomorphic = true`` and ``probabilistic = false`` are recommended: z is a stationary velocity, exp(z) the
map and exp(−z) its inverse, and the per-voxel Gaussian, which costs accuracy, is omitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..spatial import integrate, resize_field, taper
from .blocks import Norm, Siamese, check_field_level, conv_block, field_head, initialise, noise_like
from .contract import Capabilities, Prediction, System, TrainingPrediction
from .halvings import Halvings

CONTRAST_LEVEL = 1  # of the features of the voxel-wise contrastive loss, where there is one: half the resolution


@dataclass(frozen=True)
class CLMorphConfig:
    """Settings of the network; the defaults are the paper's, widths, which it does not state, VoxelMorph's."""

    channels: tuple[int, ...] = (16, 32, 32, 64)  # of the encoder, at 1, 1/2, 1/4, … of the image's resolution
    embedding: int = 128  # length of the projection
    norm: Norm = "batch"  # of each convolution
    probabilistic: bool = True  # sample z ~ N(μ, σ²) in training; the mean at test time
    diffeomorphic: bool = False  # z is a stationary velocity, integrated
    field_level: int = 0  # level at which the decoder stops and the field is predicted; 0 is the image's resolution
    flat_levels: int = 0  # first halvings, in the plane alone: for slices much thicker than voxels are wide

    def __post_init__(self) -> None:
        check_field_level(self.field_level, self.channels)


class CLMorph(Siamese):
    """(fixed, moving), each (B, 1, D, H, W) → Prediction."""

    def __init__(self, config: CLMorphConfig) -> None:
        halvings = Halvings(len(config.channels), config.flat_levels)
        super().__init__(config.channels, halvings, norm=config.norm, embedding=config.embedding)
        self.config = config
        width = config.channels[-1]
        self.bottom = conv_block(2 * width, width, norm=config.norm)
        self.decoder = nn.ModuleList()
        for skip in reversed(config.channels[config.field_level : -1]):
            self.decoder.append(conv_block(width + 2 * skip, skip, norm=config.norm))
            width = skip
        initialise(self)
        self.mean = field_head(width)
        # The variance starts near zero (Dalca et al., MICCAI 2018): sampling must not drown the first steps in noise.
        self.log_variance = field_head(width, bias=-10.0) if config.probabilistic else None

    def forward(self, fixed: Tensor, moving: Tensor) -> TrainingPrediction:
        of_fixed, of_moving = self.encode(fixed, moving)
        mean, log_variance = self._posterior(of_fixed, of_moving)
        displacement, inverse = self._map(mean, log_variance, fixed.shape[2:])
        embeddings = (self.projection(of_fixed[-1]), self.projection(of_moving[-1]))
        level = min(CONTRAST_LEVEL, len(of_fixed) - 1)
        return TrainingPrediction(
            displacement,
            inverse,
            mean=mean,
            log_variance=log_variance,
            embeddings=embeddings,
            features=(of_fixed[level], of_moving[level]),
        )

    def match(self, fixed: Tensor, moving: Tensor) -> Prediction:
        mean, log_variance = self._posterior(*self.encode(fixed, moving))
        return Prediction(*self._map(mean, log_variance, fixed.shape[2:]))

    def _posterior(self, of_fixed: list[Tensor], of_moving: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """μ and log σ² of z (B, 3, …) in voxels of its level, from the features of both images, finest first."""
        decoded = self.bottom(torch.cat([of_fixed[-1], of_moving[-1]], dim=1))
        for block, level in zip(self.decoder, range(len(of_fixed) - 2, -1, -1), strict=False):
            up = F.interpolate(decoded, size=of_fixed[level].shape[2:], mode="trilinear", align_corners=True)
            decoded = block(torch.cat([up, of_fixed[level], of_moving[level]], dim=1))
        mean = self.mean(decoded).float()  # voxels need more digits than mixed precision keeps
        return mean, self.log_variance(decoded).float() if self.log_variance is not None else None

    def _map(self, mean: Tensor, log_variance: Tensor | None, shape: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Displacement and, of a diffeomorphism, its inverse, (B, 3, *shape): of μ, or of a sample in training."""
        z = mean
        if (self.training or self.sampling) and log_variance is not None:
            z = mean + (0.5 * log_variance).exp() * noise_like(mean, self.first_row)
        z = taper(resize_field(z, shape), self.halvings.taper_width())
        if not self.config.diffeomorphic:
            return z, None
        return integrate(z), integrate(-z)


def capabilities(settings: CLMorphConfig) -> Capabilities:
    """An inverse if the field is integrated, a posterior if it is sampled."""
    return Capabilities(inverse=settings.diffeomorphic, posterior=settings.probabilistic, projection=True)


SYSTEM = System(CLMorphConfig, CLMorph, capabilities=capabilities)
