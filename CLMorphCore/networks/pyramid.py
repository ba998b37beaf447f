"""CLMorph-Pyramid: the paper's siamese encoder and contrastive projection with a coarse-to-fine, warping decoder.

At each level, coarsest first, the moving features are warped by the current map and correlated locally with the fixed
ones (as in optical flow: Sun et al., PWC-Net, CVPR 2018); the level predicts a residual velocity w, whose exponential
is composed with the map: φ ← φ ∘ exp(w), and the inverse with exp(−w): φ⁻¹ ← exp(−w) ∘ φ⁻¹. Both come from the same
velocities, so the inverse is exact up to interpolation.

A level may be a learned optimiser: it makes several passes with the same weights (as RAFT: Teed and Deng, ECCV 2020),
each on the features as warped by the previous one, and its input includes the forces, the gradient of the images' local
correlation with respect to the displacement (as GraDIRN: Qiu et al., MIDL 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SettingError
from ..similarity import LocalCorrelation, forces
from ..spatial import compose, integrate, remove_folds, resize_field, resize_image, taper, warp
from .blocks import Conv3d, Norm, Siamese, check_field_level, conv_block, field_head, full_precision, initialise
from .contract import Capabilities, Prediction, System, TrainingPrediction
from .halvings import Halvings

CONTRAST_LEVEL = 1  # of the features of the voxel-wise contrastive loss: half the image's resolution
FORCE_GAIN, MAX_FORCE = 4.0, 5.0  # for a standard deviation near 1, and without the peaks at the images' edges


@dataclass(frozen=True)
class PyramidConfig:
    """Settings of the network."""

    channels: tuple[int, ...] = (8, 16, 32, 32, 32)  # of the encoder, image resolution first
    width: int = 32  # channels inside a decoder level
    embedding: int = 128  # length of the projection
    norm: Norm = "instance"  # of each convolution
    field_level: int = 0  # finest level that adds to the field; 0 is the image's resolution
    flat_levels: int = 0  # first halvings, in the plane alone: for slices much thicker than voxels are wide
    passes: int = 1  # of each level with the same weights, each on what the previous one left
    # of the local correlation whose forces are an input of the levels, in voxels of the next finer one; 0: no forces
    force_window_voxels: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        check_field_level(self.field_level, self.channels)
        if self.passes < 1:
            raise SettingError(f"network.passes is {self.passes}; expected 1 or more")
        if self.forces and any(n % 2 == 0 for n in self.force_window_voxels):
            raise SettingError(
                f"network.force_window_voxels is {list(self.force_window_voxels[::-1])}; expected odd "
                "numbers, so that a window has a centre, or 0 for no forces"
            )

    @property
    def forces(self) -> bool:
        """Whether forces are an input of the levels."""
        return max(self.force_window_voxels) > 0


@dataclass(frozen=True)
class Features:
    """What ``match`` needs of one image (B, 1, D, H, W): itself, and the levels of the encoder, finest first."""

    image: Tensor
    levels: list[Tensor]


class Pyramid(Siamese):
    """(fixed, moving), each (B, 1, D, H, W) → Prediction."""

    integration_steps = 5  # a level's displacement is a few voxels at most, 1/32 of that in the first step

    def __init__(self, config: PyramidConfig) -> None:
        halvings = Halvings(len(config.channels), config.flat_levels)
        super().__init__(config.channels, halvings, norm=config.norm, embedding=config.embedding)
        self.config = config
        levels = [
            _Level(
                channels,
                min(config.width, 2 * channels),
                correlate=index > 0 or config.field_level > 0,
                forces=config.forces,
            )
            for index, channels in enumerate(config.channels[config.field_level :])
        ]
        self.levels = nn.ModuleList(levels)
        initialise(self)
        for level in levels:
            level.head = field_head(level.head.in_channels)

    def forward(self, fixed: Tensor, moving: Tensor) -> TrainingPrediction:
        of_fixed, of_moving = self.encode(fixed, moving)
        displacement, inverse, coarse = self._maps(Features(fixed, of_fixed), Features(moving, of_moving))
        return TrainingPrediction(
            displacement,
            inverse,
            embeddings=(self.projection(of_fixed[-1]), self.projection(of_moving[-1])),
            features=(of_fixed[CONTRAST_LEVEL], of_moving[CONTRAST_LEVEL]),
            coarse=coarse,
        )

    def features_of(self, image: Tensor) -> Features:
        """The image and its features; of levels that ``match`` does not need, empty tensors keep the shape."""
        levels = [
            level if index >= self.config.field_level else level.new_empty(len(level), 0, *level.shape[2:])
            for index, level in enumerate(self.encoder(image))
        ]
        return Features(image, levels)

    def match(self, fixed: Features, moving: Features) -> Prediction:
        displacement, inverse, _ = self._maps(fixed, moving)
        return Prediction(displacement, inverse)

    def _maps(self, fixed: Features, moving: Features) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Displacement and inverse (B, 3, D, H, W), and the coarser levels' displacements, finest first."""
        shapes = [level.shape[2:] for level in fixed.levels]
        forward = backward = torch.zeros_like(fixed.levels[-1][:, :1], dtype=torch.float32).expand(-1, 3, -1, -1, -1)
        finest, window, coarse = self.config.field_level, self.config.force_window_voxels, []
        for index in range(len(shapes) - 1, finest - 1, -1):
            forward, backward = resize_field(forward, shapes[index]), resize_field(backward, shapes[index])
            force = _Force(fixed.image, moving.image, shapes, index, window) if self.config.forces else None
            for _ in range(self.config.passes):
                warped = warp(moving.levels[index], forward, padding="border")
                velocity = self.levels[index - finest](fixed.levels[index], warped, force and force(forward))
                velocity = taper(velocity, self.halvings.taper_width(index))
                forward = compose(integrate(velocity, self.integration_steps), forward)
                backward = compose(backward, integrate(-velocity, self.integration_steps))
            coarse.insert(0, forward)
        displacement = resize_field(forward, shapes[0])
        if not self.training:  # losses have to see the folds
            displacement = remove_folds(displacement)
        return displacement, resize_field(backward, shapes[0]), tuple(coarse[1:])


