"""From nodes to nodes without the window: the logic's own door, what it refuses, and what it gives the engine."""

import types
from itertools import pairwise

import phantom
import pytest
import SimpleITK as sitk
from qt_fixtures import add_atlases, fake_engine, get_started, leftovers, write_bundle

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
import vtk
from CLMorphSlicerLib import options, tasks
from CLMorphSlicerLib.results import RESULT_ATTRIBUTE
from CLMorphSlicerLib.run import Run


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
    volumes = len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))
    results = logic.segment(sequence)
    assert results.volume is browser.GetProxyNode(sequence)
    added = len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) - volumes
    assert added == 5  # Jacobian, uncertainty, and the atlas, as it is, before and after: none for each frame
    gathered = slicer.util.getFirstNodeByClassByName("vtkMRMLSequenceNode", "heart segmentation")
    assert gathered.GetNumberOfDataNodes() == 2 and gathered.GetNthIndexValue(1) == "1"
    assert gathered.GetNthDataNode(1).GetSegmentation().GetNumberOfSegments() == 3
    assert browser.IsSynchronizedSequenceNode(gathered)


def test_one_run_at_a_time(patient, window, module):
    get_started(window, "waits")
    with pytest.raises(RuntimeError, match="running already"):
        window.logic.start(module.work_of(window._parameterNode))


@pytest.mark.parametrize("way", ["button", "downloadSample"])
def test_sample_data_is_registered_and_made_without_a_download(module, way):
    import SampleData

    slicer.app.emit("startupCompleted")
    source = SampleData.SampleDataLogic.sources["CLMorph"][0]
    if way == "button":
        SampleData.SampleDataLogic().press(source)
    else:
        assert SampleData.downloadSample("CLMorphPhantom").GetClassName() == "vtkMRMLScalarVolumeNode"
    (volume,) = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert source.uris.startswith("file:") and volume.GetName() == "Phantom sample"
    assert volume.GetImageData().GetDimensions() == phantom.atlas()[0].GetSize()


def test_sample_of_a_model_that_is_gone_is_refused_with_a_sentence(module, tmp_path):
    from standins.application import IOManager

    reader = IOManager.readers[0]
    assert not reader.load({"fileName": str(tmp_path / "liver.clmorph")})
    assert reader.parent.messages == ["liver.clmorph names no model of CLMorph; there are phantom"]


def test_samples_are_offered_once_also_by_a_module_that_is_added_to_a_running_slicer(module):
    import SampleData
    from standins import application

    assert SampleData.SampleDataLogic.sources == {}  # Slicer has yet to start
    slicer.util.mainWindow = lambda: types.SimpleNamespace(visible=True)
    application.load_module()
    assert len(SampleData.SampleDataLogic.sources["CLMorph"]) == 1
    slicer.app.emit("startupCompleted")
    assert len(SampleData.SampleDataLogic.sources["CLMorph"]) == 1


def test_results_in_loaded_scenes_move_points_as_the_engine_does(module):
    slicer.app.emit("startupCompleted")
    field = slicer.vtkOrientedGridTransform()
    field.SetInterpolationModeToCubic()  # what Slicer's reader sets
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    node.SetAndObserveTransformFromParent(field)
    node.SetAttribute(RESULT_ATTRIBUTE, "1")
    slicer.mrmlScene.InvokeEvent(slicer.vtkMRMLScene.EndImportEvent)
    assert node.GetTransformFromParent().GetInterpolationModeAsString() == "Linear"


# -- what is given to the engine


@pytest.fixture
def atlas_nodes(headless, tmp_path):
    for image, name in zip(phantom.atlas(), ("atlas", "labels"), strict=True):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    atlas, labels = tmp_path / "atlas.nii.gz", tmp_path / "labels.nii.gz"
    return headless.load_volume(atlas), headless.load_volume(labels, labels=True)


def write(volume, folder, **chosen) -> dict[str, str]:
    """The engine's arguments, by the option before each; the files are in `folder`."""
    task = tasks.Segmentation(volume, options.Options(model="phantom", **chosen))
    return dict(pairwise(task.write(folder)))


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


def test_effort_and_tissue_become_arguments(patient, module, tmp_path):
    assert write(patient, tmp_path)["--effort"] == "balanced" and "--tissue" not in write(patient, tmp_path)
    told = write(patient, tmp_path, effort="best", tissue="off", fusion="majority")
    assert (told["--effort"], told["--tissue"], told["--fusion"]) == ("best", "off", "majority")
    assert "--refine" not in told and "--atlases" not in told  # best's own
    assert "--colors" not in told and write(patient, tmp_path, safe_colors=True)["--colors"] == "safe"


