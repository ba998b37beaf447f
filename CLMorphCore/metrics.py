"""How good a segmentation or a deformation is: Dice, surface distances in mm, volumes, folding, inverse consistency.

Labels are SimpleITK images on one grid. A surface is the voxels on a structure's border, each of which counts with the
area of its free faces, so that thick slices do not give a structure's top and bottom more weight than their area.
A structure that one of the images lacks is reported with a status and NaN where no figure exists, never left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .geometry import Grid, check_same_grid

Box = tuple[slice, ...]  # (z, y, x)
NAN = math.nan
OK = "ok"
MISSING_IN_PREDICTION = "missing in prediction"
MISSING_IN_REFERENCE = "missing in reference"
MISSING_IN_BOTH = "missing in both"


@dataclass(frozen=True)
class StructureMetrics:
    """Agreement of one structure between two label images; distances in mm, volumes in ml."""

    value: int
    status: str
    dice: float
    hd_mm: float
    hd95_mm: float
    assd_mm: float
    volume_ml: float
    reference_volume_ml: float

    @property
    def volume_error_percent(self) -> float:
        """100 (volume - reference) / reference; NaN where the reference lacks the structure."""
        if self.reference_volume_ml == 0:
            return NAN
        return 100 * (self.volume_ml - self.reference_volume_ml) / self.reference_volume_ml


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between two closed surfaces in mm; all NaN where one of them is empty."""

    hd_mm: float
    hd95_mm: float
    assd_mm: float


@dataclass(frozen=True)
class InverseConsistency:
    """|inverse(transform(p)) - p| in mm over a grid of points."""

    mean_mm: float
    max_mm: float
    points: int


def compare_labels(
    prediction: sitk.Image, reference: sitk.Image, values: Iterable[int] | None = None
) -> dict[int, StructureMetrics]:
    """Every metric of every structure; `values` are the labels to report, by default all that occur in either image.

    Raises InputError when the images are no label images or lie on different grids.
    """
    check_same_grid(reference, prediction, names=("the reference", "the labels"))
    boxes, reference_boxes = _boxes(prediction), _boxes(reference)
    predicted, expected = sitk.GetArrayViewFromImage(prediction), sitk.GetArrayViewFromImage(reference)
    wanted = sorted(boxes.keys() | reference_boxes.keys()) if values is None else values
    result = {}
    for value in wanted:
        box = _union(boxes.get(value), reference_boxes.get(value))
        result[value] = _structure(value, predicted[box] == value, expected[box] == value, Grid.of(reference).voxel_mm)
    return result


def dice_per_label(
    prediction: sitk.Image, reference: sitk.Image, values: Iterable[int] | None = None
) -> dict[int, float]:
    """2 |P ∩ R| / (|P| + |R|) per label; 0 where only one image has it, NaN where none has.

    Raises InputError when the images are no label images or lie on different grids.
    """
    check_same_grid(reference, prediction, names=("the reference", "the labels"))
    counts, reference_counts = label_counts(prediction), label_counts(reference)
    predicted, expected = sitk.GetArrayViewFromImage(prediction), sitk.GetArrayViewFromImage(reference)
    common = _counts_of(expected[predicted == expected])
    wanted = sorted(counts.keys() | reference_counts.keys()) if values is None else values
    return {v: _ratio(2 * common.get(v, 0), counts.get(v, 0) + reference_counts.get(v, 0)) for v in wanted}


def surface_distances(prediction: sitk.Image, reference: sitk.Image) -> SurfaceDistances:
    """HD, HD95 and ASSD between the surfaces of two masks on one grid (voxels other than 0 are inside).

    HD95 is the greater of the two directions' 95th percentiles; ASSD the mean over both surfaces together.
    Raises InputError when the masks are no label images or lie on different grids.
    """
    metrics = compare_labels(prediction != 0, reference != 0, [1])[1]
    return SurfaceDistances(metrics.hd_mm, metrics.hd95_mm, metrics.assd_mm)


def volumes_ml(labels: sitk.Image, values: Iterable[int] | None = None) -> dict[int, float]:
    """Voxels times voxel volume, in ml, per label; 0 for a value that the image lacks."""
    counts = label_counts(labels)
    wanted = sorted(counts) if values is None else values
    voxel_ml = math.prod(labels.GetSpacing()) / 1000
    return {value: counts.get(value, 0) * voxel_ml for value in wanted}


def folding_fraction(jacobian: sitk.Image, mask: sitk.Image | None = None) -> float:
    """Share of voxels whose Jacobian determinant is <= 0, over the whole grid or where `mask` > 0."""
    determinants = _masked(jacobian, mask)
    return _ratio(int((determinants <= 0).sum()), determinants.size)


def log_jacobian_std(jacobian: sitk.Image, mask: sitk.Image | None = None) -> float:
    """Standard deviation of log det J over the voxels that have one: folds (det J <= 0) are the folding fraction's."""
    determinants = _masked(jacobian, mask).astype(np.float64)
    positive = determinants[determinants > 0]
    return float(np.log(positive).std()) if positive.size else NAN


