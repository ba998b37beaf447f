"""Where a segmentation is uncertain: displacements that are as likely, and how often they give another label."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..bundles.model import Model
from ..geometry import Grid, resample, to_image
from ..matching import Match
from ..spatial import warp

SAMPLES = 4  # of the posterior
# Places on the line through the two directions' maps, the answer at 0 and the other direction's at 1.
LINE = (-1.0, -0.5, 0.5, 1.0)


@torch.inference_mode()
def alternative_displacements(model: Model, found: Match) -> list[Tensor]:
    """Displacements (1, 3, D, H, W), in voxels, that are as likely as the network's own, before any optimization.

    Samples from the posterior q(z | y; x) where the network has one. Otherwise, where it gives an inverse, the images
    change their roles: the inverse of the map from the atlas to the scan is another estimate u' of the map u from the
    scan to the atlas, and u + t(u' − u) for t in LINE are taken. Otherwise none; nor for a system without weights,
    which would take as long again.
    """
    if model.folder is None:
        return []
    if model.config.network.capabilities.posterior:
        return _sampled(found)
    network = found.scan.network
    swapped = network.match(found.moving.features_by(network), found.scan.features)
    if swapped.inverse is None:
        return []
    own = found.answer
    return [own + t * (swapped.inverse - own) for t in LINE]


def _sampled(found: Match) -> list[Tensor]:
    network = found.scan.network
    network.sampling = True
    try:
        return [network(found.scan.tensor, found.moving.tensor).displacement for _ in range(SAMPLES)]
    finally:
        network.sampling = False


def label_disagreement(labels: Tensor, displacement: Tensor, alternatives: list[Tensor]) -> Tensor:
    """Share of the alternatives, 0…1, whose label at a voxel is another than the displacement's: (1, 1, D, H, W)."""
    own = warp(labels, displacement, mode="nearest")
    return torch.stack([(warp(labels, other, mode="nearest") != own).float() for other in alternatives]).mean(dim=0)


def disagreement_on_fixed(labels: sitk.Image, found: Match, alternatives: list[Tensor]) -> sitk.Image:
    """``label_disagreement`` about warped atlas labels on the fixed image's grid; 0 outside of the network's grid.

    After an optimization the alternatives, which are about the network's answer, lie around the optimized map.
    """
    own = found.on_grid
    array = sitk.GetArrayFromImage(resample(labels, found.grid, labels=True))
    known = np.unique(np.append(array, 0))
    places = np.searchsorted(known, array)  # and not the labels: of large ones a float takes several for one
    on_grid = torch.from_numpy(places.astype(np.float32))[None, None].to(own.device)
    share = label_disagreement(on_grid, own, [alternative + (own - found.answer) for alternative in alternatives])
    return resample(to_image(share, found.grid), Grid.of(found.scan.image), found.scan.affine, outside=0.0)


def mean_per_label(values: sitk.Image, labels: sitk.Image) -> dict[int, float]:
    """Mean of an image over the voxels of each label above 0, both on one grid."""
    where, amount = (sitk.GetArrayFromImage(image).ravel() for image in (labels, values))
    inside = where > 0
    found, index, count = np.unique(where[inside], return_inverse=True, return_counts=True)
    total = np.bincount(index, weights=amount[inside], minlength=len(found))
    return {int(value): float(t / n) for value, t, n in zip(found, total, count, strict=True)}
