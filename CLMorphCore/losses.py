"""Losses, each a function of tensors with its equation and source; weights live in the configuration only.

Images are (B, C, D, H, W), fields (B, 3, D, H, W) in voxels, embeddings (B, N). "The paper" is Liu, Aviles-Rivero and
Schönlieb, Contrastive Registration for Unsupervised Medical Image Segmentation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import InputError
from .similarity import local_correlation_map


def reconstruction(fixed: Tensor, warped: Tensor, sigma: float) -> Tensor:
    """1/(2σ²) · mean (fixed − warped)²: equation 7 of the paper, per voxel, so that it does not depend on the grid."""
    return F.mse_loss(warped, fixed) / (2.0 * sigma**2)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """½ · mean (σ² + μ² − log σ² − 1) = KL(N(μ, σ²) ‖ N(0, 1)): equation 6, plus a constant: its minimum is 0.

    ``mean`` and ``log_variance`` have one shape; the average is over all of their elements. Relative to a mean over
    voxels, the paper's sum would be three times that, for the three components of a displacement; σ of
    ``reconstruction``, which the paper does not state, sets the same balance.
    """
    return 0.5 * (log_variance.exp() + mean**2 - log_variance - 1.0).mean()


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """−log( exp(s(f(x), f(y))/τ) / Σ_{i≠x} exp(s(f(x), f(i))/τ) ), s = cosine: equation 8 (Chen et al., ICML 2020).

    ``first`` and ``second`` (B, N) are the embeddings of the B pairs; the mean over all 2B anchors. Raises InputError
    for a single pair, which has no negative.
    """
    pairs = first.shape[0]
    if pairs < 2:
        raise InputError(
            f"contrastive loss nt-xent needs at least 2 pairs in a batch, this one has {pairs}; "
            "raise training.batch_size or set loss.contrast = 0"
        )
    unit = F.normalize(torch.cat([first, second]).float(), dim=1)
    similarity = unit @ unit.T / temperature
    itself = torch.eye(2 * pairs, dtype=torch.bool, device=unit.device)
    partner = torch.arange(2 * pairs, device=unit.device).roll(pairs)
    return F.cross_entropy(similarity.masked_fill(itself, float("-inf")), partner)


def voxel_contrast(fixed: Tensor, warped: Tensor, temperature: float) -> Tensor:
    """−log( exp(s(aₙ, pₙ)/τ) / Σₘ exp(s(aₙ, pₘ)/τ) ), s = cosine, mean over n: InfoNCE (van den Oord et al., 2018).

    Anchors a are fixed features, positives p the warped moving features at the same voxel; the negatives of a voxel
    are the positives of all others, its own image's and other pairs'. Both (N, C), one row a voxel; mean over both
    directions.
    """
    similarity = F.normalize(fixed.float(), dim=1) @ F.normalize(warped.float(), dim=1).T / temperature
    itself = torch.arange(len(fixed), device=fixed.device)
    return 0.5 * (F.cross_entropy(similarity, itself) + F.cross_entropy(similarity.T, itself))


def byol(prediction: Tensor, target: Tensor) -> Tensor:
    """2 − 2 · s(q(f(x)), f'(y)), s = cosine, no gradient into f' (Grill et al., NeurIPS 2020); both (B, N)."""
    return (2.0 - 2.0 * F.cosine_similarity(prediction.float(), target.detach().float(), dim=1)).mean()


def correlation(fixed: Tensor, warped: Tensor) -> Tensor:
    """1 − mean over pairs of cov(f, w) / (σ_f σ_w): the correlation of whole images (VTN: Zhao et al., JBHI 2020)."""
    f, w = (x.float().flatten(1) for x in (fixed, warped))
    return 1.0 - F.cosine_similarity(f - f.mean(1, keepdim=True), w - w.mean(1, keepdim=True), dim=1).mean()


def local_correlation(fixed: Tensor, warped: Tensor, window_voxels: int | tuple[int, ...] = 9) -> Tensor:
    """1 − mean over windows of cov²(f, w) / (var f · var w): local normalised cross-correlation (Avants et al., 2008).

    Zero for images that agree up to a local gain and offset, one for unrelated ones. Windows without contrast count as
    unrelated, so that empty background is not rewarded.
    """
    return 1.0 - local_correlation_map(fixed, warped, window_voxels).mean()


def diffusion(field: Tensor) -> Tensor:
    """mean |∇v|²: forward differences of a field (B, 3, D, H, W), averaged over axes, components and voxels."""
    along_z, along_y, along_x = (field.diff(dim=axis).pow(2).mean() for axis in (2, 3, 4))
    return (along_z + along_y + along_x) / 3.0


def folding(determinant: Tensor) -> Tensor:
    """mean max(0, −det J) = mean ½(|det J| − det J): zero where nothing folds (FAIM: Kuang and Schmah, MLMI 2019)."""
    return F.relu(-determinant).mean()
