"""How far a segmentation can be trusted: uncertainty and expected Dice for the report, and warnings in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import SimpleITK as sitk
from torch import Tensor

from ..bundles.atlas import Atlas, Structure
from ..bundles.model import Model
from ..registration import Registration
from .evidence import Evidence, evidence
from .score import DROP, Quality, read_quality
from .uncertainty import alternative_displacements, disagreement_on_fixed, mean_per_label

REASONS = {
    "likeness": "the warped atlas hardly resembles the scan",
    "likeness_affine": "the atlas hardly resembles the scan after the affine alignment",
    "agreement": "the labels change much with the direction of the registration",
    "shift": "the map changes much with the direction of the registration",
    "overlap": "atlas and scan do not cover each other",
    "size": "the affine alignment changes the size unusually",
    "shape": "the affine alignment stretches unusually",
    "turn": "the affine alignment turns unusually far",
    "facing": "a mirrored scan would fit as well; the orientation in the file's header may be wrong",
    "covered": "a part of the labels lies where the scan shows nothing",
}


@dataclass(frozen=True)
class Judgement:
    """What is said about a segmentation's trustworthiness.

    uncertainty  map on the scan's grid, 0…1, or None where there is no second alternative
    structures   value → {"uncertainty": …, "quality": …}, None for what is not known
    summary      the report's ``quality``
    warnings     sentences
    """

    uncertainty: sitk.Image | None
    structures: dict[int, dict[str, float | None]]
    summary: dict[str, Any]
    warnings: tuple[str, ...]


def judge(
    model: Model,
    registration: Registration,
    atlases: Sequence[Atlas],
    structures: Sequence[Structure],
    labels: sitk.Image,
    disagreement: sitk.Image | None,
) -> Judgement:
    """The trust in ``labels``, made from one atlas by a registration or from several, with their ``disagreement``."""
    alternatives = alternative_displacements(model, registration) if disagreement is None else []
    uncertainty = disagreement
    if alternatives:
        uncertainty = disagreement_on_fixed(atlases[0].labels, registration, alternatives)
    disagreements = mean_per_label(uncertainty, labels) if uncertainty is not None else {}
    expected, summary, warnings = _quality(model, registration, atlases, structures, alternatives)
    each = {
        s.value: {"uncertainty": _rounded(disagreements.get(s.value)), "quality": _rounded(expected.get(s.value))}
        for s in structures
    }
    return Judgement(uncertainty, each, summary, warnings)


def _quality(
    model: Model,
    registration: Registration,
    atlases: Sequence[Atlas],
    structures: Sequence[Structure],
    alternatives: Sequence[Tensor],
) -> tuple[dict[int, float], dict[str, Any], tuple[str, ...]]:
    """Expected Dice per structure, the summary, and the warnings."""
    quality = read_quality(model.folder)
    note = _why_not(model, quality, atlases, alternatives)
    if quality is None or note:
        return {}, {"expected_dice": None, "outlier_score": None, "note": note}, ()
    found = evidence(registration, atlases[0].labels, [s.value for s in structures], alternatives)
    expected, outlier_score = quality.expected_dice(found), quality.outlier_score(found)
    mean = sum(expected.values()) / len(expected) if expected else None
    summary = {"expected_dice": _rounded(mean), "outlier_score": _rounded(outlier_score), "note": ""}
    return expected, summary, tuple(_warnings(quality, found, structures, expected, outlier_score))


def _why_not(model: Model, quality: Quality | None, atlases: Sequence[Atlas], alternatives: Sequence[Tensor]) -> str:
    """Why there is no quality score, or nothing."""
    if quality is None:
        return f"no quality score: model {model.name} has no quality.toml"
    used = [atlas.name for atlas in atlases]
    if used != [quality.atlas]:
        return f"no quality score: it was fitted for the atlas {quality.atlas} alone, not for {', '.join(used)}"
    return "" if alternatives else "no quality score: the network gives no second alternative"


def _warnings(
    quality: Quality,
    found: Evidence,
    structures: Sequence[Structure],
    expected: Mapping[int, float],
    outlier_score: float,
) -> list[str]:
    warnings = []
    if outlier_score > 1:
        warnings.append(
            f"this scan is unlike those that the model was checked on: {REASONS[quality.most_unusual(found)]}; "
            "do not use the labels without looking at them"
        )
    low = [s.name for s in structures if expected.get(s.value, 1.0) < quality.usual_dice(s.value) - DROP]
    if low:
        warnings.append(
            f"lower quality than usual is expected of {len(low)} of {len(structures)} structures: "
            f"{', '.join(low[:5])}{' …' if len(low) > 5 else ''}"
        )
    return warnings


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
