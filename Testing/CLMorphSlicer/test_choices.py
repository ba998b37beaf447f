"""The choices that depend on each other, and what is kept of them between sessions: speed, times, settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qt_fixtures import add_atlases, begin, finish, write_bundle

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
from CLMorphSlicerLib import models, presets, settings, times


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


def test_time_of_a_model_in_a_folder_is_not_that_of_another_folder(patient, window, tmp_path):
    window.ui.modelSelector.currentIndex = window.ui.modelSelector.count - 1
    for name in ("one", "two"):
        window.ui.modelFolderEdit.currentPath = str(write_bundle(tmp_path / name))
        assert window.ui.segmentTimeLabel.text == "not run on this computer yet"
        begin(window, "works")
        finish(window)
        assert window.ui.segmentTimeLabel.text.startswith("about ")


def cost(steps: int = 0, atlases: int = 0, model: str = "C:\\models\\brain") -> times.Cost:
    return times.Cost("segment", model, "cpu", steps, atlases)


def test_median_of_the_last_runs_counts(module):
    for seconds in (500.0, 20.0, 21.0, 22.0, 23.0, 300.0):
        times.add(cost(), times.taken(cost(), seconds, [{}]))
    assert times.told(cost()) == "about 22 s on this computer, by earlier runs"
    other = cost(model="other")
    times.add(other, times.taken(other, 600.0, [{}]))
    assert times.told(other) == "about 10 min on this computer, by earlier runs"


def report(network: float, labels: float, refinement: float | None = None) -> dict:
    seconds = {"reading": 1.0, "affine": 4.0, "network": network, "labels": labels}
    return {"duration_s": {**seconds, **({} if refinement is None else {"refinement": refinement})}}


def test_time_of_other_choices_goes_by_their_steps_and_atlases(module):
    # 12 s once, 3 s for each atlas, 0.5 s for each step with each atlas
    times.add(cost(20, 3), times.taken(cost(20, 3), 12.0 + 9.0 + 30.0, [report(6.0, 3.0, 30.0)]))
    assert times.told(cost(20, 3)) == "about 51 s on this computer, by earlier runs"
    assert times.told(cost(0, 0)) == "roughly 15 s, by runs with other choices"
    assert times.told(cost(50, 0)) == "roughly 40 s, by runs with other choices"
    assert times.told(cost(50, 9)) == "roughly 4 min, by runs with other choices"  # 12 + 27 + 225 s


def test_time_of_a_series_is_that_of_one_image(module):
    run = times.taken(cost(10), 20.0, [report(2.0, 1.0, 4.0), report(4.0, 1.0, 8.0)])
    assert run == times.Taken(10, 0, 20.0, 4.0, 6.0)


def test_no_time_is_told_of_an_optimisation_that_was_never_seen(module):
    times.add(cost(), times.taken(cost(), 20.0, [report(2.0, 1.0)]))
    assert times.told(cost(50)) == "not run on this computer yet"
    assert times.told(cost(0, 4)) == "roughly 30 s, by runs with other choices"
    for another in (cost(model="heart"), times.Cost("segment", "C:\\models\\brain", "cuda", 0, 0)):
        assert times.told(another) == "not run on this computer yet"


@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 20), *[st.floats(0.0, 1e4) for _ in range(3)]),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 200),
    st.integers(0, 20),
)
def test_more_steps_and_more_atlases_never_take_less(kept, steps, atlases):
    runs = [times.Taken(s, a, once + each + best, each, best) for s, a, once, each, best in kept]
    guesses = [times.estimate(cost(s, a), runs) for s, a in ((steps, atlases), (steps + 10, atlases + 1))]
    if None not in guesses:
        assert 0.0 <= guesses[0] <= guesses[1] * (1 + 1e-9)


@pytest.mark.parametrize("text", ["[1, oh", "[[1, 2]]", "7", '[["a", 1, 2, 3, 4]]', "null"])
def test_spoilt_times_are_no_times(module, text):
    slicer.app.userSettings().setValue(cost().key, text)
    assert times.told(cost()) == "not run on this computer yet"


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
