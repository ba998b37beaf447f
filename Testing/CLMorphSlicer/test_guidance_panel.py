"""What a person knows of images, in the window: chosen, told to the engine, refused where it cannot be, and kept."""

import json

import numpy as np
import phantom
import pytest
import SimpleITK as sitk
from places import labelmap_node
from qt_fixtures import begin, fake_engine, finish, leftovers, node_ids

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
import vtk

TITLE = "What you know"


@pytest.fixture
def lesions(headless):
    """A segmentation of two segments within the phantom's body."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lesions")
    node.CreateDefaultDisplayNodes()
    labels = sitk.ChangeLabel(phantom.atlas()[1], {1: 0})
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labelmap_node(labels), node)
    for number, name in enumerate(("Scar", "Cyst")):
        node.GetSegmentation().GetNthSegment(number).SetName(name)
    return node


@pytest.fixture
def template(headless, module, tmp_path):
    sitk.WriteImage(phantom.atlas()[0], str(tmp_path / "Template.nii.gz"))
    return headless.load_volume(tmp_path / "Template.nii.gz")


@pytest.fixture
def pair(patient, template, window):
    """The window's second tab with both volumes chosen."""
    window.ui.taskTabs.currentIndex = 1
    window.ui.fixedVolumeSelector.setCurrentNode(patient)
    window.ui.movingVolumeSelector.setCurrentNode(template)
    return patient, template


def points(name: str, *labels: str):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for number, label in enumerate(labels):
        node.AddControlPoint(vtk.vtkVector3d(3.0 * number, 1.0, 2.0), label)
    return node


def words_after(run, option: str, count: int = 1) -> list[str]:
    at = run.arguments.index(option)
    return run.arguments[at + 1 : at + 1 + count]


def choose_segment(window, name: str, row: str = "leftOut") -> None:
    box = getattr(window.ui, f"{row}SegmentSelector")
    box.currentIndex = [box.itemText(index) for index in range(box.count)].index(name)


def left_out(window):
    from CLMorphSlicerLib.parameters import options_of

    return options_of(window._parameterNode).leave_out


# -- the section


def test_each_tab_shows_what_can_be_known_there(patient, window):
    ui = window.ui
    assert ui.knownSection.collapsed and ui.knownSection.text == TITLE
    own = {0: ("leftOutSelector",), 1: ("fixedLeftOutSelector", "movingLeftOutSelector", "fixedLandmarksSelector",
                                        "movingLandmarksSelector")}  # fmt: skip
    for tab in (1, 0, 1):
        ui.taskTabs.currentIndex = tab
        for of, names in own.items():
            for name in names:
                assert getattr(ui, name).isVisibleTo(ui.knownSection) is (of == tab), (tab, name)
                assert getattr(ui, name.replace("Selector", "Label")).isVisibleTo(ui.knownSection) is (of == tab)
    assert ui.knownSection.text == TITLE


def test_title_of_the_folded_section_tells_what_has_a_say(pair, lesions, window):
    window.ui.movingLeftOutSelector.setCurrentNode(lesions)
    window.ui.fixedLandmarksSelector.setCurrentNode(points("Fissures", "a"))
    window.ui.movingLandmarksSelector.setCurrentNode(points("Same", "a"))
    assert window.ui.knownSection.text == f"{TITLE}: without Lesions, landmarks"
    lesions.SetName("Lesions that were found by the second of two readers")
    window._refresh()
    shown = window.ui.knownSection.text  # which says how narrow the panel can be
    assert shown.startswith(f"{TITLE}: without Lesions that") and shown.endswith("…") and len(shown) == 48
    window.ui.taskTabs.currentIndex = 0
    assert window.ui.knownSection.text == TITLE
    window.ui.leftOutSelector.setCurrentNode(lesions)
    choose_segment(window, "Cyst")
    assert window.ui.knownSection.text == f"{TITLE}: without Cyst"


def test_segments_are_offered_where_there_are_several_and_belong_to_their_node(patient, lesions, window):
    ui = window.ui
    ui.leftOutSelector.setCurrentNode(labelmap_node(phantom.atlas()[1]))
    assert not ui.leftOutSegmentSelector.isVisibleTo(ui.knownSection)
    ui.leftOutSelector.setCurrentNode(lesions)
    assert ui.leftOutSegmentSelector.isVisibleTo(ui.knownSection)
    choose_segment(window, "Cyst")
    assert left_out(window) == (lesions, lesions.GetSegmentation().GetNthSegmentID(1))
    copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Others")  # with segments of the same IDs
    copy.GetSegmentation().DeepCopy(lesions.GetSegmentation())
    ui.leftOutSelector.setCurrentNode(copy)
    assert left_out(window) is copy and ui.leftOutSegmentSelector.currentIndex == 0


