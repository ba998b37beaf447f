"""How the quality score does: correlation of expected and true Dice, false alarms, corrupted scans that are flagged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from CLMorphCore.quality.evidence import Evidence
from CLMorphCore.quality.judgement import PASS, REJECT, REVIEW, verdict_of
from CLMorphCore.quality.observations import GENUINE, Observation
from CLMorphCore.quality.score import Quality

Scored = Sequence[tuple[Quality, Observation]]


def figures(scored: Scored) -> dict[str, float]:
    """Correlation, mean error, false alarms and the share of each kind of corrupted scan that is flagged."""
    labelled = list(_labelled(scored))
    errors = [np.mean([expected - true for expected, true in pairs]) for one in labelled if (pairs := _pairs(*one))]
    within = [inside for one in labelled for inside in _within(*one)]
    table: dict[str, float] = {
        "subjects": len({o.subject for _, o in scored if o.kind == GENUINE and o.dice is not None}),
        "spearman": correlation(scored),
        "mean_error": float(np.mean(errors)),
    }
    if within:
        table["within interval"] = float(np.mean([inside for inside, _ in within]))
        table["width of interval"] = float(np.mean([width for _, width in within]))
    for kind in sorted({o.kind for _, o in scored}, key=lambda k: k != GENUINE):
        flags = [_flagged(q, o) for q, o in scored if o.kind == kind]
        table["false alarms" if kind == GENUINE else f"flagged: {kind}"] = float(np.mean(flags))
    flags = [_flagged(q, o) for q, o in scored if o.kind != GENUINE]
    if flags:
        table["flagged"] = float(np.mean(flags))
    for name, genuine in (("genuine", True), ("corrupted", False)):
        verdicts = [_verdict(q, o) for q, o in scored if (o.kind == GENUINE) is genuine]
        for verdict in (PASS, REVIEW, REJECT) if verdicts else ():
            table[f"{name}: {verdict}"] = verdicts.count(verdict) / len(verdicts)
    return {name: round(value, 4) for name, value in table.items()}


def correlation(scored: Scored) -> float:
    """Spearman's correlation of expected and true Dice over the structures of the genuine, labelled scans."""
    expected, true = zip(*(pair for one in _labelled(scored) for pair in _pairs(*one)), strict=True)
    test: Any = spearmanr(expected, true)
    return float(test.statistic)


def _pairs(quality: Quality, found: Evidence, dice: np.ndarray) -> list[tuple[float, float]]:
    """The expected and the true Dice of each structure that the fit knows and the subject has."""
    expected = quality.expected_dice(found)
    return [
        (expected[value], float(true))
        for value, true in zip(found.values, dice, strict=True)
        if value in expected and not np.isnan(true)
    ]


def _labelled(scored: Scored) -> Iterator[tuple[Quality, Evidence, np.ndarray]]:
    for quality, o in scored:
        if o.kind == GENUINE and o.evidence is not None and o.dice is not None:
            yield quality, o.evidence, o.dice


def _flagged(quality: Quality, observation: Observation) -> bool:
    return observation.evidence is None or quality.outlier_score(observation.evidence) > 1


def _verdict(quality: Quality, observation: Observation) -> str:
    return REJECT if observation.evidence is None else verdict_of(quality, observation.evidence)[0]


def _within(quality: Quality, found: Evidence, dice: np.ndarray) -> Iterator[tuple[bool, float]]:
    """Of each structure whether its Dice lies in the expected interval, and how wide that is."""
    ends = quality.interval(found)
    for value, true in zip(found.values, dice, strict=True):
        if value in ends and not np.isnan(true):
            low, high = ends[value]
            yield low <= true <= high, high - low
