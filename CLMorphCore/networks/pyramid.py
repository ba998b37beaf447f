"""CLMorph-Pyramid: the paper's siamese encoder and contrastive projection with a coarse-to-fine, warping decoder.

At each level, coarsest first, the moving features are warped by the map so far and correlated locally with the fixed
ones (as in optical flow: Sun et al., PWC-Net, CVPR 2018); the level answers with a residual velocity w, whose
exponential is composed with the map: φ ← φ ∘ exp(w), and the inverse with exp(−w): φ⁻¹ ← exp(−w) ∘ φ⁻¹. Both come from
the same velocities, so the inverse is exact up to interpolation. A level may look several times, as an optimiser does
(with shared weights, as RAFT: Teed and Deng, ECCV 2020), each time at what the map so far has left.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..spatial import compose, integrate, resize_field, taper, warp
from .blocks import Siamese, conv_block, field_head, initialise, taper_width
from .contract import Prediction, System

CONTRAST_LEVEL = 1  # of the features that are contrasted voxel by voxel: half resolution, the finest that is matched


@dataclass(frozen=True)
class PyramidConfig:
    """Settings of the network."""

    channels: tuple[int, ...] = (8, 16, 32, 32, 32)  # of the encoder, image resolution first
    width: int = 32  # channels inside a decoder level
    embedding: int = 128  # length of the projection
    norm: str = "instance"  # batch | instance | none
    field_level: int = 0  # finest level that adds to the field; 0 is the image's resolution
    flat_levels: int = 0  # first halvings that leave the axis between slices alone: for slices several times as thick
    passes: int = 1  # how often each level looks at what its last answer has left, with the same weights


class Pyramid(Siamese):
    """(fixed, moving), each (B, 1, D, H, W) → Prediction."""

    integration_steps = 5  # a level moves a few voxels at most: 1/32 of that per step

    def __init__(self, config: PyramidConfig) -> None:
        if config.passes < 1:
            raise InputError(f"network.passes is {config.passes}; expected 1 or more: each level looks at least once")
        super().__init__(config.channels, norm=config.norm, embedding=config.embedding, flat_levels=config.flat_levels)
        self.config = config
        levels = config.channels[config.field_level :]
        self.levels = nn.ModuleList(
            _Level(channels, min(config.width, 2 * channels), correlate=index > 0 or config.field_level > 0)
            for index, channels in enumerate(levels)
        )
        initialise(self)
        for level in self.levels:
            level.head = field_head(level.head.in_channels)

    def forward(self, fixed: Tensor, moving: Tensor) -> Prediction:
        return self.match(*self.encode(fixed, moving))

    def features_of(self, image: Tensor) -> list[Tensor]:
        """The levels of the encoder; of those that ``match`` does not need only the shape is kept."""
        needed = min(self.config.field_level, CONTRAST_LEVEL)
        return [level if index >= needed else level.new_empty(len(level), 0, *level.shape[2:])
                for index, level in enumerate(self.encoder(image))]

    def match(self, fixed: list[Tensor], moving: list[Tensor]) -> Prediction:
        forward = backward = torch.zeros_like(fixed[-1][:, :1], dtype=torch.float32).expand(-1, 3, -1, -1, -1)
        finest, coarse = self.config.field_level, []
        for index in range(len(self.config.channels) - 1, finest - 1, -1):
            shape = fixed[index].shape[2:]
            forward, backward = resize_field(forward, shape), resize_field(backward, shape)
            for _ in range(self.config.passes):
                velocity = self.levels[index - finest](fixed[index], warp(moving[index], forward, padding="border"))
                velocity = taper(velocity, taper_width(index, self.config.flat_levels))
                forward = compose(integrate(velocity, self.integration_steps), forward)
                backward = compose(backward, integrate(-velocity, self.integration_steps))
            coarse.insert(0, forward)
        embeddings = (self.projection(fixed[-1]), self.projection(moving[-1]))
        shape = fixed[0].shape[2:]
        features = (fixed[CONTRAST_LEVEL], moving[CONTRAST_LEVEL])
        return Prediction(resize_field(forward, shape), resize_field(backward, shape), embeddings=embeddings,
                          features=features, coarse=tuple(coarse[1:]))


class _Level(nn.Module):
    """Residual velocity (B, 3, …) in voxels of the level, from fixed features and warped moving features."""

    def __init__(self, channels: int, width: int, *, correlate: bool) -> None:
        super().__init__()
        self.correlate = correlate
        self.body = nn.Sequential(
            conv_block(2 * channels + (27 if correlate else 0), width), conv_block(width, width)
        )
        self.head = nn.Conv3d(width, 3, 3, padding=1)

    def forward(self, fixed: Tensor, warped: Tensor) -> Tensor:
        parts = [fixed, warped]
        if self.correlate:
            parts.append(local_cost(fixed, warped))
        velocity = self.head(self.body(torch.cat(parts, dim=1)))
        return velocity.float()  # voxels need more digits than mixed precision keeps


# Trained as the shipped models are: local correlation in both directions, a smooth field.
SYSTEM = System(PyramidConfig, Pyramid, {
    "loss": {"similarity": "lncc", "regulariser": "diffusion", "smooth": 0.5, "symmetric": True},
    "training": {"learning_rate": 1e-3, "schedule": "cosine"},
})


def local_cost(fixed: Tensor, warped: Tensor) -> Tensor:
    """c_d(x) = ⟨f(x), w(x + d)⟩ / C for the 27 offsets d in {−1, 0, 1}³: (B, C, D, H, W) → (B, 27, D, H, W)."""
    depth, height, width = fixed.shape[2:]
    padded = F.pad(warped, (1, 1, 1, 1, 1, 1), mode="replicate")
    costs = [
        (fixed * padded[:, :, z : z + depth, y : y + height, x : x + width]).mean(dim=1)
        for z in range(3) for y in range(3) for x in range(3)
    ]
    return torch.stack(costs, dim=1)
