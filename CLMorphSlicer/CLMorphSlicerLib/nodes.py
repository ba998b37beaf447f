"""Files of the engine -> nodes of the scene.

Results come back without a parent transform, on the place where the patient is seen.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
import slicer.util

from .colors import color_by_jacobian
from .errors import NodeError
from .exporting import world_matrix
from .figures import fill_landmarks, fill_table
from .geometry import grid_transform, ijk_to_ras, linear_transform_ras, vtk_matrix
from .labels import name_segment
from .output import SIDES, Deformation, EngineOutput
from .outputs import Kept, Outputs, Undo, items_below
from .results import Results, interpolate_linearly, link
from .terminology import with_standard_looks
from .words import _

MAX_SURFACES = 30  # that are made unasked: for a hundred structures Slicer would stand still for seconds
REPORTED = ("atlas", "structures", "similarity", "quality", "folding_fraction", "duration_s")  # of each segmentation
OF_A_DEFORMATION = ("transform", "affine", "field", "atlas", "warped", "affine_warped", "jacobian")
OF_BOTH_SIDES = (*SIDES, "segmentation", "uncertainty", "brain_mask", "table")
BRAIN = {"value": 1, "color": "#fafae1", "terminology": "SCT^12738006^Brain"}
SEGMENT, REGISTER = "1", "register"  # what made a result; version 0.1 knew the first alone


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an exported volume lie: size (i, j, k) and ijk-to-world-RAS matrix (4, 4), mm."""

    size: tuple[int, int, int]
    matrix: np.ndarray

    @classmethod
    def of(cls, volume_node: slicer.vtkMRMLVolumeNode, proxy: slicer.vtkMRMLVolumeNode | None = None) -> Grid:
        return cls(volume_node.GetImageData().GetDimensions(), world_matrix(volume_node, proxy))


@dataclass(frozen=True)
class Loading:
    """How results are put into the scene.

    outputs: existing nodes to write into. display_resolution: of the field that is drawn, per voxel of the patient.
    standard_names: whether segments get Slicer's names and colours. safe_colors: whether they keep the engine's colours
    then. grid: of the volume when it was exported, where the node may show another frame by now. in_folder: whether new
    nodes are filed in a folder of their own. undo: is told how to take it back.
    """

    outputs: Outputs = field(default_factory=Outputs)
    display_resolution: float = 0.5
    standard_names: bool = False
    safe_colors: bool = False
    grid: Grid | None = None
    in_folder: bool = True
    undo: Undo = field(default_factory=Undo)


def import_results(
    output_folder: str | Path,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    atlas_image: str | Path,
    atlas_node: slicer.vtkMRMLScalarVolumeNode | None = None,
    *,
    loading: Loading | None = None,
) -> Results:
    """Add what the engine wrote for `volume_node` to the scene, in one folder of the subject hierarchy.

    `atlas_image` is the file of the atlas that the engine warped; `atlas_node` its node, where it came from the scene.
    Raises NodeError where a file is missing or lies on another grid; then the scene is left as it was.
    """
    loading = loading or Loading()
    output = _output(output_folder, volume_node, atlas_image, loading)
    if output.labels is None:
        raise NodeError(
            _("the results have no {file}: the run did not finish; run it again").format(file="labels.nii.gz")
        )
    if not output.labels.any():
        raise NodeError(_("labels.nii.gz holds no structure: does the image show the anatomy that the model knows?"))
    report = {key: output.report[key] for key in REPORTED}  # or it is a report of another kind
    patient, atlas = volume_node.GetName(), report["atlas"]["name"]
    names = {
        "transform": _("{patient} transform"),
        "affine": _("{patient} affine"),
        "field": _("{patient} deformation for display"),
        "segmentation": _("{patient} segmentation"),
        "warped": _("{atlas} warped to {patient}"),
        "affine_warped": _("{atlas} affine to {patient}"),
        "jacobian": _("{patient} Jacobian"),
        "uncertainty": _("{patient} uncertainty"),
        "brain_mask": _("{patient} brain mask"),
        "left": _("{patient} both sides, left transform"),
        "right": _("{patient} both sides, right transform"),
        "table": _("{patient} report"),
    }
    told = {name: text.format(patient=patient, atlas=atlas) for name, text in names.items()}
    work = _Work(output, volume_node, atlas_node, atlas, told, report["structures"], loading, SEGMENT)
    return work.done()


