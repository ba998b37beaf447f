"""Landmarks of a pair, as point lists of the scene: where they are, which are pairs, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import FLIP, linear_node, points_node

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import vtk
from CLMorphSlicerLib import guidance
from CLMorphSlicerLib.errors import NodeError


def test_points_reach_the_engine_in_lps_where_they_are_seen(headless, tmp_path):
    points = pytest.importorskip("CLMorphCore.io.points", reason="the engine needs torch")
    places = np.array([[10.0, 20.0, 30.0], [-5.0, 4.0, 7.0], [1.0, 2.0, 3.0]])
    node, above = points_node(places, ("  a ", "b", "Größe")), linear_node()
    node.SetAndObserveTransformNodeID(above.GetID())
    node.AddControlPoint(vtk.vtkVector3d(0, 0, 0), "not set")
    node.UnsetNthControlPointPosition(3)
    guidance.export_points(node, tmp_path / "p.mrk.json")
    read = points.read_points(tmp_path / "p.mrk.json")
    seen = [above.GetTransformToParent().TransformPoint(*(place * FLIP)) for place in places]
    assert read.names == ("a", "b", "Größe")
    assert np.abs(read.lps_mm * FLIP - seen).max() < 1e-6


def any_set(labels) -> bool:
    return any(label is not None for label in labels)


labels_of_points = st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=1, max_size=4)


@given(labels_of_points, labels_of_points)
def test_points_are_pairs_where_the_engine_pairs_them(fixed, moving):
    engine = pytest.importorskip("CLMorphCore.guidance.landmarks", reason="the engine needs torch")
    from CLMorphCore.errors import InputError

    try:
        engine.paired(np.zeros((len(fixed), 3)), np.zeros((len(moving), 3)), fixed, moving)
        paired = True
    except InputError:
        paired = False
    assert guidance.pairs_up(fixed, moving) is paired


lists_of_points = st.lists(st.sampled_from(["", "a", "b", "c", None]), min_size=1, max_size=4).filter(any_set)


@given(lists_of_points, lists_of_points)
def test_points_that_are_not_set_are_no_pairs_to_the_engine_and_to_the_window(fixed, moving):
    engine = pytest.importorskip("CLMorphCore.guidance.landmarks", reason="the engine needs torch")
    from CLMorphCore.errors import InputError

    placed = tuple([label is not None for label in each] for each in (fixed, moving))
    labels = [[label for label in each if label is not None] for each in (fixed, moving)]
    try:
        engine.paired(*(np.zeros((len(each), 3)) for each in labels), *labels, placed)
        paired = True
    except InputError:
        paired = False
    assert guidance.pairs_up(*labels, placed) is paired


def test_pairs_keep_together_where_a_point_is_missing_in_one_image(headless, tmp_path):
    """The second fissure is not to be seen in the fixed image: the third is still the third."""
    points = pytest.importorskip("CLMorphCore.io.points", reason="the engine needs torch")
    places = np.array([[10.0, 0.0, 0.0], [20.0, 0.0, 0.0], [30.0, 0.0, 0.0], [40.0, 0.0, 0.0]])
    nodes = [points_node(places, tuple(f"{name}-{n}" for n in range(1, 5)), name) for name in "FM"]
    nodes[0].SetNthControlPointPositionMissing(1)
    nodes[1].UnsetNthControlPointPosition(3)
    guidance.check_landmarks(tuple(nodes))
    for node in nodes:
        guidance.export_points(node, tmp_path / f"{node.GetName()}.mrk.json")
    found = points.read_landmarks(tmp_path / "F.mrk.json", tmp_path / "M.mrk.json")
    assert np.array_equal(found.fixed_mm, places[[0, 2]]) and np.array_equal(found.moving_mm, places[[0, 2]])
    assert found.names == ("F-1", "F-3") and found.alone == ("M-2", "F-4")
    nodes[1].RemoveNthControlPoint(0)  # three in both, and nobody knows which are pairs
    with pytest.raises(NodeError, match="“F” has 3 points and “M” 2"):
        guidance.check_landmarks(tuple(nodes))


def test_what_are_no_landmarks_is_told(headless):
    two, three = points_node(np.eye(3)[:2], ("a", "b"), "Two"), points_node(np.eye(3), ("c", "d", "e"), "Three")
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Empty")
    curve = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsCurveNode", "Sulcus")
    for wrong, told in (
        ((two, three), "“Two” has 2 points and “Three” 3, without labels in common"),
        ((two, two), "the landmarks of both images are “Two”"),
        ((two, empty), "“Empty” has no points"),
        ((curve, two), "“Sulcus” is no list of points"),
        ((two, None), "None is no list of points"),
        (two, "two nodes of points"),
    ):
        with pytest.raises(NodeError, match=told):
            guidance.check_landmarks(wrong)
    three.SetNthControlPointLabel(2, "a")
    guidance.check_landmarks((two, three))
    slicer.mrmlScene.RemoveNode(two)
    with pytest.raises(NodeError, match="no longer in the scene"):
        guidance.check_landmarks((two, three))
