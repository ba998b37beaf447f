"""The nodes of a run: known to the run's transform, and found again after the scene was saved and loaded."""

from __future__ import annotations

from dataclasses import dataclass, fields

import slicer
import slicer.util
import vtk

RESULT_ATTRIBUTE = "CLMorph.Result"
BOTH_SIDES = "sides"  # its value at the left side's transform,
FOLLOWED = "frames"  # and at the table of frames whose labels follow one of them


@dataclass(frozen=True)
class Results:
    """The nodes of one run.

    None where a person has deleted the node since, or the run gives none: a model without uncertainty, a registration
    without labels or landmarks, whose distances `landmarks` tells. Of a sequence they are the nodes that its browser
    plays; `warped` and `affine_warped` are then the atlas under the transforms, and None where frames were warped from
    different atlases. Where an organ was found on both sides of a whole, each side has a transform of its own, `left`
    and `right`; there is no `transform` then, nor an atlas, nor what is seen of a deformation. Where the frames of a
    sequence follow one of them there are the `segmentation` that plays, and the `table` of volumes over time.
    """

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
    brain_mask: slicer.vtkMRMLSegmentationNode | None = None
    left: slicer.vtkMRMLTransformNode | None = None
    right: slicer.vtkMRMLTransformNode | None = None
    landmarks: slicer.vtkMRMLTableNode | None = None

    @property
    def anchor(self) -> slicer.vtkMRMLStorableNode | None:
        """The node that knows the other ones, and by which the window chooses them: a transform if there is one."""
        return self.transform or self.left or self.table


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
                results = results_of(node)
                for transform in (results.transform, results.left, results.right):
                    if transform is not None:
                        interpolate_linearly(transform)

    return slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, loaded)


def _role(name: str) -> str:
    return f"CLMorph.{name}"


def link(results: Results, task: str) -> None:
    """Let the anchor of a run know its other nodes and what made it, also in a saved scene."""
    anchor, volume = results.anchor, results.volume
    assert anchor is not None and volume is not None
    made_by = task if results.transform is not None else BOTH_SIDES if results.left is not None else FOLLOWED
    anchor.SetAttribute(RESULT_ATTRIBUTE, made_by)
    if made_by != FOLLOWED:
        anchor.SetNodeReferenceID(anchor.GetFixedNodeReferenceRole(), volume.GetID())
        anchor.SetNodeReferenceID(anchor.GetMovingNodeReferenceRole(), results.atlas.GetID() if results.atlas else None)
    for field in fields(Results):
        node = getattr(results, field.name)
        if node is anchor:
            node = None
        anchor.SetNodeReferenceID(_role(field.name), node.GetID() if node is not None else None)


def is_result(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether the node is the anchor of a run's results: its transform, or the table of frames that follow one."""
    return node is not None and node.GetAttribute(RESULT_ATTRIBUTE) is not None


def results_of(anchor: slicer.vtkMRMLStorableNode) -> Results:
    """The nodes of the run that made this transform or table, also after the scene was saved and loaded."""
    nodes = {field.name: anchor.GetNodeReference(_role(field.name)) for field in fields(Results)}
    own = {BOTH_SIDES: "left", FOLLOWED: "table"}.get(anchor.GetAttribute(RESULT_ATTRIBUTE), "transform")
    return Results(**{**nodes, own: anchor})


def is_of_both_sides(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether the node stands for a run that found an organ on both sides, and has no one deformation to show."""
    return node is not None and node.GetAttribute(RESULT_ATTRIBUTE) == BOTH_SIDES


def is_of_followed_frames(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether the node stands for a run in which the frames of a sequence follow one of them."""
    return node is not None and node.GetAttribute(RESULT_ATTRIBUTE) == FOLLOWED


def has_deformation(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether the node stands for a run with one deformation, which can be shown."""
    return node is not None and not is_of_both_sides(node) and not is_of_followed_frames(node)


def browser_of(node: slicer.vtkMRMLNode | None) -> slicer.vtkMRMLSequenceBrowserNode | None:
    """The browser that plays a sequence through this node; None where there is none."""
    return slicer.modules.sequences.logic().GetFirstBrowserNodeForProxyNode(node) if node is not None else None
