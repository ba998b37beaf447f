"""Where results go: new nodes, or existing ones whose content is kept for an undo."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .exporting import transforms_above
from .results import Results, browser_of, is_result, results_of
from .words import _

PAIR = "GetFixedNodeReferenceRole"  # what only transform nodes have
NEW_EACH_TIME = ("volume", "atlas", "transform")  # of an earlier result: what a run is given, or chooses itself
NO_SEGMENTS = ()  # what is told of a segmentation without segments


@dataclass(frozen=True)
class Outputs:
    """Existing nodes to write results into; None makes a new one, named after the input."""

    segmentation: slicer.vtkMRMLSegmentationNode | None = None
    transform: slicer.vtkMRMLTransformNode | None = None
    warped: slicer.vtkMRMLScalarVolumeNode | None = None

    @property
    def chosen(self) -> list[slicer.vtkMRMLNode]:
        return [node for node in (self.segmentation, self.transform, self.warped) if node is not None]

    def targets(self) -> dict[str, slicer.vtkMRMLNode]:
        """The node to write into, by the name of a field of Results; what is not named is new.

        With the transform of an earlier run go the other nodes of that run.
        """
        found = {}
        if is_result(self.transform):
            earlier = results_of(self.transform)
            names = [each.name for each in fields(Results) if each.name not in NEW_EACH_TIME]
            found = {name: getattr(earlier, name) for name in names if getattr(earlier, name) is not None}
        own = {"segmentation": self.segmentation, "transform": self.transform, "warped": self.warped}
        return {**found, **{name: node for name, node in own.items() if node is not None}}

    def why_not(self, inputs: Iterable[slicer.vtkMRMLNode | None]) -> str:
        """Why these cannot be written into, as a sentence; empty when they can."""
        used = [node for node in inputs if node is not None and hasattr(node, "GetID")]
        taken, above = ({node.GetID() for node in nodes} for nodes in (used, transforms_above(used)))
        for node in (*self.chosen, *self.targets().values()):
            refused = ""
            if node.GetID() in taken:
                refused = _("“{name}” is an input of this run: choose another output, or a new one.")
            elif node.GetID() in above:
                refused = _("“{name}” moves an input of this run: choose another output, or a new one.")
            elif browser_of(node) is not None:
                refused = _(
                    "“{name}” shows the frames of a sequence, and would lose the result with the next frame: "
                    "choose another output, or a new one."
                )
            if refused:
                return refused.format(name=node.GetName())
        if self.transform is not None and self.transform.GetClassName() != "vtkMRMLTransformNode":
            refused = _("“{name}” cannot hold a deformation: choose another transform, or a new one.")
            return refused.format(name=self.transform.GetName())
        return ""


@dataclass(frozen=True)
class Kept:
    """What a node held: its content, its parent transform and its references."""

    node: slicer.vtkMRMLNode
    content: slicer.vtkMRMLNode
    parent_id: str | None
    references: dict[str, str | None]

    @classmethod
    def of(cls, node: slicer.vtkMRMLNode) -> Kept:
        content = node.CreateNodeInstance()
        content.UnRegister(None)
        content.CopyContent(node, True)
        parent = node.GetTransformNodeID() if hasattr(node, "GetTransformNodeID") else None
        return cls(node, content, parent, {role: node.GetNodeReferenceID(role) for role in _own_roles(node)})

    def restore(self) -> None:
        if self.node.GetScene() is None:
            return  # deleted meanwhile
        self.node.CopyContent(self.content, True)
        if hasattr(self.node, "SetAndObserveTransformNodeID"):
            self.node.SetAndObserveTransformNodeID(self.parent_id)
        for role in {*_own_roles(self.node), *self.references}:
            self.node.SetNodeReferenceID(role, self.references.get(role))


def _own_roles(node: slicer.vtkMRMLNode) -> list[str]:
    """The roles of the references that a run sets."""
    roles = [node.GetNthNodeReferenceRole(i) for i in range(node.GetNumberOfNodeReferenceRoles())]
    pair = (node.GetFixedNodeReferenceRole(), node.GetMovingNodeReferenceRole()) if hasattr(node, PAIR) else ()
    return [role for role in roles if role.startswith("CLMorph.") or role in pair]


@dataclass
class Undo:
    """Takes a run back: what it wrote into is as before, what it added goes.

    `drawn`: segmentations as the run left them; what plays a sequence is one of several, or nothing. `folders`: items
    of the subject hierarchy that it made.
    """

    kept: list[Kept] = field(default_factory=list)
    added: list[slicer.vtkMRMLNode] = field(default_factory=list)
    folders: list[int] = field(default_factory=list)
    drawn: dict[slicer.vtkMRMLNode, list[tuple]] = field(default_factory=dict)

    def note(self) -> None:
        """Remember how the run left its segmentations."""
        nodes = [*(each.node for each in self.kept), *self.added]
        self.drawn = {node: [_voxels(node)] for node in nodes if node.IsA("vtkMRMLSegmentationNode")}

    def note_frame(self, frame: slicer.vtkMRMLSegmentationNode, proxy: slicer.vtkMRMLSegmentationNode) -> None:
        """Remember how the run left a segmentation inside a sequence, and that a proxy may show it from now on."""
        voxels = _voxels(frame)
        self.drawn[frame] = [voxels]
        self.drawn.setdefault(proxy, [NO_SEGMENTS]).append(voxels)

    def join(self, other: Undo) -> None:
        """Take back what another run did, too. What plays a sequence is known by its frames."""
        self.kept += other.kept
        self.added += [node for node in other.added if node.GetScene() is not None]
        self.folders += other.folders
        self.drawn |= {node: voxels for node, voxels in other.drawn.items() if browser_of(node) is None}

    @property
    def would_lose(self) -> list[str]:
        """Names of the segmentations that somebody has changed since."""
        there = [node for node in self.drawn if node.GetScene() is not None]
        names = [self._name(node) for node in there if _voxels(node) not in self.drawn[node]]
        return list(dict.fromkeys(names))

    def _name(self, node: slicer.vtkMRMLNode) -> str:
        """A frame has the name of its sequence."""
        sequences = (each for each in self.added if each.IsA("vtkMRMLSequenceNode"))
        return next((each for each in sequences if each.GetSequenceScene() is node.GetScene()), node).GetName()

    def __call__(self) -> None:
        for each in self.kept:
            each.restore()
        for node in self.added:
            if node.GetScene() is not None:
                slicer.mrmlScene.RemoveNode(node)
        self._remove_folders()
        self.kept, self.added, self.folders, self.drawn = [], [], [], {}

    def _remove_folders(self) -> None:
        """But for those that somebody has put something else into."""
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        for folder in set(self.folders) & set(items_below(hierarchy, hierarchy.GetSceneItemID())):
            held = [hierarchy.GetItemDataNode(item) for item in items_below(hierarchy, folder)]
            if all(node is None or node.GetScene() is None for node in held):
                hierarchy.RemoveItem(folder, False, True)

    def __bool__(self) -> bool:
        """Whether the scene still has something to be taken back."""
        return any(node.GetScene() is not None for node in [*(each.node for each in self.kept), *self.added])


def items_below(hierarchy: slicer.vtkMRMLSubjectHierarchyNode, item: int) -> list[int]:
    """All items of the subject hierarchy below one."""
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(item, items, True)
    return [items.GetId(i) for i in range(items.GetNumberOfIds())]


def _voxels(node: slicer.vtkMRMLSegmentationNode) -> tuple:
    """What is another one when a segment was drawn in, added or removed, and the same in a copy."""
    segmentation = node.GetSegmentation()
    labelmap = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    segments = [(each, segmentation.GetSegment(each)) for each in segmentation.GetSegmentIDs()]
    images = {each: segment.GetRepresentation(labelmap) for each, segment in segments}
    sums = {image: _checksum(image) for image in images.values() if image is not None}  # many segments share one
    return tuple((each, segment.GetLabelValue(), sums.get(images[each])) for each, segment in segments)


def _checksum(image: slicer.vtkOrientedImageData) -> int:
    scalars = image.GetPointData().GetScalars()
    voxels = vtk_to_numpy(scalars).tobytes() if scalars is not None else b""
    return zlib.crc32(voxels, zlib.crc32(repr(image.GetExtent()).encode()))
