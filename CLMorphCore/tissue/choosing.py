"""Whether, and how, a model's labels should follow the scan's tissue: tried on labelled scans that it has not seen.

Every scan is registered once; then its labels are made with each setting, and without. What is best on average is
chosen; off where that gains less than MIN_GAIN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
MIN_GAIN = 0.002  # mean Dice


@dataclass(frozen=True)
class Tried:
    """Settings and the mean Dice that labels reached with them; None: without the tissue model."""

    settings: TissueSettings | None
    dice: float


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

    InputError where the atlas' labels cannot follow a scan.
    """
    prepared, cases = scans.prepared, scans.cases
    tried: list[Tried] = []

    def keep(settings: TissueSettings | None, dice: Sequence[float]) -> float:
        tried.append(Tried(settings, float(np.mean(dice))))
        tell(tried[-1])
        return tried[-1].dice

    without = keep(None, [_dice(warped_labels(case.found, prepared), case, prepared) for case in cases])
    finest = min(Grid.of(prepared.atlases[0].labels).voxel_mm)
    first = [TissueSettings(True, round(n * finest, 3), FIRST_EXPONENT) for n in SMOOTHING_VOXELS]
    best = max(first, key=lambda one: keep(one, _followed(cases, prepared, one)))
    second = [replace(best, exponent=exponent) for exponent in EXPONENTS]
    best = max(second, key=lambda one: keep(one, _followed(cases, prepared, one)))
    return replace(best, on=max(each.dice for each in tried) - without >= MIN_GAIN), tried


def _case(subject: Subject, model: Model, prepared: PreparedAtlas) -> _Case:
    image, truth = read_subject(subject)
    if truth is None:
        raise InputError(f"subject {subject.name} has no labels; expected labelled subjects")
    return _Case(truth, match(align_scan(image, prepared, model), prepared, model))


def _followed(cases: Sequence[_Case], prepared: PreparedAtlas, settings: TissueSettings) -> list[float]:
    try:
        tissue = prepare_tissue(prepared.atlases, settings, prepared.device)
    except Unfit as reason:
        raise InputError(f"labels of this atlas cannot follow a scan: {reason}") from None
    return [_dice(followed_labels(case.found, prepared, tissue, settings.exponent), case, prepared) for case in cases]


def _dice(labels: sitk.Image, case: _Case, prepared: PreparedAtlas) -> float:
    """Mean over the structures that the subject has."""
    there = set(np.unique(sitk.GetArrayViewFromImage(case.truth)).tolist())
    values = [s.value for s in prepared.atlases[0].structures if s.value in there]
    whole = [sitk.Cast(image, sitk.sitkInt32) for image in (labels, case.truth)]
    return float(np.mean(list(dice_per_label(whole[0], whole[1], values).values())))
