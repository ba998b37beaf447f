"""U-Net: the supervised upper bound, the only system that sees labels (Ronneberger, Fischer and Brox, MICCAI 2015).

The image alone decides each voxel's class: an encoder that halves the resolution, a decoder that doubles it, features
of one resolution concatenated, in three dimensions (Çiçek et al., MICCAI 2016, figure 2). Trained with cross entropy
and soft Dice (Isensee et al., Nature Methods 2021). It registers nothing, so it is no network of the engine, whose
blocks, volumes and checkpoints it shares.

Simplified: strided convolutions in place of max-pooling, one convolution at each of the decoder's levels below the
finest, zero padding in place of valid convolutions, instance in place of batch normalisation, half the channels.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from CLMorphCore.bundles import config as engine
from CLMorphCore.bundles.config import Config, NetworkConfig
from CLMorphCore.errors import Cancelled, Diverged, InputError, SettingError
from CLMorphCore.geometry import Grid, resample_labels, to_image
from CLMorphCore.network_input import network_grid, network_input
from CLMorphCore.networks import RegistrationNetwork, build
from CLMorphCore.networks.blocks import Conv3d, Decoder, Encoder, Norm, initialise
from CLMorphCore.networks.halvings import Halvings
from CLMorphCore.progress import Progress, silent
from CLMorphCore.training.augmentation import crop, flip, random_rotation, rotate
from CLMorphCore.training.batches import Dataset, Volume, mixed
from CLMorphCore.training.learner import has_finite_gradients, mixed_precision
from CLMorphCore.training.log import Log
from CLMorphCore.training.loop import (
    checkpoint_path,
    computing_clock,
    done_fraction,
    learning_rate,
    restore,
    save_state,
    save_weights,
)
from CLMorphCore.training.validation import mean_dice

from .catalogue import SUPERVISED

# In place of the engine's defaults; none of its losses is used, they only have to be valid.
PAPER = {
    "loss": {"regulariser": "diffusion", "contrast": 0.0},
    "training": {"learning_rate": 1e-3, "schedule": "cosine", "batch_size": 2},
}


@dataclass(frozen=True)
class UNetConfig:
    """Settings of the network; SettingError for labels that cannot be classes."""

    labels: tuple[int, ...] = (1,)  # values of the classes beside the background, which is 0
    channels: tuple[int, ...] = (16, 32, 64, 128)  # of the encoder, image resolution first
    norm: Norm = "instance"
    flat_levels: int = 0  # first halvings, in the plane alone: for slices much thicker than voxels are wide

    def __post_init__(self) -> None:
        if not self.labels or min(self.labels) < 1 or len(set(self.labels)) < len(self.labels):
            raise SettingError(
                f"network.labels is {list(self.labels)}; expected the values of the labels to learn, "
                "each above zero and once, for instance network.labels = [1, 2]"
            )


class UNet(nn.Module):
    """(B, 1, D, H, W) → logits (B, K, D, H, W) of the K classes ``label_values``, sides divisible by ``divisor``."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        halvings = Halvings(len(config.channels), config.flat_levels)
        self.label_values = (0, *config.labels)
        self.divisor = halvings.divisor
        self.encoder = Encoder(config.channels, halvings, norm=config.norm)
        self.decoder = Decoder(config.channels, [*reversed(config.channels), config.channels[0]], norm=config.norm)
        self.head = Conv3d(config.channels[0], len(self.label_values), 1)
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.decoder(self.encoder(image))).float()

    @torch.inference_mode()
    def label(self, image: Tensor) -> Tensor:
        """label_values[argmaxₖ logitsₖ]: (B, 1, D, H, W), int32, on the CPU."""
        classes = self(image).argmax(dim=1, keepdim=True).cpu()
        return torch.tensor(self.label_values, dtype=torch.int32)[classes]


def label_agreement(logits: Tensor, labels: Tensor, label_values: Sequence[int]) -> Tensor:
    """cross entropy + 1 − mean soft Dice over the classes but the first (Isensee et al., Nature Methods 2021).

    logits (B, K, D, H, W), labels (B, 1, D, H, W); class k stands for the label ``label_values[k]``, the first for
    everything that is none of the others.
    """
    target = torch.zeros_like(labels[:, 0], dtype=torch.long)
    for k, value in enumerate(label_values):
        target[labels[:, 0] == value] = k
    entropy = F.cross_entropy(logits.float(), target)
    probability = logits.float().softmax(dim=1)[:, 1:]
    wanted = F.one_hot(target, logits.shape[1]).movedim(-1, 1)[:, 1:]
    dims = (0, 2, 3, 4)
    dice = (2 * (probability * wanted).sum(dims) + 1.0) / (probability.sum(dims) + wanted.sum(dims) + 1.0)
    return entropy + 1.0 - dice.mean()


def from_dict(tree: Mapping[str, Any]) -> Config:
    """A configuration as by the engine's ``from_dict``, with this network, which the engine does not know."""
    sections = {key: values for key, values in tree.items() if key != "network"}
    shared = engine.from_dict({key: PAPER.get(key, {}) | sections.get(key, {}) for key in PAPER | sections})
    own = {key: value for key, value in tree["network"].items() if key != "name"}
    return replace(shared, network=NetworkConfig(SUPERVISED, engine.read_section(UNetConfig, own, "network")))


def network_of(config: Config) -> RegistrationNetwork | UNet:
    """The network of a configuration with fresh weights, one of the engine's or the U-Net."""
    if config.network.name == SUPERVISED:
        return UNet(config.network.settings)
    return build(config.network.name, config.network.settings)


