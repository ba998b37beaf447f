"""The choices that depend on each other, and what is kept of them between sessions: speed, times, settings."""

import pytest
from qt_fixtures import add_atlases, begin, finish, write_bundle

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
from CLMorphSlicerLib import models, presets, settings


def choose(window, name: str) -> None:
    box = window.ui.effortSelector
    box.currentIndex = [box.itemData(index) for index in range(box.count)].index(name)


def chosen(window) -> str:
    return window.ui.effortSelector.itemData(window.ui.effortSelector.currentIndex)


# -- speed


def test_choice_of_speed_sets_the_numbers_and_numbers_the_choice(patient, window):
    assert chosen(window) == presets.FAST
    choose(window, presets.BEST)
    assert window.ui.refineSpinBox.value == 50 and window.ui.atlasesSpinBox.value == 0  # the model has one atlas
    window.ui.refineSpinBox.value = 33
    assert chosen(window) == presets.OWN
    choose(window, presets.BALANCED)
    assert window._parameterNode.refine == 20


def test_speed_uses_several_atlases_where_the_model_has_them(patient, window, models_folder):
    add_atlases(models_folder / "phantom", "second", "third", "fourth")
    choose(window, presets.BALANCED)
    assert (window._parameterNode.refine, window._parameterNode.atlases) == (20, 3)
    choose(window, presets.BEST)
    assert (window._parameterNode.refine, window._parameterNode.atlases) == (50, 4)


def test_speed_stays_when_another_model_is_chosen(patient, models_folder, module):
    from standins import application

    add_atlases(write_bundle(models_folder / "zebra", title="Zebra"), "second", "third")
    models._cards_in.cache_clear()
    window = application.make_widget(module)
    choose(window, presets.BEST)
    assert window._parameterNode.atlases == 0
    window.ui.modelSelector.currentIndex = 1
    assert window._parameterNode.model == "zebra" and window._parameterNode.atlases == 3
    assert chosen(window) == presets.BEST
    window.cleanup()


def test_choosing_the_numbers_oneself_unfolds_them(patient, window):
    window.ui.advancedSection.collapsed = True
    choose(window, presets.OWN)
    assert not window.ui.advancedSection.collapsed


@pytest.mark.parametrize("count", [1, 2, 3, 9, 40])
def test_each_choice_is_found_again_by_its_numbers(count):
    for name, effort in presets.efforts(count).items():
        assert presets.chosen(effort.refine, effort.atlases, count) == name
        assert effort.atlases <= count


# -- times


def test_time_of_a_run_is_told_for_the_same_choices_alone(patient, window):
    assert window.ui.segmentTimeLabel.text == "not run on this computer yet"
    begin(window, "works")
    finish(window)
    assert window.ui.segmentTimeLabel.text.startswith("about ") and "earlier runs" in window.ui.segmentTimeLabel.text
    choose(window, presets.BEST)
    assert window.ui.segmentTimeLabel.text == "not run on this computer yet"


def test_median_of_the_last_runs_counts(module):
    key = settings.time_key("segment", "C:\\models\\brain", "cpu", 0, 0)
    for seconds in (500.0, 20.0, 21.0, 22.0, 23.0, 300.0):
        settings.add_time(key, seconds)
    assert settings.time_told(key) == "about 22 s on this computer, by earlier runs"
    settings.add_time("other", 600.0)
    assert settings.time_told("other") == "about 10 min on this computer, by earlier runs"


def test_spoilt_times_are_no_times(module):
    slicer.app.userSettings().setValue("CLMorph/times/key", "[1, oh")
    assert settings.time_told("key") == "not run on this computer yet"


def test_failed_run_tells_no_time(patient, window):
    begin(window, "refuses")
    finish(window)
    assert window.ui.segmentTimeLabel.text == "not run on this computer yet"


# -- settings


def test_choices_come_back_in_the_next_session_and_what_belongs_to_a_patient_does_not(patient, window, module):
    from CLMorphSlicerLib.parameters import Device, Similarity
    from standins import application

    parameters = window._parameterNode
    parameters.device, parameters.refine, parameters.threads = Device.CPU, 20, 3
    parameters.similarity, parameters.standardNames, parameters.showJacobian = Similarity.MIND, True, True
    begin(window, "works")
    finish(window)
    window.cleanup()
    slicer.mrmlScene.Clear(1)  # the parameters too: as a Slicer that was started again
    later = application.make_widget(module)
    parameters = later._parameterNode
    assert (parameters.device, parameters.refine, parameters.threads) == (Device.CPU, 20, 3)
    assert parameters.similarity is Similarity.MIND and parameters.standardNames
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
