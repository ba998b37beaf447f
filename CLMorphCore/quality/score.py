"""What Dice to expect of a segmentation that has no reference: evidence, and a regression fitted on labelled subjects.

For each structure a ridge regression on the logit of Dice predicts how far the structure lies from its own mean over
the training subjects (reverse classification accuracy and its kin predict Dice without labels: Valindria et al., IEEE
TMI 2017; Robinson et al., MICCAI 2018). How far that is off is told by subjects that it was not fitted to: those that
the atlas has not seen tell by how much on the whole, and with them the others, each left out in turn, within which
interval (conformal prediction with scaled residuals: Lei et al., JASA 2018; each subject about what others say: Barber
et al., Annals of Statistics 2021). Beside it, how far the case as a whole lies on the bad side of what training
subjects look like says whether any of that can be believed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..atomic import atomic_write
from ..errors import InputError
from ..io.files import read_toml, short
from .evidence import CHECKS, FEATURES, Evidence

MIN_DICE = 0.02  # logits end here and at 1 minus this
PENALTY = 1.0  # of the ridge, times the number of rows
MIN_SPREAD = 0.02  # of a check: one that is all but constant among good cases must not decide alone
FALSE_ALARMS = 0.05
MARGIN = 2.0  # the limit's: good scans from elsewhere look less like the training's than those look like one another
FLAGGED = 0.95  # share of the corrupted cases of the fit that stay beyond the limit whatever the margin
# How evidence was called in fits of version 0.1.
FORMER_NAMES = {
    "likeness": "correlation",
    "likeness_affine": "correlation_affine",
    "shift": "stability",
    "unevenness": "log_jacobian_sd",
    "growth": "volume_change",
    "kept": "affine_overlap",
    "covered": "coverage",
    "turn": "rotation",
    "facing": "orientation_margin",
}
MAX_NUMBER = 1e6  # of a fit: logits, correlations and their spreads are small
COVERED = 0.9  # share of true Dice values that lie within their interval
MIN_REACH = 1e-3  # where the Dice values are so high, or so low, that their logits are all alike
POOLED = 10  # rows that the spread of all structures' residuals counts beside a structure's own
SCORE_DECIMALS = 3
DROP = 0.1  # of the expected Dice below a structure's usual one that is worth a warning


@dataclass(frozen=True)
class Quality:
    """A fit for one model with one atlas.

    usual     mean logit of Dice over the training subjects, per structure
    centres   its mean evidence there
    scale     spread of each feature about the centres, and
    weights   what a spread's worth of it adds to the logit; never negative, so that worse evidence is never praised
    checks, spread, limit   mean and SD of the case's checks, and the distance above which it is an outlier
    shift     what is added to every logit: an atlas knows the subjects that it was made from better than others
    deviation spread of the residual logit, per structure, and
    reach     how many of it lie on either side of the expected one in its interval; 0: not known, in older fits
    """

    atlas: str
    usual: dict[int, float]
    centres: dict[int, tuple[float, ...]]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    checks: tuple[float, ...]
    spread: tuple[float, ...]
    limit: float
    shift: float = 0.0
    deviation: dict[int, float] = field(default_factory=dict)
    reach: float = 0.0

    def expected_dice(self, found: Evidence) -> dict[int, float]:
        """1 / (1 + exp(−logit)), per structure that was seen in the fit."""
        return {value: float(_dice(logit)) for value, logit in self._logits(found).items()}

    def interval(self, found: Evidence) -> dict[int, tuple[float, float]]:
        """The Dice at logit ± reach · deviation: COVERED of the true values lie within; empty where not known."""
        if not self.reach:
            return {}
        ends = {v: self.reach * self.deviation[v] for v in self.usual if v in self.deviation}
        return {
            value: _opened(float(_dice(logit - ends[value])), float(_dice(logit + ends[value])))
            for value, logit in self._logits(found).items()
            if value in ends
        }

    def _logits(self, found: Evidence) -> dict[int, float]:
        """usual + shift + Σ weights (x − centre) / scale, per structure that was seen in the fit."""
        known = [n for n, value in enumerate(found.values) if value in self.usual]
        values = [found.values[n] for n in known]
        centres = np.array([self.centres[v] for v in values]).reshape(-1, len(FEATURES))  # of none, too
        change = (found.structures[known] - centres) / self.scale @ np.array(self.weights)
        return {v: self.usual[v] + self.shift + float(c) for v, c in zip(values, change, strict=True)}

    def usual_dice(self, value: int) -> float:
        """What a structure reaches on subjects like the training's; 0 for one that was not seen."""
        return float(_dice(self.usual[value] + self.shift)) if value in self.usual else 0.0

    def lower_than_usual(self, found: Evidence) -> list[int]:
        """The structures of which less than the usual Dice is expected, by more than DROP."""
        return [value for value, dice in self.expected_dice(found).items() if dice < self.usual_dice(value) - DROP]

    def outlier_score(self, found: Evidence) -> float:
        """√Σ max(0, (mean − check) / spread)², in units of the limit: above 1 the case is unlike the training's.

        With as many decimals as reports show, so that they and what is concluded from it agree.
        """
        return round(self._distance(found) / self.limit, SCORE_DECIMALS)

    def _distance(self, found: Evidence) -> float:
        return float(np.linalg.norm(self._deviations(found)))

    def most_unusual(self, found: Evidence) -> str:
        """The check that lies farthest on the bad side."""
        return CHECKS[int(np.argmax(self._deviations(found)))]

    def _deviations(self, found: Evidence) -> np.ndarray:
        below = (np.array(self.checks) - found.case) / np.hypot(self.spread, MIN_SPREAD)
        return np.maximum(0.0, np.nan_to_num(below, nan=MAX_NUMBER))  # what is no number is as bad as can be


