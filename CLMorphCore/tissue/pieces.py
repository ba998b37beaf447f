"""Crumbs of a structure: voxels of its tissue that lie apart from it, as of another vessel as bright as the heart."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .shares import NONE, extents_of

MIN_PIECE = 0.1  # of a structure's largest piece


def without_crumbs(labels: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """``labels`` (D, H, W), but what ``alone`` says in pieces of a structure smaller than MIN_PIECE of its largest one.

    Pieces hang together by voxels' faces. What the atlas expects of a structure stays, in however many pieces.
    """
    tidied = labels.copy()
    for label, box in extents_of(np.where(labels > 0, labels, NONE)).items():
        z, y, x = (slice(low, high) for low, high in box)
        mask = (labels[z, y, x] == label).astype(np.uint8)
        piece = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask)))
        sizes = np.bincount(piece.ravel())
        sizes[0] = 0
        if len(sizes) > 2:
            crumbs = (sizes < MIN_PIECE * sizes.max())[piece] & (mask > 0)
            tidied[z, y, x][crumbs] = alone[z, y, x][crumbs]
    return tidied
