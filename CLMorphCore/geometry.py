"""The bridge between millimetres (SimpleITK images and transforms, LPS) and voxels (torch tensors)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from .errors import InputError

CORNERS = tuple(product((0, 1), repeat=3))  # of a cell between eight voxels, (z, y, x)
POINTS_AT_ONCE = 1_000_000  # of a grid whose labels are looked up


@dataclass(frozen=True)
class Grid:
    """A lattice of voxel centres in physical space, LPS, mm: its fields are SimpleITK's, in its order (x, y, z).

    ``direction`` is row-major 3×3, its columns are the axes. Everything else of a grid, and of the engine, is in the
    order of tensors, (z, y, x).
    """

    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels (z, y, x)."""
        x, y, z = self.size
        return z, y, x

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Spacing (z, y, x)."""
        x, y, z = self.spacing_mm
        return z, y, x

    @classmethod
    def of(cls, image: sitk.Image) -> Grid:
        """The grid of an image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    def about_its_centre(self, shape: Sequence[int]) -> Grid:
        """A grid of another shape (z, y, x) with the same centre, spacing and direction."""
        depth, height, width = shape
        size = width, height, depth
        shift = self.to_mm() @ ((np.array(self.size) - np.array(size)) / 2)
        return Grid(size, self.spacing_mm, _three(np.array(self.origin_mm) + shift), self.direction)

    def part(self, slices: Sequence[slice]) -> Grid:
        """The grid of ``array[slices]``, slices (z, y, x) with both ends, of an array on this grid."""
        z, y, x = slices
        origin = np.array(self.origin_mm) + self.to_mm() @ np.array([x.start, y.start, z.start])
        size = x.stop - x.start, y.stop - y.start, z.stop - z.start
        return Grid(size, self.spacing_mm, _three(origin), self.direction)

    def with_shape(self, shape: Sequence[int]) -> Grid:
        """A grid of another shape (z, y, x) whose corner voxels have the same centres."""
        depth, height, width = shape
        size = width, height, depth
        x, y, z = (s * max(n - 1, 1) / max(m - 1, 1) for s, n, m in zip(self.spacing_mm, self.size, size, strict=True))
        return Grid(size, (x, y, z), self.origin_mm, self.direction)

    def to_mm(self) -> np.ndarray:
        """R · diag(spacing): 3×3, takes a voxel vector (x, y, z) to mm."""
        return np.array(self.direction).reshape(3, 3) * np.array(self.spacing_mm)

    def points_mm(self, voxels: np.ndarray) -> np.ndarray:
        """(N, 3) continuous voxels (z, y, x) → (N, 3) points, LPS, mm."""
        return voxels[:, ::-1] @ self.to_mm().T + np.array(self.origin_mm)

    def anatomical_voxel_mm(self) -> tuple[float, float, float]:
        """Along S, P and L each: the spacing of the grid's axis that points most nearly there."""
        return self._anatomical(self.spacing_mm)

    def anatomical_extent_mm(self) -> tuple[float, float, float]:
        """Along S, P and L each: the length of the grid along its axis that points most nearly there."""
        return self._anatomical([n * mm for n, mm in zip(self.size, self.spacing_mm, strict=True)])

    def _anatomical(self, lengths: Sequence[float]) -> tuple[float, float, float]:
        directions = np.abs(np.array(self.direction).reshape(3, 3))
        best = max(permutations(range(3)), key=lambda axes: sum(directions[n, axis] for n, axis in enumerate(axes)))
        left, posterior, superior = (lengths[axis] for axis in best)
        return superior, posterior, left

    def corners_mm(self) -> np.ndarray:
        """(8, 3) points: the outer corners of the corner voxels."""
        index = np.array(list(product(*[(-0.5, n - 0.5) for n in self.size])))
        return index @ self.to_mm().T + np.array(self.origin_mm)

    def agrees_with(self, other: Grid) -> bool:
        """Whether both are one grid, to a hundredth of a voxel: headers of one scan differ by rounding."""
        near = 0.01 * min(self.spacing_mm)
        return self.size == other.size and np.allclose(self.corners_mm(), other.corners_mm(), rtol=0, atol=near)


def grid_over(
    lower_mm: Sequence[float] | np.ndarray,
    upper_mm: Sequence[float] | np.ndarray,
    voxel_mm: Sequence[float],
    *,
    margin_voxels: Sequence[int] = (0, 0, 0),
    divisor: Sequence[int] = (1, 1, 1),
) -> Grid:
    """Anatomically aligned grid (axes L, P, S) centred on a box, at least ``margin_voxels`` wider on each side.

    Sides are rounded up to multiples of ``divisor``, as the network needs them. The box is two points (LPS, mm), the
    rest (z, y, x).
    """
    lower, upper = np.asarray(lower_mm, dtype=float), np.asarray(upper_mm, dtype=float)
    spacing, margin, unit = (np.asarray(along)[::-1] for along in (voxel_mm, margin_voxels, divisor))
    needed = np.ceil((upper - lower) / spacing - 1e-6) + 2 * margin
    size = (np.ceil(needed / unit) * unit).astype(int)
    origin = (lower + upper) / 2 - (size - 1) / 2 * spacing
    x, y, z = size.tolist()
    return Grid((x, y, z), _three(spacing), _three(origin))


