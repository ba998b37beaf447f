"""U-Net: the supervised upper bound, the only system that sees labels (Ronneberger, Fischer and Brox, MICCAI 2015).

The fixed image alone decides each voxel's class: an encoder that halves the resolution, a decoder that doubles it,
features of one resolution concatenated, in three dimensions (Çiçek et al., MICCAI 2016, figure 2). Trained with cross
entropy and soft Dice (Isensee et al., Nature Methods 2021), as ``losses.label_agreement`` states them. The map to the
moving image stays the identity: it registers nothing.

Simplified: strided convolutions in place of max-pooling, one convolution at each of the decoder's levels below the
finest, zero padding in place of valid convolutions, instance in place of batch normalisation, half the channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ...errors import InputError
from ..blocks import Decoder, Encoder, initialise
from ..contract import RegistrationNetwork, System, TrainingPrediction
from ..halvings import Halvings


@dataclass(frozen=True)
class UNetConfig:
    """Settings of the network."""

    labels: tuple[int, ...] = (1,)  # values of the classes, above 0, which is the background and always a class
    channels: tuple[int, ...] = (16, 32, 64, 128)  # of the encoder, image resolution first
    norm: str = "instance"  # batch | instance | none
    flat_levels: int = 0  # first halvings that leave the axis between slices alone: for slices several times as thick


class UNet(RegistrationNetwork):
    """(fixed, moving), each (B, 1, D, H, W) → Prediction: a displacement of zero, logits (B, 1 + labels, D, H, W)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        if not config.labels or min(config.labels) < 1 or len(set(config.labels)) < len(config.labels):
            raise InputError(
                f"network.labels is {list(config.labels)}; expected the values of the labels to learn, "
                "each above zero and once, for instance network.labels = [1, 2]"
            )
        self.label_values = (0, *config.labels)
        self.halvings = Halvings(len(config.channels), config.flat_levels)
        self.encoder = Encoder(config.channels, self.halvings, norm=config.norm)
        self.decoder = Decoder(config.channels, [*reversed(config.channels), config.channels[0]], norm=config.norm)
        self.head = nn.Conv3d(config.channels[0], len(self.label_values), 1)
        initialise(self)

    def forward(self, fixed: Tensor, moving: Tensor) -> TrainingPrediction:
        logits = self.head(self.decoder(self.encoder(fixed))).float()
        still = logits.new_zeros(len(fixed), 3, *fixed.shape[2:])
        return TrainingPrediction(still, logits=logits)


SYSTEM = System(
    UNetConfig,
    UNet,
    {
        "loss": {"regulariser": "diffusion", "contrast": 0.0},  # its loss is the agreement with the labels alone
        "training": {"learning_rate": 1e-3, "schedule": "cosine", "batch_size": 2},
    },
)
