"""The tests are SciPy's on one value a subject, corrected by hand; what cannot be tested says why."""

import math

import numpy as np
import pytest
from scipy import stats
from synthetic import measured, results_of

from Training.experiments.catalogue import AS_PUBLISHED
from Training.experiments.measures import DICE, HD, comparison, select
from Training.experiments.statistics import (
    FRIEDMAN,
    STUDENT,
    WILCOXON,
    all_tests,
    blocks,
    friedman,
    over_seeds,
    pairwise,
)

RANDOM = np.random.default_rng(3)
VALUES = {name: RANDOM.normal(level, 0.05, 10) for name, level in (("syn", 0.6), ("faim", 0.65), ("clmorph", 0.7))}


def test_friedman_and_wilcoxon_are_those_of_scipy_with_bonferroni():
    overall = friedman("d", DICE, VALUES)
    assert (overall.statistic, overall.p) == pytest.approx(tuple(stats.friedmanchisquare(*VALUES.values())))
    pairs = {(test.first, test.second): test for test in pairwise("d", DICE, VALUES)}
    assert len(pairs) == 3
    expected = stats.wilcoxon(VALUES["syn"], VALUES["clmorph"])
    test = pairs["syn", "clmorph"]
    assert (test.statistic, test.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert test.p_corrected == pytest.approx(min(1, 3 * expected.pvalue)) and test.comparisons == 3
    assert test.difference == pytest.approx(np.median(VALUES["syn"] - VALUES["clmorph"]))


def test_the_least_p_is_reached_when_all_subjects_agree():
    values = {"syn": np.linspace(0.5, 0.6, 7), "clmorph": np.linspace(0.61, 0.8, 7)}
    test = pairwise("d", DICE, values)[0]
    assert test.p_corrected == pytest.approx(test.least_p) == 2 / 2**7
    few = pairwise("d", DICE, {name: of[:4] for name, of in values.items()})[0]
    assert few.least_p > 0.05 and "too few" in few.note


def test_equal_systems_do_not_differ():
    same = {name: np.full(5, 0.7) for name in ("syn", "faim", "clmorph")}
    assert friedman("d", DICE, same).p == 1 and pairwise("d", DICE, same)[0].p_corrected == 1


def test_two_systems_or_subjects_are_too_few_for_friedman():
    assert math.isnan(friedman("d", DICE, {name: of for name, of in VALUES.items() if name != "syn"}).p)
    assert "three subjects" in friedman("d", DICE, {name: of[:2] for name, of in VALUES.items()}).note
    assert "two subjects" in pairwise("d", DICE, {name: of[:1] for name, of in VALUES.items()})[0].note


def test_blocks_are_subjects_that_all_systems_have():
    run, rows, deformations = measured("syn", [[0.5, 0.5], [0.6, 0.8]])
    first = rows[0]
    lost = [type(first)(**{**vars(row), "hd_mm": math.nan}) for row in rows[:2]]
    results = results_of(
        (run, [*lost, *rows[2:]], deformations),
        measured("clmorph", [[0.7, 0.7], [0.9, 0.9]]),
        measured("unet", [[1.0, 1.0]]),
        measured("affine", [[0.1, 0.1]]),
    )
    selection = select(results, "hippocampus", AS_PUBLISHED)
    values, left_out = blocks(selection, DICE)
    assert list(values) == ["syn", "clmorph"] and left_out == 0  # neither the supervised nor the affine one
    np.testing.assert_allclose(values["syn"], [0.5, 0.7])
    values, left_out = blocks(selection, HD)
    assert left_out == 1 and [len(of) for of in values.values()] == [1, 1]


def test_students_t_over_seeds_is_scipys_and_needs_two():
    a, b = [0.80, 0.81, 0.82], [0.78, 0.80, 0.79]
    test, expected = over_seeds("d", DICE, "with", "without", a, b), stats.ttest_rel(a, b)
    assert test.p == pytest.approx(expected.pvalue) and test.p_corrected == pytest.approx(min(1, 4 * expected.pvalue))
    assert test.difference == pytest.approx(0.02) and test.low < 0.02 < test.high
    one = over_seeds("d", DICE, "with", "without", [0.8], [0.7])
    assert one.difference == pytest.approx(0.1) and math.isnan(one.p) and "two seeds" in one.note


def test_variants_are_compared_over_the_seeds_that_both_have():
    def run(variant, level, seed):
        return measured("clmorph", np.full((6, 2), level) + 0.001 * np.arange(6)[:, None], variant, seed=seed)

    runs = [run("recon", 0.7, 0), run("recon", 0.6, 1), run("recon+contrast", 0.71, 0)]  # seed 1 is a bad start
    tests = {
        t.test: t
        for t in all_tests(results_of(*runs), "hippocampus")
        if t.metric == "dice" and t.first == "recon+contrast"
    }
    assert tests[WILCOXON].difference == pytest.approx(0.01) and tests[STUDENT].difference == pytest.approx(0.01)


def test_a_seed_of_which_one_run_has_far_more_steps_is_left_out():
    def run(variant, level, seed, steps):
        return measured("clmorph", np.full((6, 2), level), variant, seed=seed, train_steps=steps)

    runs = [run("recon", 0.7, 0, 100), run("recon", 0.6, 1, 40), run("recon", 0.5, 2, 100)]
    runs += [run("recon+contrast", level, seed, 120) for seed, level in enumerate((0.71, 0.8, 0.53))]
    found = all_tests(results_of(*runs), "hippocampus")
    test = next(t for t in found if (t.test, t.metric, t.first) == (STUDENT, "dice", "recon+contrast"))
    assert test.count == 2 and test.difference == pytest.approx(0.02)


def test_systems_are_compared_over_the_seeds_that_all_have():
    results = results_of(
        measured("clmorph", [[0.7, 0.7]]),
        measured("clmorph", [[0.9, 0.9]], seed=1),
        measured("faim", [[0.6, 0.6]]),
        measured("syn", [[0.5, 0.5]]),
    )
    assert [run.seed for run in comparison(results, "hippocampus").of("clmorph")] == [0]
    alone = results_of(measured("clmorph", [[0.7, 0.7]], seed=1), measured("faim", [[0.6, 0.6]]))
    assert len(comparison(alone, "hippocampus").runs) == 2


def test_a_lost_region_does_not_flatter_its_system():
    run, rows, deformations = measured("syn", [[0.9, 0.1], [0.9, 0.1]])
    lost = type(rows[1])(**{**vars(rows[1]), "status": "missing", "dice": 0.0, "hd_mm": math.nan})
    results = results_of((run, [rows[0], lost, *rows[2:]], deformations), measured("faim", [[0.8, 0.2], [0.8, 0.2]]))
    values, left_out = blocks(comparison(results, "hippocampus"), HD)
    assert left_out == 1 and [len(of) for of in values.values()] == [1, 1]


def test_the_contrastive_term_is_tested_over_subjects_and_over_seeds():
    random = np.random.default_rng(0)
    runs = [
        measured("clmorph", random.normal(level, 0.01, (8, 2)), variant, seed=seed)
        for variant, level in (("recon+smooth", 0.7), ("recon+smooth+contrast", 0.75))
        for seed in range(3)
    ]
    tests = [test for test in all_tests(results_of(*runs), "hippocampus") if test.metric == "dice"]
    found = {(test.test, test.first): test for test in tests}
    assert found[WILCOXON, "recon+smooth+contrast"].p == pytest.approx(2 / 2**8)
    assert found[STUDENT, "recon+smooth+contrast"].difference == pytest.approx(0.05, abs=0.01)
    assert found[STUDENT, "recon+smooth+contrast"].low > 0
    assert "there are 0" in found[STUDENT, "recon+contrast"].note and math.isnan(found[WILCOXON, "recon+byol"].p)
    assert "three systems" in next(test for test in tests if test.test == FRIEDMAN).note
