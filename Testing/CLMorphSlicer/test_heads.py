"""Whole heads: what is said before the press, what is installed for them, the mask, and an organ of both sides."""

from itertools import pairwise

import numpy as np
import phantom
import pytest
import SimpleITK as sitk
from qt_fixtures import begin, finish, segment_names, show_frame, write_bundle

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
import vtk
from CLMorphSlicerLib import dependencies, models, options, plan, tasks
from CLMorphSlicerLib.results import results_of
from standins.packages import Computer

CARD = {"name": "brain", "title": "Brain", "purpose": "", "modality": "", "anatomy": "", "licence": ""}
HEAD, CROP = (256.0, 256.0, 170.0), (35.0, 50.0, 36.0)


def card(folder, **given) -> models.ModelCard:
    return models.ModelCard(**{**CARD, "folder": folder, **given})


@pytest.fixture
def brains(tmp_path) -> models.ModelCard:
    """A model of brains without skull."""
    return card(tmp_path, needs_brain=True)


@pytest.fixture
def sided(tmp_path) -> models.ModelCard:
    """A model of an organ that another model finds on both sides."""
    return card(tmp_path, locator="brain")


@pytest.fixture
def needs_brain(models_folder):
    """The shipped model needs brains without skull."""
    with open(models_folder / "phantom" / "card.toml", "a", encoding="utf-8") as file:
        file.write('needs = "brain"\n')
    models._cards_in.cache_clear()


# -- what is said before the press


@pytest.mark.parametrize(
    ("extraction", "said"),
    [
        ("auto", "If this is a head, the brain is taken out first."),
        ("on", "The brain is taken out first."),
        ("off", "It is taken for a brain alone, without skull."),
    ],
)
def test_model_of_brains_says_what_becomes_of_a_head(brains, extraction, said):
    assert plan.told(brains, options.Options(brain_extraction=extraction), [HEAD]) == said
    assert plan.told(brains, options.Options(brain_extraction=extraction), []) == said


def test_image_too_small_for_a_brain_is_told_before_the_engine_refuses_it(brains, sided):
    said = "Too small for a whole brain: 35 × 50 × 36 mm, expected 70 mm at least in each direction."
    assert plan.told(brains, options.Options(), [CROP]) == said
    assert plan.told(sided, options.Options(brain_extraction="on"), [CROP]) == said
    assert "Too small" not in plan.told(brains, options.Options(brain_extraction="off"), [CROP])


def test_model_with_a_locator_says_whether_both_sides_are_found(sided, headless):
    assert plan.told(sided, options.Options(), [HEAD]) == (
        "Both sides are found in the whole head or brain.\nIf this is a head, the brain is taken out first."
    )
    assert plan.told(sided, options.Options(), [CROP]) == "This is a crop: the one side in it is segmented."
    for unknown in ([], [HEAD, CROP]):
        assert plan.told(sided, options.Options(), unknown).startswith("Both sides are found where an image shows")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    for own in ({"affine": transform}, {"affine": "none"}, {"atlas": transform}):
        assert plan.told(sided, options.Options(**own), [HEAD]).startswith("One side is segmented")


def test_other_models_say_nothing(tmp_path):
    assert plan.told(card(tmp_path), options.Options(brain_extraction="on"), [HEAD]) == ""


def test_extent_goes_along_the_images_own_axes_under_its_transform(patient):
    assert plan.extent_mm(patient) == pytest.approx((120.0, 140.0, 112.0))
    above, turn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode"), vtk.vtkTransform()
    turn.RotateZ(30.0)
    turn.Scale(0.5, 0.5, 0.5)
    above.SetMatrixTransformToParent(turn.GetMatrix())
    patient.SetAndObserveTransformNodeID(above.GetID())
    assert plan.extent_mm(patient) == pytest.approx((60.0, 70.0, 56.0))
    assert not plan.shows_the_whole(plan.extent_mm(patient))


@pytest.mark.parametrize("side", [10, 34, 35, 36, 60])
def test_what_is_whole_is_what_the_engine_takes_for_it(module, side):
    sides = pytest.importorskip("CLMorphCore.extraction.sides", reason="the engine needs torch")
    image = phantom.grid("oblique")
    image = sitk.Resample(image, (side, 64, 60), sitk.Transform(), sitk.sitkNearestNeighbor, image.GetOrigin(),
                          (2.0, 2.0, 2.0), image.GetDirection())  # fmt: skip
    assert plan.shows_the_whole((side * 2.0, 128.0, 120.0)) is sides.shows_the_whole(image)


