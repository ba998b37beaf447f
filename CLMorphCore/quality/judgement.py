"""How far a segmentation can be trusted: uncertainty and expected Dice for the report, and warnings in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from torch import Tensor

from ..bundles.atlas import Atlas, Structure, structures_of
from ..bundles.model import Model
from ..errors import listed
from ..geometry import Grid
from ..matching import Match
from ..reports.report import QualityEntry
from .evidence import Evidence, evidence
from .score import Quality, read_quality
from .uncertainty import alternative_displacements, disagreement_on_fixed, mean_per_label

PASS, REVIEW, REJECT = "pass", "review", "reject"
REJECTED = 2.0  # outlier score above which a case is rejected, not only looked at
MAX_LOW = 0.1  # share of the structures of which less than usual may be expected in a case that passes
REASONS = {
    "correlation": "the warped atlas hardly resembles the scan",
    "correlation_affine": "the atlas hardly resembles the scan after the affine alignment",
    "agreement": "the labels change much with the direction of the registration",
    "stability": "the map changes much with the direction of the registration",
    "overlap": "atlas and scan do not cover each other",
    "size": "the affine alignment changes the size unusually",
    "shape": "the affine alignment stretches unusually",
    "rotation": "the affine alignment turns unusually far",
    "orientation_margin": "a mirrored scan would fit as well; the orientation in the file's header may be wrong",
    "coverage": "a part of the labels lies where the scan shows nothing",
}


@dataclass(frozen=True)
class StructureJudgement:
    """Of one structure: mean label disagreement, 0…1, the Dice to expect and its interval; None where not known."""

    uncertainty: float | None
    expected_dice: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Judgement:
    """How far a segmentation can be trusted.

    uncertainty  map of label disagreement on the scan's grid, 0…1, or None where there is no alternative
    structures   value → what is known of it
    """

    uncertainty: sitk.Image | None
    structures: dict[int, StructureJudgement]
    quality: QualityEntry
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Outlook:
    """What a match tells before there are labels.

    uncertainty          map of label disagreement on the scan's grid, 0…1, or None where there is no alternative
    expected, intervals  value → the Dice to expect and its interval, where they are known
    """

    uncertainty: sitk.Image | None
    expected: dict[int, float]
    intervals: dict[int, tuple[float, float]]
    quality: QualityEntry
    warnings: tuple[str, ...]


def outlook(model: Model, found: Match | None, atlases: Sequence[Atlas], structures: Sequence[Structure]) -> Outlook:
    """What the match with the only atlas tells; None where several vote, whose disagreement is the uncertainty."""
    alternatives = [] if found is None else alternative_displacements(model, found)
    expected, intervals, quality, warnings = _quality(model, found, atlases, structures, alternatives)
    uncertainty = None
    if found is not None and alternatives:
        uncertainty = disagreement_on_fixed(atlases[0].labels, found, alternatives)
    return Outlook(uncertainty, expected, intervals, quality, warnings)


def judge(
    known: Outlook, structures: Sequence[Structure], labels: sitk.Image, disagreement: sitk.Image | None
) -> Judgement:
    """The judgement of ``labels`` by what their match told, or with the ``disagreement`` of several atlases."""
    uncertainty = known.uncertainty if disagreement is None else disagreement
    shares = mean_per_label(uncertainty, labels) if uncertainty is not None else {}
    each = {
        s.value: StructureJudgement(
            _rounded(shares.get(s.value)),
            _rounded(known.expected.get(s.value)),
            _rounded_pair(known.intervals.get(s.value)),
        )
        for s in structures
    }
    return Judgement(uncertainty, each, known.quality, known.warnings)


def _quality(
    model: Model,
    found: Match | None,
    atlases: Sequence[Atlas],
    structures: Sequence[Structure],
    alternatives: Sequence[Tensor],
) -> tuple[dict[int, float], dict[int, tuple[float, float]], QualityEntry, tuple[str, ...]]:
    """Expected Dice per structure and its intervals, the report's entry, and the warnings."""
    quality = read_quality(model.folder)
    note = _why_not(model, quality, atlases, alternatives)
    if quality is None or found is None or note:
        return {}, {}, QualityEntry(None, None, note), ()
    shown = evidence(found, atlases[0].labels, [s.value for s in structures], alternatives)
    expected, score = quality.expected_dice(shown), quality.outlier_score(shown)
    mean = sum(expected.values()) / len(expected) if expected else None
    verdict, reason = verdict_of(quality, shown)
    entry = QualityEntry(_rounded(mean), _rounded(score), verdict=verdict, reason=reason)
    return expected, quality.interval(shown), entry, tuple(_warnings(quality, shown, structures))


def verdict_of(quality: Quality, found: Evidence) -> tuple[str, str]:
    """(pass, review or reject, why): reject where labels should not be used, review where someone has to look first."""
    score, low, count = quality.outlier_score(found), len(quality.lower_than_usual(found)), len(quality.usual)
    if score > 1:
        return (REJECT if score > REJECTED else REVIEW), _unlike(quality, found)
    if low > MAX_LOW * count:
        return REVIEW, _lower(low, count)
    return PASS, ""


def _unlike(quality: Quality, found: Evidence) -> str:
    return f"this scan is unlike those that the model was checked on: {REASONS[quality.most_unusual(found)]}"


def _lower(low: int, count: int) -> str:
    return f"lower quality than usual is expected of {low} of {count} structures"


def _why_not(model: Model, quality: Quality | None, atlases: Sequence[Atlas], alternatives: Sequence[Tensor]) -> str:
    """Why there is no quality score, or nothing."""
    if quality is None:
        return f"no quality score: model {model.name} has no quality.toml"
    used = [atlas.name for atlas in atlases]
    if used != [quality.atlas]:
        return f"no quality score: it was fitted for the atlas {quality.atlas} alone, not for {', '.join(used)}"
    if not any(_same(own, atlases[0]) for own in model.atlases):
        return f"no quality score: it was fitted for the model's own atlas {quality.atlas}, another one has its name"
    if not any(s.value in quality.usual for s in structures_of(atlases)):
        return f"no quality score: it was fitted for other structures than those of the atlas {quality.atlas}"
    return "" if alternatives else "no quality score: the network gives no alternative displacement"


def _same(one: Atlas, other: Atlas) -> bool:
    """Whether two atlases have the same voxels at the same places, whatever their structures are called."""
    pairs = ((one.image, other.image), (one.labels, other.labels))
    return all(a is b or (Grid.of(a).agrees_with(Grid.of(b)) and _equal(a, b)) for a, b in pairs)


def _equal(one: sitk.Image, other: sitk.Image) -> bool:
    return np.array_equal(sitk.GetArrayViewFromImage(one), sitk.GetArrayViewFromImage(other))


def _warnings(quality: Quality, found: Evidence, structures: Sequence[Structure]) -> list[str]:
    warnings, values = [], set(quality.lower_than_usual(found))
    low = [s.name for s in structures if s.value in values]
    if (score := quality.outlier_score(found)) > 1:
        looking = "" if score > REJECTED else " without looking at them"
        warnings.append(f"{_unlike(quality, found)}; do not use the labels{looking}")
    if low:
        warnings.append(f"{_lower(len(values), len(quality.usual))}: {listed(low, 5)}")
    return warnings


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _rounded_pair(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if ends is None else (round(ends[0], 3), round(ends[1], 3))
