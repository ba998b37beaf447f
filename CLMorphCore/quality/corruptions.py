"""Ways to corrupt a scan, for measuring whether it is flagged, and two that corrupt nothing and must not be flagged.

Each takes a labelled scan and a random generator, and returns a labelled scan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch

from ..geometry import Grid, foreground_box, placed, to_image, to_tensor
from ..network_input import normalise
from ..training.views import view


@dataclass(frozen=True)
class LabelledScan:
    """A scan, its labels on its grid (all 0 where it shows none), and an affine in place of the engine's own."""

    image: sitk.Image
    labels: sitk.Image
    affine: sitk.Transform | None = None


Corruption = Callable[[LabelledScan, np.random.Generator], LabelledScan]

TILT_DEGREES = (20.0, 10.0, 10.0)  # of a patient about x, y, z, at most: heads nod more than they turn
SIZE, PROPORTION = 0.12, 0.08  # of the logarithm of lengths, at most: of all axes together, of each
GRAIN = 0.04  # standard deviation of the noise in the foreground, of the range of intensities, at most


def as_scanned(scan: LabelledScan, random: np.random.Generator) -> LabelledScan:
    """Nothing is corrupted: the scan tilted, of another size and somewhat noisier, as if nobody had prepared it.

    Data sets for training are often aligned with a template and resampled, which makes their poses alike and their
    voxels smooth; what is unusual among them is usual in a hospital. Nothing is resampled, so labels stay exact.
    """
    angles = np.deg2rad(TILT_DEGREES) * random.uniform(-1, 1, 3)
    rotation = sitk.Euler3DTransform((0.0, 0.0, 0.0), *angles.tolist())
    stretch = np.exp(random.uniform(-SIZE, SIZE) + random.uniform(-PROPORTION, PROPORTION, 3))
    matrix = np.array(rotation.GetMatrix()).reshape(3, 3)
    voxels, noisy = (
        sitk.GetArrayFromImage(image) for image in (scan.image, _noisy(scan.image, random.uniform(0.0, GRAIN), random))
    )
    empty = voxels == voxels.min()  # what was masked stays so
    image = placed(np.where(empty, voxels, np.maximum(noisy, voxels.min())), Grid.of(scan.image))
    return replace(scan, image=_rotated(image, matrix, stretch), labels=_rotated(scan.labels, matrix, stretch))


def of_other_contrast(scan: LabelledScan, random: np.random.Generator) -> LabelledScan:
    """Nothing is corrupted: the scan as another sequence or coil would show it, or with thick slices."""
    rng = torch.Generator().manual_seed(int(random.integers(2**31)))
    seen = view(normalise(to_tensor(scan.image)), rng, spacing_mm=Grid.of(scan.image).voxel_mm)
    return replace(scan, image=to_image(seen, Grid.of(scan.image)))


