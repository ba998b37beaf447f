"""What a registration shows of its own quality, without any reference labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Grid, linear_parts, resample, to_image, to_tensor
from ..matching import Match
from ..similarity import local_correlation_map
from ..spatial import box_mean, jacobian_determinant, warp

WINDOW_VOXELS = 5
BAND = 0.1  # width of the band of a background, in standard deviations of the scan
BACKGROUND_SHARE, BACKGROUND_MARGIN = 0.15, 0.25  # voxels in that band, of all, and how far above it is no background
CLEAN_SHARE = 0.8  # of the band's voxels, that have the very same value where the background is clean
MAX_BINS = 10_000
FLAT = 0.01  # standard deviation in 3³ voxels, of the scan's, below which it shows nothing there
# of a structure; each the better the greater
FEATURES = (
    "agreement",
    "correlation",
    "correlation_affine",
    "stability",
    "log_jacobian_sd",
    "volume_change",
    "affine_overlap",
    "coverage",
)
# of a case; each the better the greater
CHECKS = (
    "correlation",
    "correlation_affine",
    "agreement",
    "stability",
    "overlap",
    "size",
    "shape",
    "rotation",
    "orientation_margin",
    "coverage",
)


@dataclass(frozen=True)
class Evidence:
    """What a network's answer shows of its own quality: (K, FEATURES) of the structures, (CHECKS,) of the case.

    Before any refinement: so it can be compared with the answers that the quality score was fitted to.

    values              of the structures

    agreement           mean Dice of a structure warped by the answer and by each alternative displacement
    correlation         mean local correlation of scan and warped atlas in it; ``correlation_affine``: before warping
    stability           −log of the mean distance, in voxels, between the answer and the alternatives
    log_jacobian_sd     −standard deviation of log det J in it
    volume_change       −|log of its volume after warping / before|
    affine_overlap      Dice of the structure before and after warping
    coverage            share of it, or of all structures, that lies where the scan shows something: not beyond its grid
                        or in padding, nor where it is flat, as behind a mask
    overlap             Dice of the two foregrounds
    size, shape         −|log volume ratio| of the affine, −log of the ratio of its largest and smallest stretch
    rotation            −angle of the affine's rotation, in radians
    orientation_margin  correlation of the two images less that of the scan's best mirror image
    """

    values: tuple[int, ...]
    structures: np.ndarray
    case: np.ndarray


@torch.inference_mode()
def evidence(found: Match, labels: sitk.Image, values: Sequence[int], alternatives: Sequence[Tensor]) -> Evidence:
    """The evidence about an atlas' ``labels`` warped by a match; ``alternatives`` as in ``uncertainty``."""
    fixed, moving, own = found.scan.tensor, found.moving.tensor, found.answer
    index = _Index(resample(labels, found.grid, labels=True), values, own.device)
    before, after = index.labels, index.warped(own)
    correlation, correlation_affine = (
        local_correlation_map(fixed, image, WINDOW_VOXELS) for image in (warp(moving, own), moving)
    )
    log_determinant = jacobian_determinant(own).clamp_min(1e-2).log()
    distance = torch.stack([_length(other - own) for other in alternatives]).mean(dim=0)
    agreement = torch.stack([index.dice(after, index.warped(other)) for other in alternatives]).mean(dim=0)
    mean, square = index.mean(log_determinant, after), index.mean(log_determinant**2, after)
    covered = _coverage(found)
    columns = {
        "agreement": agreement,
        "correlation": index.mean(correlation, after),
        "correlation_affine": index.mean(correlation_affine, after),
        "stability": -(index.mean(distance, after) + 0.01).log(),
        "log_jacobian_sd": -(square - mean**2).clamp_min(0).sqrt(),
        "volume_change": -((index.count(after) + 1) / (index.count(before) + 1)).log().abs(),
        "affine_overlap": index.dice(before, after),
        "coverage": index.mean(covered, after),
    }
    table = torch.stack([columns[name] for name in FEATURES], dim=1).double().cpu().numpy()
    covered = covered[after > 0].mean().item() if (after > 0).any() else 0.0
    return Evidence(tuple(values), table, _case(found, correlation, correlation_affine, distance, covered, table))


