"""Do systems differ? Friedman's test over all, Wilcoxon's signed-rank test for pairs with Bonferroni's correction.

The blocks are the test subjects, each with its mean over regions and seeds; systems are compared over the same seeds.
These tests speak of subjects alone: what another training of the same system would change is no part of them. Regions
of one subject come out of one deformation: taken as blocks of their own they would count the same evidence several
times and make p too small. A subject for which one of the systems lacks a figure of a region is left out of that
metric's tests, and the number is reported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from Training.spread import mean

from .catalogue import OURS, UNSUPERVISED, Variant
from .measures import PAPER_METRICS, Metric, Selection, common_seeds, comparison, per_subject, select
from .store import Results, Run

FRIEDMAN, WILCOXON, STUDENT = "Friedman", "Wilcoxon", "Student, paired"
CONTRASTS = (
    ("recon+contrast", "recon"),
    ("recon+smooth+contrast", "recon+smooth"),
    ("recon+byol", "recon"),
    ("recon+smooth+byol", "recon+smooth"),
)
SIGNIFICANT = 0.05
MAX_STEPS_RATIO = 1.5  # of two trainings of as many minutes, beyond which a difference may be that of their steps


@dataclass(frozen=True)
class Comparison:
    """One test; NaN where it could not be made, as ``note`` says.

    difference      first − second: median over subjects (Wilcoxon), mean over seeds (Student)
    low, high       95 % confidence interval of the difference (Student)
    p_corrected     p times the number of ``comparisons`` made for this metric, at most 1
    least_p         the smallest corrected p that so many subjects can give: above 0.05 nothing can be significant
    """

    dataset: str
    metric: str
    test: str
    first: str
    second: str
    count: int
    left_out: int = 0
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    statistic: float = math.nan
    p: float = math.nan
    comparisons: int = 1
    p_corrected: float = math.nan
    least_p: float = math.nan
    note: str = ""


def all_tests(results: Results, dataset: str) -> list[Comparison]:
    """Friedman and pairs for each metric over the unsupervised systems that were run, and the contrastive term's."""
    selection = comparison(results, dataset)
    tests = []
    for metric in PAPER_METRICS:
        values, left_out = blocks(selection, metric)
        tests += [friedman(dataset, metric, values, left_out), *pairwise(dataset, metric, values, left_out)]
    return tests + contrast_tests(results, dataset)


def blocks(selection: Selection, metric: Metric) -> tuple[dict[str, np.ndarray], int]:
    """system → one value for each subject that all systems have, in the same order; and how many subjects lack one."""
    by_system = {s: per_subject(selection, selection.of(s), metric, complete=True) for s in UNSUPERVISED}
    measured = {system: values for system, values in by_system.items() if values}
    subjects = sorted({subject for values in measured.values() for subject in values})
    whole = [
        subject
        for subject in subjects
        if not any(math.isnan(values.get(subject, math.nan)) for values in measured.values())
    ]
    return (
        {system: np.array([values[subject] for subject in whole]) for system, values in measured.items()},
        len(subjects) - len(whole),
    )


def friedman(dataset: str, metric: Metric, values: Mapping[str, np.ndarray], left_out: int = 0) -> Comparison:
    """Friedman's χ² with k − 1 degrees of freedom: do the systems' ranks within subjects differ at all?"""
    count = _count(values)
    test = {
        "dataset": dataset,
        "metric": metric.key,
        "test": FRIEDMAN,
        "first": " ".join(values),
        "second": "",
        "count": count,
        "left_out": left_out,
    }
    if len(values) < 3 or count < 3:
        return Comparison(**test, note=f"needs three systems and three subjects; there are {len(values)} and {count}")
    if all(np.ptp(block) == 0 for block in zip(*values.values(), strict=True)):
        return Comparison(**test, statistic=0.0, p=1.0, p_corrected=1.0, note="all systems agree")
    statistic, p = _statistic_and_p(stats.friedmanchisquare(*values.values()))
    return Comparison(**test, statistic=statistic, p=p, p_corrected=p)


def pairwise(dataset: str, metric: Metric, values: Mapping[str, np.ndarray], left_out: int = 0) -> list[Comparison]:
    """Wilcoxon's signed-rank test (two-sided) of every pair of systems over the same subjects."""
    pairs = list(combinations(values, 2))
    return [
        wilcoxon(dataset, metric, first, second, values[first], values[second], len(pairs), left_out)
        for first, second in pairs
    ]