def _three(numbers: np.ndarray) -> tuple[float, float, float]:
    x, y, z = numbers.tolist()
    return x, y, z


def foreground_box(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner (mm, LPS-aligned) of the box around all voxels that are clearly above the minimum.

    Clearly: by 2 % of the way to the 99th percentile. Padding of any width therefore changes nothing; an image without
    padding keeps its whole extent.
    """
    start, size, _ = _foreground(image)
    origin = image.TransformIndexToPhysicalPoint(start)
    corners = Grid(size, image.GetSpacing(), origin, image.GetDirection()).corners_mm()
    return corners.min(axis=0), corners.max(axis=0)


def crop_padding(image: sitk.Image) -> sitk.Image:
    """The image cut to its foreground's box, if the foreground fills it: what lies around is then padding, not air.

    A scan that was cut out of a body and padded is so the same as one that was not padded. A skull-stripped brain does
    not fill its box and stays as it is; so does a block of one grey value, whose padding is all there is to see of it.
    """
    start, size, filled = _foreground(image)
    if filled <= 0.9:
        return image
    cut = sitk.RegionOfInterest(image, size, start)
    values = sitk.GetArrayViewFromImage(cut)
    return cut if values.min() < values.max() else image


def _foreground(image: sitk.Image) -> tuple[tuple[int, int, int], tuple[int, int, int], float]:
    """First index and size (x, y, z) of the foreground's box, and the share of the box that is foreground."""
    values = sitk.GetArrayViewFromImage(image)
    low = float(values.min())
    bright = float(np.percentile(values[values > low], 99))
    above = values > low + 0.02 * (bright - low)
    lines = [np.flatnonzero(above.any(axis=others)) for others in ((0, 1), (0, 2), (1, 2))]  # x, y, z of SimpleITK
    (x, y, z), (a, b, c) = (int(line[0]) for line in lines), (int(line[-1]) + 1 for line in lines)
    size = a - x, b - y, c - z
    return (x, y, z), size, float(above.sum()) / float(np.prod(size))


def check_same_grid(image: sitk.Image, other: sitk.Image, *, names: tuple[str, str]) -> None:
    """InputError unless the grids of both agree."""
    ours, theirs = Grid.of(image), Grid.of(other)
    if not ours.agrees_with(theirs):
        raise InputError(
            f"{names[1]} lie on another grid than {names[0]}: {_text(theirs)} and {_text(ours)}; "
            "resample one onto the other first"
        )


def to_tensor(image: sitk.Image) -> Tensor:
    """Scalar image → (1, 1, D, H, W) float32."""
    return torch.from_numpy(sitk.GetArrayFromImage(image).astype(np.float32))[None, None]


def whole_tensor(labels: sitk.Image) -> Tensor:
    """Labels → (1, 1, D, H, W) int64: float32 has no place for those above 2²⁴."""
    return torch.from_numpy(sitk.GetArrayFromImage(labels).astype(np.int64))[None, None]


def to_image(tensor: Tensor, grid: Grid) -> sitk.Image:
    """(1, 1, D, H, W) → image on that grid."""
    return placed(tensor[0, 0].cpu().numpy(), grid)


def resample(
    image: sitk.Image,
    grid: Grid,
    transform: sitk.Transform | None = None,
    *,
    labels: bool = False,
    outside: float | None = None,
) -> sitk.Image:
    """image(T(p)) for the points p of a grid; linear, or nearest neighbour for labels.

    Outside of the image lies ``outside``, or its nearest voxel where that is None: an invented edge there would be
    something to register. Labels are zero outside.
    """
    resampler = _resampler(grid, transform, sitk.sitkNearestNeighbor if labels else sitk.sitkLinear)
    resampler.SetUseNearestNeighborExtrapolator(outside is None and not labels)
    resampler.SetDefaultPixelValue(outside or 0.0)
    resampler.SetOutputPixelType(image.GetPixelID() if labels else sitk.sitkFloat32)
    return resampler.Execute(image)


def reach(grid: Grid, other: Grid, affine: sitk.Transform, most_mm: float = 0.0) -> tuple[slice, slice, slice]:
    """The part of a grid, slices (z, y, x), outside of which no A(p) comes within ``most_mm`` of another grid.

    Of one voxel at least. Resampling is worth it there alone: of a head an atlas of the brain reaches a third.
    """
    lower, upper = np.full(3, -0.5), np.array(other.size) - 0.5
    away = most_mm / np.array(other.spacing_mm)
    box = np.array(list(product(*zip(lower - away, upper + away, strict=True))))
    points = box @ other.to_mm().T + np.array(other.origin_mm)
    matrix, offset = linear_parts(affine)
    back = np.linalg.inv(matrix @ grid.to_mm())
    voxels = (points - offset - matrix @ np.array(grid.origin_mm)) @ back.T
    first = np.clip(np.floor(voxels.min(axis=0)), 0, np.array(grid.size) - 1).astype(int)
    stop = np.clip(np.ceil(voxels.max(axis=0)) + 1, first + 1, grid.size).astype(int)
    x, y, z = (slice(a, b) for a, b in zip(first.tolist(), stop.tolist(), strict=True))
    return z, y, x


def without_zeros(image: sitk.Image) -> sitk.Image:
    """The part of an image outside of which it is zero, and a voxel more on every side where there is one."""
    there = sitk.GetArrayViewFromImage(image) != 0
    lines = [np.flatnonzero(there.any(axis=others)) for others in ((0, 1), (0, 2), (1, 2))]
    if not len(lines[0]):
        return image
    x, y, z = (slice(max(0, int(line[0]) - 1), int(line[-1]) + 2) for line in lines)
    return image[x, y, z]


def pasted(part: sitk.Image, grid: Grid, place: Sequence[slice], outside: float = 0.0) -> sitk.Image:
    """An image on a whole grid: that on the part of it at slices (z, y, x), and ``outside`` everywhere else."""
    values = sitk.GetArrayViewFromImage(part)
    whole = np.full(grid.shape, outside, values.dtype)
    whole[tuple(place)] = values
    return placed(whole, grid)


def resample_labels(labels: sitk.Image, grid: Grid, transform: sitk.Transform) -> sitk.Image:
    """argmaxₖ Σᵢ wᵢ [labelᵢ = k]: at T(p) the label of the largest trilinear weight; zero outside of ``labels``.

    Smoother borders than the nearest neighbour's, which shows the steps of the atlas' voxels. Of equal weights the
    smallest label wins, as with ITK's own interpolator, which takes as many times as long as there are labels.
    """
    nearest = resample(labels, grid, transform, labels=True)
    values = sitk.GetArrayFromImage(nearest)
    inside = np.argwhere(values)
    if not len(inside):
        return nearest
    # Only where there are labels, slab by slab, so that the points of a large scan need no memory of their own.
    start, stop = np.maximum(inside.min(axis=0) - 2, 0), np.minimum(inside.max(axis=0) + 3, values.shape)
    thickness = max(1, POINTS_AT_ONCE // int(np.prod(stop[1:] - start[1:])))
    cells = _Cells(sitk.GetArrayViewFromImage(labels))
    for low in range(start[0], stop[0], thickness):
        slab = tuple(
            slice(*map(int, ends))
            for ends in zip((low, *start[1:]), (min(low + thickness, stop[0]), *stop[1:]), strict=True)
        )
        where = _voxels_at(Grid.of(labels), grid.part(slab), transform)
        values[slab] = cells.largest_weight(where).reshape(values[slab].shape)
    return placed(values, grid)


def _voxels_at(image: Grid, points: Grid, transform: sitk.Transform) -> np.ndarray:
    """(N, 3): the continuous voxel (z, y, x) of ``image`` at T(p) for the voxel centres p of ``points``."""
    moved = sitk.GetArrayFromImage(displacement_field(transform, points))
    index = np.stack(np.meshgrid(*map(np.arange, points.shape), indexing="ij"), axis=-1)[..., ::-1]
    mm = moved + index @ points.to_mm().T + (np.array(points.origin_mm) - np.array(image.origin_mm))
    return (mm.reshape(-1, 3) @ np.linalg.inv(image.to_mm()).T)[:, ::-1]


class _Cells:
    """Labels (D, H, W) as cells between eight voxels each: what is at their corners, and which have to choose."""

    def __init__(self, labels: np.ndarray) -> None:
        self.shape = np.array(labels.shape)
        padded = np.pad(labels, 1, mode="edge")  # the outer half of a voxel has no neighbours but itself
        self.corners = [
            padded[tuple(slice(s, n + 1 + s) for s, n in zip(step, labels.shape, strict=True))] for step in CORNERS
        ]
        self.mixed = np.logical_or.reduce([corner != self.corners[0] for corner in self.corners[1:]])

    def largest_weight(self, where: np.ndarray) -> np.ndarray:
        """(N,): the label of the largest trilinear weight at continuous voxels (N, 3); 0 from half a voxel outside."""
        inside = ((where >= -0.5) & (where <= self.shape - 0.5)).all(axis=1)
        found, where = np.zeros(len(where), self.corners[0].dtype), where[inside]
        lower = np.floor(where)
        place = tuple(lower.astype(np.intp).T + 1)
        answer = self.corners[0][place]
        several = np.flatnonzero(self.mixed[place])  # labels to choose from; that is at borders only
        far = (where[several] - lower[several]).T
        corners = np.stack([corner[tuple(axis[several] for axis in place)] for corner in self.corners])
        weights = np.stack(
            [np.prod([f if s else 1 - f for s, f in zip(step, far, strict=True)], axis=0) for step in CORNERS]
        )
        votes = np.stack([np.where(corners == corner, weights, 0).sum(axis=0) for corner in corners])
        # Equal but for rounding, as on a grid at half a voxel: the order of the corners must not decide.
        answer[several] = np.where(votes > votes.max(axis=0) - 1e-9, corners, corners.max(axis=0)).min(axis=0)
        found[inside] = answer
        return found


def _resampler(grid: Grid, transform: sitk.Transform | None, interpolator: int) -> sitk.ResampleImageFilter:
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.size)
    resampler.SetOutputSpacing(grid.spacing_mm)
    resampler.SetOutputOrigin(grid.origin_mm)
    resampler.SetOutputDirection(grid.direction)
    resampler.SetInterpolator(interpolator)
    resampler.SetTransform(transform if transform is not None else sitk.Transform(3, sitk.sitkIdentity))
    return resampler


def displacement_transform(
    displacement: Tensor, grid: Grid, *, step_mm: float = 0.0
) -> sitk.DisplacementFieldTransform:
    """D(p) = p + R · diag(spacing) · u: a voxel field (1, 3, D, H, W) on a grid as an ITK transform in mm, LPS.

    With ``step_mm`` above 0 the components are rounded to its multiples: no point is more than √3/2 of it off.
    """
    voxels = displacement[0].detach().cpu().double().numpy()[::-1]  # (z, y, x) → (x, y, z)
    vectors = (voxels.reshape(3, -1).T @ grid.to_mm().T).reshape(*voxels.shape[1:], 3)
    if step_mm > 0:
        np.rint(np.divide(vectors, step_mm, out=vectors), out=vectors)
        vectors *= step_mm
    return sitk.DisplacementFieldTransform(placed(vectors, grid, vectors=True))


def displacement_field(transform: sitk.Transform, grid: Grid) -> sitk.Image:
    """T(p) − p at the voxel centres p of a grid: an image of displacements, LPS, mm, float64."""
    return sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, grid.size, grid.origin_mm, grid.spacing_mm, grid.direction
    )


