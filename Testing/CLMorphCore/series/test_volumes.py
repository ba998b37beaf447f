"""Which frame is which, from curves alone; and in which order frames follow one."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up_heart import HEART

from CLMorphCore.bundles.atlas import Structure
from CLMorphCore.series.following import MIN_NEIGHBOURS, ways
from CLMorphCore.series.volumes import end_diastole_of, function_of, ventricles


def beat(count: int, edv=120.0, esv=50.0) -> np.ndarray:
    """Volumes over a beat: down in a third of it, up in the rest."""
    phase = np.arange(count) / count
    part = np.where(phase < 0.35, phase / 0.35, (1 - phase) / 0.65)
    return edv - (edv - esv) * np.sin(np.pi / 2 * part) ** 2


def labelled(curve):
    return {n: {3: float(volume), 1: 2 * float(volume)} for n, volume in enumerate(curve)}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(count=st.integers(12, 40), turn=st.integers(0, 39), seed=st.integers(0, 99), bad=st.integers(0, 39))
def test_extremes_are_found_wherever_the_beat_begins_despite_noise_and_a_frame_that_went_wrong(count, turn, seed, bad):
    curve = beat(count)
    curve += np.random.default_rng(seed).normal(0, 0.5, count)
    systole = int(beat(count).argmin())
    curve[bad % count] *= 1.6 if bad % 2 else 0.3
    left = function_of(labelled(np.roll(curve, turn)), HEART, turn % count)[0]
    away = [(left.end_diastole - turn) % count, (left.end_systole - turn - systole) % count]
    assert all(min(steps, count - steps) <= 2 for steps in away)


def test_a_ventricles_function_is_of_its_own_volumes_at_the_left_ones_extremes():
    volumes = [{1: 90.0, 3: 100.0}, {1: 80.0, 3: 60.0}, {1: 50.0, 3: 40.0}, {1: 40.0, 3: 80.0}]
    left, right = function_of(dict(enumerate(volumes)), HEART, 0)
    assert (left.end_diastole, left.end_systole, left.edv_ml, left.esv_ml) == (0, 2, 100.0, 40.0)
    assert left.ejection_fraction == pytest.approx(0.6) and left.stroke_volume_ml == 60.0
    assert (right.edv_ml, right.esv_ml, right.side) == (90.0, 50.0, "right")


def test_the_segmented_frame_stays_end_diastole_on_a_plateau():
    curve = np.array([100.0, 101.0, 101.5, 80, 60, 60, 70, 90, 99, 100])
    assert end_diastole_of(labelled(curve), HEART, 0) == 0
    assert end_diastole_of(labelled(curve), HEART, 5) == 1  # smoothed round the beat


@pytest.mark.parametrize(
    ("names", "sides"),
    [
        (["LV", "Myocardium", "RV"], {"left": 1, "right": 3}),
        (["Left ventricle cavity", "Left ventricular myocardium", "aorta"], {"left": 1}),
        (["Left lateral ventricle", "Right lateral ventricle", "Thalamus"], {}),
        (["Left ventricle", "Right ventricle", "Brain stem"], {}),
        (["Liver", "Spleen", "Kidney"], {}),
    ],
)
def test_ventricles_are_those_of_a_heart(names, sides):
    assert ventricles([Structure(n, name, "#ffffff") for n, name in enumerate(names, start=1)]) == sides


def test_of_what_is_no_heart_the_segmented_frame_stays():
    assert function_of(labelled(beat(12)), [Structure(1, "Liver", "#ffffff")], 4) == []
    assert end_diastole_of(labelled(beat(12)), [Structure(1, "Liver", "#ffffff")], 4) == 4


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(st.integers(1, 40), st.integers(0, 39), st.booleans(), st.data())
def test_every_frame_that_is_asked_for_follows_once_by_its_neighbours(count, key, cyclic, data):
    key, numbers = key % count, data.draw(st.sets(st.integers(0, count - 1)))
    first, second = ways(sorted(numbers), key, count, cyclic)
    if cyclic and numbers | {key} == set(range(count)) and count >= MIN_NEIGHBOURS:
        assert first[-1] == second[-1] and abs(len(first) - len(second)) <= 1
        second = second[:-1]
        for way in (first, second):
            assert all((b - a) % count in (1, count - 1) for a, b in zip([key, *way], way, strict=False))
    assert sorted(first + second) == sorted(numbers - {key})
    for way in () if cyclic else (first, second):
        distance = [abs(n - key) for n in way]
        assert distance == sorted(distance)
