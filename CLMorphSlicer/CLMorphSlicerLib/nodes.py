"""Nodes of the scene <-> files of the engine.

Files and positions are exchanged in world coordinates: a linear transform above a node is hardened into what is
exported, and results come back without a parent transform, on the place where the patient is seen.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer
import slicer.util
import vtk

from .colors import color_by_jacobian
from .errors import NodeError
from .geometry import (
    LPS_TO_RAS,
    grid_transform,
    ijk_to_ras,
    image_from_array,
    linear_transform_ras,
    spacing_and_direction,
    vtk_matrix,
)
from .labels import labels_of_labelmap, labels_of_segmentation, name_segment
from .output import EngineOutput

RESULT_ATTRIBUTE = "CLMorph.Result"
ORTHOGONAL = 1e-4
MOST_SURFACES = 30  # that are made unasked: for a hundred structures Slicer would stand still for seconds


@dataclass(frozen=True)
class Results:
    """The nodes of one run; None where a person has deleted the node since, or the model gives no uncertainty."""

    transform: slicer.vtkMRMLTransformNode | None
    affine: slicer.vtkMRMLLinearTransformNode | None
    field: slicer.vtkMRMLTransformNode | None
    volume: slicer.vtkMRMLScalarVolumeNode | None
    atlas: slicer.vtkMRMLScalarVolumeNode | None
    segmentation: slicer.vtkMRMLSegmentationNode | None
    warped: slicer.vtkMRMLScalarVolumeNode | None
    affine_warped: slicer.vtkMRMLScalarVolumeNode | None
    jacobian: slicer.vtkMRMLScalarVolumeNode | None
    uncertainty: slicer.vtkMRMLScalarVolumeNode | None
    table: slicer.vtkMRMLTableNode | None


# -- nodes -> files


def likely_input() -> slicer.vtkMRMLScalarVolumeNode | None:
    """The volume that was chosen last for the slice views, or the scene's first; no labelmap, no vectors."""
    offered = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
    ]
    active = slicer.app.applicationLogic().GetSelectionNode().GetActiveVolumeID()
    return next((node for node in offered if node.GetID() == active), offered[0] if offered else None)


def world_matrix(volume_node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """World RAS = matrix @ (i, j, k, 1), with the linear transforms above the node; (4, 4), mm.

    Raises NodeError where a transform above it is not linear.
    """
    matrix, parent = vtk.vtkMatrix4x4(), volume_node.GetParentTransformNode()
    volume_node.GetIJKToRASMatrix(matrix)
    if parent is None:
        return slicer.util.arrayFromVTKMatrix(matrix)
    to_world = vtk.vtkMatrix4x4()
    if not parent.GetMatrixTransformToWorld(to_world):
        raise NodeError(
            f"“{volume_node.GetName()}” is under the non-linear transform “{parent.GetName()}”: "
            "harden the transform or take the volume out of it first"
        )
    return slicer.util.arrayFromVTKMatrix(to_world) @ slicer.util.arrayFromVTKMatrix(matrix)


def check_volume(volume_node: slicer.vtkMRMLVolumeNode | None) -> None:
    """Raise NodeError, saying why, if the volume cannot be given to the engine."""
    if volume_node is None:
        raise NodeError("no volume is chosen: load an image and choose it")
    name, image = volume_node.GetName(), volume_node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise NodeError(f"“{name}” has no voxels: load its image again")
    if image.GetNumberOfScalarComponents() != 1:
        raise NodeError(
            f"“{name}” has {image.GetNumberOfScalarComponents()} values in each voxel: choose a volume with one"
        )
    if min(image.GetDimensions()) < 2:
        raise NodeError(f"“{name}” has the size {image.GetDimensions()}: choose a volume of several slices")
    direction = spacing_and_direction(world_matrix(volume_node))[1]
    if np.abs(direction.T @ direction - np.eye(3)).max() > ORTHOGONAL:
        raise NodeError(f"the axes of “{name}” are sheared: resample the volume (module Resample Scalar/Vector/DWI)")


def image_of(volume_node: slicer.vtkMRMLVolumeNode) -> sitk.Image:
    """SimpleITK image of a volume node in world coordinates. Raises NodeError as `check_volume`."""
    check_volume(volume_node)
    return image_from_array(slicer.util.arrayFromVolume(volume_node), world_matrix(volume_node))


def export_volume(volume_node: slicer.vtkMRMLVolumeNode, path: str | Path) -> None:
    """Write a volume in its world geometry; the format goes by the ending. Raises NodeError as `check_volume`."""
    sitk.WriteImage(image_of(volume_node), str(path))


def export_labels(
    labels_node: slicer.vtkMRMLNode,
    atlas_node: slicer.vtkMRMLVolumeNode,
    labels_path: str | Path,
    names_path: str | Path,
) -> None:
    """Write the labels of an atlas on the grid of its volume, and their names as CSV value,name,color,terminology.

    `labels_node` is a segmentation or a labelmap volume. Raises NodeError where it holds no label inside the volume.
    """
    grid = image_of(atlas_node)
    if labels_node.IsA("vtkMRMLSegmentationNode"):
        labels, rows = labels_of_segmentation(labels_node, atlas_node, grid)
    else:
        labels, rows = labels_of_labelmap(labels_node, image_of(labels_node), grid)
    if not rows:
        raise NodeError(
            f"“{labels_node.GetName()}” has no structure inside “{atlas_node.GetName()}”: "
            "choose the labels that belong to this atlas"
        )
    sitk.WriteImage(labels, str(labels_path), useCompression=True)
    with open(names_path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("value", "name", "color", "terminology"), *rows])


