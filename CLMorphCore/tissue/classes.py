"""Which structures are of one tissue: those whose intensities agree on the atlas."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

MAX_DISTANCE = 0.005  # of two tissues that are taken for one (Bhattacharyya); more merge what cortex alone covers
MIN_SD = 0.02  # of the image's standard deviation
MAX_RANGE = 1 << 20  # of labels that are counted by a table


class Unfit(Exception):
    """The tissue model does not fit this scan, or this atlas; its message says why."""


def tissues_of(image: sitk.Image, labels: sitk.Image) -> tuple[tuple[int, ...], ...]:
    """Groups of labels that are of one tissue.

    The two groups whose intensities on the atlas' image are nearest become one, until none are nearer than
    MAX_DISTANCE.
    """
    values = sitk.GetArrayFromImage(image).astype(np.float64).ravel()
    least = (MIN_SD * float(values.std())) ** 2 or 1.0
    known, place = _places(sitk.GetArrayViewFromImage(labels).ravel())
    count = np.bincount(place)
    mean = np.bincount(place, values) / count
    variance = np.maximum(np.bincount(place, values**2) / count - mean**2, 0) + least
    moments = np.stack([count.astype(np.float64), mean, variance], axis=1)[known != 0]
    # by their rows, the youngest last
    groups: dict[int, tuple[int, ...]] = {n: (int(v),) for n, v in enumerate(known[known != 0])}
    apart = np.array([distances(one, moments) for one in moments]).reshape(len(moments), len(moments))
    np.fill_diagonal(apart, np.inf)
    while len(groups) > 1:
        first, second = divmod(int(apart.argmin()), len(moments))
        if apart[first, second] > MAX_DISTANCE:
            break
        groups[first] = groups.pop(first) + groups.pop(second)
        moments[first] = _merged(moments[first], moments[second])
        apart[second] = apart[:, second] = np.inf
        row = np.where(np.isinf(apart[first]), np.inf, distances(moments[first], moments))
        apart[first] = apart[:, first] = row
    return tuple(groups.values())


def _merged(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Count, mean and variance of two sets together."""
    count = first[0] + second[0]
    a, b = first[0] / count, second[0] / count
    mean = a * first[1] + b * second[1]
    return count, mean, a * first[2] + b * second[2] + a * b * (first[1] - second[1]) ** 2


def distances(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """¼ (μ₁ − μ₂)² / (σ₁² + σ₂²) + ½ ln ((σ₁² + σ₂²) / 2 σ₁ σ₂), of one set to each of others (N, 3)."""
    total = one[2] + others[:, 2]
    apart: np.ndarray = (one[1] - others[:, 1]) ** 2 / (4 * total)
    return apart + 0.5 * np.log(total / (2 * np.sqrt(one[2] * others[:, 2])))


def _places(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels that occur, ascending, and for each voxel (N,) the place of its own among them."""
    low = int(labels.min())
    if int(labels.max()) - low > MAX_RANGE:
        known, place = np.unique(labels, return_inverse=True)
        return known, place.ravel()
    index = labels.astype(np.int64) - low  # counted, in a tenth of the time of sorting
    there = np.bincount(index) > 0
    return np.flatnonzero(there) + low, (np.cumsum(there) - 1)[index]
