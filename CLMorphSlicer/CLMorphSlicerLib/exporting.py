"""Nodes of the scene -> files of the engine.

Files and positions are exchanged in world coordinates: a linear transform above a node is hardened into what is
exported.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
import slicer.util
import vtk

from .errors import NodeError
from .geometry import LPS_TO_RAS, grid_around, image_from_array, moved_points, points_of, spacing_and_direction
from .labels import labels_of_labelmap, labels_of_segmentation
from .words import _

ORTHOGONAL = 1e-4
AROUND = 0.25  # of each side of the fixed image, as far as a transform that bends is told beyond it
MAX_START_POINTS = 1_000_000  # at which it is told
INVERSE_POINTS, INVERSE_MM = 100_000, 0.5  # at which an inverse is tried, and how exact it has to be


def likely_input() -> slicer.vtkMRMLScalarVolumeNode | None:
    """The volume that was chosen last for the slice views, or the scene's first; no labelmap, no vectors."""
    offered = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
    ]
    active = slicer.app.applicationLogic().GetSelectionNode().GetActiveVolumeID()
    return next((node for node in offered if node.GetID() == active), offered[0] if offered else None)


def world_matrix(volume_node: slicer.vtkMRMLVolumeNode, proxy: slicer.vtkMRMLVolumeNode | None = None) -> np.ndarray:
    """World RAS = matrix @ (i, j, k, 1), with the linear transforms above the node; (4, 4), mm.

    A frame inside a sequence has none above it: they are those above its `proxy`. Raises NodeError where one of them is
    not linear.
    """
    matrix, parent = vtk.vtkMatrix4x4(), (proxy or volume_node).GetParentTransformNode()
    volume_node.GetIJKToRASMatrix(matrix)
    if parent is None:
        return slicer.util.arrayFromVTKMatrix(matrix)
    to_world = vtk.vtkMatrix4x4()
    if not parent.GetMatrixTransformToWorld(to_world):
        refused = _(
            "“{volume}” is under the non-linear transform “{transform}”: "
            "harden the transform or take the volume out of it first"
        )
        raise NodeError(refused.format(volume=volume_node.GetName(), transform=parent.GetName()))
    return slicer.util.arrayFromVTKMatrix(to_world) @ slicer.util.arrayFromVTKMatrix(matrix)


def transforms_above(nodes: Iterable[slicer.vtkMRMLNode]) -> list[slicer.vtkMRMLTransformNode]:
    """The transforms that move these nodes, those above other transforms too."""
    found = []
    for node in nodes:
        above = node.GetParentTransformNode() if hasattr(node, "GetParentTransformNode") else None
        while above is not None:
            found.append(above)
            above = above.GetParentTransformNode()
    return found


def check_image(node: Any, proxy: slicer.vtkMRMLVolumeNode | None = None) -> None:
    """Raise NodeError, saying why, if what is given is no image for the engine: a labelmap is none either."""
    if node is not None and not _is_a(node, "vtkMRMLVolumeNode"):
        refused = _("{given} is no image: give the node of a scalar volume")
        raise NodeError(refused.format(given=_called(node)))
    if _is_a(node, "vtkMRMLLabelMapVolumeNode"):
        raise NodeError(_("{given} is a labelmap: choose the image that it belongs to").format(given=_called(node)))
    check_volume(node, proxy)
    check_in_scene(node)


def check_labels(node: Any) -> None:
    """Raise NodeError, saying why, if what is given can hold no labels; None is none."""
    if node is None:
        return
    if _is_a(node, "vtkMRMLSegmentationNode") or _is_a(node, "vtkMRMLScalarVolumeNode"):
        check_in_scene(node)
        return
    refused = _("{given} holds no labels: choose a segmentation or a labelmap")
    raise NodeError(refused.format(given=_called(node)))


def _is_a(node: Any, class_name: str) -> bool:
    return hasattr(node, "IsA") and bool(node.IsA(class_name))


def _called(node: Any) -> str:
    return f"“{node.GetName()}”" if _is_a(node, "vtkMRMLNode") else repr(node)


