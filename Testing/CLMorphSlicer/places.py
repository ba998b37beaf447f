"""Where things are in the patient: points of files and of nodes, in RAS, mm, and how far they are apart."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import slicer
import slicer.util
import vtk
from CLMorphSlicerLib.geometry import ijk_to_ras
from scipy.spatial import cKDTree
from vtk.util.numpy_support import vtk_to_numpy

TOLERANCE_MM = 0.01
FLIP = np.array([-1.0, -1.0, 1.0])


def ras_points(image: sitk.Image, value: int) -> np.ndarray:
    """RAS of all voxels of a file that have a value."""
    ijk = np.argwhere(sitk.GetArrayFromImage(image) == value)[:, ::-1]
    return ijk @ ijk_to_ras(image)[:3, :3].T + ijk_to_ras(image)[:3, 3]


def segment_points(segmentation_node: object, name: str) -> np.ndarray:
    """RAS of all voxels of a segment, from the node's own representation."""
    segmentation = segmentation_node.GetSegmentation()
    labelmap = slicer.vtkOrientedImageData()
    segmentation_node.GetBinaryLabelmapRepresentation(segmentation.GetSegmentIdBySegmentName(name), labelmap)
    matrix = vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(matrix)
    first = np.array(labelmap.GetExtent())[::2]
    array = vtk_to_numpy(labelmap.GetPointData().GetScalars())
    ijk = np.argwhere(array.reshape(labelmap.GetDimensions()[::-1]))[:, ::-1] + first
    matrix = slicer.util.arrayFromVTKMatrix(matrix)
    return ijk @ matrix[:3, :3].T + matrix[:3, 3]


def greatest_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Largest distance from a point of one set to the nearest of the other, both ways (Hausdorff)."""
    return max(cKDTree(a).query(b)[0].max(), cKDTree(b).query(a)[0].max())


def random_points(volume_node: object, count: int = 200) -> np.ndarray:
    bounds = np.zeros(6)
    volume_node.GetRASBounds(bounds)
    return np.random.default_rng(3).uniform(bounds[::2], bounds[1::2], (count, 3))


def greatest_disagreement(transform_node: object, transform: sitk.Transform, points: np.ndarray) -> float:
    """Largest distance between where the node (from parent, RAS) and the file (LPS) move points to."""
    moved = vtk.vtkPoints()
    transform_node.GetTransformFromParent().TransformPoints(vtk_points(points), moved)
    by_file = [np.array(transform.TransformPoint((point * FLIP).tolist())) * FLIP for point in points]
    return max(np.linalg.norm(np.subtract(moved.GetPoint(i), p)) for i, p in enumerate(by_file))


def vtk_points(points: np.ndarray) -> vtk.vtkPoints:
    made = vtk.vtkPoints()
    made.SetDataTypeToDouble()
    for point in points:
        made.InsertNextPoint(*point)
    return made


def linear_node(name: str = "Turn", shear: float = 0.0) -> object:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    turn = vtk.vtkTransform()
    turn.Translate(11.0, -7.0, 5.0)
    turn.RotateWXYZ(25.0, 0.3, 0.5, 1.0)
    matrix = slicer.util.arrayFromVTKMatrix(turn.GetMatrix())
    matrix[0, 1] += shear
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


def labelmap_node(image: sitk.Image) -> object:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labelmap")
    slicer.util.updateVolumeFromArray(node, sitk.GetArrayFromImage(image).astype(np.int16))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(image)))
    node.CreateDefaultDisplayNodes()
    return node


def points_node(places: np.ndarray, labels: tuple[str, ...] = (), name: str = "F"):
    """A list of points at places (N, 3), LPS, mm."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for number, place in enumerate(np.asarray(places) * FLIP):
        at = node.AddControlPoint(vtk.vtkVector3d(*place))
        if labels:
            node.SetNthControlPointLabel(at, labels[number])
    return node
