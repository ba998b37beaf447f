"""How the quality score does: correlation of expected and true Dice, false alarms, corrupted scans that are flagged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from CLMorphCore.quality.evidence import Evidence
from CLMorphCore.quality.score import Quality

from .observations import GENUINE, Observation

Scored = Sequence[tuple[Quality, Observation]]


def figures(scored: Scored) -> dict[str, float]:
    """Correlation, mean error, false alarms and the share of each kind of corrupted scan that is flagged."""
    labelled = list(_labelled(scored))
    errors = [np.nanmean(list(q.expected_dice(shown).values())) - np.nanmean(dice) for q, shown, dice in labelled]
    table: dict[str, float] = {
        "subjects": len({o.subject for _, o in scored if o.kind == GENUINE and o.dice is not None}),
        "spearman": correlation(scored),
        "mean_error": float(np.mean(errors)),
    }
    for kind in sorted({o.kind for _, o in scored}, key=lambda k: k != GENUINE):
        flags = [_flagged(q, o) for q, o in scored if o.kind == kind]
        table["false alarms" if kind == GENUINE else f"flagged: {kind}"] = float(np.mean(flags))
    flags = [_flagged(q, o) for q, o in scored if o.kind != GENUINE]
    if flags:
        table["flagged"] = float(np.mean(flags))
    return {name: round(value, 4) for name, value in table.items()}


def correlation(scored: Scored) -> float:
    """Spearman's correlation of expected and true Dice over the structures of the genuine, labelled scans."""
    expected, true = [], []
    for quality, shown, dice_of_structures in _labelled(scored):
        expected_dice = quality.expected_dice(shown)
        for value, dice in zip(shown.values, dice_of_structures, strict=True):
            if value in expected_dice and not np.isnan(dice):
                expected.append(expected_dice[value])
                true.append(dice)
    test: Any = spearmanr(expected, true)
    return float(test.statistic)


def _labelled(scored: Scored) -> Iterator[tuple[Quality, Evidence, np.ndarray]]:
    for quality, o in scored:
        if o.kind == GENUINE and o.evidence is not None and o.dice is not None:
            yield quality, o.evidence, o.dice


def _flagged(quality: Quality, observation: Observation) -> bool:
    return observation.evidence is None or quality.outlier_score(observation.evidence) > 1
