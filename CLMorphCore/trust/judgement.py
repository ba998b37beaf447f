"""How far a segmentation can be trusted: uncertainty and expected Dice for the report, and warnings in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import SimpleITK as sitk
from torch import Tensor

from ..models import Atlas, Model, Structure
from ..registration import Registration
from .evidence import Evidence, evidence
from .quality import DROP, Quality, read_quality
from .uncertainty import doubt_on_fixed, mean_per_label, second_opinions

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
class Trust:
    """What is said about a segmentation's trustworthiness.

    uncertainty  map on the scan's grid, 0…1, or None where there is no second opinion
    structures   value → {"uncertainty": …, "quality": …}, None for what is not known
    summary      the report's ``quality``
    warnings     sentences
    """

    uncertainty: sitk.Image | None
    structures: dict[int, dict[str, float | None]]
    summary: dict[str, Any]
    warnings: tuple[str, ...]


def judge(model: Model, registration: Registration, atlases: Sequence[Atlas], structures: Sequence[Structure],
          labels: sitk.Image, dissent: sitk.Image | None) -> Trust:
    """The trust in ``labels``, made from one atlas by a registration or from several, with their ``dissent``."""
    opinions = second_opinions(model, registration) if dissent is None else []
    uncertainty = dissent
    if opinions:
        uncertainty = doubt_on_fixed(atlases[0].labels, registration, opinions)
    doubts = mean_per_label(uncertainty, labels) if uncertainty is not None else {}
    expected, summary, warnings = _quality(model, registration, atlases, structures, opinions)
    each = {s.value: {"uncertainty": _rounded(doubts.get(s.value)), "quality": _rounded(expected.get(s.value))}
            for s in structures}
    return Trust(uncertainty, each, summary, warnings)


def _quality(model: Model, registration: Registration, atlases: Sequence[Atlas], structures: Sequence[Structure],
             opinions: Sequence[Tensor]) -> tuple[dict[int, float], dict[str, Any], tuple[str, ...]]:
    """Expected Dice per structure, the summary, and the warnings."""
    quality = read_quality(model.folder)
    note = _why_not(model, quality, atlases, opinions)
    if quality is None or note:
        return {}, {"expected_dice": None, "oddness": None, "note": note}, ()
    found = evidence(registration, atlases[0].labels, [s.value for s in structures], opinions)
    expected, oddness = quality.expected_dice(found), quality.oddness(found)
    mean = sum(expected.values()) / len(expected) if expected else None
    summary = {"expected_dice": _rounded(mean), "oddness": _rounded(oddness), "note": ""}
    return expected, summary, tuple(_warnings(quality, found, structures, expected, oddness))


def _why_not(model: Model, quality: Quality | None, atlases: Sequence[Atlas], opinions: Sequence[Tensor]) -> str:
    """Why there is no quality score, or nothing."""
    if quality is None:
        return f"no quality score: model {model.name} has no quality.toml"
    used = [atlas.name for atlas in atlases]
    if used != [quality.atlas]:
        return f"no quality score: it was fitted for the atlas {quality.atlas} alone, not for {', '.join(used)}"
    return "" if opinions else "no quality score: the network gives no second opinion"


def _warnings(quality: Quality, found: Evidence, structures: Sequence[Structure], expected: Mapping[int, float],
              oddness: float) -> list[str]:
    warnings = []
    if oddness > 1:
        warnings.append(f"this scan is unlike those that the model was checked on: {REASONS[quality.oddest(found)]}; "
                        "do not use the labels without looking at them")
    low = [s.name for s in structures if expected.get(s.value, 1.0) < quality.usual_dice(s.value) - DROP]
    if low:
        warnings.append(f"lower quality than usual is expected of {len(low)} of {len(structures)} structures: "
                        f"{', '.join(low[:5])}{' …' if len(low) > 5 else ''}")
    return warnings


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
