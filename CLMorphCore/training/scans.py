"""What one scan of a training is like: read once, it leaves its size, its noise, its intensities and a thumbnail.

A thumbnail is the box of the foreground in anatomical axes at THUMBNAIL³ voxels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..geometry import Grid, foreground_box, grid_over, resample
from ..io.files import short
from ..io.images import LOOKS_LABELLED, read_image, read_labels_of, warnings_of
from ..io.manifest import Subject
from ..metrics import dice_per_label

THUMBNAIL = 24  # voxels of a side: the organ's shape and its large parts
MIRRORED = tuple(product((1, -1), repeat=3))  # directions of the axes (S, P, L)


@dataclass(frozen=True)
class Scan:
    """One scan that could be read; all triples are anatomical (S, P, L), which is (z, y, x).

    voxel_mm    spacing
    extent_mm   of the foreground's box, and ``filled``, the share of it that is foreground
    noise       its standard deviation as a share of the foreground's
    intensity   the 99th percentile of the foreground above the minimum
    clipped     the share of the foreground that has the highest value
    thumbnail   (T, T, T) of the foreground's box; ``digest`` tells the same voxels, ``grid`` is of ``grid_of``
    values      label values, None without labels, and
    labels_mm   the extent of the box around all labels, and
    labels_cover  the share of the scan's voxels that their file has, and
    mirrored    (8, T, T, T) of them in the foreground's box, as they are and as by every other direction of the grid's
                axes, in the order of ``MIRRORED``
    warnings    what was said when scan and labels were read
    """

    subject: Subject
    voxel_mm: tuple[float, float, float]
    extent_mm: tuple[float, float, float]
    filled: float
    noise: float
    intensity: float
    thumbnail: np.ndarray
    digest: str
    grid: tuple[float, ...] = ()
    values: tuple[int, ...] | None = None
    labels_mm: tuple[float, float, float] | None = None
    clipped: float = 0.0
    labels_cover: float = 1.0
    mirrored: np.ndarray | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """Something about a scan, or about all where ``subject`` is empty; ``left_out`` where it is not trained on.

    ``warnings`` are those of reading a scan that it stands for: they need not be said again.
    """

    subject: str
    text: str
    left_out: bool = False
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.subject or 'all scans'}: {self.text}"


def look_at(subject: Subject) -> tuple[Scan | None, list[Finding]]:
    """One scan, or None where it cannot be read; labels that cannot be used are a finding, the scan stays."""
    try:
        image = read_image(subject.image)
    except InputError as error:
        return None, [Finding(subject.name, f"cannot be used: {_reason(error)}", left_out=True)]
    warnings = warnings_of(image)
    if any(LOOKS_LABELLED in text for text in warnings):
        text = (
            "looks like a label map, few values alike over wide regions; expected a scan; labels of one are found "
            "beside it where they have its name and _labels"
        )
        return None, [Finding(subject.name, text, left_out=True, warnings=warnings)]
    scan, findings = replace(_scan(subject, image), warnings=warnings), []
    if subject.labels is not None:
        try:
            labels, cover = read_labels_of(image, subject.labels, name="the image")
            values, extent = _about_labels(labels, subject.labels)
            scan = replace(scan, values=values, labels_mm=extent, labels_cover=cover)
            scan = replace(scan, mirrored=_mirrored(labels, *foreground_box(image)))
            scan = replace(scan, warnings=(*warnings, *warnings_of(labels)))
        except InputError as error:
            findings.append(Finding(subject.name, f"{_reason(error)}; it is trained on without labels"))
            scan = replace(scan, subject=replace(subject, labels=None))
    return scan, findings


def kept_on_grid(labels: sitk.Image, factor: float) -> float:
    """Mean Dice of labels with themselves, once put on a grid ``factor`` times as coarse and back."""
    own = Grid.of(labels)
    corners, voxels = own.corners_mm(), np.array(own.anatomical_voxel_mm())
    coarse = grid_over(corners.min(axis=0), corners.max(axis=0), np.maximum(voxels, factor * voxels.min()).tolist())
    back = resample(resample(labels, coarse, labels=True), own, labels=True)
    return float(np.mean([dice for value, dice in dice_per_label(back, labels).items() if value > 0]))


def _reason(error: InputError) -> str:
    return short(Exception(error.problem), 400)


def _about_labels(labels: sitk.Image, path: Path) -> tuple[tuple[int, ...], tuple[float, float, float]]:
    """The values and the extent (z, y, x; mm) of labels."""
    values = np.unique(sitk.GetArrayViewFromImage(labels)).tolist()
    if values[0] < 0 or values == [0]:
        raise InputError(f"labels {path} are {'empty' if values == [0] else 'negative in places'}")
    everywhere = Grid.of(labels).corners_mm()
    lower, upper = foreground_box(labels > 0) if values[0] == 0 else (everywhere.min(axis=0), everywhere.max(axis=0))
    x, y, z = (upper - lower).tolist()
    return tuple(v for v in values if v), (z, y, x)


def _mirrored(labels: sitk.Image, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """(8, T, T, T): labels in a box, mirrored about the middle of their grid, as headers do that name other directions.

    The axis of the grid that is mirrored is the one nearest to the anatomical one.
    """
    voxels, thumbnails = sitk.GetArrayViewFromImage(labels), []
    of_lps = np.abs(np.reshape(labels.GetDirection(), (3, 3))).argmax(axis=0)  # of the grid's axes (x, y, z)
    box = grid_over(lower, upper, ((upper - lower) / THUMBNAIL)[::-1].tolist())
    for signs in MIRRORED:
        steps = tuple(slice(None, None, signs[2 - axis]) for axis in of_lps[::-1])
        turned = sitk.GetImageFromArray(np.ascontiguousarray(voxels[steps]))
        turned.CopyInformation(labels)
        small = sitk.GetArrayFromImage(resample(turned, box, labels=True))
        thumbnails.append(small[:THUMBNAIL, :THUMBNAIL, :THUMBNAIL])
    found = np.stack(thumbnails)
    return found.astype(np.uint16 if found.max() < 2**16 else np.int64)


def _scan(subject: Subject, image: sitk.Image) -> Scan:
    lower, upper = foreground_box(image)
    voxels = sitk.GetArrayViewFromImage(image)
    low = float(voxels.min())
    bright = float(np.percentile(voxels[voxels > low], 99))
    above = voxels > low + 0.02 * (bright - low)
    box = tuple(slice(int(line[0]), int(line[-1]) + 1) for line in map(np.flatnonzero, _profiles(above)))
    x, y, z = (upper - lower).tolist()
    return Scan(
        subject,
        Grid.of(image).anatomical_voxel_mm(),
        (z, y, x),
        float(above[box].mean()),
        _noise(voxels[box], above[box], bright),
        bright - low,
        _thumbnail(image, lower, upper),
        hashlib.sha256(np.ascontiguousarray(voxels).tobytes()).hexdigest(),  # as of ``digests``
        grid_of(image),
        clipped=float((voxels[above] == voxels.max()).mean()),
    )


def grid_of(image: sitk.Image) -> tuple[float, ...]:
    """Spacing, origin and direction, as the header has them."""
    return (*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection())


def _profiles(mask: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]


def _noise(voxels: np.ndarray, above: np.ndarray, bright: float) -> float:
    """The noise as a share of the foreground's standard deviation.

    From second differences along an axis, which of white noise are √6 σ; their median absolute value is not moved by
    edges. The least of the three axes.
    """
    image = np.minimum(voxels.astype(np.float32), bright)
    noise = []
    for axis in (n for n in range(3) if image.shape[n] > 2):
        inside = np.logical_and.reduce([np.take(above, range(k, image.shape[axis] - 2 + k), axis) for k in range(3)])
        if inside.any():
            noise.append(float(np.median(np.abs(np.diff(image, 2, axis)[inside]))) / 0.6745 / np.sqrt(6))
    return min(noise, default=0.0) / (float(image[above].std()) or 1.0)


def _thumbnail(image: sitk.Image, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The foreground's box in anatomical axes, smoothed and sampled; clipped, its background 0, its mean 1."""
    small = sitk.Cast(image, sitk.sitkFloat32)
    steps = (upper - lower) / THUMBNAIL
    for axis, own in enumerate(small.GetSpacing()):
        if steps.mean() > 1.5 * own and small.GetSize()[axis] > 3:
            small = sitk.RecursiveGaussian(small, 0.4 * float(steps.mean()), direction=axis)
    voxels = sitk.GetArrayFromImage(resample(small, grid_over(lower, upper, steps[::-1].tolist())))
    voxels = voxels[:THUMBNAIL, :THUMBNAIL, :THUMBNAIL] - float(sitk.GetArrayViewFromImage(image).min())
    low, high = np.percentile(voxels, (1, 99))
    voxels = np.clip(voxels, low, max(high, low + 1e-6))
    return (voxels / max(float(voxels.mean()), 1e-6)).astype(np.float32)
