"""What a person knows of images: nodes -> files of the engine, on their places, in its directions; and back from it."""

import numpy as np
import phantom
import pytest
import SimpleITK as sitk
from places import FLIP, TOLERANCE_MM, greatest_disagreement, linear_node, points_node, random_points

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
from CLMorphSlicerLib import exporting, guidance
from CLMorphSlicerLib.errors import NodeError
from CLMorphSlicerLib.geometry import grid_transform, ijk_to_ras, linear_transform_ras
from CLMorphSlicerLib.options import Options, RegisterOptions, why_not_register
from CLMorphSlicerLib.outputs import Undo
from CLMorphSlicerLib.tasks import Registration, Segmentation

CENTRE, RADIUS = np.array([14.0, -20.0, 22.0]), 14.0  # of a lesion, LPS, mm


def ball(grid: sitk.Image, centre: np.ndarray = CENTRE, radius: float = RADIUS) -> sitk.Image:
    """1 in a ball, 0 elsewhere, on a grid."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ijk_to_ras(grid)
    k, j, i = np.indices(grid.GetSize()[::-1])
    points = np.stack([i, j, k], axis=-1) @ lps[:3, :3].T + lps[:3, 3]
    return phantom._like((np.linalg.norm(points - centre, axis=-1) < radius).astype(np.uint8), grid)


def volume_node(image: sitk.Image, name: str = "Scan", kind: str = "vtkMRMLScalarVolumeNode"):
    node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
    slicer.util.updateVolumeFromArray(node, sitk.GetArrayFromImage(image))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(image)))
    return node


def labelmap(image: sitk.Image, name: str = "Lesion"):
    return volume_node(sitk.Cast(image, sitk.sitkInt16), name, "vtkMRMLLabelMapVolumeNode")


def painted(*images: sitk.Image, name: str = "Lesion"):
    """A segmentation with a segment for each image of 0 and 1."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    for image in images:
        labels = labelmap(image, "Part")
        slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, node)
        slicer.mrmlScene.RemoveNode(labels)
    for number in range(node.GetSegmentation().GetNumberOfSegments()):
        node.GetSegmentation().GetNthSegment(number).SetName(f"Part {number + 1}")
    return node


def counted(given_out, volume, folder) -> np.ndarray:
    guidance.export_counted(given_out, volume, folder / "mask.nii.gz")
    mask = sitk.ReadImage(str(folder / "mask.nii.gz"))
    own = exporting.image_of(volume)
    assert mask.GetSize() == own.GetSize() and np.allclose(ijk_to_ras(mask), ijk_to_ras(own), atol=1e-4)
    return sitk.GetArrayFromImage(mask)


# -- what is left out


@pytest.mark.parametrize("kind", [painted, labelmap])
@pytest.mark.parametrize("grid", ["LAS", "oblique"])
def test_mask_counts_where_nothing_is_painted_whatever_the_grids_and_transforms(headless, tmp_path, kind, grid):
    volume, above = volume_node(phantom.grid(grid)), linear_node()
    turn = sitk.AffineTransform(3)
    matrix = np.diag([*FLIP, 1]) @ slicer.util.arrayFromTransformMatrix(above) @ np.diag([*FLIP, 1])
    turn.SetMatrix(matrix[:3, :3].ravel().tolist())
    turn.SetTranslation(matrix[:3, 3].tolist())
    drawn = kind(ball(phantom.grid("anisotropic")))  # on another grid, and in its place under the transform alone
    drawn.SetAndObserveTransformNodeID(above.GetID())
    mask = counted(drawn, volume, tmp_path)
    truth = sitk.GetArrayFromImage(ball(phantom.grid(grid), np.array(turn.TransformPoint(CENTRE.tolist())))) == 0
    assert set(np.unique(mask)) == {0, 1}
    out, true_out = mask == 0, ~truth
    assert 2 * np.sum(out & true_out) / (out.sum() + true_out.sum()) > 0.9  # slices of 5 mm were painted
    volume.SetAndObserveTransformNodeID(above.GetID())  # both under it: the same as none above both
    together = counted(drawn, volume, tmp_path) == 0
    true_out = sitk.GetArrayFromImage(ball(phantom.grid(grid))) == 1
    assert 2 * np.sum(together & true_out) / (together.sum() + true_out.sum()) > 0.9


