"""Means and deviations are of the values that exist."""

import math

import pytest

from Training.spread import Spread, mean


def test_values_that_are_nan_count_for_nothing():
    assert Spread.of([1.0, math.nan, 3.0]) == Spread(2.0, pytest.approx(math.sqrt(2)), 2)
    assert mean([math.nan, 4.0]) == 4.0 and math.isnan(mean([]))


def test_the_text_says_what_there_is():
    assert Spread.of([0.5, 0.7]).text(2) == "0.60 ± 0.14"
    assert Spread.of([0.5]).text(1) == "0.5" and math.isnan(Spread.of([0.5]).sd)
    assert Spread.of([math.nan]).text(2) == "" and Spread().text(2, "–") == "–"
