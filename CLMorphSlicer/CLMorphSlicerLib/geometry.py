"""Between SimpleITK (LPS, mm) and the scene (RAS, mm): grids of images, and fields of displacements."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
TAPER_VOXELS = 4
INVERSION_STEPS = 20


def ijk_to_ras(image: sitk.Image) -> np.ndarray:
    """RAS = matrix @ (i, j, k, 1): the (4, 4) matrix of a SimpleITK image, mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ matrix


def spacing_and_direction(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """matrix[:3, :3] = direction * spacing: (3,) mm and (3, 3) with columns of length 1."""
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    return spacing, matrix[:3, :3] / spacing


def image_from_array(array: np.ndarray, matrix: np.ndarray) -> sitk.Image:
    """SimpleITK image of an array (k, j, i), or of vectors (k, j, i, 3), on the grid of an ijk-to-RAS matrix (4, 4)."""
    known = array.view(array.dtype.str)  # SimpleITK tells C's integers of one size apart, and knows one of them
    image = sitk.GetImageFromArray(known, isVector=array.ndim == 4)
    lps = LPS_TO_RAS @ matrix
    spacing, direction = spacing_and_direction(lps)
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def vtk_matrix(matrix: np.ndarray) -> vtk.vtkMatrix4x4:
    """vtkMatrix4x4 of an array (4, 4)."""
    return slicer.util.vtkMatrixFromArray(matrix)


def linear_transform_ras(transform: sitk.Transform) -> np.ndarray:
    """RAS' = matrix @ RAS: the (4, 4) matrix of a linear LPS transform of any class."""
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    for axis in range(3):
        matrix[:3, axis] = np.subtract(transform.TransformPoint(np.eye(3)[axis].tolist()), matrix[:3, 3])
    return LPS_TO_RAS @ matrix @ LPS_TO_RAS


def coarser_grid(size: tuple[int, ...], matrix: np.ndarray, resolution: float) -> tuple[list[int], np.ndarray]:
    """Grid over the same box with voxels of at least 1/resolution times the finest spacing.

    Returns the size (i, j, k) and the ijk-to-RAS matrix (4, 4). Axes that are coarse already keep their spacing.
    """
    spacing, direction = spacing_and_direction(matrix)
    coarse = np.maximum(spacing, spacing.min() / resolution)
    counts = np.ceil((np.asarray(size) - 1) * spacing / coarse).astype(int) + 1
    coarse_matrix = matrix.copy()
    coarse_matrix[:3, :3] = direction * coarse
    return counts.tolist(), coarse_matrix


def grid_around(
    size: tuple[int, int, int], matrix: np.ndarray, margin: float, max_points: int
) -> tuple[list[int], np.ndarray]:
    """Grid over a box that is larger by `margin` of each side at both its ends, of about `max_points` at most.

    Its points lie no closer than those of the box along its finest axis. Size (i, j, k) and matrix as `coarser_grid`.
    """
    spacing, direction = spacing_and_direction(matrix)
    beyond = margin * np.subtract(size, 1)
    extent = (np.subtract(size, 1) + 2 * beyond) * spacing
    apart = max(spacing.min(), (extent.prod() / max_points) ** (1 / 3))
    counts = np.ceil(extent / apart).astype(int) + 1
    around = matrix.copy()
    around[:3, :3] = direction * (extent / (counts - 1))
    around[:3, 3] -= matrix[:3, :3] @ beyond
    return counts.tolist(), around


def points_of(size: list[int], matrix: np.ndarray) -> np.ndarray:
    """RAS, mm, of the points of a grid, (N, 3), i running fastest."""
    k, j, i = np.indices(size[::-1])
    return np.stack([i, j, k], axis=-1).reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


def moved_points(transform: vtk.vtkAbstractTransform, points: np.ndarray) -> np.ndarray:
    """Where a transform of the scene moves points (N, 3), RAS, mm."""
    given, moved = vtk.vtkPoints(), vtk.vtkPoints()
    given.SetData(numpy_to_vtk(np.ascontiguousarray(points, np.float64), deep=True))
    moved.SetDataTypeToDouble()
    transform.TransformPoints(given, moved)
    return vtk_to_numpy(moved.GetData())


def sampled(transform: sitk.Transform, size: list[int], matrix: np.ndarray) -> sitk.Image:
    """u(x) = T(x) - x of an LPS transform on a grid (size (i, j, k), ijk-to-RAS matrix): vectors, mm."""
    lps = LPS_TO_RAS @ matrix
    spacing, direction = spacing_and_direction(lps)
    grid = (size, lps[:3, 3].tolist(), spacing.tolist(), direction.ravel().tolist())
    return sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat32, *grid)


def tapered(field: sitk.Image, width_voxels: int = TAPER_VOXELS) -> sitk.Image:
    """The field, fading linearly to zero over the outermost voxels."""
    array = sitk.GetArrayFromImage(field)
    for axis, count in enumerate(array.shape[:3]):
        to_border = np.minimum(np.arange(count), np.arange(count)[::-1])
        ramp = np.minimum(to_border / width_voxels, 1.0).astype(np.float32)
        array *= ramp.reshape([-1 if a == axis else 1 for a in range(4)])
    return _field(array, field)


def inverted(field: sitk.Image, steps: int = INVERSION_STEPS) -> sitk.Image:
    """v with v(x) = -u(x + v(x)), searched by damped repetition; where u folds, something smooth in its place."""
    inverse = _field(np.zeros_like(sitk.GetArrayViewFromImage(field)), field)
    for _ in range(steps):
        # the transform takes over the image that it is given
        there = sitk.DisplacementFieldTransform(sitk.Cast(inverse, sitk.sitkVectorFloat64))
        target = sitk.GetArrayFromImage(sitk.Resample(field, field, there, sitk.sitkLinear, 0.0))
        inverse = _field(0.5 * (sitk.GetArrayFromImage(inverse) - target), field)
    return inverse


def _field(array: np.ndarray, grid: sitk.Image) -> sitk.Image:
    field = sitk.GetImageFromArray(array.astype(np.float32), isVector=True)
    field.CopyInformation(grid)
    return field


def grid_transform(field: sitk.Image) -> slicer.vtkOrientedGridTransform:
    """x -> x + u(x) for the scene (RAS) of a field of LPS vectors, mm."""
    vectors = sitk.GetArrayFromImage(field).reshape(-1, 3) * np.array([-1.0, -1.0, 1.0], np.float32)
    matrix = ijk_to_ras(field)
    image = vtk.vtkImageData()
    image.SetDimensions(*field.GetSize())
    image.SetSpacing(*field.GetSpacing())
    image.SetOrigin(*matrix[:3, 3])
    image.GetPointData().SetScalars(numpy_to_vtk(vectors, deep=True))
    direction = np.eye(4)
    direction[:3, :3] = spacing_and_direction(matrix)[1]
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    grid.SetGridDirectionMatrix(vtk_matrix(direction))
    grid.SetInterpolationModeToLinear()
    return grid