def fit(
    config: Config,
    data: Dataset,
    output: Path,
    *,
    device: torch.device,
    resume: bool = False,
    progress: Progress = silent,
) -> Path:
    """Trains a U-Net on labelled volumes, as the engine's ``fit`` trains its networks, and returns the model's folder.

    ``output`` receives ``checkpoint.safetensors`` (to resume from), ``log.jsonl`` and ``model/``. InputError if no
    volume has labels.
    """
    settings, shown = config.training, _labelled(data.train)
    state_path = checkpoint_path(output, resume)
    torch.manual_seed(settings.seed)
    network = UNet(config.network.settings).to(device).train()
    parts = nn.ModuleDict({"network": network})
    optimizer = torch.optim.Adam(parts.parameters(), lr=settings.learning_rate)
    start, spent = restore(state_path, config, parts, optimizer, read=from_dict) if resume else (0, 0.0)
    log = Log(output / "log.jsonl", keep_below=start)
    clock = computing_clock(device)
    began = clock() - spent
    for step in range(start, settings.steps):
        fraction = done_fraction(settings, step, clock() - began)
        if fraction >= 1.0:
            break
        images, labels = draw_batch(shown, config, network.divisor, step, device)
        rate = learning_rate(settings, step, fraction)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with mixed_precision(device):
            logits = network(images)
        loss = label_agreement(logits, labels, network.label_values)
        if not torch.isfinite(loss):
            raise _diverged(step, f"loss {loss.item()}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if not has_finite_gradients(network):
            raise _diverged(step, "a gradient that is no number")
        optimizer.step()

        done, seconds = step + 1, clock() - began
        reached = done_fraction(settings, done, seconds)
        # The only term, by its name too, as the engine's terms are.
        log.write(step=done, loss=loss.item(), labels=loss.item(), learning_rate=rate, seconds=round(seconds, 2))
        if done % settings.validate_every == 0 or reached >= 1.0:
            log.write(step=done, **validate(network, data.validation, device))
            began += clock() - began - seconds  # validation is not training
        if done % settings.checkpoint_every == 0 or reached >= 1.0:
            save_weights(output / "model" / "weights.safetensors", network, config, step=done)
            save_state(state_path, parts, optimizer, config, step=done, seconds=seconds)
        try:
            progress(f"training {done}/{settings.steps}", reached)
        except (Cancelled, KeyboardInterrupt):
            save_state(state_path, parts, optimizer, config, step=done, seconds=seconds)
            raise
    log.close()
    return output / "model"


def _diverged(step: int, how: str) -> Diverged:
    return Diverged(f"training diverged at step {step}: {how}", "lower training.learning_rate")


def draw_batch(
    volumes: Sequence[Volume], config: Config, divisor: Sequence[int], step: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Random augmented images and their labels, each (B, 1, D, H, W): a function of the seed and the step."""
    rng = torch.Generator().manual_seed(mixed(config.training.seed, step))
    order = torch.randperm(len(volumes), generator=rng).tolist()
    drawn = [volumes[order[n % len(order)]] for n in range(config.training.batch_size)]
    pairs = [_augmented(volume, config, divisor, rng, device) for volume in drawn]
    return torch.cat([image for image, _ in pairs]), torch.cat([labels for _, labels in pairs])


def _augmented(
    volume: Volume, config: Config, divisor: Sequence[int], rng: torch.Generator, device: torch.device
) -> list[Tensor]:
    """[image, labels], (1, 1, D, H, W), flipped, rotated and cropped together; labels stay whole numbers."""
    assert volume.labels is not None
    changes, spacing_mm = config.augment, config.data.spacing_mm
    image, labels = flip((volume.image.to(device), volume.labels.to(device)), changes.flip, rng)
    if changes.rotation_degrees > 0:
        rotation = random_rotation(changes.rotation_degrees, rng)
        image = rotate(image, rotation, spacing_mm)
        labels = rotate(labels.float(), rotation, spacing_mm, mode="nearest")
    return crop((image, labels), changes.crop, divisor, rng)


def _labelled(volumes: Sequence[Volume]) -> list[Volume]:
    labelled = [volume for volume in volumes if volume.labels is not None]
    if not labelled:
        raise InputError("no subject with split train has labels; a supervised network needs some")
    return labelled


def validate(network: UNet, volumes: Sequence[Volume], device: torch.device) -> dict[str, float]:
    """Mean Dice over labels and labelled volumes; an empty answer where there are none."""
    network.eval()
    scores = [mean_dice(network.label(v.image.to(device)), v.labels) for v in volumes if v.labels is not None]
    network.train()
    return {"validation_dice": sum(scores) / len(scores)} if scores else {}


@dataclass(frozen=True)
class Labeller:
    """A trained U-Net, its configuration and the device that it is on."""

    config: Config
    network: UNet
    device: torch.device

    def segment(self, image: sitk.Image, reference: sitk.Image, affine: sitk.Transform) -> tuple[sitk.Image, float]:
        """Labels of ``image`` on its own grid, resampled once, and the network's seconds.

        ``affine`` (image → reference, LPS, mm) brings it to the space that the network was trained in, onto a grid over
        the ``reference``.
        """
        began, data = time.monotonic(), self.config.data
        divisor = self.network.divisor
        grid = network_grid(reference, data.spacing_mm, margin_voxels=data.margin_voxels, divisor=divisor)
        labels = self.network.label(network_input(image, grid, affine.GetInverse()).to(self.device))
        seconds = time.monotonic() - began
        return resample_labels(to_image(labels, grid), Grid.of(image), affine), seconds