def test_what_is_painted_follows_a_transform_that_bends_where_it_can(headless, tmp_path):
    grid = phantom.grid("oblique")
    volume, drawn, bend = volume_node(grid), painted(ball(phantom.grid("RAS"))), phantom.deformation(12.0)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Bend")
    node.SetAndObserveTransformFromParent(grid_transform(bend.GetDisplacementField()))
    drawn.SetAndObserveTransformNodeID(node.GetID())
    out = counted(drawn, volume, tmp_path) == 0
    truth = sitk.GetArrayFromImage(sitk.Resample(ball(phantom.grid("RAS")), grid, bend, sitk.sitkNearestNeighbor)) == 1
    assert 2 * np.sum(out & truth) / (out.sum() + truth.sum()) > 0.9
    labels = labelmap(ball(grid))
    labels.SetAndObserveTransformNodeID(node.GetID())
    with pytest.raises(NodeError, match="under the non-linear transform “Bend”"):
        counted(labels, volume, tmp_path)


def test_one_segment_of_several_is_left_out_by_its_name_or_id(headless, tmp_path):
    grid = phantom.grid("coarse")
    volume, first, second = volume_node(grid), ball(grid), ball(grid, CENTRE - 30.0)
    node = painted(first, second)
    parts = [sitk.GetArrayFromImage(part) == 0 for part in (first, second)]
    ids = node.GetSegmentation().GetSegmentIDs()
    for segment in ("Part 2", ids[1]):
        assert np.array_equal(counted((node, segment), volume, tmp_path) == 1, parts[1])
    assert np.array_equal(counted(node, volume, tmp_path) == 1, parts[0] & parts[1])
    node.GetSegmentation().GetNthSegment(0).SetName("Part 2")
    with pytest.raises(NodeError, match="“Lesion” has 2 segments “Part 2”: choose one"):
        guidance.check_left_out((node, "Part 2"))
    with pytest.raises(NodeError, match="has 0 segments “Part 3”"):
        guidance.check_left_out((node, "Part 3"))


def test_what_cannot_be_left_out_is_told(headless, tmp_path):
    grid = phantom.grid("coarse")
    volume, lesion = volume_node(grid), labelmap(ball(grid))
    far = painted(ball(phantom.grid("RAS"), np.array([60.0, 0.0, 0.0])), name="Far")
    far.SetAndObserveTransformNodeID(linear_node().GetID())
    shift = linear_node("Shift")
    shift.GetTransformToParent().Translate(500.0, 0.0, 0.0)
    far.SetAndObserveTransformNodeID(shift.GetID())
    guidance.check_left_out(far)
    with pytest.raises(NodeError, match="“Far” has nothing inside “Scan”"):
        counted(far, volume, tmp_path)
    inside_out = painted(sitk.Cast(sitk.Equal(ball(grid), 0), sitk.sitkUInt8), name="Brain")
    with pytest.raises(NodeError, match=r"“Brain” leaves 17\d voxels of “Scan”: paint what is to be left out"):
        counted(inside_out, volume, tmp_path)
    for wrong, told in (
        (slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "Skin"), "“Skin” holds no labels"),
        (slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "New"), "“New” has no segments"),
        ((lesion, "Part 1"), "is a labelmap, and has no segment “Part 1”"),
        ((lesion,), "1 parts given"),
        ("Lesion", "'Lesion' holds no labels"),
    ):
        with pytest.raises(NodeError, match=told):
            guidance.check_left_out(wrong)
    slicer.mrmlScene.RemoveNode(lesion)
    with pytest.raises(NodeError, match="“Lesion” is no longer in the scene"):
        guidance.check_left_out(lesion)