def wilcoxon(
    dataset: str,
    metric: Metric,
    first: str,
    second: str,
    a: np.ndarray,
    b: np.ndarray,
    comparisons: int,
    left_out: int = 0,
) -> Comparison:
    """One pair: p by the exact distribution where there are no ties, times the number of comparisons."""
    difference = a - b
    count = len(difference)
    fixed = {
        "dataset": dataset,
        "metric": metric.key,
        "test": WILCOXON,
        "first": first,
        "second": second,
        "count": count,
        "left_out": left_out,
        "comparisons": comparisons,
    }
    if count < 2:
        return Comparison(**fixed, note=f"needs two subjects; there are {count}")
    least = min(1.0, comparisons * 2.0 ** (1 - count))
    statistic, p = (0.0, 1.0) if not difference.any() else _statistic_and_p(stats.wilcoxon(difference))
    return Comparison(
        **fixed,
        difference=float(np.median(difference)),
        statistic=statistic,
        p=p,
        p_corrected=min(1.0, p * comparisons),
        least_p=least,
        note="too few subjects for any p below 0.05" if least > SIGNIFICANT else "",
    )


def contrast_tests(results: Results, dataset: str) -> list[Comparison]:
    """With against without the contrastive term, with the seeds that both have: over subjects, and over the seeds.

    A minute is not of as much worth on a machine that is busy: seeds of which one run has half as many steps again as
    the other are left out.
    """
    tests = []
    selection = select(results, dataset, {Variant(OURS, name) for names in CONTRASTS for name in names})
    for metric in PAPER_METRICS:
        for first, second in CONTRASTS:
            both = [selection.of(OURS, variant) for variant in (first, second)]
            seeds = [seed for seed in sorted(common_seeds(both)) if _as_long(both, seed)]
            both = [[run for run in runs if run.seed in seeds] for runs in both]
            figures = [per_subject(selection, runs, metric, complete=True) for runs in both]
            shared = sorted(figures[0].keys() & figures[1].keys())
            a, b = (np.array([values[subject] for subject in shared]) for values in figures)
            known = ~np.isnan(a + b)
            tests.append(
                wilcoxon(dataset, metric, first, second, a[known], b[known], len(CONTRASTS), int((~known).sum()))
            )
            means = [[mean(per_subject(selection, [run], metric).values()) for run in runs] for runs in both]
            tests.append(over_seeds(dataset, metric, first, second, *means))
    return tests


def _as_long(groups: Sequence[Sequence[Run]], seed: int) -> bool:
    steps = [run.train_steps for runs in groups for run in runs if run.seed == seed]
    return max(steps) <= MAX_STEPS_RATIO * min(steps)


def over_seeds(
    dataset: str, metric: Metric, first: str, second: str, a: Sequence[float], b: Sequence[float]
) -> Comparison:
    """Difference of two variants' means, seed by seed (a seed is one start and one order of pairs), with Student's t.

    Its 95 % interval tells whether the difference exceeds what another seed would change.
    """
    difference = np.array(a) - np.array(b)
    fixed = {
        "dataset": dataset,
        "metric": metric.key,
        "test": STUDENT,
        "first": first,
        "second": second,
        "count": len(difference),
        "comparisons": len(CONTRASTS),
    }
    if len(difference):
        fixed["difference"] = float(difference.mean())
    if len(difference) < 2:
        return Comparison(
            **fixed, note=f"needs two seeds that both have, of about as many steps; there are {len(difference)}"
        )
    if np.ptp(difference) == 0:
        return Comparison(**fixed, note="no spread over seeds")
    test = stats.ttest_rel(a, b)
    statistic, p = _statistic_and_p(test)
    interval = test.confidence_interval(0.95)
    return Comparison(
        **fixed,
        low=float(interval.low),
        high=float(interval.high),
        statistic=statistic,
        p=p,
        p_corrected=min(1.0, p * len(CONTRASTS)),
    )


def _statistic_and_p(test: Any) -> tuple[float, float]:
    """Of a SciPy result, whose types are not declared."""
    return float(test.statistic), float(test.pvalue)


def _count(values: Mapping[str, np.ndarray]) -> int:
    return min((len(of) for of in values.values()), default=0)
