"""How long a run will take, by those before it, and with which choices."""

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how_to_test
from hypothesis import strategies as st
from qt_fixtures import begin, choose_effort, finish, write_bundle

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
from CLMorphSlicerLib import models, presets, times


def test_time_of_a_run_is_told_for_the_same_choices_alone(patient, window):
    assert window.ui.segmentTimeLabel.text == "not run on this computer yet"
    begin(window, "works")
    finish(window)
    assert window.ui.segmentTimeLabel.text.startswith("about ") and "earlier runs" in window.ui.segmentTimeLabel.text
    choose_effort(window, presets.BEST)
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
    choose_effort(window, presets.FAST)
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
