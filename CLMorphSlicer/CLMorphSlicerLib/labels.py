"""Labels with their names, colours and terminology: the engine's table <-> segments and labelmaps.

A row of the table is (value, name, color, terminology): color #rrggbb, terminology SCHEME^CODE^MEANING or empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .errors import NodeError
from .terminology import CONTEXT
from .words import _

ANATOMY = "SCT^123037004^Anatomical Structure"
SIDES = {"Left": "SCT^7771000^Left", "Right": "SCT^24028007^Right"}
NO_TERM = "^^"
MAX_LABEL = 65535


def labels_of_segmentation(
    node: slicer.vtkMRMLSegmentationNode, atlas_node: slicer.vtkMRMLVolumeNode, grid: sitk.Image
) -> tuple[sitk.Image, list[tuple]]:
    """Labels of a segmentation on the grid of the atlas's volume, numbered from 1, and their rows of the table.

    Where segments overlap, the later one counts.
    """
    segmentation = node.GetSegmentation()
    ids = list(segmentation.GetSegmentIDs())
    array = voxels_of_segments(node, ids, atlas_node, grid)
    labels = sitk.GetImageFromArray(array)
    labels.CopyInformation(grid)
    present = set(np.unique(array))
    segments = [(value, segmentation.GetSegment(segment_id)) for value, segment_id in enumerate(ids, start=1)]
    rows = [(v, _name(s.GetName(), v), hex_color(s.GetColor()), _type_code(s)) for v, s in segments if v in present]
    return labels, rows


def voxels_of_segments(
    node: slicer.vtkMRMLSegmentationNode,
    segment_ids: Sequence[str],
    volume_node: slicer.vtkMRMLVolumeNode,
    grid: sitk.Image,
) -> np.ndarray:
    """Labels (k, j, i) on the grid of a volume: the number of the segment among those that are named, from 1."""
    merged, ids = slicer.vtkOrientedImageData(), vtk.vtkStringArray()
    for segment_id in segment_ids:
        ids.InsertNextValue(segment_id)
    with _with_labelmap(node, volume_node) as voxels:
        slicer.vtkSlicerSegmentationsModuleLogic.GenerateMergedLabelmapInReferenceGeometry(
            voxels, volume_node, ids, slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY, merged
        )
    shape = grid.GetSize()[::-1]
    if merged.GetDimensions() != grid.GetSize():
        return np.zeros(shape, np.uint16)
    return vtk_to_numpy(merged.GetPointData().GetScalars()).reshape(shape).astype(np.uint16)


@contextmanager
def _with_labelmap(
    node: slicer.vtkMRMLSegmentationNode, atlas_node: slicer.vtkMRMLVolumeNode
) -> Iterator[slicer.vtkMRMLSegmentationNode]:
    """The segmentation, or a copy of one that has surfaces or fractions alone, as RT structures: an input stays."""
    labelmap = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    if node.GetSegmentation().ContainsRepresentation(labelmap):
        yield node
        return
    copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    try:
        copy.GetSegmentation().DeepCopy(node.GetSegmentation())
        copy.SetAndObserveTransformNodeID(node.GetTransformNodeID())
        copy.SetReferenceImageGeometryParameterFromVolumeNode(atlas_node)
        if not copy.CreateBinaryLabelmapRepresentation():
            refused = _(
                "“{name}” cannot be turned into voxels: make its binary labelmap in the module Segmentations "
                "(RT structures need the extension SlicerRT)"
            )
            raise NodeError(refused.format(name=node.GetName()))
        yield copy
    finally:
        slicer.mrmlScene.RemoveNode(copy)


def labels_of_labelmap(
    node: slicer.vtkMRMLLabelMapVolumeNode, image: sitk.Image, grid: sitk.Image
) -> tuple[sitk.Image, list[tuple]]:
    """Labels of a labelmap volume (and its image), brought onto a grid, and their rows of the table.

    Raises NodeError for values that are no labels.
    """
    odd = _no_label(sitk.GetArrayViewFromImage(image))
    if odd is not None:
        refused = _("“{name}” holds the value {value}: expected whole numbers from 0 to {highest}")
        raise NodeError(refused.format(name=node.GetName(), value=odd, highest=MAX_LABEL))
    labels = sitk.Resample(sitk.Cast(image, sitk.sitkUInt16), grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    display = node.GetDisplayNode()
    colors = display.GetColorNode() if display is not None else None
    rows = []
    for value in np.unique(sitk.GetArrayViewFromImage(labels)).tolist():
        if value == 0:
            continue
        name, rgba = "", [0.5, 0.5, 0.5, 1.0]
        if colors is not None and value < colors.GetNumberOfColors():
            name = colors.GetColorName(value)
            colors.GetColor(value, rgba)
        rows.append((value, _name(name, value), hex_color(rgba[:3]), ""))
    return labels, rows


def _name(given: str | None, value: int) -> str:
    """A name as the engine takes it: one line of letters that can be printed, and not empty."""
    letters = "".join(letter if letter.isprintable() else " " for letter in given or "")
    return letters.strip() or _("Label {value}").format(value=value)


def _no_label(array: np.ndarray) -> float | None:
    """A value that is no label, None where all are."""
    if array.dtype.kind == "f":
        broken = array[array != np.round(array)]  # nan too
        if broken.size:
            return float(broken[0])
    low, high = array.min(), array.max()
    return next((each.item() for each in (low, high) if not 0 <= each <= MAX_LABEL), None)


def _type_code(segment: Any) -> str:
    entry = vtk.reference("")
    segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), entry)
    parts = entry.get().split("~")  # list of terms, category, type, …
    return parts[2] if len(parts) > 2 and parts[2].strip("^") else ""


def hex_color(rgb: Sequence[float]) -> str:
    """#rrggbb of red, green, blue 0..1."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def _side(name: str, terminology: str) -> str:
    """The modifier that tells a left structure from the right one, as its name does; none where the type tells it."""
    side, meaning = name.partition(" ")[0], terminology.split("^")[-1]
    return NO_TERM if meaning.startswith(side) else SIDES.get(side, NO_TERM)


def name_segment(segment: slicer.vtkSegment, structure: dict | None) -> None:
    """Give a segment name, colour and terminology of a structure of the report."""
    if structure is None:
        return  # a label the report does not name keeps its value as its name
    segment.SetName(structure["name"])
    segment.SetColor(*(int(structure["color"][i : i + 2], 16) / 255 for i in (1, 3, 5)))
    segment.NameAutoGeneratedOff()
    segment.ColorAutoGeneratedOff()
    if structure["terminology"]:
        modifier = _side(structure["name"], structure["terminology"])
        entry = (CONTEXT, ANATOMY, structure["terminology"], modifier, "", NO_TERM, NO_TERM)
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), "~".join(entry))