class _Index:
    """Sums over structures by counting: labels as places 0…K in the list of values, K + 1 … nothing of them."""

    def __init__(self, labels: sitk.Image, values: Sequence[int], device: torch.device) -> None:
        self.size = len(values) + 1
        order = np.argsort(values)
        known, array = np.asarray(values, np.int64)[order], sitk.GetArrayFromImage(labels).astype(np.int64)
        place = np.searchsorted(known, array).clip(max=len(values) - 1)
        # Places and not the labels themselves: of large ones a float takes several for one.
        places = np.where(known[place] == array, order[place] + 1, 0)
        self.labels = torch.from_numpy(places.astype(np.float32))[None, None].to(device)

    def warped(self, displacement: Tensor) -> Tensor:
        return warp(self.labels, displacement, mode="nearest")

    def count(self, labels: Tensor) -> Tensor:
        return torch.bincount(labels.long().flatten(), minlength=self.size)[1:].float()

    def mean(self, values: Tensor, labels: Tensor) -> Tensor:
        """Mean over each structure, 0 where it is empty."""
        total = torch.bincount(labels.long().flatten(), values.flatten().double(), minlength=self.size)[1:]
        return (total / self.count(labels).clamp_min(1)).float()

    def dice(self, first: Tensor, second: Tensor) -> Tensor:
        """2 |A ∩ B| / (|A| + |B|) of each structure, 0 where both are empty."""
        both = self.count(torch.where(first == second, first, 0.0))
        return 2 * both / (self.count(first) + self.count(second)).clamp_min(1)


def _length(vectors: Tensor) -> Tensor:
    """|v|: (1, 3, D, H, W) → (1, 1, D, H, W); several times as fast as torch's own norm along an outer axis."""
    z, y, x = vectors.split(1, dim=1)
    return (z.square() + y.square() + x.square()).sqrt_()


def _case(
    found: Match, correlation: Tensor, correlation_affine: Tensor, distance: Tensor, covered: float, table: np.ndarray
) -> np.ndarray:
    fixed, moving = found.scan.tensor, found.moving.tensor
    foreground, atlas = foreground_of(fixed), warp(moving, found.answer) > moving.min() + 0.1
    matrix, _ = linear_parts(found.scan.affine)
    left, stretch, right = np.linalg.svd(matrix)
    angle = np.arccos(np.clip((np.trace(left @ right) * np.sign(np.linalg.det(matrix)) - 1) / 2, -1, 1))
    checks = {
        "correlation": correlation[atlas].mean().item(),
        "correlation_affine": correlation_affine[atlas].mean().item(),
        "agreement": float(table[:, FEATURES.index("agreement")].mean()),
        "stability": -float(np.log(distance[atlas].mean().item() + 0.01)),
        "overlap": (2 * (foreground & atlas).sum() / (foreground.sum() + atlas.sum())).item(),
        "size": -abs(float(np.log(stretch).sum())),
        "shape": -float(np.log(stretch.max() / stretch.min())),
        "rotation": -float(angle),
        "orientation_margin": _orientation_margin(fixed, moving),
        "coverage": covered,
    }
    return np.array([checks[name] for name in CHECKS])


def foreground_of(fixed: Tensor) -> Tensor:
    """Where a normalised scan shows something: above its minimum, or above its background where that is not clean.

    A stripped scan that was resampled by splines, or saved by a lossy codec, has a background that rings, or is faintly
    noisy: many voxels within a narrow band, and a few below it. A scan that fills its field has no such band.
    """
    low, high = float(fixed.min()), float(fixed.max())
    bins = max(1, min(MAX_BINS, int((high - low) / BAND)))
    counts = torch.histc(fixed.float().cpu(), bins, low, high)
    if float(counts.max()) < BACKGROUND_SHARE * fixed.numel():
        return fixed > low
    level = low + (float(counts.argmax()) + 0.5) * (high - low) / bins
    clean = float((fixed == low).sum()) > CLEAN_SHARE * float(counts.max())
    return fixed > (low if clean else level + BACKGROUND_MARGIN)


def _orientation_margin(fixed: Tensor, moving: Tensor) -> float:
    """corr(f, m) − max corr(Rf, m) over mirrorings R, on coarse images: below 0 where a mirrored scan fits better."""
    coarse, target = (F.avg_pool3d(image, 4, ceil_mode=True) for image in (fixed, moving))
    mirrored = [coarse.flip(axis) for axis in (2, 3, 4)]
    scores = [
        torch.corrcoef(torch.stack([image.flatten(), target.flatten()]))[0, 1].item() for image in (coarse, *mirrored)
    ]
    return scores[0] - max(scores[1:])


def _coverage(found: Match) -> Tensor:
    """1 where the network's grid lies within what the fixed image shows and that is not flat: (1, 1, D, H, W)."""
    fixed, visible = found.scan.tensor, Grid.of(found.scan.visible)
    full = to_image(torch.ones(1, 1, *visible.shape), visible)
    within = to_tensor(resample(full, found.grid, found.scan.affine.GetInverse(), outside=0.0))
    spread = (box_mean(fixed**2, 3) - box_mean(fixed, 3) ** 2).clamp_min(0).sqrt()
    if found.scan.counts is not None:
        within = within * found.scan.counts.cpu()
    return within.to(fixed.device) * (spread > FLAT * fixed.std())