def test_ways_to_fuse_are_the_engines(module):
    methods = pytest.importorskip("CLMorphCore.fusion", reason="the engine needs torch").METHODS
    from CLMorphSlicerLib.parameters import Fusion

    assert sorted(options.FUSIONS) == sorted(methods) == sorted(choice.value for choice in Fusion)
    assert options.Options().fusion == next(iter(Fusion)).value


def test_folder_of_a_model_is_as_good_as_a_name(module, tmp_path):
    folder = write_bundle(tmp_path / "mein Modell", title="Mine")
    assert options.model_card(folder).title == options.model_card(str(folder)).title == "Mine"
    assert options.model_card("phantom").folder.name == "phantom"


def test_reasons_against_a_run_are_sentences(patient, module, atlas_nodes):
    atlas, labels = atlas_nodes
    for chosen, words in (
        ({"model": ""}, "Choose a model"),
        ({"model": "nothing"}, "no model 'nothing'; there are phantom"),
        ({"model": "phantom", "atlas": atlas}, "Choose the labels"),
        ({"model": "phantom", "atlas_labels": labels}, "Choose the atlas image"),
        ({"model": "phantom", "atlas": patient, "atlas_labels": labels}, "same volume"),
        ({"model": "phantom", "refine": -1}, "-1 refinement steps given"),
        ({"model": "phantom", "atlases": 2}, "2 atlases given, there is 1"),
        ({"model": "phantom", "fusion": "average"}, "Unknown fusion 'average'; expected one of similarity"),
        ({"model": "phantom", "effort": "own"}, "Unknown effort 'own'; expected one of fast, balanced, best"),
        ({"model": "phantom", "tissue": "maybe"}, "Unknown tissue 'maybe'; expected one of auto, on, off"),
    ):
        assert words in options.why_not(patient, options.Options(**chosen))
    assert options.why_not(None, options.Options(model="phantom")) == "Choose the image to segment."
    assert options.why_not(patient, options.Options(model="phantom", atlas=atlas, atlas_labels=labels)) == ""


def test_no_more_atlases_are_used_than_there_are(patient, module, atlas_nodes):
    atlas, labels = atlas_nodes
    folder = options.model_card("phantom").folder
    add_atlases(folder, "second", "third")
    assert options.why_not(patient, options.Options(model="phantom", atlases=3)) == ""
    assert "4 atlases given, there are 3" in options.why_not(patient, options.Options(model="phantom", atlases=4))
    of_scene = options.Options(model="phantom", atlas=atlas, atlas_labels=labels, atlases=2)
    assert "2 atlases given, there is 1" in options.why_not(patient, of_scene)
    for image in folder.glob("atlases/*/image.nii.gz"):
        image.unlink()
    assert "Phantom has no atlas" in options.why_not(patient, options.Options(model="phantom"))


def test_full_disk_is_told_in_one_sentence_and_leaves_nothing(patient, window, monkeypatch):
    def full(image, path, *_):
        raise RuntimeError("Exception thrown in SimpleITK ImageFileWriter_Execute:\nITK ERROR: no room")

    monkeypatch.setattr(sitk, "WriteImage", full)
    window.ui.runButton.click()
    said = window.ui.statusLabel.text
    assert said.startswith("image.nii could not be written into ") and said.endswith("is there room on the disk?")
    assert leftovers() == [] and window.ui.runButton.enabled


def test_folder_goes_when_the_inputs_cannot_be_written(patient, module):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    transform.SetAndObserveTransformFromParent(vtk.vtkThinPlateSplineTransform())
    with pytest.raises(ValueError, match="linear"):
        Run(tasks.Segmentation(patient, options.Options(model="phantom", affine=transform)))
    assert leftovers() == []


def test_atlas_that_the_report_names_is_the_one_that_is_shown(module, tmp_path):
    card = options.model_card("phantom")
    (card.folder / "atlases" / "aaa").mkdir()
    (card.folder / "atlases" / "aaa" / "image.nii.gz").touch()
    assert tasks.atlas_file(tmp_path, card, {"atlas": {"name": "phantom"}}).parent.name == "phantom"
    assert tasks.atlas_file(tmp_path, card, {}).parent.name == "aaa"