def test_least_of_a_mask_is_the_engines():
    engine = pytest.importorskip("CLMorphCore.guidance.masks", reason="the engine needs torch")
    assert guidance.MIN_COUNTED == engine.MIN_COUNTED


# -- a transform to begin with


@pytest.fixture
def few_points(monkeypatch):
    """A transform that bends is told at fewer points than for a person: 3 mm apart, which these fields allow."""
    monkeypatch.setattr(exporting, "MAX_START_POINTS", 200_000)


def file_of(node, volume, folder) -> sitk.Transform:
    """What the engine reads of a transform that was written for a volume."""
    fields = pytest.importorskip("CLMorphCore.io.displacement_fields", reason="the engine needs torch")
    return fields.read_any(folder / exporting.export_start(node, volume, folder, "start"))


def test_linear_transform_is_given_from_fixed_to_moving(headless, tmp_path):
    volume = volume_node(phantom.grid("oblique"))
    truth = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.3, -0.2, 0.7, (20.0, -11.0, 6.0))  # moving -> fixed, LPS
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Turn")
    shift = sitk.TranslationTransform(3, (3.0, -4.0, 5.0))
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(linear_transform_ras(truth)))
    above = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Above")
    above.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(linear_transform_ras(shift)))
    node.SetAndObserveTransformNodeID(above.GetID())
    read = file_of(node, volume, tmp_path)
    assert read.IsLinear()
    for point in random_points(volume, 20):
        moved = shift.TransformPoint(truth.TransformPoint(point.tolist()))
        assert read.TransformPoint(moved) == pytest.approx(point.tolist(), abs=1e-6)


def bent_nodes(headless, folder) -> dict[str, object]:
    """Nodes that all move the atlas onto the patient as phantom.transform() does the other way round."""
    sitk.WriteTransform(phantom.transform(), str(folder / "truth.h5"))
    read = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Read")
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(folder / "truth.h5"))
    assert storage.ReadData(read)
    inverse = sitk.CompositeTransform([phantom.affine().GetInverse(), phantom._inverse(phantom.deformation())])
    size, spacing, origin = (80, 84, 76), (2.5,) * 3, (-98.0, -103.0, -94.0)
    field = sitk.TransformToDisplacementField(inverse, sitk.sitkVectorFloat64, size, origin, spacing, np.eye(3).ravel())
    to_parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Other way")
    to_parent.SetAndObserveTransformToParent(grid_transform(field))
    return {"composite, from parent": read, "grid, to parent": to_parent}


@pytest.mark.parametrize("kind", ["composite, from parent", "grid, to parent"])
def test_transform_that_bends_is_given_from_fixed_to_moving_whichever_way_it_is_kept(
    headless, few_points, tmp_path, kind
):
    node = bent_nodes(headless, tmp_path)[kind]
    volume, above = volume_node(phantom.grid("oblique")), linear_node()
    volume.SetAndObserveTransformNodeID(above.GetID())
    node.SetAndObserveTransformNodeID(above.GetID())  # the patient is seen turned: so is where the atlas comes to
    read, truth = file_of(node, volume, tmp_path), phantom.transform()
    own = sitk.AffineTransform(3)
    matrix = np.diag([*FLIP, 1]) @ slicer.util.arrayFromTransformMatrix(above) @ np.diag([*FLIP, 1])
    own.SetMatrix(matrix[:3, :3].ravel().tolist())
    own.SetTranslation(matrix[:3, 3].tolist())
    lps = np.diag([*FLIP, 1]) @ ijk_to_ras(phantom.grid("oblique"))
    size, off = np.array(phantom.grid("oblique").GetSize()), []
    for index in np.random.default_rng(5).uniform(-0.1, 1.1, (300, 3)) * size:  # a tenth beyond it too
        place = (lps @ [*index, 1.0])[:3]
        seen = np.array(read.TransformPoint(own.TransformPoint(place.tolist())))
        known = truth.TransformPoint(place.tolist())
        if np.abs(known).max() < 80.0:  # in the field of the second kind
            off.append(np.linalg.norm(seen - known))
    assert len(off) > 200 and np.median(off) < 0.02
    assert max(off) < 0.25  # cubic in Slicer, linear in ITK, and the inverse is an approximation