def check_volume(volume_node: slicer.vtkMRMLVolumeNode | None, proxy: slicer.vtkMRMLVolumeNode | None = None) -> None:
    """Raise NodeError, saying why, if the volume cannot be given to the engine."""
    if volume_node is None:
        raise NodeError(_("no volume is chosen: load an image and choose it"))
    name, image = volume_node.GetName(), volume_node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise NodeError(_("“{name}” has no voxels: load its image again").format(name=name))
    if image.GetNumberOfScalarComponents() != 1:
        refused = _("“{name}” has {count} values in each voxel: choose a volume with one")
        raise NodeError(refused.format(name=name, count=image.GetNumberOfScalarComponents()))
    if min(image.GetDimensions()) < 2:
        refused = _("“{name}” has the size {size}: choose a volume of several slices")
        raise NodeError(refused.format(name=name, size=image.GetDimensions()))
    matrix = world_matrix(volume_node, proxy)
    if not (np.isfinite(matrix).all() and matrix[:3, :3].any(axis=0).all()):
        raise NodeError(
            _("“{name}” has no extent along an axis: correct its spacing (module Volumes)").format(name=name)
        )
    direction = spacing_and_direction(matrix)[1]
    if np.abs(direction.T @ direction - np.eye(3)).max() > ORTHOGONAL:
        refused = _("the axes of “{name}” are sheared: resample the volume (module Resample Scalar/Vector/DWI)")
        raise NodeError(refused.format(name=name))


def image_of(volume_node: slicer.vtkMRMLVolumeNode, proxy: slicer.vtkMRMLVolumeNode | None = None) -> sitk.Image:
    """SimpleITK image of a volume node in world coordinates. Raises NodeError as `check_volume`."""
    check_volume(volume_node, proxy)
    return image_from_array(slicer.util.arrayFromVolume(volume_node), world_matrix(volume_node, proxy))


def export_volume(
    volume_node: slicer.vtkMRMLVolumeNode, path: str | Path, proxy: slicer.vtkMRMLVolumeNode | None = None
) -> None:
    """Write a volume in its world geometry; the format goes by the ending. Raises NodeError as `check_volume`."""
    _write(sitk.WriteImage, image_of(volume_node, proxy), path)


def export_labels(
    labels_node: slicer.vtkMRMLNode,
    atlas_node: slicer.vtkMRMLVolumeNode,
    labels_path: str | Path,
    names_path: str | Path,
) -> list[tuple]:
    """Write the labels of an atlas on the grid of its volume, and their names as CSV value,name,color,terminology.

    Returns the rows of that table, as in labels.py. `labels_node` is a segmentation or a labelmap volume. Raises
    NodeError where it holds no label inside the volume.
    """
    grid = image_of(atlas_node)
    if labels_node.IsA("vtkMRMLSegmentationNode"):
        labels, rows = labels_of_segmentation(labels_node, atlas_node, grid)
    else:
        labels, rows = labels_of_labelmap(labels_node, image_of(labels_node), grid)
    if not rows:
        refused = _("“{labels}” has no structure inside “{image}”: choose the labels that belong to this image")
        raise NodeError(refused.format(labels=labels_node.GetName(), image=atlas_node.GetName()))
    _write(sitk.WriteImage, labels, labels_path)
    with open(names_path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("value", "name", "color", "terminology"), *rows])
    return rows


def export_initial_transform(transform_node: slicer.vtkMRMLTransformNode, path: str | Path) -> None:
    """Write the linear transform that moves the atlas onto the patient as the engine wants it: fixed -> moving, LPS.

    Raises NodeError where it is not linear.
    """
    from_world = vtk.vtkMatrix4x4()
    if not transform_node.GetMatrixTransformFromWorld(from_world):
        refused = _("“{name}” is not linear: choose a linear transform to start from")
        raise NodeError(refused.format(name=transform_node.GetName()))
    matrix = LPS_TO_RAS @ slicer.util.arrayFromVTKMatrix(from_world) @ LPS_TO_RAS
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    _write(sitk.WriteTransform, transform, path)


def check_start(node: Any, moved: Any, *, linear: bool) -> None:
    """Raise NodeError, saying why, if an alignment cannot begin with what is given; None is none.

    `moved`: the volume that it is to move, or None for an atlas of a model; `linear`: whether it must not bend.
    """
    if node is None:
        return
    if not _is_a(node, "vtkMRMLTransformNode"):
        refused = _("{given} is no transform: give the node of a transform")
        raise NodeError(refused.format(given=_called(node)))
    check_in_scene(node)
    if linear and not node.GetMatrixTransformFromWorld(vtk.vtkMatrix4x4()):
        refused = _("“{name}” is not linear: choose a linear transform to start from")
        raise NodeError(refused.format(name=node.GetName()))
    for each in (node, *transforms_above([node])):
        _check_invertible(each)
    if moved is not None and node in transforms_above([moved]):
        refused = _("“{name}” moves “{volume}” already, and would twice: take the volume out of it (module Data)")
        raise NodeError(refused.format(name=node.GetName(), volume=moved.GetName()))


