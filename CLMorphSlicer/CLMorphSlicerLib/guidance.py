"""What a person knows of images, as nodes of the scene -> files of the engine: what is left out, and landmarks.

What is left out is painted, as lesions are; the engine's masks are above zero where the image counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer

from .errors import NodeError
from .exporting import check_in_scene, check_labels, image_of, write_image
from .geometry import LPS_TO_RAS
from .labels import labels_of_labelmap, voxels_of_segments
from .words import _

MIN_COUNTED = 1000  # voxels of an image: the engine's; fewer hold nothing to align
LeftOut = slicer.vtkMRMLNode | tuple[slicer.vtkMRMLNode, str] | None
Landmarks = tuple[slicer.vtkMRMLMarkupsFiducialNode, slicer.vtkMRMLMarkupsFiducialNode] | None


def parts_of(left_out: LeftOut) -> tuple[Any, str]:
    """The node of what is left out, and its segment: an ID or a name, empty for all of them."""
    if not isinstance(left_out, (tuple, list)):
        return left_out, ""
    if len(left_out) != 2:
        refused = _("{count} parts given of what is left out: give a node, or a segmentation and one of its segments")
        raise NodeError(refused.format(count=len(left_out)))
    node, segment = left_out
    return node, segment


def nodes_of(*given: LeftOut | Landmarks) -> list[slicer.vtkMRMLNode]:
    """The nodes among what is given."""
    parts = [part for each in given for part in (each if isinstance(each, (tuple, list)) else (each,))]
    return [part for part in parts if hasattr(part, "GetID")]


def check_left_out(left_out: LeftOut) -> None:
    """Raise NodeError, saying why, if what is given cannot say what is left out; None leaves nothing out."""
    if left_out is None:
        return
    node, segment = parts_of(left_out)
    if node is None:
        raise NodeError(_("nothing is given that the segment “{segment}” is one of").format(segment=segment))
    check_labels(node)
    if not node.IsA("vtkMRMLSegmentationNode"):
        if segment:
            refused = _("“{name}” is a labelmap, and has no segment “{segment}”: give it alone")
            raise NodeError(refused.format(name=node.GetName(), segment=segment))
        return
    if not node.GetSegmentation().GetNumberOfSegments():
        refused = _("“{name}” has no segments: paint what is to be left out (module Segment Editor)")
        raise NodeError(refused.format(name=node.GetName()))
    _segment_ids(node, segment)


def _segment_ids(node: slicer.vtkMRMLSegmentationNode, segment: str) -> list[str]:
    segmentation = node.GetSegmentation()
    ids = list(segmentation.GetSegmentIDs())
    if not segment or segment in ids:
        return [segment] if segment else ids
    named = [each for each in ids if segmentation.GetSegment(each).GetName() == segment]
    if len(named) != 1:
        refused = _("“{name}” has {count} segments “{segment}”: choose one that it has")
        raise NodeError(refused.format(name=node.GetName(), count=len(named), segment=segment))
    return named


def export_counted(left_out: LeftOut, volume_node: slicer.vtkMRMLVolumeNode, path: Path) -> None:
    """Write the mask of a volume that is 1 where it counts, 0 in what is left out.

    Raises NodeError where nothing is left out of the volume, or too much.
    """
    node, segment = parts_of(left_out)
    grid = image_of(volume_node)
    if node.IsA("vtkMRMLSegmentationNode"):
        left = voxels_of_segments(node, _segment_ids(node, segment), volume_node, grid) > 0
    else:
        left = sitk.GetArrayFromImage(labels_of_labelmap(node, image_of(node), grid)[0]) > 0
    names = {"name": node.GetName(), "volume": volume_node.GetName()}
    if not left.any():
        refused = _("“{name}” has nothing inside “{volume}”: choose what was painted on this image, or None")
        raise NodeError(refused.format(**names))
    counted = left.size - int(left.sum())
    if counted < min(MIN_COUNTED, left.size // 2):
        refused = _("“{name}” leaves {count} voxels of “{volume}”: paint what is to be left out, not what is to count")
        raise NodeError(refused.format(**names, count=counted))
    mask = sitk.GetImageFromArray((~left).astype(np.uint8))
    mask.CopyInformation(grid)
    write_image(mask, path)


def placed(node: slicer.vtkMRMLMarkupsFiducialNode) -> list[bool]:
    """Which of the points are set: not those that are still to be placed, or that an image does not show (missing)."""
    status, numbers = node.GetNthControlPointPositionStatus, range(node.GetNumberOfControlPoints())
    return [status(number) == slicer.vtkMRMLMarkupsNode.PositionDefined for number in numbers]


def placed_points(node: slicer.vtkMRMLMarkupsFiducialNode) -> tuple[list[str], np.ndarray]:
    """Labels and places (N, 3), LPS, mm, of the points that are set, under the transforms above the node."""
    labels, places = [], []
    for number, is_set in enumerate(placed(node)):
        if is_set:
            place = [0.0, 0.0, 0.0]
            node.GetNthControlPointPositionWorld(number, place)
            labels.append(node.GetNthControlPointLabel(number).strip())
            places.append(place)
    return labels, np.reshape(places, (-1, 3)) * LPS_TO_RAS.diagonal()[:3]


def pairs_up(
    fixed: Sequence[str], moving: Sequence[str], are_placed: tuple[Sequence[bool], Sequence[bool]] | None = None
) -> bool:
    """Whether points with these labels are pairs, as the engine finds them.

    By label where all have one of their own, otherwise by their numbers in lists of one length, in which some are not
    placed: what stands behind the last point that is does not count.
    """
    named = all(all(labels) and len(set(labels)) == len(labels) for labels in (fixed, moving))
    if named and set(fixed) & set(moving):
        return True
    own = are_placed or ([True] * len(fixed), [True] * len(moving))
    ends = [max((number for number, is_set in enumerate(each, start=1) if is_set), default=0) for each in own]
    return any(map(all, zip(*own, strict=False))) and (len(own[0]) == len(own[1]) or ends[0] == ends[1])


def check_landmarks(landmarks: Landmarks) -> None:
    """Raise NodeError, saying why, if what is given is no two lists of the same points; None is none."""
    if landmarks is None:
        return
    if not isinstance(landmarks, (tuple, list)) or len(landmarks) != 2:
        raise NodeError(_("landmarks are two nodes of points: one in the fixed image, one in the moving image"))
    for node in landmarks:
        if not hasattr(node, "IsA") or not node.IsA("vtkMRMLMarkupsFiducialNode"):
            given = f"“{node.GetName()}”" if hasattr(node, "GetName") else repr(node)
            raise NodeError(_("{given} is no list of points: place them in the module Markups").format(given=given))
        check_in_scene(node)
        if not placed_points(node)[0]:
            refused = _("“{name}” has no points: place them in the module Markups")
            raise NodeError(refused.format(name=node.GetName()))
    fixed, moving = landmarks
    if fixed is moving:
        refused = _("the landmarks of both images are “{name}”: choose those of each image")
        raise NodeError(refused.format(name=fixed.GetName()))
    labels = [placed_points(node)[0] for node in landmarks]
    if not pairs_up(labels[0], labels[1], (placed(fixed), placed(moving))):
        refused = _(
            "“{fixed}” has {here} points and “{moving}” {there}, without labels in common: "
            "place as many in both, in the same order, or give pairs the same label"
        )
        counts = {"here": len(labels[0]), "there": len(labels[1])}
        raise NodeError(refused.format(fixed=fixed.GetName(), moving=moving.GetName(), **counts))


def export_points(node: slicer.vtkMRMLMarkupsFiducialNode, path: Path) -> None:
    """Write the points with their labels as .mrk.json in LPS; those that are not set keep their number, by which
    points are paired."""
    labels, places = placed_points(node)
    found = iter(zip(labels, places.tolist(), strict=True))
    points: list[dict] = []
    for is_set in placed(node):
        label, place = next(found) if is_set else ("", None)
        points.append({"label": label, "position": place, "positionStatus": "defined" if is_set else "undefined"})
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": points}
    path.write_text(json.dumps({"markups": [markup]}), encoding="ascii")