def test_bspline_of_slicer_is_given_as_it_moves_points_there(headless, few_points, tmp_path):
    volume = volume_node(phantom.grid("oblique"))
    spline = sitk.BSplineTransformInitializer(phantom.grid("RAS"), [5, 5, 5])
    spline.SetParameters(np.random.default_rng(2).normal(0.0, 4.0, len(spline.GetParameters())).tolist())
    sitk.WriteTransform(spline, str(tmp_path / "spline.h5"))
    node, storage = (
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode"),
        slicer.vtkMRMLTransformStorageNode(),
    )
    storage.SetFileName(str(tmp_path / "spline.h5"))
    assert storage.ReadData(node)
    read = file_of(node, volume, tmp_path)
    points = np.random.default_rng(3).uniform(-30.0, 30.0, (100, 3)) + np.array([5.0, -8.0, 12.0])
    off = [np.subtract(read.TransformPoint(p), spline.TransformPoint(p)) for p in points.tolist()]
    assert np.linalg.norm(off, axis=1).max() < 0.05
    with pytest.raises(NodeError, match="is not linear"):
        exporting.check_start(node, None, linear=True)


def test_transform_that_folds_is_taken_in_the_direction_in_which_it_is_known_alone(headless, few_points, tmp_path):
    volume = volume_node(phantom.grid("coarse"))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Crumpled")
    folding = phantom.deformation(40.0)
    node.SetAndObserveTransformFromParent(grid_transform(folding.GetDisplacementField()))
    node.SetAndObserveTransformNodeID(linear_node().GetID())
    exporting.export_start(node, volume, tmp_path, "start")
    node.SetAndObserveTransformToParent(grid_transform(folding.GetDisplacementField()))
    with pytest.raises(NodeError, match="“Crumpled” folds, and has no inverse"):
        exporting.export_start(node, volume, tmp_path, "start")


def test_volume_is_not_moved_twice_by_the_transform_above_it(headless):
    fixed, moving, turn = volume_node(phantom.grid("RAS"), "F"), volume_node(phantom.grid("LAS"), "M"), linear_node()
    between = linear_node("Between")
    between.SetAndObserveTransformNodeID(turn.GetID())
    for options in (RegisterOptions(initial=turn), RegisterOptions(affine=turn)):
        assert why_not_register(fixed, moving, options) == ""
        moving.SetAndObserveTransformNodeID(between.GetID())
        assert "“Turn” moves “M” already, and would twice" in why_not_register(fixed, moving, options)
        moving.SetAndObserveTransformNodeID(None)
    both = RegisterOptions(initial=turn, affine=turn)
    assert "give one of them" in why_not_register(fixed, moving, both)
    assert "is no transform" in why_not_register(fixed, moving, RegisterOptions(initial=fixed))
    slicer.mrmlScene.RemoveNode(turn)
    assert "no longer in the scene" in why_not_register(fixed, moving, RegisterOptions(initial=turn))


# -- with the real engine, in this process


