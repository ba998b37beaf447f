"""Building blocks that the networks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SettingError
from ..spatial import resize_field
from .contract import RegistrationNetwork
from .halvings import Halvings

Norm = Literal["batch", "instance", "none"]
NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm3d,
    "instance": lambda channels: nn.InstanceNorm3d(channels, affine=True),
    "none": lambda channels: nn.Identity(),
}


# torch 2.13 leaves a batch of one to oneDNN only where channels × depth × height are more
SMALL = 20480


class Conv3d(nn.Conv3d):
    """Cross-correlation of volumes (B, C, D, H, W), on a CPU as fast for a small one as for a batch of them.

    What torch does itself with a batch of one takes three to seven times as long (8 to 16 channels at 48³: 107 ms, with
    its gradients 442, against 17 and 120), which is what the network's coarse levels are in every registration.

    Volumes with a side no longer than the kernel's span are taken in full precision there: in bfloat16, oneDNN 3.12,
    which is torch 2.13's, leaves parts of their weights' gradient unwritten and writes elsewhere (a forward fault of
    the kind is pytorch's issue 169688).
    """

    def forward(self, input: Tensor) -> Tensor:  # torch calls it so
        if input.device.type == "cpu" and torch.is_autocast_enabled("cpu") and self._spans_a_side_of(input):
            with full_precision(input):
                return self.forward(input.float())
        small = input.shape[0] == 1 and input.shape[1:4].numel() <= SMALL
        if not small or input.device.type != "cpu" or input.dtype != torch.float32:
            return super().forward(input)
        if not torch.backends.mkldnn.is_available() or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        return super().forward(input.to_mkldnn()).to_dense()

    def _spans_a_side_of(self, volumes: Tensor) -> bool:
        spans = (step * (size - 1) + 1 for step, size in zip(self.dilation, self.kernel_size, strict=True))
        return any(side <= span for side, span in zip(volumes.shape[2:], spans, strict=True))


def conv_block(
    inputs: int, outputs: int, *, stride: int | tuple[int, int, int] = 1, norm: Norm = "none"
) -> nn.Sequential:
    """3×3×3 convolution, normalisation, leaky ReLU: (B, inputs, D, H, W) → (B, outputs, D/stride, …)."""
    return nn.Sequential(
        Conv3d(inputs, outputs, 3, stride=stride, padding=1), NORMS[norm](outputs), nn.LeakyReLU(0.2, inplace=True)
    )


def check_field_level(field_level: int, channels: Sequence[int]) -> None:
    """SettingError unless ``channels`` has an entry for the level at which the field is predicted."""
    if field_level >= len(channels):
        raise SettingError(
            f"network.field_level is {field_level}, network.channels has {len(channels)} levels; "
            f"expected at most {len(channels) - 1}"
        )


def full_precision(like: Tensor) -> torch.autocast:
    """A context without mixed precision: in bfloat16, products of fields would be off by parts of a voxel."""
    return torch.autocast(like.device.type, enabled=False)


class Encoder(nn.Module):
    """Feature pyramid of one image: (B, 1, D, H, W) → [(B, channels[k], D/2ᵏ, H/2ᵏ, W/2ᵏ) for each level k].

    Across thick slices, sides are halved at fewer levels, as ``halvings`` state; so it is in all networks.
    """

    def __init__(self, channels: Sequence[int], halvings: Halvings, *, norm: Norm) -> None:
        super().__init__()
        stages = [conv_block(1, channels[0], norm=norm)]
        for stride, (before, after) in zip(halvings.strides, pairwise(channels), strict=True):
            down = conv_block(before, after, stride=stride, norm=norm)
            stages.append(nn.Sequential(*down, *conv_block(after, after, norm=norm)))
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            image = stage(image)
            features.append(image)
        return features


class Decoder(nn.Module):
    """Features of every level, finest first → (B, channels[-1], D, H, W) at the finest level's resolution.

    A convolution at each level, coarsest first; its output is upsampled and concatenated with the next finer features.
    ``features`` are the features' channels, ``channels`` those of the convolutions: one for each level, any further
    ones at the finest level. Raises SettingError for fewer convolutions than levels.
    """

    def __init__(self, features: Sequence[int], channels: Sequence[int], *, norm: Norm) -> None:
        super().__init__()
        if len(channels) < len(features):
            raise SettingError(
                f"network.decoder is {list(channels)}; expected a width for each of the "
                f"{len(features)} levels, coarsest first"
            )
        joined = [features[-1], *(a + b for a, b in zip(channels, reversed(features[:-1]), strict=False))]
        coarse = len(features) - 1
        self.stages = nn.ModuleList(
            conv_block(*sides, norm=norm) for sides in zip(joined[:coarse], channels[:coarse], strict=True)
        )
        finest = pairwise([joined[coarse], *channels[coarse:]])
        self.finest = nn.Sequential(*(conv_block(before, after, norm=norm) for before, after in finest))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        decoded = features[-1]
        for stage, skip in zip(self.stages, reversed(features[:-1]), strict=True):
            decoded = torch.cat([F.interpolate(stage(decoded), size=skip.shape[2:]), skip], dim=1)
        return self.finest(decoded)


class StridedEncoder(nn.Module):
    """(B, channels[0], D, H, W) → [the input, then (B, channels[k], D/2ᵏ, H/2ᵏ, W/2ᵏ)], one convolution per level."""

    def __init__(self, channels: Sequence[int], halvings: Halvings, *, norm: Norm) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            conv_block(before, after, stride=stride, norm=norm)
            for stride, (before, after) in zip(halvings.strides, pairwise(channels), strict=True)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        features = [images]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


class UNet(nn.Module):
    """Strided convolutions down, skips up: (B, inputs, D, H, W) → (B, decoder[-1], D, H, W).

    ``encoder`` are the channels from half the resolution on, ``decoder`` those of ``Decoder``, coarsest first; the last
    skip is the input itself. The layout of VoxelMorph (Balakrishnan et al., IEEE TMI 2019, Fig. 3). The decoder stops
    at ``field_level`` k, at 1/2ᵏ of the resolution.
    """

    def __init__(
        self,
        inputs: int,
        encoder: Sequence[int],
        decoder: Sequence[int],
        halvings: Halvings,
        *,
        norm: Norm = "none",
        field_level: int = 0,
    ) -> None:
        super().__init__()
        self.field_level = field_level
        self.encoder = StridedEncoder([inputs, *encoder], halvings, norm=norm)
        self.decoder = Decoder([inputs, *encoder][field_level:], decoder, norm=norm)

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images)[self.field_level :])


class Projection(nn.Module):
    """Fully connected layers on the coarsest features, pooled to 2×2×2: the f of equation 8, (B, C, D, H, W) → (B, N).

    Pooled, so that any image size fits; not to a single voxel, because instance-normalised features have the same
    mean in every image and would leave nothing to contrast.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.layers = nn.Sequential(nn.Linear(8 * channels, size), nn.ReLU(inplace=True), nn.Linear(size, size))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(F.adaptive_avg_pool3d(features, 2).flatten(1))


class Siamese(RegistrationNetwork):
    """What CLMorph's networks share: one encoder for both images, and the projection f."""

    def __init__(self, channels: Sequence[int], halvings: Halvings, *, norm: Norm, embedding: int) -> None:
        super().__init__()
        self.halvings = halvings
        self.encoder = Encoder(channels, halvings, norm=norm)
        self.projection = Projection(channels[-1], embedding)

    def embed(self, image: Tensor) -> Tensor:
        """f(x): (B, 1, D, H, W) → (B, N)."""
        return self.projection(self.encoder(image)[-1])

    def encode(self, fixed: Tensor, moving: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Features of both images, image resolution first; one pass over both is faster than two."""
        halves = [level.chunk(2) for level in self.encoder(torch.cat([fixed, moving]))]
        return [a for a, _ in halves], [b for _, b in halves]


def initialise(network: nn.Module) -> None:
    """He initialisation of convolutions and linear layers; batch-norm scales from N(0, 0.1²), as the paper's settings.

    Networks initialise their field heads afterwards: the first map is (nearly) the identity.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=0.2, nonlinearity="leaky_relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.weight, 0.0, 0.1)
            nn.init.zeros_(module.bias)


class FieldUNet(nn.Module):
    """(fixed, moving), each (B, 1, D, H, W) → a field (B, 3, D, H, W) in voxels: a U-Net on both images, and a head."""

    def __init__(
        self, encoder: Sequence[int], decoder: Sequence[int], halvings: Halvings, *, norm: Norm, field_level: int
    ) -> None:
        super().__init__()
        self.unet = UNet(2, encoder, decoder, halvings, norm=norm, field_level=field_level)
        initialise(self)
        self.head = field_head(decoder[-1])

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        field = self.head(self.unet(torch.cat([fixed, moving], dim=1))).float()
        return resize_field(field, fixed.shape[2:])


def field_head(channels: int, *, bias: float = 0.0) -> Conv3d:
    """3×3×3 convolution to the three components of a field, starting within 1e-3 of ``bias``."""
    head = Conv3d(channels, 3, 3, padding=1)
    assert head.bias is not None
    nn.init.normal_(head.weight, 0.0, 1e-5)
    nn.init.constant_(head.bias, bias)
    return head


def noise_like(tensor: Tensor, first_row: int) -> Tensor:
    """N(0, 1) in the shape of a batch (B, …), rows ``first_row`` … of the whole one.

    A row depends on the state of torch's generator and on its place in the whole batch alone: processes that share a
    batch draw what one would have drawn.
    """
    generators = row_generators(tensor, first_row)
    rows = [torch.randn(tensor.shape[1:], generator=of_row, device=tensor.device) for of_row in generators]
    return torch.stack(rows).to(tensor.dtype)


def row_generators(tensor: Tensor, first_row: int) -> list[torch.Generator]:
    """A generator for each row of a batch, on its device, as ``noise_like`` has them."""
    seed = int(torch.randint(2**62, ()))
    return [torch.Generator(tensor.device).manual_seed(seed + first_row + n) for n in range(len(tensor))]
