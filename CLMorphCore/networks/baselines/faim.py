"""FAIM, the network of Kuang and Schmah, FAIM – a ConvNet method for unsupervised 3D medical image registration,
MLMI 2019.

The images, as two channels, pass through parallel convolutions of several kernel sizes (as in the Inception networks),
strided convolutions down and transposed convolutions up, where skips are added, not concatenated, which makes it
smaller than VoxelMorph. The loss is 1 − CC + α |Du|² + β ½ (|det Dφ| − det Dφ): the last term is above zero only
where the map φ = id + u folds.

Simplified: the widths are ours, chosen to stay below VoxelMorph's number of parameters; CC is the local correlation
of windows of 9³ voxels; α is VoxelMorph's, as in the paper's comparison, and β is in units of a mean over voxels.
The field fades out at the border.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ...errors import SettingError
from ...spatial import taper
from ..blocks import Conv3d, field_head, initialise
from ..contract import RegistrationNetwork, System, TrainingPrediction
from ..halvings import Halvings


@dataclass(frozen=True)
class FaimConfig:
    """Settings of the network."""

    channels: tuple[int, ...] = (8, 16, 32, 64)  # of each level, the image's resolution first
    kernel_sizes: tuple[int, ...] = (3, 5, 7)  # of the parallel convolutions of the first module, odd
    flat_levels: int = 0  # first halvings, in the plane alone: for slices much thicker than voxels are wide

    def __post_init__(self) -> None:
        if any(size % 2 == 0 for size in self.kernel_sizes):
            raise SettingError(
                f"network.kernel_sizes is {list(self.kernel_sizes)}; expected odd numbers, so that a "
                "kernel has a centre"
            )


class Faim(RegistrationNetwork):
    """(fixed, moving), each (B, 1, D, H, W) → Prediction."""

    def __init__(self, config: FaimConfig) -> None:
        super().__init__()
        self.halvings = Halvings(len(config.channels), config.flat_levels)
        levels = [
            (stride, fine, coarse)
            for stride, (fine, coarse) in zip(self.halvings.strides, pairwise(config.channels), strict=True)
        ]
        self.first = _Inception(2, config.channels[0], config.kernel_sizes)
        self.down = nn.ModuleList(_conv(fine, coarse, stride=stride) for stride, fine, coarse in levels)
        self.up = nn.ModuleList(_Up(coarse, fine, stride) for stride, fine, coarse in reversed(levels))
        initialise(self)
        self.head = field_head(config.channels[0])

    def forward(self, fixed: Tensor, moving: Tensor) -> TrainingPrediction:
        features = [self.first(torch.cat([fixed, moving], dim=1))]
        for down in self.down:
            features.append(down(features[-1]))
        decoded = features[-1]
        for up, skip in zip(self.up, reversed(features[:-1]), strict=True):
            decoded = up(decoded, skip)
        return TrainingPrediction(taper(self.head(decoded).float(), self.halvings.taper_width()))


class _Inception(nn.Module):
    """Parallel convolutions of several kernel sizes, mixed by a 1×1×1 one: (B, inputs, …) → (B, outputs, …)."""

    def __init__(self, inputs: int, outputs: int, kernel_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_conv(inputs, outputs, kernel=size) for size in kernel_sizes)
        self.mix = _conv(len(kernel_sizes) * outputs, outputs, kernel=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.mix(torch.cat([branch(images) for branch in self.branches], dim=1))


class _Up(nn.Module):
    """Transposed convolution to the next finer level, the skip added, a convolution."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose3d(inputs, outputs, stride, stride=stride)
        self.refine = _conv(outputs, outputs)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        return self.refine(self.enlarge(coarse) + skip)


def _conv(inputs: int, outputs: int, *, kernel: int = 3, stride: int | tuple[int, int, int] = 1) -> nn.Sequential:
    """Convolution and PReLU."""
    return nn.Sequential(Conv3d(inputs, outputs, kernel, stride=stride, padding=kernel // 2), nn.PReLU(outputs))


SYSTEM = System(
    FaimConfig,
    Faim,
    {
        "loss": {
            "similarity": "lncc",
            "window_voxels": (9, 9, 9),
            "regulariser": "diffusion",
            "smooth": 1.0,
            "folding": 10.0,
            "contrast": 0.0,
        },
        "training": {"batch_size": 1, "learning_rate": 1e-4, "decay_factor": 1.0},
    },
)