def import_registration(
    output_folder: str | Path,
    fixed_node: slicer.vtkMRMLScalarVolumeNode,
    moving_node: slicer.vtkMRMLScalarVolumeNode,
    moving_image: str | Path,
    label_names: str | Path | None = None,
    *,
    loading: Loading | None = None,
) -> Results:
    """Add to the scene how the engine laid a moving volume, and its labels where there were any, onto a fixed one.

    `moving_image` is the file of the moving volume; `label_names` the table of its labels. Raises as `import_results`.
    """
    loading = loading or Loading()
    output = _output(output_folder, fixed_node, moving_image, loading)
    fixed, moving = fixed_node.GetName(), moving_node.GetName()
    names = {
        "transform": _("{moving} to {fixed} transform"),
        "affine": _("{moving} to {fixed} affine"),
        "field": _("{moving} to {fixed} deformation for display"),
        "segmentation": _("{moving} segmentation warped to {fixed}"),
        "warped": _("{moving} warped to {fixed}"),
        "affine_warped": _("{moving} affine to {fixed}"),
        "jacobian": _("{moving} to {fixed} Jacobian"),
        "uncertainty": _("{moving} to {fixed} uncertainty"),
        "table": _("{moving} to {fixed} report"),
        "landmarks": _("{moving} to {fixed} landmarks"),
    }
    told = {name: text.format(fixed=fixed, moving=moving) for name, text in names.items()}
    structures = _structures(label_names) if output.labels is not None and label_names else []
    return _Work(output, fixed_node, moving_node, moving, told, structures, loading, REGISTER).done()


def _output(folder: str | Path, volume_node: Any, image: str | Path, loading: Loading) -> EngineOutput:
    grid = loading.grid or Grid.of(volume_node)
    return EngineOutput(Path(folder), Path(image), grid.size, grid.matrix)


def _structures(label_names: str | Path) -> list[dict]:
    with open(label_names, newline="", encoding="utf-8") as file:
        return [{**row, "value": int(row["value"])} for row in csv.DictReader(file)]