def test_window_tells_it_for_the_image_and_the_choice(patient, window, needs_brain):
    window._refresh()
    assert " ".join(window.ui.planLabel.text.split()) == "If this is a head, the brain is taken out first."
    assert window.ui.planLabel.isVisibleTo(window.ui.segmentPage)
    assert window.ui.brainExtractionSelector.isVisibleTo(window.ui.advancedSection)
    window.ui.brainExtractionSelector.currentIndex = 2
    assert "without skull" in window.ui.planLabel.text
    window.ui.taskTabs.currentIndex = 1
    assert not window.ui.brainExtractionSelector.isVisibleTo(window.ui.advancedSection)


def test_model_that_needs_no_brain_has_no_choice_and_is_told_none(patient, window, tmp_path):
    from CLMorphSlicerLib.parameters import BrainExtraction, options_of

    assert not window.ui.planLabel.isVisibleTo(window.ui.segmentPage)
    assert not window.ui.brainExtractionSelector.isVisibleTo(window.ui.advancedSection)
    window._parameterNode.brainExtraction = BrainExtraction.ALWAYS  # as chosen for another model
    assert options_of(window._parameterNode).brain_extraction == "auto"


def test_shipped_models_say_what_they_look_for():
    cards = {card.name: card for card in models.shipped_models()}
    assert cards["brain"].needs_brain and not cards["brain"].locator
    assert cards["hippocampus"].locator == "brain" and not cards["hippocampus"].needs_brain
    assert not cards["heart"].looks_for_brains


# -- what the engine is told


def test_brain_extraction_becomes_an_argument_that_the_engine_knows(patient, module, tmp_path):
    for chosen in ("auto", "on", "off"):
        task = tasks.Segmentation(patient, options.Options(model="phantom", brain_extraction=chosen))
        words = task.write(tmp_path)
        assert dict(pairwise(words)).get("--brain-extraction", "auto") == chosen
        cli = pytest.importorskip("CLMorphCore.cli", reason="the engine needs torch")
        assert cli.build_parser().parse_args(words).brain_extraction == chosen
    refused = options.why_not(patient, options.Options(model="phantom", brain_extraction="maybe"))
    assert refused == "Unknown brain extraction 'maybe'; expected one of auto, on, off."


# -- what is installed


def test_networks_are_those_that_the_engine_reads():
    weights = pytest.importorskip("CLMorphCore.extraction.weights", reason="the engine needs torch")
    assert f"{weights.DISTRIBUTION}=={weights.VERSION}" == dependencies.NETWORKS


@pytest.mark.parametrize("packaging", [True, False])
def test_networks_are_named_in_the_one_question_and_installed_without_what_they_draw_in(monkeypatch, packaging):
    computer = Computer(monkeypatch, packaging=packaging)
    assert dependencies.ensure(heads=True)
    assert len(computer.questions) == 1 and "deepbet==1.0.2, which takes the brain out" in computer.questions[0]
    assert computer.events[-1] == ("pip_install", ("--no-deps", "deepbet==1.0.2"))
    assert len(computer.events) == 3


def test_networks_are_not_asked_for_where_there_is_no_head(monkeypatch):
    computer = Computer(monkeypatch, packages=(dependencies.TORCH, *dependencies.PACKAGES))
    assert dependencies.ensure() and computer.questions == []
    assert dependencies.ensure(heads=True)
    assert computer.events == [("pip_install", ("--no-deps", "deepbet==1.0.2"))]
    assert dependencies.ensure(heads=True) and len(computer.questions) == 1


def test_networks_that_cannot_be_had_are_told_with_the_way_round(monkeypatch):
    computer = Computer(monkeypatch, packages=(dependencies.TORCH, *dependencies.PACKAGES))
    monkeypatch.setattr(slicer.util, "pip_install", lambda names: computer.events.append(names))
    with pytest.raises(dependencies.InstallationError, match=r"deepbet==1\.0\.2.*Brain extraction.*Never"):
        dependencies.ensure(heads=True)


def test_networks_are_installed_anew_where_they_were_there(monkeypatch):
    import sys

    computer = Computer(monkeypatch, packages=(dependencies.TORCH, *dependencies.PACKAGES, dependencies.NETWORKS))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert dependencies.reinstall()
    assert ("removed", ("safetensors", "tqdm", "deepbet")) in computer.events
    assert computer.events[-1] == ("pip_install", ("--no-deps", "deepbet==1.0.2"))