def field_voxels(field: sitk.Image) -> Tensor:
    """u = M⁻¹ v of displacements v in mm, M = R · diag(spacing): (1, 3, D, H, W) float64, components (z, y, x).

    What ``displacement_transform`` takes.
    """
    voxels = sitk.GetArrayViewFromImage(field).astype(np.float64) @ np.linalg.inv(Grid.of(field).to_mm()).T
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(voxels[..., ::-1], -1, 0)))[None]


def linear_parts(transform: sitk.Transform) -> tuple[np.ndarray, np.ndarray]:
    """M (3, 3) and t (3,) of any linear transform p ↦ Mp + t, in mm."""
    offset = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    return np.stack([transform.TransformPoint(axis) for axis in np.eye(3).tolist()], axis=1) - offset[:, None], offset


def chain(*transforms: sitk.Transform) -> sitk.CompositeTransform:
    """T = first ∘ second ∘ … (the last one is applied first), flat, so that ITK can write it."""
    flat: list[sitk.Transform] = []
    for transform in transforms:
        if transform.GetName() == "CompositeTransform":
            nested = sitk.CompositeTransform(transform)
            flat += [nested.GetNthTransform(n) for n in range(nested.GetNumberOfTransforms())]
        else:
            flat.append(transform)
    return sitk.CompositeTransform(flat)


def _text(grid: Grid) -> str:
    spacing, origin = (", ".join(f"{n:.6g}" for n in numbers) for numbers in (grid.spacing_mm, grid.origin_mm))
    return f"size {grid.size}, spacing ({spacing}) mm, origin ({origin}) mm"


def placed(array: np.ndarray, grid: Grid, *, vectors: bool = False) -> sitk.Image:
    """An array (z, y, x), with ``vectors`` (z, y, x, 3), as an image on that grid."""
    image = sitk.GetImageFromArray(array, isVector=vectors)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction)
    return image