@dataclass
class _Work:
    """One run's files on their way into the scene; `atlas` is what was warped, the moving volume in a registration."""

    output: EngineOutput
    volume: slicer.vtkMRMLScalarVolumeNode
    atlas: slicer.vtkMRMLScalarVolumeNode | None
    atlas_name: str
    names: dict[str, str]
    structures: list[dict]
    loading: Loading
    task: str

    def done(self) -> Results:
        """The results, whole, or the scene as it was."""
        self.into = self._targets()
        undo = self.loading.undo
        with slicer.util.RenderBlocker():
            undo.kept = [Kept.of(node) for node in self.into.values()]
            with all_or_nothing(undo.kept):
                results = self._results()
                link(results, self.task)
                given = (self.volume, self.atlas, *self.into.values())
                made = [getattr(results, each.name) for each in fields(Results)]
                undo.added = [node for node in made if node is not None and node not in given]
                undo.note()
                if self.loading.in_folder:
                    undo.folders = _file_in_folder(self.volume, undo.added)
        return results

    def _targets(self) -> dict[str, Any]:
        """The nodes to write into; a run of both sides has no one transform, and leaves one that was chosen alone."""
        into = self.loading.outputs.targets()
        if self.output.deformation is not None:
            return into
        if "left" in into:  # an earlier run of both sides
            return {name: node for name, node in into.items() if name in OF_BOTH_SIDES}
        chosen = self.loading.outputs.segmentation
        return {"segmentation": chosen} if chosen is not None else {}

    def _results(self) -> Results:
        output = self.output
        made = {
            "volume": self.volume,
            "segmentation": self._segmentation(),
            "brain_mask": self._brain_mask(),
            "uncertainty": self._uncertainty(),
            "table": self._table(),
            "landmarks": self._landmarks(),
        }
        if output.deformation is None:
            sides = {side: self._transform(side, path) for side, path in output.side_transforms.items()}
            return Results(**dict.fromkeys(OF_A_DEFORMATION), **made, **sides)
        return Results(**made, **self._deformation(output.deformation))

    def _deformation(self, found: Deformation) -> dict[str, Any]:
        warped = self._volume("warped", found.warped)
        affine_warped = self._volume("affine_warped", found.affine_warped())
        affine_warped.GetDisplayNode().CopyContent(warped.GetDisplayNode())
        jacobian = self._volume("jacobian", found.jacobian)
        color_by_jacobian(jacobian)
        return {
            "transform": self._transform("transform", found.path),
            "affine": self._affine(found.affine),
            "field": self._field(found),
            "atlas": self.atlas or self._new_atlas(),
            "warped": warped,
            "affine_warped": affine_warped,
            "jacobian": jacobian,
        }

    def _node(self, name: str, class_name: str) -> Any:
        """The node to write into, without a parent transform, or a new one."""
        node = self.into.get(name)
        if node is None:
            return slicer.mrmlScene.AddNewNodeByClass(class_name, slicer.mrmlScene.GenerateUniqueName(self.names[name]))
        if hasattr(node, "SetAndObserveTransformNodeID"):
            node.SetAndObserveTransformNodeID(None)
        return node

    def _transform(self, name: str, path: Path) -> Any:
        # Slicer reads ITK's resampling direction as TransformFromParent: a node under it moves from moving to fixed
        node, storage = self._node(name, "vtkMRMLTransformNode"), slicer.vtkMRMLTransformStorageNode()
        storage.SetFileName(str(path))
        if not storage.ReadData(node):
            refused = _("Slicer cannot read {file}, though ITK can: please report this")
            raise NodeError(refused.format(file=path.name))
        interpolate_linearly(node)
        return node

    def _affine(self, affine: sitk.Transform) -> Any:
        node = self._node("affine", "vtkMRMLLinearTransformNode")
        node.SetMatrixTransformFromParent(vtk_matrix(linear_transform_ras(affine)))
        return node

    def _field(self, found: Deformation) -> Any:
        # Slicer draws a transform by ToParent. Given as a field, on a regular grid, it is a plain look-up; as the
        # inverse of FromParent it would be searched point by point, in vain where the field folds.
        # The node stays visible in selectors: Slicer does not save hidden ones.
        node = self._node("field", "vtkMRMLTransformNode")
        drawn = found.field_for_display(self.loading.display_resolution)
        node.SetAndObserveTransformToParent(grid_transform(drawn))
        return node

    def _new_atlas(self) -> Any:
        assert self.output.deformation is not None
        image = self.output.deformation.atlas
        name = slicer.mrmlScene.GenerateUniqueName(self.atlas_name)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        return _fill_volume(node, sitk.GetArrayFromImage(image), ijk_to_ras(image))

    def _volume(self, name: str, array: np.ndarray) -> Any:
        return _fill_volume(self._node(name, "vtkMRMLScalarVolumeNode"), array, self.output.matrix)

    def _uncertainty(self) -> Any | None:
        if self.output.uncertainty is None:
            return None
        node = self._volume("uncertainty", self.output.uncertainty)
        node.GetDisplayNode().AutoWindowLevelOff()
        node.GetDisplayNode().SetWindowLevelMinMax(0.0, 1.0)
        return node

    def _table(self) -> Any:
        node = self._node("table", "vtkMRMLTableNode")
        fill_table(node, self.output.report)
        return node

    def _landmarks(self) -> Any | None:
        told = self.output.report.get("landmarks") if "landmarks" in self.names else None
        if not told:
            return None
        node = self._node("landmarks", "vtkMRMLTableNode")
        fill_landmarks(node, told)
        return node

    def _segmentation(self) -> Any | None:
        if self.output.labels is None or not self.structures:
            return None
        names, colors = self.loading.standard_names, not self.loading.safe_colors
        structures = with_standard_looks(self.structures, colors=colors) if names else self.structures
        node = self._segments("segmentation", self.output.labels, structures)
        show_surfaces(node)
        return node

    def _brain_mask(self) -> Any | None:
        """An outline in the slices, in a node of its own: it is no structure that was asked for, and covers them."""
        if self.output.brain_mask is None:
            return None
        node = self._segments("brain_mask", self.output.brain_mask, [{**BRAIN, "name": _("Brain mask")}])
        node.GetDisplayNode().SetVisibility3D(False)
        node.GetDisplayNode().SetVisibility2DFill(False)
        return node

    def _segments(self, name: str, labels: np.ndarray, structures: list[dict]) -> Any:
        node = self._node(name, "vtkMRMLSegmentationNode")
        fill_segmentation(node, self.volume, labels, self.output.matrix, structures)
        return node