def inverse_consistency(
    transform: sitk.Transform, inverse: sitk.Transform, grid: sitk.Image, spacing_mm: float = 8.0
) -> InverseConsistency:
    """|inverse(transform(p)) - p| in mm at points `spacing_mm` apart that fill the grid of the image `grid`."""
    steps = [max(1, round(spacing_mm / s)) for s in grid.GetSpacing()]
    axes = [range((n - 1) % step // 2, n, step) for n, step in zip(grid.GetSize(), steps, strict=True)]
    indices = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3).tolist()
    points = [grid.TransformIndexToPhysicalPoint(index) for index in indices]
    returned = [inverse.TransformPoint(transform.TransformPoint(point)) for point in points]
    errors = np.linalg.norm(np.subtract(returned, points), axis=1)
    return InverseConsistency(float(errors.mean()), float(errors.max()), len(errors))


def label_counts(labels: sitk.Image) -> dict[int, int]:
    """Number of voxels per label, without the background 0. Raises InputError when the image holds no labels."""
    _check_labels(labels)
    return _counts_of(sitk.GetArrayViewFromImage(labels))


def _check_labels(labels: sitk.Image) -> None:
    kind = labels.GetPixelIDTypeAsString()
    if labels.GetDimension() != 3 or "integer" not in kind or "vector" in kind:
        raise InputError(
            f"labels are a {labels.GetDimension()}D image of {kind}, expected a 3D image of integers: "
            "make sure that it is the label image, and cast it to an integer type"
        )


def _boxes(labels: sitk.Image) -> dict[int, Box]:
    """The box of voxels that holds each label."""
    _check_labels(labels)
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.ComputePerimeterOff()
    shapes.Execute(labels)
    boxes = {}
    for value in shapes.GetLabels():
        x, y, z, width, height, depth = shapes.GetBoundingBox(value)
        boxes[value] = (slice(z, z + depth), slice(y, y + height), slice(x, x + width))
    return boxes


def _union(first: Box | None, second: Box | None) -> Box:
    """The smallest box around both; an empty one where there is none."""
    boxes = [box for box in (first, second) if box is not None]
    if not boxes:
        return (slice(0, 0),) * 3
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))


def _structure(value: int, inside: np.ndarray, expected: np.ndarray, voxel_mm: Sequence[float]) -> StructureMetrics:
    """The metrics of one structure from two masks (D, H, W) cropped to it; voxel sides (z, y, x) in mm."""
    size, reference_size = int(inside.sum()), int(expected.sum())
    status = _status(size, reference_size)
    distances = _surface_distances(inside, expected, voxel_mm) if status == OK else SurfaceDistances(NAN, NAN, NAN)
    voxel_ml = math.prod(voxel_mm) / 1000
    return StructureMetrics(
        value=value,
        status=status,
        dice=_ratio(2 * int((inside & expected).sum()), size + reference_size),
        hd_mm=distances.hd_mm,
        hd95_mm=distances.hd95_mm,
        assd_mm=distances.assd_mm,
        volume_ml=size * voxel_ml,
        reference_volume_ml=reference_size * voxel_ml,
    )


def _surface_distances(inside: np.ndarray, expected: np.ndarray, voxel_mm: Sequence[float]) -> SurfaceDistances:
    """HD, HD95 and ASSD in mm between the surfaces of two masks (D, H, W), neither of them empty."""
    area, reference_area = _surface_area(inside, voxel_mm), _surface_area(expected, voxel_mm)
    border, reference_border = area > 0, reference_area > 0
    there, there_area = _distance_to(reference_border, voxel_mm)[border], area[border]
    back, back_area = _distance_to(border, voxel_mm)[reference_border], reference_area[reference_border]
    total = there_area.sum() + back_area.sum()
    return SurfaceDistances(
        hd_mm=float(max(there.max(), back.max())),
        hd95_mm=max(_percentile(there, there_area, 95), _percentile(back, back_area, 95)),
        assd_mm=float((there @ there_area + back @ back_area) / total),
    )


def _surface_area(inside: np.ndarray, voxel_mm: Sequence[float]) -> np.ndarray:
    """Area in mm² of each voxel's faces that look out of the mask, or out of the image; 0 off the surface."""
    padded = np.pad(inside, 1)
    area = np.zeros(inside.shape)
    for axis, side in enumerate(voxel_mm):
        face = math.prod(voxel_mm) / side
        for step in (-1, 1):
            neighbour = np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
            area += face * (inside & ~neighbour)
    return area


def _distance_to(surface: np.ndarray, voxel_mm: Sequence[float]) -> np.ndarray:
    """Distance in mm of each voxel's centre to the nearest centre of a surface voxel."""
    image = sitk.GetImageFromArray(np.pad(surface, 1).astype(np.uint8))
    depth, height, width = voxel_mm
    image.SetSpacing((width, height, depth))
    # Thanks to the padding each surface voxel has a free face, at the edge too, and so the signed distance 0.
    signed = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    return np.abs(sitk.GetArrayFromImage(signed))[1:-1, 1:-1, 1:-1].astype(np.float64)


def _counts_of(values: np.ndarray) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return {int(value): int(count) for value, count in zip(found, counts, strict=True) if value != 0}


def _status(size: int, reference_size: int) -> str:
    if size and reference_size:
        return OK
    if size:
        return MISSING_IN_REFERENCE
    return MISSING_IN_PREDICTION if reference_size else MISSING_IN_BOTH


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else NAN


def _masked(jacobian: sitk.Image, mask: sitk.Image | None) -> np.ndarray:
    determinants = sitk.GetArrayViewFromImage(jacobian)
    if mask is None:
        return determinants.ravel()
    check_same_grid(jacobian, mask, names=("the Jacobian map", "the voxels of the mask"))
    return determinants[sitk.GetArrayViewFromImage(mask) > 0]


def _percentile(values: np.ndarray, weights: np.ndarray, percent: float) -> float:
    order = np.argsort(values)
    cumulated = np.cumsum(weights[order])
    place = np.searchsorted(cumulated, cumulated[-1] * percent / 100)
    return float(values[order][min(place, len(values) - 1)])