def wrong_header(scan: LabelledScan, random: np.random.Generator) -> LabelledScan:
    """The header names other axes: two of them exchanged, or front and back, or top and bottom."""
    kinds = (
        [[1, 0, 0], [0, 0, 1], [0, 1, 0]],
        [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
        [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
        [[1, 0, 0], [0, -1, 0], [0, 0, 1]],
        [[1, 0, 0], [0, 1, 0], [0, 0, -1]],
    )
    rotation = np.array(kinds[random.integers(len(kinds))], float)
    return replace(scan, image=_rotated(scan.image, rotation), labels=_rotated(scan.labels, rotation))


def half_cut_off(scan: LabelledScan, random: np.random.Generator) -> LabelledScan:
    """One half of the foreground's box, along a random axis of the patient, is as dark as the background."""
    lower, upper = foreground_box(scan.image)
    axis, side = int(random.integers(3)), int(random.integers(2))
    gone = (_coordinate(scan.image, axis) < (lower[axis] + upper[axis]) / 2) ^ bool(side)
    dark = float(sitk.GetArrayViewFromImage(scan.image).min())
    return replace(scan, image=_filled(scan.image, gone, dark), labels=_filled(scan.labels, gone, 0))


def strong_noise(scan: LabelledScan, random: np.random.Generator) -> LabelledScan:
    """Gaussian noise whose standard deviation is half of the range from the 1st to the 99th percentile."""
    return replace(scan, image=_noisy(scan.image, 0.5, random))


def failed_affine(
    scan: LabelledScan, random: np.random.Generator, estimated: sitk.Transform | None = None
) -> LabelledScan:
    """The affine is the estimated one, or the identity, after a rotation (30–90°) and a shift (10–30 % of the box)."""
    lower, upper = foreground_box(scan.image)
    axis = random.normal(size=3)
    axis /= np.linalg.norm(axis)
    direction = random.normal(size=3)
    shift = random.uniform(0.1, 0.3) * (upper - lower) * direction / np.linalg.norm(direction)
    rotation = sitk.VersorRigid3DTransform()
    rotation.SetCenter(((lower + upper) / 2).tolist())
    rotation.SetRotation(axis.tolist(), float(np.deg2rad(random.uniform(30, 90))))
    rotation.SetTranslation(shift.tolist())
    matrix = np.array(rotation.GetMatrix()).reshape(3, 3)
    offset = np.array(rotation.TransformPoint((0.0, 0.0, 0.0)))
    if estimated is not None:  # first the wrong motion, then the affine
        linear = sitk.AffineTransform(estimated)
        offset = np.array(linear.TransformPoint(offset.tolist()))
        matrix = np.array(linear.GetMatrix()).reshape(3, 3) @ matrix
    return replace(scan, affine=sitk.AffineTransform(matrix.ravel().tolist(), offset.tolist()))


def wrong_organ(scan: LabelledScan, other: sitk.Image) -> LabelledScan:
    """Another scan in its place, without labels."""
    return LabelledScan(other, placed(np.zeros(other.GetSize()[::-1], np.uint8), Grid.of(other)))


CORRUPTIONS: dict[str, Corruption] = {
    "wrong header": wrong_header,
    "half cut off": half_cut_off,
    "strong noise": strong_noise,
}


def _noisy(image: sitk.Image, share: float, random: np.random.Generator) -> sitk.Image:
    """Gaussian noise whose standard deviation is that share of the range from the 1st to the 99th percentile."""
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    low, high = np.percentile(values, (1, 99))
    return placed(values + random.normal(0.0, share * (high - low), values.shape).astype(np.float32), Grid.of(image))


def _rotated(image: sitk.Image, rotation: np.ndarray, stretch: np.ndarray | float = 1.0) -> sitk.Image:
    """The image about its centre under another direction matrix, rotation · R, its spacing times ``stretch``."""
    rotated = sitk.Image(image)
    grid = Grid.of(image)
    centre = grid.corners_mm().mean(axis=0)
    matrix, spacing = rotation @ np.array(grid.direction).reshape(3, 3), np.array(grid.spacing_mm) * stretch
    rotated.SetDirection(matrix.ravel().tolist())
    rotated.SetSpacing(spacing.tolist())
    rotated.SetOrigin((centre - matrix @ ((np.array(grid.size) - 1) / 2 * spacing)).tolist())
    return rotated


def _coordinate(image: sitk.Image, axis: int) -> np.ndarray:
    """The LPS coordinate of every voxel along an axis of the patient: (D, H, W), mm."""
    grid = Grid.of(image)
    steps = grid.to_mm()[axis]
    x, y, z = (steps[n] * np.arange(grid.size[n]) for n in range(3))
    return grid.origin_mm[axis] + z[:, None, None] + y[None, :, None] + x[None, None, :]


def _filled(image: sitk.Image, where: np.ndarray, value: float) -> sitk.Image:
    values = sitk.GetArrayFromImage(image)
    values[where] = value
    return placed(values, Grid.of(image))
