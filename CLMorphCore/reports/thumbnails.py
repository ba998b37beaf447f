"""A small picture of a segmentation for a page of many: three planes through its structures, with outlines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from . import drawing
from .segmentation import scene_of

SIDE_PIXELS = 104  # of the longest side
GREYS = 20  # so few that a PNG of them is small
GAP_PIXELS = 2


def thumbnail(image: sitk.Image, labels: sitk.Image, colors: Mapping[int, str]) -> bytes:
    """PNG of the axial, coronal and sagittal plane side by side around the labels, of an image on the same grid."""
    frames = scene_of(image, labels).part
    pixel_mm = max(max(where.width_mm, where.height_mm) for where in frames) / SIDE_PIXELS
    named = {value: drawing.rgb(color) for value, color in colors.items()}
    low, high = drawing.window(image)
    pictures = []
    for where in (replace(each, pixel_mm=pixel_mm) for each in frames):
        values = (drawing.sample(image, where) - low) / (high - low)
        few = np.round(np.clip(values, 0, 1) * (GREYS - 1)) / (GREYS - 1)
        pictures.append(drawing.outlined(few, (0.0, 1.0), drawing.sample(labels, where, nearest=True), named))
    rows = max(len(picture) for picture in pictures)
    return drawing.indexed_png(np.concatenate([_padded(picture, rows) for picture in pictures], axis=1))


def _padded(picture: np.ndarray, rows: int) -> np.ndarray:
    """The picture in the middle of black of so many rows, with a gap on its right."""
    above = (rows - len(picture)) // 2
    below = rows - len(picture) - above
    return np.pad(picture, ((above, below), (0, GAP_PIXELS), (0, 0)))
