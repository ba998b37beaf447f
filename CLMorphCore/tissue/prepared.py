"""What the tissue model needs of one atlas, or of several in one space: made once, used for every scan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..bundles.atlas import Atlas
from ..geometry import Grid
from .classes import Unfit, tissues_of
from .settings import TissueSettings
from .shares import LabelBox, LabelShares, extents_of, label_boxes, shares_of, single_vote

# Smoothing of one vote, on top of the settings'; divided by √voters: of votes that training subjects have carried
# to their average, and of atlases that are carried to a scan. On two validation brains with nine atlases Dice is .757,
# .761, .765 and .763 with .33, .45, .69 and 1.05 voxels in all.
SINGLE_VOTE_VOXELS, ATLAS_VOTE_VOXELS = 1.0, 2.0

MAX_LABELS = 1000  # whose tissues are told apart
MAX_BOX_VOXELS = 1 << 30  # of all labels' boxes together: four bytes each


@dataclass(frozen=True)
class PreparedTissue:
    """Where an atlas expects which label, and which labels are of one tissue.

    grid    the atlases'
    groups  labels of one tissue each; those below zero are tissues of the background
    boxes   of a single atlas, its smoothed shares; empty for several, which have
    votes   their labels with the background's tissues, (D, H, W) each
    """

    grid: Grid
    groups: tuple[tuple[int, ...], ...]
    boxes: tuple[LabelBox, ...]
    votes: tuple[Tensor, ...]


def prepare_tissue(atlases: Sequence[Atlas], settings: TissueSettings, device: str) -> PreparedTissue:
    """The shares of one atlas, found from its image and labels where it has none; the votes of several.

    Raises Unfit for more labels, or more scattered ones, than there is time and memory for.
    """
    _check_labels(atlases)
    first = atlases[0]
    grid = Grid.of(first.labels)
    if len(atlases) > 1:
        votes = [single_vote(atlas.image, atlas.labels) for atlas in atlases]
        groups = _groups(first, np.unique(np.concatenate([np.unique(vote) for vote in votes])).tolist())
        return PreparedTissue(grid, groups, (), tuple(torch.from_numpy(vote).to(device) for vote in votes))
    shares = _of_structures(first) or shares_of([single_vote(first.image, first.labels)])
    groups = _groups(first, [one.label for one in shares.each])
    smoothing = smoothing_voxels(settings, grid, shares.voters)
    return PreparedTissue(grid, groups, label_boxes(shares, smoothing, device), ())


def _check_labels(atlases: Sequence[Atlas]) -> None:
    for atlas in atlases:
        boxes = extents_of(sitk.GetArrayViewFromImage(atlas.labels))
        if len(boxes) > MAX_LABELS:
            raise Unfit(f"the atlas has {len(boxes)} labels, more than {MAX_LABELS}")
        if sum(math.prod(end - first for first, end in box) for box in boxes.values()) > MAX_BOX_VOXELS:
            raise Unfit("the atlas' labels lie scattered over too many voxels")


def _of_structures(atlas: Atlas) -> LabelShares | None:
    """The atlas' shares without those of labels that it does not have, since too few had voted for them."""
    if atlas.shares is None:
        return None
    known = {s.value for s in atlas.structures}
    return replace(atlas.shares, each=tuple(one for one in atlas.shares.each if one.label < 0 or one.label in known))


def smoothing_voxels(
    settings: TissueSettings, grid: Grid, voters: int, single_vote_voxels: float = SINGLE_VOTE_VOXELS
) -> tuple[float, float, float]:
    """Standard deviations (z, y, x): the settings', and the less on top the more have voted."""
    sd = math.hypot(settings.smoothing_mm, single_vote_voxels * min(grid.voxel_mm) / math.sqrt(voters))
    z, y, x = (sd / spacing for spacing in grid.voxel_mm)
    return z, y, x


def _groups(atlas: Atlas, labels: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The tissues of an atlas, and each label that it does not have alone."""
    groups = tissues_of(atlas.image, atlas.labels)
    known = {label for group in groups for label in group}
    return (*groups, *((label,) for label in labels if label and label not in known))
