"""An atlas of the scene becomes files: its labels stay where they are, and keep their names and colours."""

import csv

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import phantom
import slicer.util
import vtk
from CLMorphSlicerLib import exporting, nodes
from CLMorphSlicerLib.errors import NodeError
from CLMorphSlicerLib.geometry import ijk_to_ras
from CLMorphSlicerLib.labels import name_segment
from places import TOLERANCE_MM, greatest_distance, labelmap_node, linear_node, ras_points


def atlas_node(headless: object, tmp_path: object) -> object:
    sitk.WriteImage(phantom.atlas()[0], str(tmp_path / "atlas.nii.gz"))
    return headless.load_volume(tmp_path / "atlas.nii.gz")


def exported_labels(labels_node: object, atlas: object, tmp_path: object) -> tuple[sitk.Image, list[dict]]:
    exporting.export_labels(labels_node, atlas, tmp_path / "labels.nii.gz", tmp_path / "names.csv")
    with open(tmp_path / "names.csv", newline="", encoding="utf-8") as file:
        return sitk.ReadImage(str(tmp_path / "labels.nii.gz")), list(csv.DictReader(file))


def test_segmentation_of_an_atlas_becomes_labels_on_the_grid_of_its_volume(headless, tmp_path):
    atlas = atlas_node(headless, tmp_path)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Atlas labels")
    labels = phantom.atlas()[1]
    for name, value, color in (("Körper", 1, (1.0, 0.5, 0.0)), ("Ventricle", 5, (0.0, 0.0, 1.0))):
        labelmap = slicer.vtkSlicerSegmentationsModuleLogic.CreateOrientedImageDataFromVolumeNode(
            labelmap_node(labels == value)
        )
        segmentation.AddSegmentFromBinaryLabelmapRepresentation(labelmap, name, color)
    image, rows = exported_labels(segmentation, atlas, tmp_path)
    exporting.export_volume(atlas, tmp_path / "atlas_out.nii.gz")
    exported_atlas = sitk.ReadImage(str(tmp_path / "atlas_out.nii.gz"))
    assert image.GetSize() == exported_atlas.GetSize()
    assert np.allclose(ijk_to_ras(image), ijk_to_ras(exported_atlas), atol=1e-4)
    assert greatest_distance(ras_points(image, 2), ras_points(labels, 5)) < TOLERANCE_MM
    assert [(row["value"], row["name"], row["color"]) for row in rows] == [
        ("1", "Körper", "#ff8000"),
        ("2", "Ventricle", "#0000ff"),
    ]


def test_labelmap_on_another_grid_is_brought_onto_the_atlas(headless, tmp_path):
    atlas = atlas_node(headless, tmp_path)
    labels = phantom.atlas()[1]
    part = labels[5:58, 4:66, 3:55]
    image, rows = exported_labels(labelmap_node(part), atlas, tmp_path)
    assert image.GetSize() == labels.GetSize()
    assert greatest_distance(ras_points(image, 2), ras_points(labels, 2)) < TOLERANCE_MM
    assert [row["value"] for row in rows] == ["1", "2", "5"]
    assert all(row["name"] for row in rows)


def test_terminology_of_segments_is_kept_on_the_way_out_and_in(phantom_case, tmp_path):
    case = phantom_case("LAS")
    results = nodes.import_results(case.output, case.volume, case.atlas)
    _, rows = exported_labels(results.segmentation, case.volume, tmp_path)
    by_name = {row["name"]: row for row in rows}
    assert by_name["Anterior hippocampus"]["terminology"] == "SCT^5366008^Hippocampus"
    assert by_name["Anterior hippocampus"]["color"] == "#d8654f"


