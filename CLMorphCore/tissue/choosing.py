"""Whether, and how, a model's labels should follow the scan's tissue: tried on labelled scans that it has not seen.

Every scan is registered once; then its labels are made with each setting, and without. What is best on average is
chosen; off where that gains less than MIN_GAIN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ..bundles.model import Model
from ..errors import InputError
from ..geometry import Grid
from ..instance_optimization import InstanceOptimization
from ..io.manifest import Subject, read_subject
from ..matching import Match, PreparedAtlas, align_scan, match, optimized, prepare
from ..metrics import dice_per_label
from .carried import followed_labels, warped_labels
from .labels import Unfit
from .prepared import prepare_tissue
from .settings import TissueSettings

SMOOTHING_VOXELS = (0.3, 0.5, 0.8, 1.2, 2.0)  # of the atlas, along its finest axis
EXPONENTS = (0.2, 0.35, 0.5, 0.75, 1.0)
FIRST_EXPONENT = 0.35  # at which the smoothing is chosen
# Factors of the background and, beside that, of what is dark of it; beside 1 and 1.
BACKGROUNDS = ((0.9, 1.0), (0.8, 1.0), (0.65, 1.0), (0.5, 1.0), (1.25, 0.4), (1.0, 0.4), (0.8, 0.4))
RIGHT_VOLUME = 0.02  # mean logarithm of volume found / true, up to which Dice alone decides
TRIED = 1 + len(SMOOTHING_VOXELS) + len(EXPONENTS) + len(BACKGROUNDS)  # ways, of which ``choose_tissue`` tells
MIN_GAIN = 0.002  # mean Dice


@dataclass(frozen=True)
class Tried:
    """Settings and what labels reached with them; None: without the tissue model.

    dice    mean over structures and scans
    volume  mean of log (volume found / true), which is 0 where too little is as frequent as too much
    """

    settings: TissueSettings | None
    dice: float
    volume: float


@dataclass(frozen=True)
class _Case:
    """A labelled scan, registered."""

    truth: sitk.Image
    found: Match


@dataclass(frozen=True)
class Registered:
    """Labelled scans, each registered with the model's first atlas once."""

    model: Model
    prepared: PreparedAtlas
    cases: tuple[_Case, ...]

    def refined(self, optimization: InstanceOptimization) -> Registered:
        """The same, each map refined from where it is."""
        cases = (replace(case, found=optimized(case.found, self.model, optimization)) for case in self.cases)
        return replace(self, cases=tuple(cases))


def register_labelled(model: Model, subjects: Sequence[Subject]) -> Registered:
    """Aligns and registers labelled subjects with the model's first atlas."""
    prepared = prepare(model, model.atlases[:1])
    return Registered(model, prepared, tuple(_case(subject, model, prepared) for subject in subjects))


def choose_tissue(
    scans: Registered, *, tell: Callable[[Tried], None] = lambda tried: None
) -> tuple[TissueSettings, list[Tried]]:
    """The settings that are best on labelled scans, and all that was tried, without first; each is told of at once.

    The background's factors are, of those that lower no Dice, the ones with the highest Dice among those with the true
    volumes, or those nearest to these. InputError where the atlas' labels cannot follow a scan.
    """
    prepared, cases = scans.prepared, scans.cases
    tried: list[Tried] = []

    def keep(settings: TissueSettings | None, measured: Sequence[tuple[float, float]]) -> Tried:
        tried.append(Tried(settings, *np.mean(measured, axis=0).tolist()))
        tell(tried[-1])
        return tried[-1]

    def best_of(candidates: Iterable[TissueSettings]) -> Tried:
        return max((keep(one, _followed(cases, prepared, one)) for one in candidates), key=lambda one: one.dice)

    keep(None, [_measured(warped_labels(case.found, prepared), case, prepared) for case in cases])
    finest = min(Grid.of(prepared.atlases[0].labels).voxel_mm)
    best = best_of(TissueSettings(True, round(n * finest, 3), FIRST_EXPONENT) for n in SMOOTHING_VOXELS)
    best = best_of(replace(_settings(best), exponent=exponent) for exponent in EXPONENTS)
    others = [replace(_settings(best), background=all_, dark_background=dark) for all_, dark in BACKGROUNDS]
    weighed = [keep(one, _followed(cases, prepared, one)) for one in others]
    candidates = [best, *(one for one in weighed if one.dice >= best.dice)]
    right = [one for one in candidates if abs(one.volume) <= RIGHT_VOLUME]
    best = max(right, key=lambda one: one.dice) if right else min(candidates, key=lambda one: abs(one.volume))
    return replace(_settings(best), on=best.dice - tried[0].dice >= MIN_GAIN), tried


def reached(settings: TissueSettings, tried: Sequence[Tried]) -> float:
    """The Dice of the settings that were chosen, or without where that is higher."""
    return max(one.dice for one in tried if one.settings in (None, replace(settings, on=True)))


def _settings(tried: Tried) -> TissueSettings:
    assert tried.settings is not None
    return tried.settings


def _case(subject: Subject, model: Model, prepared: PreparedAtlas) -> _Case:
    image, truth = read_subject(subject)
    if truth is None:
        raise InputError(f"subject {subject.name} has no labels; expected labelled subjects")
    return _Case(truth, match(align_scan(image, prepared, model), prepared, model))


def _followed(cases: Sequence[_Case], prepared: PreparedAtlas, settings: TissueSettings) -> list[tuple[float, float]]:
    try:
        tissue = prepare_tissue(prepared.atlases, settings, prepared.device)
    except Unfit as reason:
        raise InputError(f"labels of this atlas cannot follow a scan: {reason}") from None
    return [_measured(followed_labels(case.found, prepared, tissue, settings), case, prepared) for case in cases]


def _measured(labels: sitk.Image, case: _Case, prepared: PreparedAtlas) -> tuple[float, float]:
    """Means over the structures that the subject has: Dice, and log (volume / true volume) of those that were found."""
    whole = [sitk.Cast(image, sitk.sitkInt32) for image in (labels, case.truth)]
    found, true = (np.unique(sitk.GetArrayViewFromImage(image), return_counts=True) for image in whole)
    there, true_there = (dict(zip(*(each.tolist() for each in counted), strict=True)) for counted in (found, true))
    values = [s.value for s in prepared.atlases[0].structures if s.value in true_there]
    ratios = [np.log(there[value] / true_there[value]) for value in values if value in there]
    dice = dice_per_label(whole[0], whole[1], values)
    return float(np.mean(list(dice.values()))), float(np.mean(ratios)) if ratios else 0.0
