"""The choices that depend on each other, and what is kept of them between sessions: speed, times, settings."""

import pytest
from qt_fixtures import add_atlases, begin, choose_effort, finish, write_bundle

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
from CLMorphSlicerLib import models, presets, settings


def chosen(window) -> str:
    return window.ui.effortSelector.itemData(window.ui.effortSelector.currentIndex)


# -- speed


def told(window) -> dict[str, str]:
    """What the engine would be told of the effort, by the option before each."""
    from CLMorphSlicerLib.parameters import options_of

    options = options_of(window._parameterNode)
    words = presets.arguments(options.effort, options.tissue, options.refine, options.atlases, options.fusion)
    return dict(zip(words[::2], words[1::2], strict=True))


def test_choice_of_speed_sets_the_numbers_and_numbers_the_choice(patient, window):
    assert chosen(window) == presets.BALANCED  # as on the command line
    choose_effort(window, presets.BEST)
    assert window.ui.refineSpinBox.value == 50 and window.ui.atlasesSpinBox.value == 0  # the model has one atlas
    window.ui.refineSpinBox.value = 33
    assert chosen(window) == presets.OWN
    choose_effort(window, presets.BALANCED)
    assert window._parameterNode.refine == 0 and chosen(window) == presets.BALANCED


def test_speed_uses_several_atlases_where_the_model_has_them(patient, window, models_folder):
    add_atlases(models_folder / "phantom", "second", "third", "fourth")
    choose_effort(window, presets.BEST)
    assert (window._parameterNode.refine, window._parameterNode.atlases) == (50, 4)
    choose_effort(window, presets.BALANCED)
    assert (window._parameterNode.refine, window._parameterNode.atlases) == (0, 0)


def test_speed_is_told_to_the_engine_in_its_own_word(patient, window, models_folder):
    add_atlases(models_folder / "phantom", "second", "third")
    assert told(window) == {"--effort": "balanced"}
    choose_effort(window, presets.FAST)
    assert told(window) == {"--effort": "fast"} and chosen(window) == presets.FAST
    choose_effort(window, presets.BEST)
    assert told(window) == {"--effort": "best", "--refine": "50", "--atlases": "3", "--fusion": "similarity"}


def test_what_is_set_under_advanced_wins_over_the_choice_of_speed(patient, window, models_folder):
    add_atlases(models_folder / "phantom", "second", "third")
    choose_effort(window, presets.BEST)
    window.ui.refineSpinBox.value = 0
    window.ui.fusionSelector.currentIndex = 1
    assert chosen(window) == presets.OWN
    assert told(window) == {"--effort": "balanced", "--atlases": "3", "--fusion": "majority"}  # best would refine
    choose_effort(window, presets.FAST)
    window.ui.refineSpinBox.value = 10
    assert chosen(window) == presets.OWN and told(window) == {"--effort": "balanced", "--refine": "10"}
    window.ui.refineSpinBox.value = 0
    assert chosen(window) == presets.FAST


def test_tissue_is_told_where_it_is_not_automatic_and_is_then_a_choice_of_ones_own(patient, window):
    choose_effort(window, presets.FAST)
    assert window.ui.tissueSelector.currentText == "Automatic"
    for index, word in ((1, "on"), (2, "off")):
        window.ui.tissueSelector.currentIndex = index
        assert chosen(window) == presets.OWN and told(window) == {"--effort": "balanced", "--tissue": word}
    choose_effort(window, presets.BALANCED)  # and takes it back
    assert window.ui.tissueSelector.currentText == "Automatic" and told(window) == {"--effort": "balanced"}


def test_tissue_is_a_choice_of_segmenting_alone(patient, window):
    assert window.ui.tissueSelector.isVisibleTo(window.ui.advancedSection)
    window.ui.taskTabs.currentIndex = 1
    assert not window.ui.tissueSelector.isVisibleTo(window.ui.advancedSection)


def test_efforts_are_the_engines(module):
    engine = pytest.importorskip("CLMorphCore.commands.options", reason="the engine needs torch")
    from CLMorphSlicerLib.parameters import Effort, Tissue

    from CLMorphCore.cli import build_parser

    assert presets.efforts(7)[presets.BEST] == presets.Effort(engine.BEST_STEPS, 7)
    for effort in presets.EFFORTS:
        for tissue in presets.TISSUE:
            words = ["segment", "scan.nii", "--model", "brain", "-o", "out"]
            given = build_parser().parse_args([*words, *presets.arguments(effort, tissue, 0, 0, "staple")])
            assert given.effort == effort
            assert engine.tissue(given) == ("off" if (effort, tissue) == ("fast", "auto") else tissue)
            asked = engine.optimization(given)  # None: as the model's validation scans gained by it
            assert (asked.steps if asked else 0) == (engine.BEST_STEPS if effort == presets.BEST else 0)
            assert (asked is None) is (effort == presets.BALANCED)
    assert {each.value for each in Effort} == set(presets.EFFORTS)
    assert [each.value for each in Tissue] == list(presets.TISSUE)


def test_speed_stays_when_another_model_is_chosen(patient, models_folder, module):
    from standins import application

    add_atlases(write_bundle(models_folder / "zebra", title="Zebra"), "second", "third")
    models._cards_in.cache_clear()
    window = application.make_widget(module)
    choose_effort(window, presets.BEST)
    assert window._parameterNode.atlases == 0
    window.ui.modelSelector.currentIndex = 1
    assert window._parameterNode.model == "zebra" and window._parameterNode.atlases == 3
    assert chosen(window) == presets.BEST
    window.cleanup()


