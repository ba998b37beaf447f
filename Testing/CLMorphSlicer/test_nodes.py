"""Nodes -> files -> engine -> nodes: everything stays on its place in the patient, with its name and colour."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import phantom
import slicer.util
import vtk
from CLMorphSlicerLib import exporting, nodes
from CLMorphSlicerLib.errors import NodeError
from CLMorphSlicerLib.geometry import linear_transform_ras
from CLMorphSlicerLib.labels import hex_color
from CLMorphSlicerLib.results import Results, is_result, results_of, watch_scene_loading
from places import (
    FLIP,
    TOLERANCE_MM,
    greatest_disagreement,
    greatest_distance,
    linear_node,
    random_points,
    ras_points,
    segment_points,
)

GRIDS = tuple(phantom.GRIDS)


def everything_in_the_scene() -> tuple[set, int]:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    return {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}, hierarchy.GetNumberOfItems()


# -- geometry


@pytest.mark.parametrize("grid", GRIDS)
def test_labels_lie_on_the_same_points_as_in_the_file_the_patient_came_from(phantom_case, grid):
    case = phantom_case(grid)
    results = nodes.import_results(case.output, case.volume, case.atlas)
    on_original = sitk.Resample(
        phantom.atlas()[1], sitk.ReadImage(str(case.image)), phantom.transform(), sitk.sitkNearestNeighbor
    )
    for structure in phantom.STRUCTURES:
        truth = ras_points(on_original, structure["value"])
        got = segment_points(results.segmentation, structure["name"])
        assert len(truth) > 50
        assert greatest_distance(truth, got) < TOLERANCE_MM


@pytest.mark.parametrize("grid", GRIDS)
def test_exported_voxels_keep_their_values_and_places(phantom_case, tmp_path, grid):
    case = phantom_case(grid)
    exporting.export_volume(case.volume, tmp_path / "a b é.nrrd")
    original, exported = sitk.ReadImage(str(case.image)), sitk.ReadImage(str(tmp_path / "a b é.nrrd"))
    assert exported.GetPixelID() == original.GetPixelID()
    for index in ((3, 5, 7), (40, 22, 11)):
        place = exported.TransformPhysicalPointToContinuousIndex(original.TransformIndexToPhysicalPoint(index))
        assert np.allclose(place, np.round(place), atol=1e-3)
        assert exported[[round(p) for p in place]] == original[index]


@pytest.mark.parametrize("grid", GRIDS)
def test_transform_node_and_file_move_points_alike(phantom_case, headless, tmp_path, grid):
    case = phantom_case(grid)
    transform = nodes.import_results(case.output, case.volume, case.atlas).transform
    engine = sitk.ReadTransform(str(case.output / "transform.h5"))
    points = random_points(case.volume)
    assert greatest_disagreement(transform, engine, points) < TOLERANCE_MM
    headless.save_scene(tmp_path / "scene.mrb")
    with zipfile.ZipFile(tmp_path / "scene.mrb") as bundle:
        saved = next(name for name in bundle.namelist() if name.endswith("Patient transform.h5"))
        kept = sitk.ReadTransform(bundle.extract(saved, tmp_path))
    watch_scene_loading()
    headless.load_scene(tmp_path / "scene.mrb")
    reloaded = next(n for n in slicer.util.getNodesByClass("vtkMRMLTransformNode") if is_result(n))
    assert greatest_disagreement(reloaded, engine, points) < TOLERANCE_MM
    assert greatest_disagreement(reloaded, kept, points) < TOLERANCE_MM


def test_atlas_points_under_the_transform_land_on_the_patient(phantom_case):
    case = phantom_case("oblique")
    transform = nodes.import_results(case.output, case.volume, case.atlas).transform
    engine = sitk.ReadTransform(str(case.output / "transform.h5"))
    markups = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    centre = phantom.SHAPES[2][0]
    markups.AddControlPoint(vtk.vtkVector3d(*(centre * FLIP)))
    markups.SetAndObserveTransformNodeID(transform.GetID())
    landed = np.zeros(3)
    markups.GetNthControlPointPositionWorld(0, landed)
    assert np.linalg.norm(landed - centre * FLIP) > 5.0
    assert np.linalg.norm(np.subtract(engine.TransformPoint((landed * FLIP).tolist()), centre)) < TOLERANCE_MM


def test_results_of_a_volume_under_a_linear_transform_lie_where_it_is_seen(headless, phantom_files, tmp_path):
    volume = headless.load_volume(phantom_files("oblique") / "Patient.nii.gz")
    turn = linear_node()
    volume.SetAndObserveTransformNodeID(turn.GetID())
    exporting.export_volume(volume, tmp_path / "input.nii.gz")
    atlas = phantom.write_engine_output(tmp_path / "output", tmp_path / "input.nii.gz")
    results = nodes.import_results(tmp_path / "output", volume, atlas)
    exported = sitk.ReadImage(str(tmp_path / "input.nii.gz"))
    in_volume = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(in_volume)
    seen = turn.GetTransformToParent().TransformPoint(in_volume.MultiplyPoint((10, 20, 30, 1))[:3])
    assert exported.TransformIndexToPhysicalPoint((10, 20, 30)) == pytest.approx(FLIP * seen, abs=TOLERANCE_MM)
    labels = sitk.ReadImage(str(tmp_path / "output" / "labels.nii.gz"))
    truth = ras_points(labels, 2)
    assert greatest_distance(truth, segment_points(results.segmentation, "Anterior hippocampus")) < TOLERANCE_MM
    assert results.segmentation.GetParentTransformNode() is None


def test_label_beyond_16_bits_with_a_sign_keeps_its_structure(phantom_case, tmp_path):
    case = phantom_case("RAS")
    output = tmp_path / "output"
    shutil.copytree(case.output, output)
    labels = sitk.ReadImage(str(output / "labels.nii.gz"), sitk.sitkUInt16)
    sitk.WriteImage(sitk.ChangeLabel(labels, {5: 40000}), str(output / "labels.nii.gz"))
    report = json.loads((output / "report.json").read_text("utf-8"))
    report["structures"][2]["value"] = 40000
    (output / "report.json").write_text(json.dumps(report), encoding="utf-8")
    results = nodes.import_results(output, case.volume, case.atlas)
    truth = ras_points(sitk.ReadImage(str(output / "labels.nii.gz")), 40000)
    assert greatest_distance(truth, segment_points(results.segmentation, "Ventricle")) < TOLERANCE_MM


# -- what cannot be given to the engine


def refused(volume_node: object) -> str:
    with pytest.raises(NodeError) as error:
        exporting.check_volume(volume_node)
    return str(error.value)


def test_volumes_that_cannot_be_used_are_refused_with_a_sentence(phantom_case):
    case = phantom_case("RAS")
    assert "no volume is chosen" in refused(None)
    assert "has no voxels" in refused(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty"))
    colours = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6, 3), np.uint8), nodeClassName="vtkMRMLVectorVolumeNode")
    assert "3 values in each voxel" in refused(colours)
    assert "several slices" in refused(slicer.util.addVolumeFromArray(np.zeros((1, 5, 6)), name="Slice"))
    flat = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6)), ijkToRAS=np.diag([1.0, 1.0, 0.0, 1.0]), name="Flat")
    assert "“Flat” has no extent along an axis" in refused(flat)
    flat.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.diag([1.0, np.nan, 1.0, 1.0])))
    assert "“Flat” has no extent along an axis" in refused(flat)
    case.volume.SetAndObserveTransformNodeID(linear_node("Shear", shear=0.2).GetID())
    assert "sheared" in refused(case.volume)
    bend = nodes.import_results(*linear_free(case)).transform
    case.volume.SetAndObserveTransformNodeID(bend.GetID())
    assert "non-linear transform “Patient transform”" in refused(case.volume)


def linear_free(case: object) -> tuple:
    case.volume.SetAndObserveTransformNodeID(None)
    return case.output, case.volume, case.atlas


# -- initial transform from the scene


def test_initial_transform_is_written_from_patient_to_atlas(headless, tmp_path):
    turn = linear_node()
    exporting.export_initial_transform(turn, tmp_path / "initial.tfm")
    written = linear_transform_ras(sitk.ReadTransform(str(tmp_path / "initial.tfm")))
    onto_patient = slicer.util.arrayFromTransformMatrix(turn)
    assert np.allclose(written, np.linalg.inv(onto_patient), atol=1e-9)


def test_initial_transform_must_be_linear(phantom_case, tmp_path):
    case = phantom_case("RAS")
    bend = nodes.import_results(case.output, case.volume, case.atlas).transform
    with pytest.raises(NodeError, match="“Patient transform” is not linear"):
        exporting.export_initial_transform(bend, tmp_path / "initial.tfm")


# -- the results in the scene


def check_results(results: Results) -> None:
    """What a person finds after a run; the same after saving and loading."""
    segmentation = results.segmentation.GetSegmentation()
    segments = [segmentation.GetNthSegment(i) for i in range(segmentation.GetNumberOfSegments())]
    assert [s.GetName() for s in segments] == [s["name"] for s in phantom.STRUCTURES]
    assert [hex_color(s.GetColor()) for s in segments] == [s["color"] for s in phantom.STRUCTURES]
    entry = slicer.vtkSlicerTerminologyEntry()
    tag = vtk.reference("")
    segments[1].GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), tag)
    assert slicer.vtkSlicerTerminologiesModuleLogic.DeserializeTerminologyEntry(tag.get(), entry)
    assert entry.GetTypeObject().GetCodeMeaning() == "Hippocampus"
    assert entry.GetCategoryObject().GetCodeMeaning() == "Anatomical Structure"
    reference = results.segmentation.GetReferenceImageGeometryReferenceRole()
    assert results.segmentation.GetNodeReference(reference) is results.volume
    transform = results.transform
    assert transform.GetNodeReference(transform.GetFixedNodeReferenceRole()) is results.volume
    assert transform.GetNodeReference(transform.GetMovingNodeReferenceRole()) is results.atlas
    names = [results.table.GetCellText(row, 0) for row in range(results.table.GetNumberOfRows())]
    assert names[:3] == [s["name"] for s in phantom.STRUCTURES]
    assert names[3] == "local normalised cross-correlation after the affine"
    assert slicer.util.arrayFromTableColumn(results.table, "Value")[3:] == pytest.approx([0.41, 0.67, 0.0, 3.5, 1.5])
    expected = results.table.GetTable().GetColumnByName("Expected Dice")
    assert [expected.GetValue(row) for row in range(8)] == ["0.80"] * 3 + [""] * 4 + ["0.80"]
    assert results.table.GetTable().GetColumnByName("Uncertainty") is None  # the report has no figure of it
    doubts = slicer.util.arrayFromVolume(results.uncertainty)
    assert doubts.max() > 0 and results.uncertainty.GetDisplayNode().GetWindowLevelMax() == 1.0
    assert results.jacobian.GetDisplayNode().GetColorNode().GetColorName(0) == "fold"


def folder_of(results: Results) -> tuple[str, set[str]]:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(results.transform))
    children = vtk.vtkIdList()
    hierarchy.GetItemChildren(folder, children, False)
    items = [children.GetId(i) for i in range(children.GetNumberOfIds())]
    return hierarchy.GetItemName(folder), {hierarchy.GetItemDataNode(item).GetName() for item in items}


@pytest.mark.parametrize("kind", ["mrb", "mrml"])
def test_results_are_complete_and_survive_the_scene(phantom_case, headless, tmp_path, kind):
    case = phantom_case("LAS")
    results = nodes.import_results(case.output, case.volume, case.atlas)
    of_others = {"brain_mask", "left", "right", "landmarks"}  # heads, and registrations
    assert all(getattr(results, name) is not None for name in set(results.__dataclass_fields__) - of_others)
    check_results(results)
    folder = folder_of(results)
    assert folder[0] == "Patient CLMorph"
    assert len(folder[1]) == 10
    before = segment_points(results.segmentation, "Ventricle")
    headless.save_scene(tmp_path / f"scene.{kind}")
    headless.load_scene(tmp_path / f"scene.{kind}")
    transform = next(n for n in slicer.util.getNodesByClass("vtkMRMLTransformNode") if is_result(n))
    reloaded = results_of(transform)
    check_results(reloaded)
    assert folder_of(reloaded) == folder
    assert greatest_distance(before, segment_points(reloaded.segmentation, "Ventricle")) < TOLERANCE_MM


def test_warped_atlas_is_nearer_to_the_patient_than_the_affine_one(phantom_case):
    case = phantom_case("anisotropic")
    results = nodes.import_results(case.output, case.volume, case.atlas)
    patient, affine, warped = (
        slicer.util.arrayFromVolume(node).astype(float) for node in (case.volume, results.affine_warped, results.warped)
    )
    assert np.abs(warped - patient).max() <= 1.0
    assert np.abs(affine - patient).mean() > 2.0


def test_atlas_of_the_scene_is_referred_to_and_not_copied(phantom_case, headless):
    case = phantom_case("RAS")
    own = headless.load_volume(case.atlas)
    count = len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))
    results = nodes.import_results(case.output, case.volume, case.atlas, own)
    assert results.atlas is own
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == count + 4
    assert own.GetName() not in folder_of(results)[1]


def test_deleted_nodes_are_none(phantom_case):
    case = phantom_case("RAS")
    results = nodes.import_results(case.output, case.volume, case.atlas)
    slicer.mrmlScene.RemoveNode(results.jacobian)
    assert results_of(results.transform).jacobian is None
    assert results_of(results.transform).warped is results.warped


def spoiled(case: object, tmp_path: object) -> object:
    return shutil.copytree(case.output, tmp_path / "spoiled")


def no_labels(folder: object) -> None:
    labels = sitk.ReadImage(str(folder / "labels.nii.gz"))
    sitk.WriteImage(labels * 0, str(folder / "labels.nii.gz"))


def no_total_duration(folder: object) -> None:
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    del report["duration_s"]
    (folder / "report.json").write_text(json.dumps(report))


SPOILS = {
    "labels are missing": (lambda folder: (folder / "labels.nii.gz").unlink(), NodeError, "no labels.nii.gz"),
    "labels are empty": (no_labels, NodeError, "holds no structure"),
    "transform is damaged": (
        lambda folder: (folder / "transform.h5").write_bytes(b"no transform"),
        NodeError,
        "transform.h5 is damaged",
    ),
    "labels lie elsewhere": (
        lambda folder: sitk.WriteImage(phantom.grid("oblique"), str(folder / "labels.nii.gz")),
        NodeError,
        "lies on another grid",
    ),
    "report is of another kind": (no_total_duration, KeyError, "duration_s"),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_spoiled_results_leave_the_scene_as_it_was(phantom_case, tmp_path, spoil):
    case = phantom_case("RAS")
    folder = spoiled(case, tmp_path)
    spoiler, kind, message = SPOILS[spoil]
    spoiler(folder)
    before = everything_in_the_scene()
    with pytest.raises(kind, match=message):
        nodes.import_results(folder, case.volume, case.atlas)
    assert everything_in_the_scene() == before


def test_failure_at_the_last_step_leaves_no_folder(phantom_case, monkeypatch):
    case = phantom_case("RAS")
    into_folder = nodes._file_in_folder

    def breaks(*arguments: object) -> None:
        into_folder(*arguments)
        raise OSError("the disk is full")

    monkeypatch.setattr(nodes, "_file_in_folder", breaks)
    before = everything_in_the_scene()
    with pytest.raises(OSError, match="disk is full"):
        nodes.import_results(case.output, case.volume, case.atlas)
    assert everything_in_the_scene() == before


def test_a_run_without_uncertainty_and_score_is_complete(phantom_case, tmp_path):
    case = phantom_case("LAS")
    output = shutil.copytree(case.output, tmp_path / "out")
    (output / "uncertainty.nii.gz").unlink()
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    report["quality"] = {"expected_dice": None, "oddness": None, "note": "no quality score"}
    (output / "report.json").write_text(json.dumps(report), encoding="utf-8")
    results = nodes.import_results(output, case.volume, case.atlas)
    assert results.uncertainty is None and results_of(results.transform).uncertainty is None
    assert results.table.GetNumberOfRows() == 7