Case = tuple[Evidence, np.ndarray | None]
Named = tuple[str, Case]  # with the name of its subject


def fit(
    atlas: str,
    cases: Sequence[Case],
    corrupted: Sequence[Evidence] = (),
    unseen: Sequence[Case] = (),
    subjects: Sequence[str] = (),
    seen: Sequence[str] = (),
) -> Quality:
    """The quality of cases with evidence and true Dice (K,), NaN where a structure is missing; None: without labels.

    Cases without labels, or whose labels show no structure, serve for the checks only. ``unseen`` are cases that the
    atlas was not made from, which tell the shift; ``seen`` and ``subjects`` are the names of those whose the cases and
    the unseen ones are, by default of one each. The intervals are as wide as all of them ask for, each left out in
    turn: few unseen ones may be alike by chance; or as the unseen ones alone do if that is wider: an atlas may know its
    own subjects too well; one subject alone tells none. The limit is what FALSE_ALARMS of all cases exceed, each under
    the checks of the others, times MARGIN, or times less where FLAGGED of ``corrupted`` would else not exceed it.
    """
    regression = _regression(atlas, cases)
    everything = [found for found, _ in (*cases, *unseen)]
    checks = np.array([found.case for found in everything])
    known = _labelled(seen, cases)
    held_out = [(name, case) for name, case in _labelled(subjects, unseen) if _residuals(regression, case)]
    left_out = _left_out(regression, known, len({name for name, _ in held_out}))
    not_seen = _about_others(regression, held_out)
    quality = replace(
        regression,
        shift=_shift(regression, [case for _, case in held_out]),
        reach=max(_reach([*left_out, *not_seen]), _reach(not_seen)),
        checks=tuple(checks.mean(axis=0).tolist()),
        spread=tuple(checks.std(axis=0).tolist()),
    )
    return replace(quality, limit=_limit(quality, everything, checks, corrupted))


def _labelled(names: Sequence[str], cases: Sequence[Case]) -> list[Named]:
    """The labelled cases, each with the name of its subject: of one each without names."""
    pairs = zip(names or [str(n) for n in range(len(cases))], cases, strict=True)
    return [(name, case) for name, case in pairs if shows_structures(case[1])]


def shows_structures(dice: np.ndarray | None) -> bool:
    """Whether there are labels, and a structure among them."""
    return dice is not None and not np.isnan(dice).all()


def calibrated(quality: Quality, cases: Sequence[Named]) -> Quality:
    """The shift, and the reach with which the true Dice of the cases lie in the intervals, COVERED of them.

    Each subject's lies about the shift that the others tell: its own is what a new subject's is not known to be.
    """
    shift = quality.shift + _shift(quality, [case for _, case in cases])
    return replace(quality, shift=shift, reach=_reach(_about_others(quality, cases)))


def _shift(quality: Quality, cases: Sequence[Case]) -> float:
    """The mean residual of all structures of the cases; 0 for no case."""
    residuals = [residual for case in cases for residual in _residuals(quality, case).values()]
    return float(np.mean(residuals)) if residuals else 0.0