def corners() -> list[list[float]]:
    """Points of the atlas, LPS, mm: a box within its body."""
    return [[22.0 * x, 26.0 * y, 20.0 * z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]


def by_engine(task, folder, monkeypatch):
    """The results of a task: written, computed, and put into the scene."""
    cli = pytest.importorskip("CLMorphCore.cli", reason="the engine needs torch")
    assert task.why_not() == ""
    monkeypatch.chdir(folder)
    arguments = task.write(folder)
    assert cli.main([*arguments, "--device", "cpu"]) == 0
    return task.load(folder, Undo())


def test_registration_goes_on_from_where_it_is_told(headless, tmp_path, monkeypatch):
    """An image that lies turned and far off: known exactly, it is found by the transform to begin with."""
    truth = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.3, -0.4, 1.1, (70.0, -60.0, 30.0))  # fixed -> moving, LPS
    grid = phantom.grid("oblique")
    lps = np.diag([*FLIP, 1]) @ ijk_to_ras(grid)
    middle = (lps @ [*(np.array(grid.GetSize()) / 2), 1.0])[:3]
    grid.SetOrigin((np.array(grid.GetOrigin()) + truth.GetInverse().TransformPoint((0, 0, 0)) - middle).tolist())
    coarse = sitk.Shrink(grid, (2, 2, 2))
    fixed = volume_node(sitk.Resample(phantom.atlas()[0], coarse, truth, sitk.sitkLinear, 0.0), "Fixed")
    moving = volume_node(sitk.BinShrink(phantom.atlas()[0], (2, 2, 2)), "Moving")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "About")
    about = sitk.CompositeTransform([sitk.TranslationTransform(3, (6.0, -5.0, 4.0)), truth])
    onto = np.linalg.inv(linear_transform_ras(about))
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(onto))
    places = np.array(corners())
    moving_points = points_node(places, name="M")
    fixed_points = points_node([truth.GetInverse().TransformPoint(p) for p in places.tolist()], name="F")
    options = RegisterOptions(initial=node, landmarks=(fixed_points, moving_points), refine=3, threads=1)
    results = by_engine(Registration(fixed, moving, options), tmp_path, monkeypatch)
    file = sitk.ReadTransform(str(tmp_path / "output" / "transform.h5"))
    assert greatest_disagreement(results.transform, file, random_points(fixed)) < TOLERANCE_MM
    table = results.landmarks.GetTable()
    told = [[table.GetValue(row, column).ToDouble() for column in (1, 2, 3)] for row in range(len(places))]
    apart = [np.linalg.norm(f - m) for f, m in zip(guidance.placed_points(fixed_points)[1], places, strict=True)]
    assert np.allclose(np.array(told)[:, 0], apart, atol=1e-3) and min(apart) > 50.0
    assert np.mean(told, axis=0)[2] < 2.0 and results.landmarks.GetColumnName(0) == "Landmark"


def test_transform_that_bends_is_in_the_result_once(headless, few_points, tmp_path, monkeypatch):
    fixed = volume_node(phantom.patient("coarse"), "Fixed")
    moving = volume_node(sitk.BinShrink(phantom.atlas()[0], (2, 2, 2)), "Moving")
    node = bent_nodes(headless, tmp_path)["composite, from parent"]
    options = RegisterOptions(initial=node, refine=1, threads=1, moving_leave_out=painted(ball(phantom.atlas()[1])))
    results = by_engine(Registration(fixed, moving, options), tmp_path, monkeypatch)
    file = sitk.ReadTransform(str(tmp_path / "output" / "transform.h5"))
    assert greatest_disagreement(results.transform, file, random_points(fixed)) < TOLERANCE_MM
    inside = [phantom.affine().GetInverse().TransformPoint(p) for p in corners()]
    off = [np.subtract(file.TransformPoint(p), phantom.transform().TransformPoint(p)) for p in inside]
    assert np.linalg.norm(off, axis=1).mean() < 1.0


def test_what_is_left_out_has_no_say(headless, tmp_path, monkeypatch, real_model):
    """Two scans that differ in the lesion alone are aligned alike, to the last bit."""
    image = phantom.patient("coarse")
    lesion, found = painted(ball(phantom.grid("RAS"))), []
    array, hole = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(ball(image, radius=RADIUS - 3.0)) == 1
    for value in (-500, 3000):
        spoilt, folder = array.copy(), tmp_path / f"{value}"
        spoilt[hole] = value
        folder.mkdir()
        options = Options(model="phantom", threads=1, leave_out=lesion)
        results = by_engine(Segmentation(volume_node(phantom._like(spoilt, image)), options), folder, monkeypatch)
        found.append(slicer.util.arrayFromTransformMatrix(results.affine))
    assert np.array_equal(*found)
