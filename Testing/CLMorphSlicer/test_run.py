"""From nodes to nodes without the window: the logic's own door, what it refuses, and what it gives the engine."""

from itertools import pairwise

import phantom
import pytest
import SimpleITK as sitk
from qt_fixtures import add_atlases, fake_engine, get_started, leftovers, write_bundle

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
import vtk
from CLMorphSlicerLib import nodes, run


def test_logic_segments_from_python(patient, module):
    results = module.CLMorphSlicerLogic(fake_engine("works")).segment(patient, model="phantom")
    assert results.segmentation.GetSegmentation().GetNumberOfSegments() == 3
    assert leftovers() == []


def test_logic_raises_the_engines_sentence(patient, module):
    from CLMorphSlicerLib.job import EngineError

    with pytest.raises(EngineError, match="2 slices"):
        module.CLMorphSlicerLogic(fake_engine("refuses")).segment(patient)
    with pytest.raises(ValueError, match="no model 'brain'; there are phantom"):
        module.CLMorphSlicerLogic().segment(patient, "brain")


def test_logic_segments_lists_and_sequences(patient, module):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "heart")
    for value in ("0", "1"):
        sequence.SetDataNodeAtValue(patient, value)
    logic = module.CLMorphSlicerLogic(fake_engine("works"))
    assert [results.volume for results in logic.segment([patient])] == [patient]
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.AddSynchronizedSequenceNode(sequence)
    names = [results.volume.GetName() for results in logic.segment(sequence)]
    assert names == ["heart [0]", "heart [1]"]
    gathered = slicer.util.getFirstNodeByClassByName("vtkMRMLSequenceNode", "heart segmentation")
    assert gathered.GetNumberOfDataNodes() == 2 and gathered.GetNthIndexValue(1) == "1"
    assert gathered.GetNthDataNode(1).GetSegmentation().GetNumberOfSegments() == 3
    assert browser.IsSynchronizedSequenceNode(gathered)


def test_one_run_at_a_time(patient, window, module):
    get_started(window, "waits")
    with pytest.raises(RuntimeError, match="running already"):
        window.logic.start(patient, module.options_of(window._parameterNode))


def test_sample_data_is_registered_and_made_without_a_download(module):
    import SampleData

    slicer.app.emit("startupCompleted")
    source = SampleData.SampleDataLogic.sources["CLMorph"][0]
    volume = source.customDownloader(source)
    assert source.uris == "" and volume.GetName() == "Phantom sample"
    assert volume.GetImageData().GetDimensions() == phantom.atlas()[0].GetSize()


def test_results_in_loaded_scenes_move_points_as_the_engine_does(module):
    slicer.app.emit("startupCompleted")
    field = slicer.vtkOrientedGridTransform()
    field.SetInterpolationModeToCubic()  # what Slicer's reader sets
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    node.SetAndObserveTransformFromParent(field)
    node.SetAttribute(nodes.RESULT_ATTRIBUTE, "1")
    slicer.mrmlScene.InvokeEvent(slicer.vtkMRMLScene.EndImportEvent)
    assert node.GetTransformFromParent().GetInterpolationModeAsString() == "Linear"


# -- what is given to the engine


@pytest.fixture
def atlas_nodes(headless, tmp_path):
    for image, name in zip(phantom.atlas(), ("atlas", "labels"), strict=True):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    atlas, labels = tmp_path / "atlas.nii.gz", tmp_path / "labels.nii.gz"
    return headless.load_volume(atlas), headless.load_volume(labels, labels=True)


def write(volume, folder, **options) -> dict[str, str]:
    """The engine's arguments, by the option before each; the files are in `folder`."""
    inputs = run.write_inputs(volume, run.Options(model="phantom", **options), folder)
    words = [str(word) for word in inputs.arguments]
    return dict(pairwise(words))


def test_files_are_named_relative_to_the_folder_of_the_run(patient, module, atlas_nodes, tmp_path):
    folder = tmp_path / "Übung 1"
    folder.mkdir()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    atlas, labels = atlas_nodes
    told = write(patient, folder, atlas=atlas, atlas_labels=labels, affine=transform)
    for option in ("segment", "--atlas", "--atlas-labels", "--label-names", "--affine"):
        assert told[option].isascii() and (folder / told[option]).is_file(), option
    assert told["-o"] == "output" and told["--cancel-file"] == "cancel"