class _Force:
    """Gradient of the local correlation: displacement (B, 3, …) of a level → (B, 3, …) per voxel of the level.

    Of the images at the next finer resolution, for their detail. An input of the network, through which no gradient
    flows back.
    """

    @torch.no_grad()
    def __init__(
        self, fixed: Tensor, moving: Tensor, shapes: list[torch.Size], index: int, window: tuple[int, ...]
    ) -> None:
        self.shape, finer = shapes[index], shapes[max(index - 1, 0)]
        fixed, self.moving = (resize_image(image, finer) for image in (fixed, moving))
        self.similarity = LocalCorrelation(fixed, window)
        to_level = fixed.new_tensor([(n - 1) / max(m - 1, 1) for n, m in zip(finer, self.shape, strict=True)])
        self.gain = FORCE_GAIN * finer.numel() * len(fixed) * to_level.view(1, 3, 1, 1, 1)  # the similarity is a mean

    @torch.no_grad()
    def __call__(self, displacement: Tensor) -> Tensor:
        with full_precision(displacement):
            finer = resize_field(displacement, self.moving.shape[2:])
            warped = warp(self.moving, finer, padding="border")
            force = resize_image(forces(self.similarity(warped)[1], warped), self.shape)
        return (self.gain * force).clamp(-MAX_FORCE, MAX_FORCE)


class _Level(nn.Module):
    """Residual velocity (B, 3, …) in voxels of the level, from fixed features, warped moving features and forces."""

    def __init__(self, channels: int, width: int, *, correlate: bool, forces: bool) -> None:
        super().__init__()
        self.correlate = correlate
        self.body = nn.Sequential(
            conv_block(2 * channels + (27 if correlate else 0) + (3 if forces else 0), width), conv_block(width, width)
        )
        self.head = Conv3d(width, 3, 3, padding=1)

    def forward(self, fixed: Tensor, warped: Tensor, force: Tensor | None) -> Tensor:
        parts = [fixed, warped]
        if self.correlate:
            parts.append(local_cost(fixed, warped))
        if force is not None:
            parts.append(force.to(fixed.dtype))
        velocity = self.head(self.body(torch.cat(parts, dim=1)))
        return velocity.float()  # voxels need more digits than mixed precision keeps


# As the bundled models are trained: local correlation in both directions, a smooth field.
SYSTEM = System(
    PyramidConfig,
    Pyramid,
    {
        "loss": {"similarity": "lncc", "regulariser": "diffusion", "smooth": 0.5, "symmetric": True},
        "training": {"learning_rate": 1e-3, "schedule": "cosine"},
    },
    capabilities=lambda _: Capabilities(inverse=True, projection=True),
)


def local_cost(fixed: Tensor, warped: Tensor) -> Tensor:
    """c_d(x) = ⟨f(x), w(x + d)⟩ / C for the 27 offsets d in {−1, 0, 1}³: (B, C, D, H, W) → (B, 27, D, H, W)."""
    depth, height, width = fixed.shape[2:]
    padded = F.pad(warped, (1, 1, 1, 1, 1, 1), mode="replicate")
    costs = [
        (fixed * padded[:, :, z : z + depth, y : y + height, x : x + width]).mean(dim=1)
        for z in range(3)
        for y in range(3)
        for x in range(3)
    ]
    return torch.stack(costs, dim=1)
