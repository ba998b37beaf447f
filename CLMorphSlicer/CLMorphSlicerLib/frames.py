"""The frames of a sequence and what was found in them, played together by one browser.

No frame becomes a node of the scene: it is written from inside its sequence, and its results go into sequences of
their own. The nodes that one sees are the proxies of the sequence browser.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields, replace

import numpy as np
import slicer
import slicer.util
import vtk

from .errors import NodeError
from .nodes import SEGMENT
from .outputs import Undo
from .results import Results, browser_of, link, results_of
from .words import _

KEPT = ("segmentation", "transform", "affine", "field", "jacobian", "uncertainty")  # of each frame
KEPT_WHERE_FOUND = ("brain_mask", "left", "right")  # too
MAYBE_LATER = ("uncertainty", "brain_mask")  # that the first frame may lack
# Where a frame has none of these, nothing is shown; of the others, that of the frame before.
EMPTIED = ("segmentation", "field", "jacobian", "uncertainty", "brain_mask")
DRAWN_IN = ("segmentation", "brain_mask")  # by a person
BEFORE_AFTER = {
    "affine_warped": "affine",
    "warped": "transform",
}  # the atlas, and the transform that it is seen through


def check_found(transform: slicer.vtkMRMLTransformNode) -> None:
    """Raise NodeError where a result is played and there is none of the frame that is shown."""
    if not is_found(transform):
        raise NodeError(_("nothing was found in this frame"))


def is_found(transform: slicer.vtkMRMLTransformNode) -> bool:
    """Whether the frame that is shown has a result; one that is not played always has.

    Where there is none, the transform is the one of the frame before: emptied, it would lose the attribute by which it
    is known.
    """
    browser, volume = browser_of(transform), results_of(transform).volume
    if browser is None or volume is None or browser.GetSelectedItemNumber() < 0:
        return True
    frames = browser.GetSequenceNode(volume)
    if frames is None:
        return True
    here = browser.GetMasterSequenceNode().GetNthIndexValue(browser.GetSelectedItemNumber())
    shown = frames.GetNthIndexValue(frames.GetItemNumberFromIndexValue(here, False))  # its own, or the one before
    return browser.GetSequenceNode(transform).GetDataNodeAtValue(shown, True) is not None


class Frames:
    """A sequence of volumes, its browser and the volume node (proxy) that shows one of them."""

    def __init__(self, sequence, browser, proxy) -> None:
        self.sequence, self.browser, self.proxy = sequence, browser, proxy
        self._sequences: dict[str, slicer.vtkMRMLSequenceNode] = {}
        self._shown: Results | None = None

    @classmethod
    def of_volume(cls, volume_node: slicer.vtkMRMLVolumeNode) -> "Frames":
        """Of the sequence that is played through a volume. Raises NodeError where there is none."""
        browser = browser_of(volume_node)
        if browser is None:
            refused = _("“{name}” is no frame of a sequence: choose the volume that a sequence browser plays")
            raise NodeError(refused.format(name=volume_node.GetName()))
        return cls(browser.GetSequenceNode(volume_node), browser, volume_node)

    @classmethod
    def of_sequence(cls, sequence: slicer.vtkMRMLSequenceNode) -> "Frames":
        """Of a sequence, with the browser that it has or a new one. Raises NodeError where it holds no volumes."""
        first = sequence.GetNthDataNode(0) if sequence.GetNumberOfDataNodes() else None
        if first is None or not first.IsA("vtkMRMLScalarVolumeNode"):
            raise NodeError(_("“{name}” holds no volumes: choose another sequence").format(name=sequence.GetName()))
        logic = slicer.modules.sequences.logic()
        browser = logic.GetFirstBrowserNodeForSequenceNode(sequence)
        if browser is None:
            name = slicer.mrmlScene.GenerateUniqueName(f"{sequence.GetName()} browser")
            browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", name)
            browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
        logic.UpdateProxyNodesFromSequences(browser)
        return cls(sequence, browser, browser.GetProxyNode(sequence))

    @property
    def index_title(self) -> str:
        """What the index is called, with its unit: "time (s)"."""
        unit = self.sequence.GetIndexUnit()
        return f"{self.sequence.GetIndexName()} ({unit})" if unit else self.sequence.GetIndexName()

    def labelled_volumes(self) -> list[tuple[str, slicer.vtkMRMLScalarVolumeNode]]:
        """(index value, volume inside the sequence) of each frame."""
        numbers = range(self.sequence.GetNumberOfDataNodes())
        return [(self.sequence.GetNthIndexValue(n), self.sequence.GetNthDataNode(n)) for n in numbers]

    def keep(self, number: int, results: Results, undo: Undo) -> Results:
        """Move the results of a frame into sequences; returns the nodes that show those of the chosen frame."""
        value = self.sequence.GetNthIndexValue(number)
        for name in (*KEPT, *KEPT_WHERE_FOUND):
            node = getattr(results, name)
            if node is not None:
                self._sequence(name, undo).SetDataNodeAtValue(node, value)
        if self._shown is None:
            shown = self._show(results, undo)
        else:
            shown = self._show_what_came_later(self._shown, results)
            if not _same_voxels(shown.atlas, results.atlas):
                shown = self._without_before_after(shown)
        self._shown = shown
        for name in DRAWN_IN:
            if getattr(results, name) is not None and getattr(shown, name) is not None:
                undo.note_frame(self._sequences[name].GetDataNodeAtValue(value), getattr(shown, name))
        kept = {node.GetID() for node in self._nodes(shown)}
        for node in self._nodes(results):
            if node.GetID() not in kept:
                slicer.mrmlScene.RemoveNode(node)
        self.browser.Modified()
        return shown

    def keep_labels(
        self, values: Iterable[str], draw: Callable[[slicer.vtkMRMLSegmentationNode, int], None], undo: Undo
    ) -> slicer.vtkMRMLSegmentationNode:
        """The node that plays a sequence of segmentations: draw(node, n) lets it hold the one of the n-th index value.

        The sequence comes before the node, so that it goes before it too: the browser would make another one for it.
        """
        sequence = self._sequence("segmentation", undo)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", sequence.GetName())
        undo.added.append(node)
        for number, value in enumerate(values):
            draw(node, number)
            sequence.SetDataNodeAtValue(node, value)
        with slicer.util.NodeModify(self.browser):
            self._play("segmentation", node)
        for number in range(sequence.GetNumberOfDataNodes()):
            undo.note_frame(sequence.GetNthDataNode(number), node)
        self.browser.Modified()
        return node

    @staticmethod
    def _nodes(results: Results) -> list:
        """All but the volume, which was there before."""
        nodes = [getattr(results, each.name) for each in fields(Results) if each.name != "volume"]
        return [node for node in nodes if node is not None]

    def _sequence(self, name: str, undo: Undo) -> slicer.vtkMRMLSequenceNode:
        if name not in self._sequences:
            titles = {
                "segmentation": _("{sequence} segmentation"),
                "transform": _("{sequence} transform"),
                "affine": _("{sequence} affine"),
                "field": _("{sequence} deformation for display"),
                "jacobian": _("{sequence} Jacobian"),
                "uncertainty": _("{sequence} uncertainty"),
                "brain_mask": _("{sequence} brain mask"),
                "left": _("{sequence} both sides, left transform"),
                "right": _("{sequence} both sides, right transform"),
            }
            made = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode")
            made.SetName(titles[name].format(sequence=self.sequence.GetName()))
            made.SetIndexName(self.sequence.GetIndexName())
            made.SetIndexUnit(self.sequence.GetIndexUnit())
            made.SetIndexType(self.sequence.GetIndexType())
            self._sequences[name] = made
            undo.added.append(made)
        return self._sequences[name]

    def _show(self, results: Results, undo: Undo) -> Results:
        """Make the nodes of the first frame's results the proxies that the browser plays."""
        with slicer.util.NodeModify(self.browser):  # or it copies every frame that it shows anew at each step
            for name in self._sequences:
                self._play(name, getattr(results, name))
        seen = {}
        if results.transform is not None:
            seen = {name: self._seen_through(results, name, undo) for name in BEFORE_AFTER}
        shown = replace(results, **seen, table=None)
        link(shown, SEGMENT)
        return shown

    def _play(self, name: str, node: slicer.vtkMRMLNode) -> None:
        """Make a node the proxy that shows a sequence of results."""
        sequence = self._sequences[name]
        self.browser.AddSynchronizedSequenceNode(sequence)
        if name in EMPTIED and self.sequence is self.browser.GetMasterSequenceNode():  # else frames last longer
            self.browser.SetMissingItemMode(sequence, self.browser.MissingItemSetToDefault)
        unasked = self.browser.GetProxyNode(sequence)  # the browser makes one as soon as it knows the sequence
        self.browser.AddProxyNode(node, sequence, False)
        if unasked is not None and unasked is not node:
            slicer.mrmlScene.RemoveNode(unasked)

    def _show_what_came_later(self, shown: Results, results: Results) -> Results:
        """Play also what this frame has and none before it had."""
        found = {name: getattr(results, name) for name in MAYBE_LATER if getattr(shown, name) is None}
        new = {name: node for name, node in found.items() if node is not None}
        if not new:
            return shown
        with slicer.util.NodeModify(self.browser):
            for name, node in new.items():
                self._play(name, node)
        shown = replace(shown, **new)
        link(shown, SEGMENT)
        return shown

    def _seen_through(self, results: Results, name: str, undo: Undo) -> slicer.vtkMRMLScalarVolumeNode:
        """The atlas's voxels under one of the transforms: warped as it is drawn, frame by frame, and kept once."""
        titles = {"affine_warped": _("{atlas} affine to {sequence}"), "warped": _("{atlas} warped to {sequence}")}
        assert results.atlas is not None  # what a run loads has one
        title = titles[name].format(atlas=results.atlas.GetName(), sequence=self.sequence.GetName())
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", slicer.mrmlScene.GenerateUniqueName(title))
        node.CopyOrientation(results.atlas)
        node.SetAndObserveImageData(results.atlas.GetImageData())
        node.CreateDefaultDisplayNodes()
        node.SetAndObserveTransformNodeID(getattr(results, BEFORE_AFTER[name]).GetID())
        undo.added.append(node)
        return node

    @staticmethod
    def _without_before_after(shown: Results) -> Results:
        """The transforms are of another atlas now: what was seen through them would be wrong."""
        for name in BEFORE_AFTER:
            node = getattr(shown, name)
            if node is not None:
                slicer.mrmlScene.RemoveNode(node)
        left = replace(shown, **dict.fromkeys(BEFORE_AFTER))
        link(left, SEGMENT)
        return left


def _same_voxels(one: slicer.vtkMRMLVolumeNode | None, other: slicer.vtkMRMLVolumeNode | None) -> bool:
    if one is None or other is None or one is other:
        return one is other
    matrices = []
    for node in (one, other):
        matrices.append(vtk.vtkMatrix4x4())
        node.GetIJKToRASMatrix(matrices[-1])
    arrays = [slicer.util.arrayFromVolume(node) for node in (one, other)]
    same_grid = np.array_equal(*map(slicer.util.arrayFromVTKMatrix, matrices))
    return same_grid and np.array_equal(*arrays)
