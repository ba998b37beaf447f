"""Tests by permutation and effect sizes against other ways to the same numbers."""

import numpy as np
import pytest
from scipy import stats

from CLMorphCore.morphometry.design import Design, Term
from CLMorphCore.morphometry.statistics import effect_size, permutation_test

COHORTS, PERMUTATIONS = 40, 99


def design(group, *others):
    terms = (Term("group", np.asarray(group, float), ("a", "b")), *others)
    return Design(" + ".join(t.name for t in terms), terms)


def test_t_and_the_effect_are_those_of_two_groups():
    random = np.random.default_rng(4)
    group = np.array([0] * 9 + [1] * 7)
    values = random.normal(size=(16, 5)) + group[:, None] * [0, 1, 2, -1, 0.5]
    one = design(group)
    found = permutation_test(one, one.terms[0], values, permutations=200)
    t, p = stats.ttest_ind(values[group == 1], values[group == 0])
    assert np.allclose(found.t, t) and (np.argsort(found.p) == np.argsort(p)).all() and found.p.min() >= 1 / 201
    a, b = values[group == 0], values[group == 1]
    pooled = np.sqrt((8 * a.var(axis=0, ddof=1) + 6 * b.var(axis=0, ddof=1)) / 14)
    assert np.allclose(found.effect, (1 - 3 / (4 * 14 - 1)) * (b.mean(axis=0) - a.mean(axis=0)) / pooled)
    assert np.allclose(found.effect, (1 - 3 / 55) * t * np.sqrt(1 / 9 + 1 / 7))


def test_portions_of_permutations_add_up():
    """p = (1 + permutations that reach |t|) / (1 + all of them), whatever is made at once."""
    random = np.random.default_rng(8)
    one = design([0] * 10 + [1] * 10)
    values = random.normal(size=(20, 40))
    values[10:, 0] += 6
    told = []
    found = permutation_test(
        one, one.terms[0], values, permutations=250, progress=lambda step, fraction: told.append(fraction)
    )
    counts = found.p * 251
    assert np.allclose(counts, np.round(counts)) and found.p[0] == pytest.approx(1 / 251) and found.p.max() > 0.9
    assert told == [0, 0.4, 0.8]
    again = permutation_test(one, one.terms[0], values, permutations=2000)
    assert np.abs(again.p - found.p).max() < 0.1


def test_a_number_has_the_standardised_coefficient_with_students_interval():
    random = np.random.default_rng(5)
    age = random.uniform(20, 80, 30)
    values = 0.05 * age[:, None] + random.normal(size=(30, 1))
    term = Term("age", age)
    effect, low, high = effect_size(Design("age", (term,)), term, values)
    line = stats.linregress(age, values[:, 0])
    scale = age.std() / values.std()
    half = stats.t.ppf(0.975, 28) * line.stderr
    assert effect[0] == pytest.approx(line.slope * scale) == pytest.approx(line.rvalue)
    assert (low[0], high[0]) == pytest.approx(((line.slope - half) * scale, (line.slope + half) * scale))


def test_a_covariate_is_held_fixed():
    """Values that follow the covariate alone: a group that differs in it has a raw effect, and none beside it."""
    random = np.random.default_rng(6)
    group = np.array([0, 1] * 15)
    age = 40 + 10 * group + random.normal(size=30) * 4
    values = (age + random.normal(size=30))[:, None]
    raw = design(group)
    assert permutation_test(raw, raw.terms[0], values, permutations=200).p[0] < 0.05
    both = design(group, Term("age", age))
    held, with_age = (permutation_test(both, term, values, permutations=200) for term in both.terms)
    assert held.p[0] > 0.05 and with_age.p[0] < 0.01 and with_age.effect[0] > 0.5
    columns = np.column_stack([np.ones(30), age, group])
    inverse = np.linalg.inv(columns.T @ columns)
    slope = inverse @ columns.T @ values[:, 0]
    deviation = np.sqrt(np.square(values[:, 0] - columns @ slope).sum() / 27)
    assert held.t[0] == pytest.approx(slope[2] / deviation / np.sqrt(inverse[2, 2]))


def test_the_interval_of_g_holds_the_truth_as_often_as_it_says():
    random = np.random.default_rng(7)
    one = design([0] * 15 + [1] * 15)
    values = random.normal(size=(30, 2000)) + 0.8 * one.terms[0].values[:, None]
    effect, low, high = effect_size(one, one.terms[0], values)
    assert abs(effect.mean() - 0.8) < 0.03 and 0.93 < np.mean((low <= 0.8) & (high >= 0.8)) < 0.97


def test_values_that_never_vary_are_not_significant():
    one = design([0, 1] * 5)
    values = np.zeros((10, 3))
    values[:, 1] = np.random.default_rng(0).normal(size=10)
    found = permutation_test(one, one.terms[0], values, permutations=50)
    assert found.t[[0, 2]].tolist() == [0, 0] and found.p[[0, 2]].tolist() == [1, 1] and np.isfinite(found.effect).all()
    assert permutation_test(one, one.terms[0], values * 0, permutations=50).p.tolist() == [1, 1, 1]


def test_null_cohorts_are_significant_somewhere_no_more_often_than_they_may_be():
    """The whole of it, on 100 cohorts: null_cohorts.py beside this file."""
    from null_cohorts import false_positives, most_expected

    found = false_positives(cohorts=COHORTS, permutations=PERMUTATIONS)
    assert found <= most_expected(COHORTS)


def test_enhancement_by_extent_finds_what_is_weak_and_wide():
    random = np.random.default_rng(9)
    one = design([0] * 10 + [1] * 10)
    mask = np.ones((8, 8, 8), bool)
    values = random.normal(size=(20, 8, 8, 8))
    values[10:, 1:6, 1:6, 1:6] += 1.3
    found = permutation_test(one, one.terms[0], values.reshape(20, -1), permutations=60, mask=mask)
    inside = np.zeros_like(mask)
    inside[1:6, 1:6, 1:6] = True
    by_extent, by_height = ((p < 0.05).reshape(mask.shape) for p in (found.p_tfce, found.p))
    assert by_extent[inside].mean() > 0.5 and by_extent[inside].mean() > 4 * by_height[inside].mean()
    assert by_extent[~inside].mean() < 0.1