# -- what the engine is told


def test_segment_leaves_out_what_was_painted(patient, lesions, window):
    window.ui.keepFilesCheckBox.checked = True
    window.ui.leftOutSelector.setCurrentNode(lesions)
    choose_segment(window, "Scar")
    run = begin(window, "refuses")
    assert words_after(run, "--mask") == ["mask.nii.gz"] and lesions in run.task.used
    mask = sitk.ReadImage(str(run.folder / "mask.nii.gz"))
    truth = sitk.Resample(phantom.atlas()[1], mask, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    out, true_out = (sitk.GetArrayFromImage(image == value) == 1 for image, value in ((mask, 0), (truth, 2)))
    assert 2 * np.sum(out & true_out) / (out.sum() + true_out.sum()) > 0.95
    finish(window)


def test_register_tells_all_that_is_known(pair, lesions, window):
    cli = pytest.importorskip("CLMorphCore.cli", reason="the engine needs torch")
    from CLMorphSlicerLib.parameters import Alignment

    ui = window.ui
    ui.keepFilesCheckBox.checked = True
    ui.fixedLeftOutSelector.setCurrentNode(labelmap_node(phantom.atlas()[1]))
    ui.movingLeftOutSelector.setCurrentNode(lesions)
    ui.fixedLandmarksSelector.setCurrentNode(points("F", "a", "b"))
    ui.movingLandmarksSelector.setCurrentNode(points("M", "b", "a"))
    start = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Start")
    window._parameterNode.alignment = Alignment.START
    assert ui.initialTransformSelector.isVisibleTo(ui.advancedSection)
    assert ui.statusLabel.text == "Choose the transform of the initial alignment, under Advanced."
    ui.initialTransformSelector.setCurrentNode(start)
    run = begin(window, "refuses")
    given = cli.build_parser().parse_args(run.arguments)
    files = [given.mask, given.moving_mask, given.initial, *given.landmarks]
    names = ["mask.nii.gz", "moving_mask.nii.gz", "start.tfm", "fixed.mrk.json", "moving.mrk.json"]
    assert [path.name for path in files] == names and given.affine is None
    assert all((run.folder / path).is_file() for path in files)
    moving = json.loads((run.folder / "moving.mrk.json").read_text("utf-8"))["markups"][0]["controlPoints"]
    assert [point["label"] for point in moving] == ["b", "a"]
    finish(window)


def test_nothing_known_is_nothing_told(pair, window):
    run = begin(window, "works")
    assert not {"--mask", "--moving-mask", "--initial", "--landmarks"} & set(run.arguments)
    finish(window)
    assert run.results.landmarks is None and window.ui.statusLabel.text == "Done: Template lies on Ärztin Größe 1."


def test_distances_of_landmarks_are_told_in_the_line_and_in_tables(pair, window):
    window.ui.fixedLandmarksSelector.setCurrentNode(points("F", "a", "b", "c"))
    window.ui.movingLandmarksSelector.setCurrentNode(points("M", "a", "b"))
    run = begin(window, "measures_landmarks")
    finish(window)
    assert window.ui.statusLabel.text == (
        "Done: Template lies on Ärztin Größe 1. 2 landmarks by label: 13.0 mm apart before, 3.0 mm aligned, "
        "0.8 mm warped. Without a partner, and not used: c."
    )
    node = run.results.landmarks
    table = node.GetTable()
    assert node.GetName() == "Template to Ärztin Größe 1 landmarks"
    rows = [[table.GetValue(row, column).ToString() for column in range(4)] for row in range(2)]
    assert rows == [["a", "12", "4", "1"], ["b", "14", "2", "0.5"]]
    figures = run.results.table.GetTable()
    told = {
        figures.GetValue(row, 0).ToString(): figures.GetValue(row, 1).ToDouble()
        for row in range(figures.GetNumberOfRows())
    }
    assert (told["landmarks apart before"], told["landmarks apart after the deformation"]) == (13.0, 0.75)
    window.ui.undoButton.click()
    assert node.GetScene() is None


def test_landmarks_placed_beside_the_window_are_seen(pair, window):
    """The toolbar's place button needs no other module, and so no second visit to this one."""
    fixed, moving, other = points("F"), points("M", "M-1"), points("Other")
    window.ui.fixedLandmarksSelector.setCurrentNode(fixed)
    window.ui.movingLandmarksSelector.setCurrentNode(moving)
    assert "“F” has no points" in window.ui.statusLabel.text and not window.ui.runButton.enabled
    fixed.AddControlPoint(vtk.vtkVector3d(1.0, 2.0, 3.0), "F-1")
    assert window.ui.statusLabel.text == "Ready." and window.ui.runButton.enabled
    for take_away in (fixed.SetNthControlPointPositionMissing, fixed.UnsetNthControlPointPosition,
                      fixed.RemoveNthControlPoint):  # fmt: skip
        fixed.SetNthControlPointPosition(0, 1.0, 2.0, 3.0)
        assert window.ui.runButton.enabled
        take_away(0)
        assert not window.ui.runButton.enabled, take_away
    window.ui.fixedLandmarksSelector.setCurrentNode(other)
    assert not fixed.HasObserver(fixed.PointPositionDefinedEvent) and moving.HasObserver(moving.PointRemovedEvent)
    window.exit()
    assert not moving.HasObserver(moving.PointRemovedEvent)


# -- refused, in the line below the button


def test_landmarks_in_one_image_alone_are_refused(pair, window):
    window.ui.fixedLandmarksSelector.setCurrentNode(points("F", "a", "b"))
    assert (
        window.ui.statusLabel.text.startswith("Landmarks are chosen in one image") and not window.ui.runButton.enabled
    )
    window.ui.movingLandmarksSelector.setCurrentNode(points("M", "c"))
    assert "“F” has 2 points and “M” 1, without labels in common" in window.ui.statusLabel.text
    window.ui.taskTabs.currentIndex = 0
    window.ui.inputVolumeSelector.setCurrentNode(pair[0])
    assert window.ui.runButton.enabled  # of no matter there


def test_segment_that_was_deleted_is_refused_and_not_passed_over(patient, lesions, window):
    window.ui.leftOutSelector.setCurrentNode(lesions)
    choose_segment(window, "Cyst")
    gone = lesions.GetSegmentation().GetNthSegmentID(1)
    lesions.GetSegmentation().RemoveSegment(gone)
    before = node_ids()
    window.ui.runButton.click()
    assert f"“Lesions” has 0 segments “{gone}”" in window.ui.statusLabel.text
    assert window.ui.leftOutSegmentSelector.isVisibleTo(window.ui.knownSection)
    assert node_ids() == before and leftovers() == []
    choose_segment(window, "All segments")
    assert window.ui.runButton.enabled


def test_node_that_is_deleted_is_no_longer_chosen_and_ends_a_run(patient, lesions, window):
    window.ui.leftOutSelector.setCurrentNode(lesions)
    slicer.mrmlScene.RemoveNode(lesions)
    assert window.ui.knownSection.text == TITLE and window._parameterNode.leftOut is None
    other = labelmap_node(phantom.atlas()[1])
    window.ui.leftOutSelector.setCurrentNode(other)
    run = begin(window, "waits")
    slicer.mrmlScene.RemoveNode(other)
    finish(window)
    assert "Labelmap was deleted" in str(run.error) and leftovers() == []


def test_what_is_left_out_cannot_be_written_into(patient, lesions, window):
    window.ui.leftOutSelector.setCurrentNode(lesions)
    window.ui.outputSegmentationSelector.setCurrentNode(lesions)
    assert "is an input of this run" in window.ui.statusLabel.text


def test_lesion_elsewhere_is_refused_when_the_run_is_started(patient, lesions, window):
    shift = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Far")
    shift.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.eye(4) + 400 * np.eye(4, k=3)))
    lesions.SetAndObserveTransformNodeID(shift.GetID())
    window.ui.leftOutSelector.setCurrentNode(lesions)
    window.ui.runButton.click()
    assert "“Lesions” has nothing inside" in window.ui.statusLabel.text and leftovers() == []