@pytest.mark.parametrize(
    ("name", "terminology", "side"),
    [
        ("Left hippocampus", "SCT^5366008^Hippocampus", ("7771000", "Left")),
        ("Right hippocampus", "SCT^5366008^Hippocampus", ("24028007", "Right")),
        ("Anterior hippocampus", "SCT^5366008^Hippocampus", None),
        ("Leftover", "SCT^5366008^Hippocampus", None),
        ("Right ventricle", "SCT^53085002^Right ventricle", None),  # the type says it already
    ],
)
def test_side_of_a_structure_is_told_by_its_terminology(headless, name, terminology, side):
    segment, tag, entry = slicer.vtkSegment(), vtk.reference(""), slicer.vtkSlicerTerminologyEntry()
    name_segment(segment, {"name": name, "color": "#102030", "terminology": terminology})
    segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), tag)
    assert slicer.vtkSlicerTerminologiesModuleLogic.DeserializeTerminologyEntry(tag.get(), entry)
    kind, modifier = entry.GetTypeObject(), entry.GetTypeModifierObject()
    assert f"SCT^{kind.GetCodeValue()}^{kind.GetCodeMeaning()}" == terminology
    assert (modifier.GetCodeValue(), modifier.GetCodeMeaning()) == (side or (None, None))
    assert modifier.GetCodingSchemeDesignator() == (side and "SCT")


@pytest.mark.parametrize("kind", ["vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode"])
def test_labels_outside_the_atlas_are_refused(headless, tmp_path, kind):
    atlas = atlas_node(headless, tmp_path)
    labels = slicer.mrmlScene.AddNewNodeByClass(kind, "Elsewhere")
    if kind == "vtkMRMLLabelMapVolumeNode":
        slicer.util.updateVolumeFromArray(labels, np.zeros((4, 5, 6), np.int16))
    with pytest.raises(NodeError, match=r"Elsewhere.*no structure inside"):
        exporting.export_labels(labels, atlas, tmp_path / "l.nii.gz", tmp_path / "n.csv")


# -- segmentations that hold no voxels, as RT structures, and labelmaps whose values are no labels


@pytest.fixture
def drawn(headless, tmp_path):
    """(volume of the phantom's atlas, segmentation of it)."""
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn")
    segmentation.CreateDefaultDisplayNodes()
    labels = labelmap_node(phantom.atlas()[1])
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, segmentation)
    slicer.mrmlScene.RemoveNode(labels)
    return atlas_node(headless, tmp_path), segmentation


def keep_alone(segmentation, representation: str) -> None:
    """Leave a segmentation this representation of its segments, and no other."""
    inside = segmentation.GetSegmentation()
    names = ("Binary labelmap", "Closed surface", "Fractional labelmap")
    inside.CreateRepresentation("Closed surface")
    if representation == "Fractional labelmap":
        converter = slicer.vtkSegmentationConverter
        labelmap = segmentation.GetBinaryLabelmapInternalRepresentation(inside.GetNthSegmentID(0))
        geometry = converter.SerializeImageGeometry(labelmap)
        inside.SetConversionParameter(converter.GetReferenceImageGeometryParameterName(), geometry)
        assert inside.CreateRepresentation(representation, True)
    inside.SetSourceRepresentationName(representation)
    for name in names:
        if name != representation:
            inside.RemoveRepresentation(name)


@pytest.mark.parametrize("representation", ["Closed surface", "Fractional labelmap"])
@pytest.mark.parametrize("moved", [False, True])
def test_segments_without_a_labelmap_are_carried_all_the_same(drawn, tmp_path, representation, moved):
    atlas, segmentation = drawn
    if moved:
        transform = linear_node().GetID()
        for node in drawn:
            node.SetAndObserveTransformNodeID(transform)
    truth = sitk.GetArrayFromImage(exported_labels(segmentation, atlas, tmp_path)[0])
    keep_alone(segmentation, representation)
    before = slicer.mrmlScene.GetNumberOfNodes()
    labels, rows = exported_labels(segmentation, atlas, tmp_path)
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    inside = segmentation.GetSegmentation()
    assert not inside.ContainsRepresentation("Binary labelmap")  # an input stays as it is
    assert [row["name"] for row in rows] == [inside.GetNthSegment(i).GetName() for i in range(3)]
    found = sitk.GetArrayFromImage(labels)
    for value in (1, 2, 3):
        one, other = found == value, truth == value
        assert 2 * np.sum(one & other) / (one.sum() + other.sum()) > 0.9