def _check_invertible(node: slicer.vtkMRMLTransformNode) -> None:
    """Raise NodeError if a linear transform has no inverse: VTK would give the identity in its place."""
    to_parent = vtk.vtkMatrix4x4()
    if not node.GetMatrixTransformToParent(to_parent):
        return  # one that bends is tried where it is written
    matrix = slicer.util.arrayFromVTKMatrix(to_parent)
    if not (np.isfinite(matrix).all() and np.linalg.matrix_rank(matrix[:3, :3]) == 3):
        refused = _("“{name}” makes space flat, and has no inverse: choose another transform to start from")
        raise NodeError(refused.format(name=node.GetName()))


def check_in_scene(node: slicer.vtkMRMLNode) -> None:
    """Raise NodeError if a node was deleted: what it was chosen for would not be done."""
    if node.GetScene() is None:
        raise NodeError(_("“{name}” is no longer in the scene: choose another").format(name=node.GetName()))


def export_start(
    transform_node: slicer.vtkMRMLTransformNode, fixed_node: slicer.vtkMRMLVolumeNode, folder: Path, name: str
) -> str:
    """Write a transform of any kind that moves the moving image onto the fixed one; returns the file's name.

    As the engine wants it: fixed -> moving, LPS. One that bends is sampled in and around the fixed image, and may be
    kept in either direction: Slicer inverts it. Raises NodeError where that cannot be done.
    """
    if transform_node.GetMatrixTransformFromWorld(vtk.vtkMatrix4x4()):
        export_initial_transform(transform_node, folder / f"{name}.tfm")
        return f"{name}.tfm"
    from_world = vtk.vtkGeneralTransform()
    transform_node.GetTransformFromWorld(from_world)
    image = fixed_node.GetImageData().GetDimensions(), world_matrix(fixed_node)
    _check_inverse(transform_node, points_of(*grid_around(*image, 0.0, INVERSE_POINTS)))
    size, matrix = grid_around(*image, AROUND, MAX_START_POINTS)
    points = points_of(size, matrix)
    vectors = (moved_points(from_world, points) - points) * LPS_TO_RAS.diagonal()[:3]
    if not np.isfinite(vectors).all():
        refused = _("“{name}” moves points of “{volume}” to no place: choose another transform to start from")
        raise NodeError(refused.format(name=transform_node.GetName(), volume=fixed_node.GetName()))
    field = image_from_array(vectors.reshape(*size[::-1], 3), matrix)
    _write(sitk.WriteTransform, sitk.DisplacementFieldTransform(field), folder / f"{name}.h5")
    return f"{name}.h5"


def _check_inverse(transform_node: slicer.vtkMRMLTransformNode, points: np.ndarray) -> None:
    """Raise NodeError if Slicer has to search for what moves these points from the world, and searches in vain.

    As where a transform that is kept in the other direction folds: VTK gives points that are far off.
    """
    bent = [each for each in (transform_node, *transforms_above([transform_node])) if not each.IsLinear()]
    if not any(each.IsAbstractTransformComputedFromInverse(each.GetTransformFromParent()) for each in bent):
        return
    there, back = vtk.vtkGeneralTransform(), vtk.vtkGeneralTransform()
    transform_node.GetTransformFromWorld(there)
    transform_node.GetTransformToWorld(back)
    off = np.linalg.norm(moved_points(back, moved_points(there, points)) - points, axis=1)
    if not off.max() <= INVERSE_MM:
        refused = _("“{name}” folds, and has no inverse: choose another transform to start from")
        raise NodeError(refused.format(name=transform_node.GetName()))


def write_image(image: sitk.Image, path: Path) -> None:
    """Write an image. Raises NodeError where there is no room for it."""
    _write(sitk.WriteImage, image, path)


def _write(writer: Callable[[Any, str], None], written: Any, path: str | Path) -> None:
    try:
        writer(written, str(path))
    except RuntimeError as error:  # many lines of ITK's
        refused = _("{file} could not be written into {folder}: is there room on the disk?")
        raise NodeError(refused.format(file=Path(path).name, folder=Path(path).parent)) from error