def test_options_become_arguments(patient, module, tmp_path):
    told = write(patient, tmp_path, affine="none", device="cuda:1", threads=3)
    assert (told["--affine"], told["--device"], told["--threads"]) == ("none", "cuda:1", "3")
    told = write(patient, tmp_path)
    assert "--affine" not in told and "--threads" not in told and told["--device"] == "auto"


def test_refinement_and_fusion_become_arguments_where_they_are_asked_for(patient, module, tmp_path):
    told = write(patient, tmp_path, refine=20, atlases=3, fusion="staple")
    assert (told["--refine"], told["--atlases"], told["--fusion"]) == ("20", "3", "staple")
    assert not {"--refine", "--atlases", "--fusion"} & set(write(patient, tmp_path))


def test_ways_to_fuse_are_the_engines(module):
    methods = pytest.importorskip("CLMorphCore.fusion", reason="the engine needs torch").METHODS
    from CLMorphSlicerLib.parameters import Fusion

    assert sorted(run.FUSIONS) == sorted(methods) == sorted(choice.value for choice in Fusion)
    assert run.Options().fusion == next(iter(Fusion)).value


def test_folder_of_a_model_is_as_good_as_a_name(module, tmp_path):
    folder = write_bundle(tmp_path / "mein Modell", title="Mine")
    assert run.model_card(folder).title == run.model_card(str(folder)).title == "Mine"
    assert run.model_card("phantom").folder.name == "phantom"


def test_reasons_against_a_run_are_sentences(patient, module, atlas_nodes):
    atlas, labels = atlas_nodes
    for options, words in (
        ({"model": ""}, "Choose a model"),
        ({"model": "nothing"}, "no model 'nothing'; there are phantom"),
        ({"model": "phantom", "atlas": atlas}, "Choose the labels"),
        ({"model": "phantom", "atlas_labels": labels}, "Choose the atlas image"),
        ({"model": "phantom", "atlas": patient, "atlas_labels": labels}, "same volume"),
        ({"model": "phantom", "refine": -1}, "-1 refinement steps given"),
        ({"model": "phantom", "atlases": 2}, "2 atlases given, there is 1"),
        ({"model": "phantom", "fusion": "average"}, "Unknown fusion 'average'; expected one of similarity"),
    ):
        assert words in run.why_not(patient, run.Options(**options))
    assert run.why_not(None, run.Options(model="phantom")) == "Choose the image to segment."
    assert run.why_not(patient, run.Options(model="phantom", atlas=atlas, atlas_labels=labels)) == ""


def test_no_more_atlases_are_used_than_there_are(patient, module, atlas_nodes):
    atlas, labels = atlas_nodes
    folder = run.model_card("phantom").folder
    add_atlases(folder, "second", "third")
    assert run.why_not(patient, run.Options(model="phantom", atlases=3)) == ""
    assert "4 atlases given, there are 3" in run.why_not(patient, run.Options(model="phantom", atlases=4))
    of_scene = run.Options(model="phantom", atlas=atlas, atlas_labels=labels, atlases=2)
    assert "2 atlases given, there is 1" in run.why_not(patient, of_scene)
    for image in folder.glob("atlases/*/image.nii.gz"):
        image.unlink()
    assert "Phantom has no atlas" in run.why_not(patient, run.Options(model="phantom"))


def test_folder_goes_when_the_inputs_cannot_be_written(patient, module):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    transform.SetAndObserveTransformFromParent(vtk.vtkThinPlateSplineTransform())
    with pytest.raises(ValueError, match="linear"):
        run.Run(patient, run.Options(model="phantom", affine=transform))
    assert leftovers() == []


def test_atlas_that_the_report_names_is_the_one_that_is_shown(module, tmp_path):
    card = run.model_card("phantom")
    (card.folder / "atlases" / "aaa").mkdir()
    (card.folder / "atlases" / "aaa" / "image.nii.gz").touch()
    inputs = run.Inputs(tmp_path, card)
    assert run.atlas_file(inputs, {"atlas": {"name": "phantom"}}).parent.name == "phantom"
    assert run.atlas_file(inputs, {}).parent.name == "aaa"