def test_choosing_the_numbers_oneself_unfolds_them(patient, window):
    window.ui.advancedSection.collapsed = True
    choose_effort(window, presets.OWN)
    assert not window.ui.advancedSection.collapsed


@pytest.mark.parametrize("count", [1, 2, 3, 9, 40])
def test_each_choice_is_found_again_by_its_numbers(count):
    for name, effort in presets.efforts(count).items():
        assert presets.chosen(name, effort.refine, effort.atlases, presets.AUTOMATIC, count) == name
        assert presets.chosen(name, effort.refine, effort.atlases, presets.ON, count) == presets.OWN
        assert presets.chosen(name, effort.refine + 1, effort.atlases, presets.AUTOMATIC, count) == presets.OWN
        assert effort.atlases <= count


def test_numbers_that_fit_another_choice_are_that_choice():
    """Also those of scenes and settings from before the choice itself was kept."""
    assert presets.chosen(presets.BALANCED, 50, 4, presets.AUTOMATIC, 4) == presets.BEST
    assert presets.chosen(presets.BEST, 0, 0, presets.AUTOMATIC, 4) == presets.BALANCED


# -- settings


def test_choices_come_back_in_the_next_session_and_what_belongs_to_a_patient_does_not(patient, window, module):
    from CLMorphSlicerLib.parameters import Device, Effort, Similarity, Tissue
    from standins import application

    parameters = window._parameterNode
    parameters.device, parameters.refine, parameters.threads = Device.CPU, 20, 3
    parameters.similarity, parameters.standardNames, parameters.showJacobian = Similarity.MIND, True, True
    parameters.effort, parameters.tissue, parameters.safeColors = Effort.FAST, Tissue.ON, True
    begin(window, "works")
    finish(window)
    window.cleanup()
    slicer.mrmlScene.Clear(1)  # the parameters too: as a Slicer that was started again
    later = application.make_widget(module)
    parameters = later._parameterNode
    assert (parameters.device, parameters.refine, parameters.threads) == (Device.CPU, 20, 3)
    assert parameters.similarity is Similarity.MIND and parameters.standardNames and parameters.safeColors
    assert (parameters.effort, parameters.tissue) == (Effort.FAST, Tissue.ON)
    assert parameters.inputVolume is None and not parameters.showJacobian
    later.cleanup()


def test_scene_that_is_loaded_wins_over_the_settings(patient, window, headless, tmp_path):
    window._parameterNode.refine = 40
    headless.save_scene(tmp_path / "scene.mrb")
    window._parameterNode.refine = 10
    settings.remember(window._parameterNode)
    slicer.mrmlScene.Clear(0)
    assert window._parameterNode.refine == 10
    headless.load_scene(tmp_path / "scene.mrb")
    assert window._parameterNode.refine == 40


@pytest.mark.parametrize("text", ['"quantum"', "[1", "null", '{"a": 1}', "9999"])
def test_settings_of_another_version_do_no_harm(module, text):
    from standins import application

    for name in settings.CHOICES:
        slicer.app.userSettings().setValue(f"CLMorph/{name}", text)
    window = application.make_widget(module)
    assert window._parameterNode.refine in range(201) and window.ui.runButton.text == "Segment"
    window.cleanup()


# -- the model before it is used


def test_licence_is_shown_before_use_and_what_it_forbids(patient, module, models_folder):
    from standins import application

    write_bundle(models_folder / "aorta", title="Aorta", licence="CC BY-NC-SA 4.0", modality="CT")
    models._cards_in.cache_clear()
    window = application.make_widget(module)
    text = window.ui.modelDescriptionLabel.text
    assert "Licence: CC BY-NC-SA 4.0; not for commercial use" in text and "Needs: CT" in text
    window.cleanup()


def test_every_shipped_model_tells_needs_licence_and_accuracy():
    cards = models.shipped_models()
    assert {card.name for card in cards} >= {"brain", "heart", "hippocampus"}
    for card in cards:
        for word in ("Needs: ", "Licence: CC BY", "Mean Dice 0."):
            assert word in card.description, (card.name, word)
        assert ("not for commercial use" in card.description) is ("NC" in card.licence)


def test_sample_of_the_model_is_loaded_and_chosen(window):
    assert not window.ui.runButton.enabled
    window.ui.sampleButton.click()
    assert window._parameterNode.inputVolume.GetName() == "Phantom sample"
    assert window.ui.runButton.enabled and slicer.app.cursors == []


@pytest.mark.parametrize("scope", [1, 2])
def test_sample_is_what_is_segmented_next_whatever_was_before(patient, window, scope):
    window.ui.scopeSelector.currentIndex = scope
    assert not window.ui.runButton.enabled
    window.ui.sampleButton.click()
    assert window.ui.runButton.enabled and window.ui.scopeSelector.currentIndex == 0
    assert window.ui.inputVolumeSelector.currentNode().GetName() == "Phantom sample"


def test_installed_versions_are_shown_and_reinstall_tells_what_happened(patient, window, module, monkeypatch):
    assert "torch" in window.ui.versionsLabel.text
    monkeypatch.setattr(module.dependencies, "reinstall", lambda during: True)
    window.ui.reinstallButton.click()
    assert window.ui.statusLabel.text == "The packages were installed anew."

    def fails(during):
        raise module.dependencies.InstallationError("PyTorch is in use in this session")

    monkeypatch.setattr(module.dependencies, "reinstall", fails)
    window.ui.reinstallButton.click()
    assert "in use" in window.ui.statusLabel.text and window.ui.runButton.enabled