def export_initial_transform(transform_node: slicer.vtkMRMLTransformNode, path: str | Path) -> None:
    """Write the linear transform that moves the atlas onto the patient as the engine wants it: fixed -> moving, LPS.

    Raises NodeError where it is not linear.
    """
    from_world = vtk.vtkMatrix4x4()
    if not transform_node.GetMatrixTransformFromWorld(from_world):
        raise NodeError(f"“{transform_node.GetName()}” is not linear: choose a linear transform to start from")
    matrix = LPS_TO_RAS @ slicer.util.arrayFromVTKMatrix(from_world) @ LPS_TO_RAS
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    sitk.WriteTransform(transform, str(path))


# -- files -> nodes


def import_results(
    output_folder: str | Path,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    atlas_image: str | Path,
    atlas_node: slicer.vtkMRMLScalarVolumeNode | None = None,
    *,
    display_resolution: float = 0.5,
) -> Results:
    """Add what the engine wrote for `volume_node` to the scene, in one folder of the subject hierarchy.

    `atlas_image` is the file of the atlas that the engine warped; `atlas_node` its node, where it came from the scene.
    Raises NodeError where a file is missing or lies on another grid; then the scene is left as it was.
    """
    size = volume_node.GetImageData().GetDimensions()
    output = EngineOutput(Path(output_folder), Path(atlas_image), size, world_matrix(volume_node))
    with slicer.util.RenderBlocker(), _all_or_nothing():
        results = _add_results(output, volume_node, atlas_node, display_resolution)
        added = [getattr(results, field.name) for field in fields(Results) if field.name != "volume"]
        _file_in_folder(volume_node, [node for node in added if node not in (atlas_node, None)])
    return results


@contextmanager
def _all_or_nothing() -> Iterator[None]:
    scene = slicer.mrmlScene
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}
    items_before = set(_hierarchy_items(hierarchy))
    try:
        yield
    except Exception:
        for item in set(_hierarchy_items(hierarchy)) - items_before:
            hierarchy.RemoveItem(item, False, False)
        for node in slicer.util.getNodesByClass("vtkMRMLNode"):
            if node.GetID() not in before:
                scene.RemoveNode(node)
        raise


def _hierarchy_items(hierarchy: object) -> list[int]:
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    return [items.GetId(i) for i in range(items.GetNumberOfIds())]


