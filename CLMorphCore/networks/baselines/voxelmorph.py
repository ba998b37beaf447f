"""VoxelMorph, the network of Balakrishnan, Zhao, Sabuncu, Guttag and Dalca, IEEE TMI 38(8), 2019.

One U-Net takes the two images as channels and predicts a displacement u (Fig. 3); the loss is
L = −CC(f, m ∘ (id + u)) + λ Σ |∇u|² with the local cross-correlation of windows of 9³ voxels, or the
squared error. The map is u itself, neither integrated nor inverted.

Of the paper's two losses the correlation is the default here: it ignores gain and bias of intensities. Sums over
voxels, axes and components are means, so that λ does not depend on the grid. The field fades out at the border.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...spatial import taper
from ..blocks import FieldUNet, Norm, check_field_level
from ..contract import RegistrationNetwork, System, TrainingPrediction
from ..halvings import Halvings


@dataclass(frozen=True)
class VoxelMorphConfig:
    """Settings of the network; the defaults are the paper's."""

    channels: tuple[int, ...] = (16, 32, 32, 32)  # of the encoder, half the image's resolution first
    decoder: tuple[int, ...] = (32, 32, 32, 32, 32, 16, 16)  # coarsest first; any further ones at the finest
    norm: Norm = "none"  # of each convolution
    field_level: int = 0  # level at which the decoder stops and the field is predicted; 0 is the image's resolution
    flat_levels: int = 0  # first halvings, in the plane alone: for slices much thicker than voxels are wide

    def __post_init__(self) -> None:
        check_field_level(self.field_level, self.channels)


class VoxelMorph(RegistrationNetwork):
    """(fixed, moving), each (B, 1, D, H, W) → Prediction."""

    def __init__(self, config: VoxelMorphConfig) -> None:
        super().__init__()
        self.halvings = Halvings(len(config.channels) + 1, config.flat_levels)
        self.field = FieldUNet(
            config.channels, config.decoder, self.halvings, norm=config.norm, field_level=config.field_level
        )

    def forward(self, fixed: Tensor, moving: Tensor) -> TrainingPrediction:
        return TrainingPrediction(taper(self.field(fixed, moving), self.halvings.taper_width()))


SYSTEM = System(
    VoxelMorphConfig,
    VoxelMorph,
    {
        "loss": {
            "similarity": "lncc",
            "window_voxels": (9, 9, 9),
            "regulariser": "diffusion",
            "smooth": 1.0,
            "contrast": 0.0,
        },
        "training": {"batch_size": 1, "learning_rate": 1e-4, "decay_factor": 1.0},
    },
)
