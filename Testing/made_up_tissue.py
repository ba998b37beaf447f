"""Balls in a background of one tissue, and what an atlas of them expects on a scan's own voxels."""

import numpy as np
import SimpleITK as sitk
import torch

from CLMorphCore.tissue.priors import carried
from CLMorphCore.tissue.shares import PADDING, label_boxes


def image_of(array, spacing=(1.0, 1.0, 1.0)):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    return image


def ball(centre, radius, shape=(40, 40, 40)):
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2


def votes_of(*balls):
    """One ball in a background of one tissue, once for each voter."""
    return [np.where(each, 1, PADDING - 1).astype(np.int32) for each in balls]


def expectation_of(shares, smoothing=1.0):
    """The shares where they are, on the scan's own voxels (origin 0, spacing 1)."""
    boxes = label_boxes(shares, (smoothing,) * 3)

    def expected(grid, step):
        axes = [torch.arange(0, n, step) + round(o) for n, o in zip(grid.shape, grid.origin_mm[::-1], strict=True)]
        return carried(boxes, torch.stack(torch.meshgrid(*axes, indexing="ij")).float(), shares.shape)

    return expected


def dice(labels, truth):
    return 2 * ((labels == 1) & truth).sum() / ((labels == 1).sum() + truth.sum())
