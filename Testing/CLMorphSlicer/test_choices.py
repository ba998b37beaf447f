"""The choices that depend on each other, and what is kept of them between sessions: speed, times, settings."""

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how_to_test
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


def told(window) -> dict[str, str]:
    """What the engine would be told of the effort, by the option before each."""
    from CLMorphSlicerLib.parameters import options_of

    options = options_of(window._parameterNode)
    words = presets.arguments(options.effort, options.tissue, options.refine, options.atlases, options.fusion)
    return dict(zip(words[::2], words[1::2], strict=True))


def test_choice_of_speed_sets_the_numbers_and_numbers_the_choice(patient, window):
    assert chosen(window) == presets.BALANCED  # as on the command line
    choose(window, presets.BEST)
    assert window.ui.refineSpinBox.value == 50 and window.ui.atlasesSpinBox.value == 0  # the model has one atlas
    window.ui.refineSpinBox.value = 33
    assert chosen(window) == presets.OWN
    choose(window, presets.BALANCED)
    assert window._parameterNode.refine == 0 and chosen(window) == presets.BALANCED


def test_speed_uses_several_atlases_where_the_model_has_them(patient, window, models_folder):
    add_atlases(models_folder / "phantom", "second", "third", "fourth")
    choose(window, presets.BEST)
    assert (window._parameterNode.refine, window._parameterNode.atlases) == (50, 4)
    choose(window, presets.BALANCED)
    assert (window._parameterNode.refine, window._parameterNode.atlases) == (0, 0)


def test_speed_is_told_to_the_engine_in_its_own_word(patient, window, models_folder):
    add_atlases(models_folder / "phantom", "second", "third")
    assert told(window) == {"--effort": "balanced"}
    choose(window, presets.FAST)
    assert told(window) == {"--effort": "fast"} and chosen(window) == presets.FAST
    choose(window, presets.BEST)
    assert told(window) == {"--effort": "best", "--refine": "50", "--atlases": "3", "--fusion": "similarity"}


def test_what_is_set_under_advanced_wins_over_the_choice_of_speed(patient, window, models_folder):
    add_atlases(models_folder / "phantom", "second", "third")
    choose(window, presets.BEST)
    window.ui.refineSpinBox.value = 0
    window.ui.fusionSelector.currentIndex = 1
    assert chosen(window) == presets.OWN
    assert told(window) == {"--effort": "balanced", "--atlases": "3", "--fusion": "majority"}  # best would refine
    choose(window, presets.FAST)
    window.ui.refineSpinBox.value = 10
    assert chosen(window) == presets.OWN and told(window) == {"--effort": "balanced", "--refine": "10"}
    window.ui.refineSpinBox.value = 0
    assert chosen(window) == presets.FAST


def test_tissue_is_told_where_it_is_not_automatic_and_is_then_a_choice_of_ones_own(patient, window):
    choose(window, presets.FAST)
    assert window.ui.tissueSelector.currentText == "Automatic"
    for index, word in ((1, "on"), (2, "off")):
        window.ui.tissueSelector.currentIndex = index
        assert chosen(window) == presets.OWN and told(window) == {"--effort": "balanced", "--tissue": word}
    choose(window, presets.BALANCED)  # and takes it back
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
        assert presets.chosen(name, effort.refine, effort.atlases, presets.AUTOMATIC, count) == name
        assert presets.chosen(name, effort.refine, effort.atlases, presets.ON, count) == presets.OWN
        assert presets.chosen(name, effort.refine + 1, effort.atlases, presets.AUTOMATIC, count) == presets.OWN
        assert effort.atlases <= count


def test_numbers_that_fit_another_choice_are_that_choice():
    """Also those of scenes and settings from before the choice itself was kept."""
    assert presets.chosen(presets.BALANCED, 50, 4, presets.AUTOMATIC, 4) == presets.BEST
    assert presets.chosen(presets.BEST, 0, 0, presets.AUTOMATIC, 4) == presets.BALANCED


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


def tissue_cost(steps: int = 0, atlases: int = 0) -> times.Cost:
    return times.Cost("segment", "C:\\models\\brain", "cpu", steps, atlases, tissue=True)


def test_runs_with_and_without_tissue_are_told_apart(module):
    times.add(cost(), times.taken(cost(), 20.0, [report(2.0, 1.0)]))
    assert times.told(tissue_cost()) == "not run on this computer yet"
    times.add(tissue_cost(), times.taken(tissue_cost(), 35.0, [report(2.0, 16.0)]))
    assert times.told(tissue_cost()) == "about 35 s on this computer, by earlier runs"
    assert times.told(cost()) == "about 20 s on this computer, by earlier runs"


def test_labels_by_tissue_are_made_once_whatever_the_number_of_atlases(module):
    # 10 s once, 6 s for each atlas, 14 s for the labels
    times.add(tissue_cost(0, 2), times.taken(tissue_cost(0, 2), 36.0, [report(12.0, 14.0)]))
    assert times.told(tissue_cost(0, 4)) == "roughly 50 s, by runs with other choices"  # 48 s
    assert times.told(cost(0, 0)) == "roughly 15 s, by runs with other choices"  # 16 s: without the labels by tissue


def test_times_of_versions_without_tissue_are_read(module):
    slicer.app.userSettings().setValue(cost().key, "[[0, 0, 21.0, 3.0, 0.0]]")
    assert times.told(cost()) == "about 21 s on this computer, by earlier runs"
    assert times.told(tissue_cost()) == "not run on this computer yet"


def test_time_goes_by_whether_the_labels_will_follow_the_tissue(patient, window, models_folder):
    begin(window, "works")
    finish(window)
    assert window.ui.segmentTimeLabel.text.startswith("about ")
    window.ui.tissueSelector.currentIndex = 1
    assert window.ui.segmentTimeLabel.text == "not run on this computer yet"
    window.ui.tissueSelector.currentIndex = 0
    (models_folder / "phantom" / "tissue.toml").write_text("on = true\nsmoothing_mm = 0.8\nexponent = 0.35\n")
    models._cards_in.cache_clear()
    window._refresh()
    assert window.ui.segmentTimeLabel.text == "not run on this computer yet"
    choose(window, presets.FAST)
    assert window.ui.segmentTimeLabel.text.startswith("about ")


@pytest.mark.parametrize(
    ("effort", "tissue", "fusion", "by_model", "follows"),
    [
        ("fast", "auto", "similarity", True, False),
        ("fast", "on", "similarity", False, True),
        ("balanced", "auto", "similarity", True, True),
        ("balanced", "auto", "similarity", False, False),
        ("best", "auto", "majority", True, True),
        ("best", "off", "similarity", True, False),
        ("balanced", "on", "staple", True, False),
    ],
)
def test_whether_a_run_follows_the_tissue_is_known_before(
    module, models_folder, effort, tissue, fusion, by_model, follows
):
    from CLMorphSlicerLib.options import Options, asks_for_tissue

    (models_folder / "phantom" / "tissue.toml").write_text(f"on = {str(by_model).lower()}\n")
    models._cards_in.cache_clear()
    options = Options(model="phantom", effort=effort, tissue=tissue, atlases=2, fusion=fusion)
    assert asks_for_tissue(options) is follows


@pytest.mark.parametrize("text", ["", "on = 1", "on = [", "\x00"])
def test_model_with_other_settings_of_tissue_is_a_model_still(models_folder, text):
    (models_folder / "phantom" / "tissue.toml").write_text(text)
    assert not models.read_card(models_folder / "phantom").follows_tissue


@how_to_test(deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
