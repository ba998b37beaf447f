"""What a training is judged by while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..bundles.config import Config
from ..spatial import folding_fraction, jacobian_determinant, warp
from .batches import Batch, Dataset, Volume, partner
from .objective import loss_terms, weighted

MAX_PAIRS = 8  # of training scans, where none are held out


def judged(config: Config, network: nn.Module, data: Dataset, device: torch.device) -> dict[str, float]:
    """How good a network is: ``validate`` where a pair is held out, else ``loss_of_pairs`` of training scans."""
    found = validate(config, network, data.validation, device)
    return found or loss_of_pairs(config, network, data.train[:MAX_PAIRS], device)


def shortfall(found: Mapping[str, float]) -> float:
    """How far from perfect what ``judged`` has found is, zero or more: 1 − Dice, or the loss."""
    return 1.0 - found["validation_dice"] if "validation_dice" in found else found["validation_loss"]


@torch.no_grad()
def validate(config: Config, network: nn.Module, volumes: Sequence[Volume], device: torch.device) -> dict[str, float]:
    """Mean Dice over labels and pairs, and folding: each subject as fixed, the next one (of its group) as moving.

    With a single subject there is no pair: an empty answer.
    """
    if len(volumes) < 2:
        return {}
    network.eval()
    scores, folds = [], []
    for at, fixed in enumerate(volumes):
        moving = partner(volumes, at)
        assert fixed.labels is not None and moving.labels is not None, "validation volumes are labelled"
        prediction = network(fixed.image.to(device), moving.image.to(device))
        found = warp_labels(moving.labels, prediction.displacement)
        scores.append(mean_dice(found, fixed.labels))
        folds.append(folding_fraction(jacobian_determinant(prediction.displacement)))
    network.train()
    return {"validation_dice": sum(scores) / len(scores), "folding_fraction": sum(folds) / len(folds)}


@torch.no_grad()
def loss_of_pairs(
    config: Config, network: nn.Module, volumes: Sequence[Volume], device: torch.device
) -> dict[str, float]:
    """The mean loss without its contrastive terms, of each volume as fixed and the next one (of its group) as moving.

    Nothing is augmented and no posterior is sampled: the same weights have the same loss.
    """
    network.eval()
    of_pairs = replace(config.loss, contrast=0.0, voxel_contrast=0.0)
    losses = []
    for at, fixed in enumerate(volumes):
        batch = Batch(fixed.image.to(device), partner(volumes, at).image.to(device))
        terms = loss_terms(of_pairs, batch, network(batch.fixed, batch.moving))
        losses.append(weighted(of_pairs, terms).item())
    network.train()
    return {"validation_loss": sum(losses) / len(losses)}


def warp_labels(labels: Tensor, displacement: Tensor) -> Tensor:
    """Labels of any size at the nearest voxels, on the CPU; 0 outside."""
    values = labels.unique()
    place = 1 + torch.searchsorted(values, labels)
    found = warp(place.float().to(displacement.device), displacement, mode="nearest").cpu()
    return torch.cat([values.new_zeros(1), values])[found.long()]


def mean_dice(first: Tensor, second: Tensor) -> float:
    """Mean over the labels of ``second`` of 2|A∩B| / (|A| + |B|)."""
    labels = second.unique().tolist()
    return sum(
        2 * float(((first == k) & (second == k)).sum()) / float((first == k).sum() + (second == k).sum())
        for k in labels
        if k
    ) / max(1, sum(1 for k in labels if k))
