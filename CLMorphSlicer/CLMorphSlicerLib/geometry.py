"""Between SimpleITK (LPS, mm) and the scene (RAS, mm): grids of images, and fields of displacements."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


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
    """SimpleITK image of an array (k, j, i) on the grid of an ijk-to-RAS matrix (4, 4)."""
    image = sitk.GetImageFromArray(array)
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


def grid_transform(transform: sitk.Transform, size: list[int], matrix: np.ndarray) -> slicer.vtkOrientedGridTransform:
    """x -> T(x) of an LPS transform, sampled on a grid (size (i, j, k), ijk-to-RAS matrix) for the scene (RAS, mm)."""
    lps = LPS_TO_RAS @ matrix
    spacing, direction = spacing_and_direction(lps)
    field = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat32, size, lps[:3, 3].tolist(), spacing.tolist(), direction.ravel().tolist()
    )
    vectors = sitk.GetArrayFromImage(field).reshape(-1, 3) * np.float32([-1.0, -1.0, 1.0])
    image = vtk.vtkImageData()
    image.SetDimensions(*size)
    image.SetSpacing(*spacing)
    image.SetOrigin(*matrix[:3, 3])
    image.GetPointData().SetScalars(numpy_to_vtk(vectors, deep=True))
    ras_direction = np.eye(4)
    ras_direction[:3, :3] = spacing_and_direction(matrix)[1]
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    grid.SetGridDirectionMatrix(vtk_matrix(ras_direction))
    grid.SetInterpolationModeToLinear()
    return grid