def test_several_images_and_frames_refuse_what_belongs_to_one(beating, patient, lesions, window, module):
    from CLMorphSlicerLib.parameters import set_several_volumes

    sequence = beating[0]
    window.ui.leftOutSelector.setCurrentNode(lesions)
    for scope in (1, 2):
        window.ui.scopeSelector.currentIndex = scope
        set_several_volumes(window._parameterNode, [patient, beating[2]])
        assert window.ui.statusLabel.text.startswith("What is left out was painted on one image"), scope
    logic = module.CLMorphSlicerLogic(fake_engine("works"))
    for frames in ("each", "follow"):
        with pytest.raises(ValueError, match="painted on one image"):
            logic.segment(sequence, "phantom", frames=frames, leave_out=lesions)
    with pytest.raises(ValueError, match="painted on one image"):
        logic.segment([patient, beating[2]], "phantom", leave_out=lesions)
    with pytest.raises(ValueError, match="Choose the images"):
        logic.segment([], "phantom", leave_out=lesions)
    turn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Turn")
    with pytest.raises(ValueError, match="begins the alignment of one image"):
        logic.segment(sequence, "phantom", frames="each", initial=turn)


@pytest.mark.parametrize("scale", [0.0, float("nan")])
@pytest.mark.parametrize("alignment", ["TRANSFORM", "START"])
def test_transform_without_an_inverse_is_refused_and_not_passed_over(pair, window, scale, alignment):
    """VTK gives the identity for its inverse, and the alignment would begin there without a word."""
    from CLMorphSlicerLib.parameters import Alignment

    flat = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Flat")
    flat.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([scale, 1.0, 1.0, 1.0])))
    window._parameterNode.alignment = Alignment[alignment]
    window.ui.initialTransformSelector.setCurrentNode(flat)
    assert "“Flat” makes space flat" in window.ui.statusLabel.text and not window.ui.runButton.enabled
    bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "Bent")
    bent.SetAndObserveTransformNodeID(flat.GetID())
    if alignment == "START":  # one that bends, under one that is flat
        window.ui.initialTransformSelector.setCurrentNode(bent)
        assert "“Flat” makes space flat" in window.ui.statusLabel.text and not window.ui.runButton.enabled
        window.ui.initialTransformSelector.setCurrentNode(flat)
    flat.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([-1e-3, 1.0, 1.0, 1.0])))
    window._refresh()
    assert window.ui.runButton.enabled  # it mirrors, and comes back