def _about_others(quality: Quality, cases: Sequence[Named]) -> list[np.ndarray]:
    """|residual − shift| / deviation of each case's structures, with the shift that all other subjects tell."""
    names = {name for name, _ in cases}
    shifts = {name: _shift(quality, [case for other, case in cases if other != name]) for name in names}
    return [_distances(quality, case, shifts[name], quality.deviation) for name, case in cases]


def _left_out(quality: Quality, cases: Sequence[Named], telling: int) -> list[np.ndarray]:
    """|residual − shift| / deviation of each case's structures, by the fit to the other subjects; none of one subject.

    The shift is what the next ``telling`` of these tell: as many as tell it of subjects that the atlas has not seen,
    so that it is as uncertain as theirs. The deviations are the ``quality``'s, which is fitted to all.
    """
    names = list(dict.fromkeys(name for name, _ in cases))
    found = []
    for place, name in enumerate(names if len(names) > 1 else []):
        following = [*names[place + 1 :], *names[:place]][:telling]
        others = _regression(quality.atlas, [case for other, case in cases if other != name])
        shift = _shift(others, [case for other, case in cases if other in following])
        found += [_distances(others, case, shift, quality.deviation) for own, case in cases if own == name]
    return found


def _distances(quality: Quality, case: Case, shift: float, deviation: Mapping[int, float]) -> np.ndarray:
    residuals = _residuals(quality, case)
    return np.array([abs(residual - shift) / deviation[value] for value, residual in residuals.items()])


def _residuals(quality: Quality, case: Case) -> dict[int, float]:
    """The true logit less the expected one, of each structure that has a true Dice."""
    found, dice = case
    assert dice is not None
    true = {value: float(_logit(one)) for value, one in zip(found.values, dice, strict=True) if not np.isnan(one)}
    return {value: true[value] - logit for value, logit in quality._logits(found).items() if value in true}


def _reach(distances: Sequence[np.ndarray]) -> float:
    """The ⌈(N + 1) · COVERED⌉-th smallest of the N distances, at least MIN_REACH; 0, not known, for none."""
    ordered = np.sort(np.concatenate([[], *distances]))
    if not ordered.size:
        return 0.0
    return max(MIN_REACH, float(ordered[min(len(ordered), int(np.ceil((len(ordered) + 1) * COVERED))) - 1]))


def _regression(atlas: str, cases: Sequence[Case]) -> Quality:
    """The fit of the labelled cases' Dice, without what is known of whole cases."""
    labelled = [(found, dice) for found, dice in cases if dice is not None and shows_structures(dice)]
    values = labelled[0][0].values
    logits = np.array([_logit(dice) for _, dice in labelled])
    features = np.array([found.structures for found, _ in labelled])
    seen = [n for n in range(len(values)) if not np.isnan(logits[:, n]).all()]
    usual = np.full(len(values), np.nan)
    usual[seen] = np.nanmean(logits[:, seen], axis=0)
    centres = features.mean(axis=0)
    rows = ~np.isnan(logits)
    scale = np.maximum((features - centres)[rows].std(axis=0), 1e-3)
    weights = _ridge((features - centres)[rows] / scale, (logits - usual)[rows])
    residuals = logits - usual - (features - centres) / scale @ weights
    pooled = float(np.nanmean(residuals**2))
    variance = (np.nansum(residuals**2, axis=0) + POOLED * pooled) / (rows.sum(axis=0) + POOLED)
    return Quality(
        atlas,
        {values[n]: float(usual[n]) for n in seen},
        {values[n]: tuple(centres[n].tolist()) for n in seen},
        tuple(scale.tolist()),
        tuple(weights.tolist()),
        (),
        (),
        1.0,
        deviation={values[n]: max(float(np.sqrt(variance[n])), 1e-3) for n in seen},
    )


def _limit(quality: Quality, found: Sequence[Evidence], checks: np.ndarray, corrupted: Sequence[Evidence]) -> float:
    others = [np.delete(checks, n, axis=0) for n in range(len(checks))]
    scores = [
        replace(quality, checks=tuple(rest.mean(axis=0)), spread=tuple(rest.std(axis=0)))._distance(one)
        for one, rest in zip(found, others, strict=True)
    ]
    least = float(np.quantile(scores, 1 - FALSE_ALARMS, method="higher"))
    if not corrupted:
        return least
    bad = float(np.quantile([quality._distance(one) for one in corrupted], 1 - FLAGGED, method="lower"))
    return min(max(least, 0.99 * bad), MARGIN * least)  # just below it, so that it lies beyond


