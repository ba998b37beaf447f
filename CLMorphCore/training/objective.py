"""What a training minimises: equation 9 of the paper, and the terms that the other systems' papers add to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .. import losses
from ..bundles.config import LossConfig
from ..networks import TrainingPrediction
from ..networks.blocks import row_generators
from ..spatial import jacobian_determinant, resize_field, resize_image, warp
from .batches import Batch
from .byol import Byol

CONTRASTED_VOXELS = 256  # of each pair: 512 anchors with 511 negatives in a batch of two


def loss_terms(
    config: LossConfig,
    batch: Batch,
    prediction: TrainingPrediction,
    contrast: Byol | None = None,
    gather: Callable[[Tensor], Tensor] = lambda rows: rows,
) -> dict[str, Tensor]:
    """The unweighted terms: similarity, regulariser and, where its weight is not zero, each of the others.

    ``gather`` makes of this process' rows those of all that share the batch: what is contrasted has them all as
    negatives; every other term is a mean over pairs.
    """
    terms = {"similarity": _similarity(config, batch, prediction)}
    if config.regulariser == "kl":
        assert prediction.mean is not None and prediction.log_variance is not None, "see check_trainable"
        terms["regulariser"] = losses.kl_divergence(prediction.mean, prediction.log_variance)
    else:
        terms["regulariser"] = losses.diffusion(
            prediction.displacement if prediction.regularised is None else prediction.regularised
        )
    if config.coarse > 0 and prediction.coarse:
        terms["coarse"] = _coarse_similarity(config, batch, prediction)
    if config.folding > 0:
        terms["folding"] = losses.folding(jacobian_determinant(prediction.displacement))
    if config.penalty > 0 and prediction.penalty is not None:
        terms["penalty"] = prediction.penalty
    if config.voxel_contrast > 0 and prediction.features is not None:
        fixed, warped = map(gather, _voxels(batch, *prediction.features, prediction.displacement))
        terms["voxel_contrast"] = losses.voxel_contrast(fixed, warped, config.voxel_temperature)
    if config.contrast > 0:
        assert prediction.embeddings is not None, "see check_trainable"
        if contrast is not None:
            terms["contrast"] = contrast.loss(batch.fixed, batch.moving, prediction.embeddings)
        else:
            first, second = map(gather, prediction.embeddings)
            terms["contrast"] = losses.nt_xent(first, second, config.temperature)
    return terms


def weighted(config: LossConfig, terms: Mapping[str, Tensor]) -> Tensor:
    """L = recon + α · smooth + β · contrast + …: equation 9, the only place where weights are applied."""
    weights = {
        "similarity": 1.0,
        "regulariser": config.smooth,
        "contrast": config.contrast,
        "voxel_contrast": config.voxel_contrast,
        "coarse": config.coarse,
        "folding": config.folding,
        "penalty": config.penalty,
    }
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


def _voxels(batch: Batch, fixed: Tensor, moving: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor]:
    """(fixed, warped moving) features (N, C) at random foreground voxels, CONTRASTED_VOXELS of each pair.

    Foreground is where the batch's fixed image is above its minimum: empty voxels are all alike.
    """
    shape, image = fixed.shape[2:], batch.fixed
    warped = warp(moving, resize_field(displacement, shape), padding="border")
    inside = resize_image((image > image.amin(dim=(2, 3, 4), keepdim=True)).float(), shape).flatten(1) > 0.5
    weights = inside.float() + 1e-6
    chosen = torch.stack(
        [
            torch.multinomial(row, CONTRASTED_VOXELS, replacement=True, generator=generator)
            for row, generator in zip(weights, row_generators(weights, batch.first), strict=True)
        ]
    )
    picked = [x.flatten(2).gather(2, chosen[:, None].expand(-1, x.shape[1], -1)) for x in (fixed, warped)]
    first, second = (x.transpose(1, 2).flatten(0, 1) for x in picked)
    return first, second


def _similarity(config: LossConfig, batch: Batch, prediction: TrainingPrediction) -> Tensor:
    one_way = _dissimilarity(config, batch.fixed, batch.moving, prediction.displacement)
    if not config.symmetric or prediction.inverse is None:
        return one_way
    return 0.5 * (one_way + _dissimilarity(config, batch.moving, batch.fixed, prediction.inverse))


def _coarse_similarity(config: LossConfig, batch: Batch, prediction: TrainingPrediction) -> Tensor:
    """Mean over the coarser levels of the dissimilarity of the images at that resolution."""
    levels = []
    for field in prediction.coarse:
        fixed, moving = (resize_image(image, field.shape[2:]) for image in (batch.fixed, batch.moving))
        levels.append(_dissimilarity(config, fixed, moving, field))
    return torch.stack(levels).mean()


def _dissimilarity(config: LossConfig, target: Tensor, image: Tensor, displacement: Tensor) -> Tensor:
    warped = warp(image, displacement)
    if config.similarity == "ncc":
        return losses.correlation(target, warped)
    if config.similarity == "lncc":
        return losses.local_correlation(target, warped, config.window_voxels)
    return losses.reconstruction(target, warped, config.sigma)