def _add_results(output: EngineOutput, volume_node: object, atlas_node: object, display_resolution: float) -> Results:
    patient, atlas = volume_node.GetName(), output.report["atlas"]["name"]
    transform = _add_transform(output.transform_path, f"{patient} transform")
    results = Results(
        transform=transform,
        affine=_add_affine(output.affine, f"{patient} affine"),
        field=_add_field(output, f"{patient} deformation for display", display_resolution),
        volume=volume_node,
        atlas=atlas_node or _add_volume(sitk.GetArrayFromImage(output.atlas), ijk_to_ras(output.atlas), atlas),
        segmentation=_add_segmentation(output, volume_node, f"{patient} segmentation"),
        warped=_add_volume(output.warped, output.matrix, f"{atlas} warped to {patient}"),
        affine_warped=_add_volume(output.affine_warped(), output.matrix, f"{atlas} affine to {patient}"),
        jacobian=_add_volume(output.jacobian, output.matrix, f"{patient} Jacobian"),
        uncertainty=_add_uncertainty(output, f"{patient} uncertainty"),
        table=_add_table(output.report, f"{patient} report"),
    )
    color_by_jacobian(results.jacobian)
    results.affine_warped.GetDisplayNode().CopyContent(results.warped.GetDisplayNode())
    transform.SetAttribute(RESULT_ATTRIBUTE, "1")
    transform.SetNodeReferenceID(transform.GetFixedNodeReferenceRole(), volume_node.GetID())
    transform.SetNodeReferenceID(transform.GetMovingNodeReferenceRole(), results.atlas.GetID())
    for field in fields(Results):
        node = getattr(results, field.name)
        if field.name != "transform" and node is not None:
            transform.SetNodeReferenceID(_role(field.name), node.GetID())
    return results


def _add_node(class_name: str, name: str) -> object:
    return slicer.mrmlScene.AddNewNodeByClass(class_name, slicer.mrmlScene.GenerateUniqueName(name))


def _add_transform(path: Path, name: str) -> object:
    # Slicer reads ITK's resampling direction as TransformFromParent: a node under it moves from moving to fixed
    node, storage = _add_node("vtkMRMLTransformNode", name), slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise NodeError(f"Slicer cannot read {path.name}, though ITK can: please report this")
    interpolate_linearly(node)
    return node