def _ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """argmin over w ≥ 0 of |xw − y|² / N + PENALTY |w|² / F, by coordinate descent: x (N, F), y (N,) → (F,)."""
    gram = x.T @ x / len(x) + PENALTY / x.shape[1] * np.eye(x.shape[1])
    target, weights = x.T @ y / len(x), np.zeros(x.shape[1])
    for _ in range(200):
        for n in range(len(weights)):
            weights[n] = max(0.0, weights[n] + (target[n] - gram[n] @ weights) / gram[n, n])
    return weights


def _logit(dice: np.ndarray) -> np.ndarray:
    bounded = np.clip(dice, MIN_DICE, 1 - MIN_DICE)
    return np.log(bounded / (1 - bounded))


def _opened(low: float, high: float) -> tuple[float, float]:
    """The ends of an interval, with all Dice values beyond that logits do not tell apart from one within."""
    return (0.0 if low <= MIN_DICE else min(low, 1 - MIN_DICE)), (1.0 if high >= 1 - MIN_DICE else max(high, MIN_DICE))


def _dice(logit: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(logit, float)))


def write_quality(path: Path, quality: Quality) -> None:
    """quality.toml, as ``read_quality`` reads it; numbers with four digits."""

    def numbers(values: Sequence[float]) -> str:
        return f"[{', '.join(format(v, '.4g') for v in values)}]"

    lines = [
        "# Expected Dice without labels: python -m Training.quality fit",
        f"atlas = {json.dumps(quality.atlas)}",
        f"features = {json.dumps(FEATURES)}",
        f"scale = {numbers(quality.scale)}",
        f"weights = {numbers(quality.weights)}",
        f"checks = {json.dumps(CHECKS)}",
        f"mean = {numbers(quality.checks)}",
        f"spread = {numbers(quality.spread)}",
        f"limit = {quality.limit:.4g}",
        f"shift = {quality.shift:.4g}",
        f"reach = {quality.reach:.4g}",
    ]
    for value, usual in quality.usual.items():
        lines += ["", f"[structures.{value}]", f"logit = {usual:.4g}", f"centre = {numbers(quality.centres[value])}"]
        if value in quality.deviation:
            lines.append(f"deviation = {quality.deviation[value]:.4g}")
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_quality(folder: Path | None) -> Quality | None:
    """The fit in a model's folder, or None where there is none; InputError for one of another version."""
    path = folder / "quality.toml" if folder is not None else None
    if path is None or not path.exists():
        return None
    tree = read_toml(path, "TOML with the numbers of a fit", kind="a quality fit")
    try:
        names = (tuple(FORMER_NAMES.get(name, name) for name in tree[key]) for key in ("features", "checks"))
        if tuple(names) != (FEATURES, CHECKS):
            raise InputError(f"{path} was fitted to other evidence; make it again with python -m Training.quality fit")
        structures = {int(value): entry for value, entry in tree["structures"].items()}
        return Quality(
            str(tree["atlas"]),
            {v: _numbers([entry["logit"]], 1)[0] for v, entry in structures.items()},
            {v: _numbers(entry["centre"], len(FEATURES)) for v, entry in structures.items()},
            scale=_numbers(tree["scale"], len(FEATURES), above=True),
            weights=_numbers(tree["weights"], len(FEATURES), least=0.0),
            checks=_numbers(tree["mean"], len(CHECKS)),
            spread=_numbers(tree["spread"], len(CHECKS), least=0.0),
            limit=_numbers([tree["limit"]], 1, above=True)[0],
            # Older fits have none of these.
            shift=_numbers([tree.get("shift", 0.0)], 1)[0],
            deviation={
                v: _numbers([entry["deviation"]], 1, above=True)[0]
                for v, entry in structures.items()
                if "deviation" in entry
            },
            reach=_numbers([tree.get("reach", 0.0)], 1, least=0.0)[0],
        )
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path} cannot be read as a quality fit ({type(error).__name__}: {short(error)}); make it again "
            "with python -m Training.quality fit"
        ) from None


def _numbers(
    values: Sequence[float], count: int, *, least: float = -MAX_NUMBER, above: bool = False
) -> tuple[float, ...]:
    """``count`` numbers from ``least`` to MAX_NUMBER, with ``above`` all above zero; ValueError or TypeError else."""
    found = tuple(float(value) for value in values)
    if len(found) != count or isinstance(values, str) or any(isinstance(value, bool | str) for value in values):
        raise ValueError(f"{count} numbers expected")
    if not all(least <= value <= MAX_NUMBER and (value > 0 or not above) for value in found):
        raise ValueError("a number is out of range")
    return found