def test_segments_that_cannot_be_turned_into_voxels_are_refused_with_that_reason(drawn, tmp_path):
    """Contours of RT structures, where what converts them (SlicerRT) is not there."""
    atlas, segmentation = drawn
    inside = segmentation.GetSegmentation()
    for number in range(inside.GetNumberOfSegments()):
        inside.GetNthSegment(number).RemoveAllRepresentations("")
        inside.GetNthSegment(number).AddRepresentation("Planar contour", vtk.vtkPolyData())
    inside.SetSourceRepresentationName("Planar contour")
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(NodeError, match="“Drawn” cannot be turned into voxels"):
        exported_labels(segmentation, atlas, tmp_path)
    assert slicer.mrmlScene.GetNumberOfNodes() == before


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.full((4, 4, 4), -1, np.int16), "-1"),
        (np.full((4, 4, 4), 70000, np.int32), "70000"),
        (np.full((4, 4, 4), 1.5, np.float32), "1.5"),
        (np.full((4, 4, 4), np.nan, np.float32), "nan"),
    ],
)
def test_labelmap_whose_values_are_no_labels_is_refused_and_never_wrapped(headless, tmp_path, array, told):
    atlas = atlas_node(headless, tmp_path)
    labels = slicer.util.addVolumeFromArray(array, name="Odd", nodeClassName="vtkMRMLLabelMapVolumeNode")
    with pytest.raises(NodeError, match=rf"Odd.*{told}.*whole numbers from 0 to 65535"):
        exporting.export_labels(labels, atlas, tmp_path / "l.nii.gz", tmp_path / "n.csv")


def test_two_segments_of_one_name_stay_two(drawn, tmp_path):
    atlas, segmentation = drawn
    for number in (1, 2):
        segmentation.GetSegmentation().GetNthSegment(number).SetName("Ventricle")
    _, rows = exported_labels(segmentation, atlas, tmp_path)
    assert [(row["value"], row["name"]) for row in rows][1:] == [("2", "Ventricle"), ("3", "Ventricle")]


def test_two_structures_of_one_name_have_a_column_each_over_time(headless):
    from CLMorphSlicerLib.figures import fill_series

    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    structures = [{"name": "Ventricle", "volume_ml": ml} for ml in (2.0, 3.0)]
    fill_series(table, "time", [("0", {"structures": structures}), ("1", {"structures": structures[:1]})])
    columns = [table.GetTable().GetColumn(i) for i in range(table.GetNumberOfColumns())]
    assert [column.GetName() for column in columns] == ["time", "Ventricle (ml)", "Ventricle (2) (ml)"]
    assert [columns[2].GetValue(0), columns[1].GetValue(0), columns[1].GetValue(1)] == [3.0, 2.0, 2.0]
    assert np.isnan(columns[2].GetValue(1))


@pytest.mark.parametrize(("called", "told"), [("", "Label 2"), ("  ", "Label 2"), ("Left\nlobe\t", "Left lobe")])
def test_names_are_such_as_the_engine_takes(drawn, tmp_path, called, told):
    """Slicer lets a person empty a name; the engine would refuse the atlas after it was written."""
    engine = pytest.importorskip("CLMorphCore.bundles.atlas", reason="the engine needs torch")
    atlas, segmentation = drawn
    segmentation.GetSegmentation().GetNthSegment(1).SetName(called)
    exporting.export_labels(segmentation, atlas, tmp_path / "labels.nii.gz", tmp_path / "names.csv")
    structures = engine.read_structures(tmp_path / "names.csv")
    assert [each.name for each in structures if each.value == 2] == [told]