def fill_segmentation(
    node: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLScalarVolumeNode,
    labels: np.ndarray,
    matrix: np.ndarray,
    structures: list[dict],
) -> None:
    """Let a segmentation of a volume hold labels (k, j, i) alone, on the grid of an ijk-to-RAS matrix (4, 4), named."""
    labelmap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    kind = np.int16 if labels.max() <= np.iinfo(np.int16).max else np.int32
    slicer.util.updateVolumeFromArray(labelmap, labels.astype(kind))
    labelmap.SetIJKToRASMatrix(vtk_matrix(matrix))
    segmentation = node.GetSegmentation()
    segmentation.RemoveAllSegments()
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labelmap, node)
    slicer.mrmlScene.RemoveNode(labelmap)
    by_value = {structure["value"]: structure for structure in structures}
    for segment in (segmentation.GetNthSegment(i) for i in range(segmentation.GetNumberOfSegments())):
        name_segment(segment, by_value.get(segment.GetLabelValue()))


def show_surfaces(node: slicer.vtkMRMLSegmentationNode) -> None:
    """Draw the structures in 3D, where they are few."""
    few = node.GetSegmentation().GetNumberOfSegments() <= MAX_SURFACES
    node.GetDisplayNode().SetVisibility3D(few)
    if few:
        node.CreateClosedSurfaceRepresentation()


def _fill_volume(node: Any, array: np.ndarray, matrix: np.ndarray) -> Any:
    slicer.util.updateVolumeFromArray(node, array)
    node.SetIJKToRASMatrix(vtk_matrix(matrix))
    node.CreateDefaultDisplayNodes()
    return node


@contextmanager
def all_or_nothing(kept: list[Kept]) -> Iterator[None]:
    """Where the block fails, the scene is as it was before, and so is what was kept."""
    scene = slicer.mrmlScene
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}
    items_before = set(items_below(hierarchy, hierarchy.GetSceneItemID()))
    try:
        yield
    except Exception:
        for item in set(items_below(hierarchy, hierarchy.GetSceneItemID())) - items_before:
            hierarchy.RemoveItem(item, False, False)
        for node in slicer.util.getNodesByClass("vtkMRMLNode"):
            if node.GetID() not in before:
                scene.RemoveNode(node)
        for each in kept:
            each.restore()
        raise


def _file_in_folder(volume_node: Any, nodes: list) -> list[int]:
    """File nodes beside their volume, in a folder of their own; its item, if there was anything to file."""
    if not nodes:
        return []
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.GetItemByDataNode(volume_node)
    parent = hierarchy.GetItemParent(patient) if patient else hierarchy.GetSceneItemID()
    folder = hierarchy.CreateFolderItem(parent, f"{volume_node.GetName()} CLMorph")
    for node in nodes:
        hierarchy.CreateItem(folder, node)
    return [folder]
