"""One small picture of an atlas: three planes side by side, at one scale, with the outlines of its labels."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..geometry import foreground_box
from . import drawing
from .drawing import VIEWS, Colors, Frame

WIDTH, HEIGHT, GAP = 600, 300, 8  # pixels, of the picture at most; between two planes
MAX_PICTURE_BYTES = 100_000
SHRINK = 0.85  # of its sides, where it is larger
MARGIN = 0.04  # around what is shown, of its longest side
BINS = 100  # of the longest side, among which the fullest plane is looked for


def atlas_picture(image: sitk.Image, labels: sitk.Image | None, colors: Colors) -> bytes:
    """A PNG of at most MAX_PICTURE_BYTES: an axial, a coronal and a sagittal plane where most is labelled.

    ``colors`` are RGB of label values; without labels the planes lie in the middle.
    """
    limits = drawing.window(image)
    points = drawing.labelled_points_mm(labels) if labels is not None else np.empty((0, 3))
    box = _box(image, points)
    place = _place(box, points)
    factor = 1.0
    while True:
        frames = _frames(box, place, factor)
        planes = [_plane(image, labels, where, limits, colors) for where in frames]
        data = drawing.png(_side_by_side(planes))
        if len(data) <= MAX_PICTURE_BYTES:
            return data
        factor *= SHRINK


def _box(image: sitk.Image, points: np.ndarray) -> np.ndarray:
    """(2, 3; LPS, mm): what is not background, and all that is labelled, with a margin; within the image."""
    bounds = drawing.bounds_mm(image)
    values = sitk.GetArrayViewFromImage(image)
    if values.min() == values.max():
        return bounds
    corners = np.concatenate([np.stack(foreground_box(image)), points])
    lower, upper = corners.min(axis=0), corners.max(axis=0)
    margin = MARGIN * (upper - lower).max()
    return np.stack([np.maximum(lower - margin, bounds[0]), np.minimum(upper + margin, bounds[1])])


def _place(box: np.ndarray, points: np.ndarray) -> tuple[float, float, float]:
    if len(points):
        return drawing.fullest_position(points, float((box[1] - box[0]).max()) / BINS)
    x, y, z = box.mean(axis=0).tolist()
    return x, y, z


def _frames(box: np.ndarray, place: tuple[float, float, float], factor: float) -> tuple[Frame, ...]:
    """The three planes, whose pixels are such that all have room in ``factor`` times the picture's sides."""
    sizes = [drawing.frame(view, box, place, 1.0) for view in VIEWS]
    across, down = sum(one.width_mm for one in sizes), max(one.height_mm for one in sizes)
    pixel = max(across / (WIDTH - GAP * (len(VIEWS) - 1)), down / HEIGHT) / factor
    return tuple(drawing.frame(view, box, place, pixel) for view in VIEWS)


def _plane(
    image: sitk.Image, labels: sitk.Image | None, where: Frame, limits: tuple[float, float], colors: Colors
) -> np.ndarray:
    values = drawing.sample(image, where, outside=limits[0])
    known = drawing.sample(labels, where, nearest=True) if labels is not None else np.zeros(values.shape, int)
    return drawing.outlined(values, limits, known, colors)


def _side_by_side(planes: list[np.ndarray]) -> np.ndarray:
    """(rows, columns, 3): the planes in a row on black, each in the middle of its height."""
    rows = max(len(plane) for plane in planes)
    gap = np.zeros((rows, GAP, 3), np.uint8)
    parts: list[np.ndarray] = []
    for plane in planes:
        above = (rows - len(plane)) // 2
        padding = ((above, rows - len(plane) - above), (0, 0), (0, 0))
        parts += [gap, np.pad(plane, padding)]
    return np.concatenate(parts[1:], axis=1)
