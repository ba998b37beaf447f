"""Which structures are of one tissue: those whose intensities agree on the atlas."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

MAX_DISTANCE = 0.005  # of two tissues that are taken for one (Bhattacharyya); more merge what cortex alone covers
MIN_SD = 0.02  # of the image's standard deviation
MAX_RANGE = 1 << 20  # of labels that are counted by a table


@dataclass(frozen=True)
class _Moments:
    count: float
    mean: float
    variance: float

    def __add__(self, other: _Moments) -> _Moments:
        count = self.count + other.count
        a, b = self.count / count, other.count / count
        mean = a * self.mean + b * other.mean
        variance = a * self.variance + b * other.variance + a * b * (self.mean - other.mean) ** 2
        return _Moments(count, mean, variance)

    def distance(self, other: _Moments) -> float:
        """¼ (μ₁ − μ₂)² / (σ₁² + σ₂²) + ½ ln ((σ₁² + σ₂²) / 2 σ₁ σ₂)."""
        total = self.variance + other.variance
        return (self.mean - other.mean) ** 2 / (4 * total) + 0.5 * math.log(
            total / (2 * math.sqrt(self.variance * other.variance))
        )


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
    groups: list[tuple[tuple[int, ...], _Moments]] = [
        ((int(v),), _Moments(float(n), float(m), float(s)))
        for v, n, m, s in zip(known, count, mean, variance, strict=True)
        if v
    ]
    distances = np.full((len(groups), len(groups)), np.inf)  # of each to those before it
    for i, (_, own) in enumerate(groups):
        distances[i, :i] = [own.distance(other) for _, other in groups[:i]]
    while len(groups) > 1:
        i, j = divmod(int(distances.argmin()), len(groups))
        if distances[i, j] > MAX_DISTANCE:
            break
        first, second = groups.pop(i), groups.pop(j)
        own = second[1] + first[1]
        distances = np.delete(np.delete(distances, (i, j), axis=0), (i, j), axis=1)
        distances = np.pad(distances, (0, 1), constant_values=np.inf)
        distances[-1, :-1] = [own.distance(other) for _, other in groups]
        groups.append((second[0] + first[0], own))
    return tuple(group for group, _ in groups)


def _places(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels that occur, ascending, and for each voxel (N,) the place of its own among them."""
    low = int(labels.min())
    if int(labels.max()) - low > MAX_RANGE:
        known, place = np.unique(labels, return_inverse=True)
        return known, place.ravel()
    index = labels.astype(np.int64) - low  # counted, in a tenth of the time of sorting
    there = np.bincount(index) > 0
    return np.flatnonzero(there) + low, (np.cumsum(there) - 1)[index]