# -- from Python, and with the scene


def test_logic_takes_what_is_known(patient, template, lesions, module):
    logic = module.CLMorphSlicerLogic(fake_engine("works"))
    turn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Turn")
    assert logic.segment(patient, "phantom", leave_out=(lesions, "Cyst"), initial=turn).segmentation is not None
    pair = (points("F", "a"), points("M", "a"))
    results = logic.register(patient, template, landmarks=pair, initial=turn, moving_leave_out=lesions)
    assert results.warped is not None
    with pytest.raises(ValueError, match="“Lesions” has 0 segments “Tumour”"):
        logic.segment(patient, "phantom", leave_out=(lesions, "Tumour"))
    with pytest.raises(ValueError, match="no list of points"):
        logic.register(patient, template, landmarks=(pair[0], patient))


def test_what_is_known_is_kept_with_the_scene_and_not_between_sessions(
    pair, lesions, window, headless, module, tmp_path
):
    from CLMorphSlicerLib import settings

    window.ui.movingLeftOutSelector.setCurrentNode(lesions)
    choose_segment(window, "Cyst", "movingLeftOut")
    window.ui.fixedLandmarksSelector.setCurrentNode(points("F", "a"))
    window.ui.movingLandmarksSelector.setCurrentNode(points("M", "a"))
    headless.save_scene(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    assert window.ui.knownSection.text == TITLE
    assert window._parameterNode.movingLeftOut is None and window._parameterNode.fixedLandmarks is None
    headless.load_scene(tmp_path / "scene.mrb")
    parameters = window._parameterNode
    assert window.ui.knownSection.text == f"{TITLE}: without Cyst, landmarks"
    node = parameters.movingLeftOut
    assert node.GetSegmentation().GetSegment(parameters.movingLeftOutSegment).GetName() == "Cyst"
    assert (parameters.fixedLandmarks.GetName(), parameters.movingLandmarks.GetName()) == ("F", "M")
    assert not [name for name in settings.CHOICES if "eftOut" in name or "andmarks" in name]


def test_nodes_that_are_no_longer_there_are_refused(patient, template, lesions, module):
    logic = module.CLMorphSlicerLogic(fake_engine("works"))
    with pytest.raises(ValueError, match="nothing is given that the segment “Cyst” is one of"):
        logic.segment(patient, "phantom", leave_out=(None, "Cyst"))
    slicer.mrmlScene.RemoveNode(lesions)
    with pytest.raises(ValueError, match="“Lesions” is no longer in the scene"):
        logic.register(patient, template, labels=lesions)
    slicer.mrmlScene.RemoveNode(template)
    for call in (lambda: logic.register(patient, template), lambda: logic.register(template, patient),
                 lambda: logic.segment(template, "phantom"), lambda: logic.segment([patient, template], "phantom"),
                 lambda: logic.segment(patient, "phantom", atlas=template, atlas_labels=template)):  # fmt: skip
        with pytest.raises(ValueError, match="“Template” is no longer in the scene"):
            call()