def test_versions_name_the_networks_where_they_are(monkeypatch):
    monkeypatch.setattr(dependencies, "installed_version", {dependencies.NETWORKS: "1.0.2"}.get)
    assert dependencies.versions().endswith(" · deepbet 1.0.2")


@pytest.mark.parametrize(
    ("locator", "extraction", "half_size", "asked"),
    [
        (True, "auto", False, True),
        (True, "auto", True, False),
        (True, "off", False, False),
        (False, "auto", False, False),
    ],
)
def test_press_asks_for_the_networks_where_they_may_be_needed(
    patient, window, module, monkeypatch, looks_for_both, tmp_path, locator, extraction, half_size, asked
):
    from CLMorphSlicerLib.parameters import FOLDER, BrainExtraction

    if not locator:
        window._parameterNode.model = FOLDER
        window._parameterNode.modelFolder = str(write_bundle(tmp_path / "other", title="Other"))
    if half_size:
        patient.SetSpacing(0.6, 0.6, 0.6)
    window._parameterNode.brainExtraction = BrainExtraction(extraction)
    given = []
    monkeypatch.setattr(module.dependencies, "ensure", lambda during, heads: bool(given.append(heads)))
    window.ui.runButton.click()
    assert given == [asked], window.ui.statusLabel.text


# -- the mask


def test_mask_is_a_segmentation_of_its_own_outlined_and_not_in_3d(patient, window):
    run = begin(window, "takes_the_brain_out")
    finish(window)
    results = run.results
    assert segment_names(results.segmentation) == ["Body", "Anterior hippocampus", "Ventricle"]
    assert window.ui.statusLabel.text.startswith("Done: 3 structures in Ärztin Größe 1. The brain was taken out")
    mask = results.brain_mask
    assert segment_names(mask) == ["Brain mask"] and mask.GetName() == "Ärztin Größe 1 brain mask"
    display = mask.GetDisplayNode()
    assert not display.GetVisibility3D() and not display.GetVisibility2DFill() and display.GetVisibility2DOutline()
    array = slicer.util.arrayFromSegmentBinaryLabelmap(mask, mask.GetSegmentation().GetNthSegmentID(0), patient)
    truth = sitk.Resample(phantom.atlas()[1], phantom.grid("RAS"), phantom.transform(), sitk.sitkNearestNeighbor)
    assert np.array_equal(array > 0, sitk.GetArrayFromImage(truth) > 0)
    assert window.ui.segmentsTable.segmentationNode() is results.segmentation
    assert results_of(results.transform).brain_mask is mask
    table = results.table.GetTable()
    rows = {
        table.GetValue(row, 0).ToString(): table.GetValue(row, 1).ToDouble() for row in range(table.GetNumberOfRows())
    }
    assert rows["whole brain"] == pytest.approx((array > 0).sum() * 0.008, abs=0.1)
    assert "Brain mask" not in rows
    window.ui.undoButton.click()
    assert mask.GetScene() is None


def test_mask_that_was_corrected_by_hand_is_not_lost_without_a_question(patient, window, monkeypatch):
    questions = []
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, *_: bool(questions.append(text)), raising=False
    )
    run = begin(window, "takes_the_brain_out")
    finish(window)
    mask = run.results.brain_mask
    segment = mask.GetSegmentation().GetNthSegmentID(0)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(mask, segment, patient)
    slicer.util.updateSegmentBinaryLabelmapFromArray(array[::-1] * 1, mask, segment, patient)
    window.ui.undoButton.click()
    assert len(questions) == 1 and "brain mask” was changed" in questions[0] and mask.GetScene()


def test_masks_play_with_the_sequence_also_where_the_first_frame_has_none(beating, window):
    _sequence, browser, _proxy = beating
    window.ui.scopeSelector.currentIndex = 1
    run = begin(window, "takes_the_second_brain_out")
    finish(window)
    assert run.error is None, run.error
    assert "The brain of 3 was taken out" in window.ui.statusLabel.text
    mask = results_of(run.results.transform).brain_mask
    assert browser.GetSequenceNode(mask).GetNumberOfDataNodes() == 3
    for number, found in ((0, 0), (2, 1), (1, 1), (0, 0)):
        show_frame(browser, number)
        assert mask.GetSegmentation().GetNumberOfSegments() == found
    window.ui.undoButton.click()
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