def _add_affine(affine: sitk.Transform, name: str) -> object:
    node = _add_node("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformFromParent(vtk_matrix(linear_transform_ras(affine)))
    return node


def _add_field(output: EngineOutput, name: str, resolution: float) -> object:
    # Slicer draws a transform by ToParent. Given as a field, on a regular grid, it is a plain look-up; as the inverse
    # of FromParent it would be searched point by point, in vain where the field folds.
    # The node stays visible in selectors: Slicer does not save hidden ones.
    node = _add_node("vtkMRMLTransformNode", name)
    node.SetAndObserveTransformToParent(grid_transform(output.field_for_display(resolution)))
    return node


def _add_volume(array: np.ndarray, matrix: np.ndarray, name: str) -> object:
    node = _add_node("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, array)
    node.SetIJKToRASMatrix(vtk_matrix(matrix))
    node.CreateDefaultDisplayNodes()
    return node


def _add_uncertainty(output: EngineOutput, name: str) -> object | None:
    if output.uncertainty is None:
        return None
    node = _add_volume(output.uncertainty, output.matrix, name)
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(0.0, 1.0)
    return node


def _add_segmentation(output: EngineOutput, volume_node: object, name: str) -> object:
    if not output.labels.any():
        raise NodeError("labels.nii.gz holds no structure: does the image show the anatomy that the model knows?")
    labelmap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    slicer.util.updateVolumeFromArray(labelmap, output.labels.astype(np.int16))
    labelmap.SetIJKToRASMatrix(vtk_matrix(output.matrix))
    node = _add_node("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labelmap, node)
    slicer.mrmlScene.RemoveNode(labelmap)
    structures = {structure["value"]: structure for structure in output.report["structures"]}
    segmentation = node.GetSegmentation()
    for segment in (segmentation.GetNthSegment(i) for i in range(segmentation.GetNumberOfSegments())):
        name_segment(segment, structures.get(segment.GetLabelValue()))
    few = segmentation.GetNumberOfSegments() <= MOST_SURFACES
    node.GetDisplayNode().SetVisibility3D(few)
    if few:
        node.CreateClosedSurfaceRepresentation()
    return node


def _add_table(report: dict, name: str) -> object:
    similarity, quality = report["similarity"], report["quality"]
    rows = [
        (structure["name"], structure["volume_ml"], "ml", structure["quality"], structure["uncertainty"])
        for structure in report["structures"]
    ]
    rows += [
        (f"{similarity['measure']} after the affine", similarity["affine"], "", None, None),
        (f"{similarity['measure']} after the deformation", similarity["warped"], "", None, None),
        ("folding fraction", report["folding_fraction"], "", None, None),
        ("duration", report["duration_s"]["total"], "s", None, None),
    ]
    outlier_score = quality.get("outlier_score", quality.get("oddness"))  # its name in reports of version 0.1
    if outlier_score is not None:
        rows.append(("outlier score of the image, usual up to 1", outlier_score, "", quality["expected_dice"], None))
    node = _add_node("vtkMRMLTableNode", name)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)  # figures of a run are not for typing over
    columns = (
        ("Name", vtk.vtkStringArray()),
        ("Value", vtk.vtkDoubleArray()),
        ("Unit", vtk.vtkStringArray()),
        ("Expected Dice", vtk.vtkStringArray()),
        ("Uncertainty", vtk.vtkStringArray()),
    )
    for index, (title, column) in enumerate(columns):
        values = [row[index] for row in rows]
        if all(value is None for value in values):
            continue  # the model has no figures of that kind
        column.SetName(title)
        for value in values:
            # As text where not every row has a figure: an empty cell says more than "nan".
            column.InsertNextValue(value if index < 3 else "" if value is None else f"{value:.2f}")
        node.AddColumn(column)
    return node


def _file_in_folder(volume_node: object, nodes: list) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.GetItemByDataNode(volume_node)
    parent = hierarchy.GetItemParent(patient) if patient else hierarchy.GetSceneItemID()
    folder = hierarchy.CreateFolderItem(parent, f"{volume_node.GetName()} CLMorph")
    for node in nodes:
        hierarchy.CreateItem(folder, node)


# -- a run's nodes, found again


def interpolate_linearly(transform_node: slicer.vtkMRMLTransformNode) -> None:
    """Read the displacement fields of a transform as ITK does; Slicer's reader sets cubic interpolation (≈ 0.1 mm)."""
    parts = vtk.vtkCollection()
    transform_node.FlattenGeneralTransform(parts, transform_node.GetTransformFromParent())
    for part in (parts.GetItemAsObject(i) for i in range(parts.GetNumberOfItems())):
        if part.IsA("vtkOrientedGridTransform"):
            part.SetInterpolationModeToLinear()


def watch_scene_loading() -> int:
    """From now on, let the transforms of every scene that is loaded move points as the engine does.

    Returns the observer's tag. To be called once, when the application has started.
    """

    def loaded(scene: slicer.vtkMRMLScene, event: str) -> None:
        for node in slicer.util.getNodesByClass("vtkMRMLTransformNode", scene):
            if is_result(node):
                interpolate_linearly(node)

    return slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, loaded)


def _role(name: str) -> str:
    return f"CLMorph.{name}"


def is_result(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether the node is the transform of a run."""
    return node is not None and node.GetAttribute(RESULT_ATTRIBUTE) is not None


def results_of(transform_node: slicer.vtkMRMLTransformNode) -> Results:
    """The nodes of the run that made this transform, also after the scene was saved and loaded."""
    others = (field.name for field in fields(Results) if field.name != "transform")
    return Results(transform=transform_node, **{name: transform_node.GetNodeReference(_role(name)) for name in others})
