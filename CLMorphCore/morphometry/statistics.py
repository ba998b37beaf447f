"""Tests of many values at once, by permutation (nilearn), and how large an effect is.

A term is tested in a linear model with all others and an intercept: two-sided, p by the permutations of Freedman and
Lane, corrected for all values by the greatest |t| of each permutation (Winkler et al. 2014, NeuroImage 92), or by
threshold-free cluster enhancement (Smith and Nichols 2009, NeuroImage 44).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from ..errors import InputError
from ..progress import Progress, silent
from .design import Design, Term

CONFIDENCE = 0.95
PORTION, ENHANCED_PORTION = 100, 10  # permutations that are made at once, the latter with TFCE
SEEDS = 100_000  # between those of two runs, at least: each portion has its own


@dataclass(frozen=True)
class Tested:
    """One term over V values: t, the corrected p, and the effect with its confidence interval, (V,) each.

    ``effect`` is Hedges' g of two groups, else the standardised regression coefficient. ``p_tfce`` is None unless that
    was asked for.
    """

    term: Term
    t: np.ndarray
    p: np.ndarray
    effect: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_tfce: np.ndarray | None = None

    def part(self, which: slice) -> Tested:
        """Some of the values, with p as it is: corrected for all of them."""
        t, p, effect, low, high = (of[which] for of in (self.t, self.p, self.effect, self.low, self.high))
        return Tested(self.term, t, p, effect, low, high, None if self.p_tfce is None else self.p_tfce[which])


def check_installed() -> None:
    """InputError where nilearn is not installed."""
    if find_spec("nilearn") is None:
        raise InputError(
            "morphometry needs the package nilearn, which is not installed; expected the extra morphometry",
            "pip install nilearn",
        )


def permutation_test(
    design: Design,
    term: Term,
    values: np.ndarray,
    *,
    permutations: int,
    seed: int = 0,
    threads: int = 1,
    mask: np.ndarray | None = None,
    progress: Progress = silent,
) -> Tested:
    """Tests a term on ``values`` (N, V); with ``mask`` (bool, V of them True) also by TFCE over its voxels.

    A value that is the same for all scans has t = 0 and p = 1.
    """
    moves = np.ptp(values, axis=0) > 0
    t, p, enhanced = np.zeros(len(moves)), np.ones(len(moves)), np.ones(len(moves))
    kept = np.ones_like(moves) if mask is not None else moves  # TFCE needs every voxel of its mask
    if moves.any():
        at_least = {key: np.zeros(int(kept.sum())) for key in ("logp_max_t", "logp_max_tfce")}
        done = 0
        for n, count in enumerate(_portions(permutations, PORTION if mask is None else ENHANCED_PORTION)):
            progress("permutations", done / permutations)
            found = _permuted(design, term, values[:, kept], count, (seed + 1) * SEEDS + n, threads, mask)
            t[kept] = found["t"][0]
            for key in at_least.keys() & found.keys():  # p of a portion is (1 + how many reach it) / (1 + its size)
                at_least[key] += np.round(10.0 ** -found[key][0] * (1 + count) - 1)
            done += count
        p[kept], enhanced[kept] = ((1 + reached) / (1 + permutations) for reached in at_least.values())
    t, p, enhanced = np.where(moves, t, 0.0), np.where(moves, p, 1.0), np.where(moves, enhanced, 1.0)
    return Tested(term, t, p, *effect_size(design, term, values), enhanced if mask is not None else None)


def _portions(permutations: int, most: int) -> list[int]:
    """So many permutations in parts, between which a run tells how far it is and can be stopped."""
    whole, rest = divmod(permutations, most)
    return [most] * whole + [rest] * (rest > 0)


def _permuted(
    design: Design, term: Term, values: np.ndarray, count: int, seed: int, threads: int, mask: np.ndarray | None
) -> dict[str, np.ndarray]:
    """What nilearn finds."""
    from nilearn.mass_univariate import permuted_ols

    others = design.others(term)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of joblib's and sklearn's about things that are as they should be
        return permuted_ols(
            term.values[:, None],
            np.ascontiguousarray(values, dtype=np.float64),
            others if others.shape[1] else None,
            n_perm=count,
            random_state=seed,
            n_jobs=threads,
            masker=_masker(mask) if mask is not None else None,
            tfce=mask is not None,
            output_type="dict",
        )


def effect_size(design: Design, term: Term, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effect and the ends of its confidence interval of a term on ``values`` (N, V); 0 where nothing varies.

    Of two groups Hedges' g = J b/s, J = 1 − 3/(4 ν − 1), s the residuals' standard deviation over ν degrees of freedom,
    with variance c + g²/2ν, c the coefficient's variance in units of s² (1/n₁ + 1/n₂ without covariates; Hedges and
    Olkin 1985). Of a number β = b sd(x)/sd(y), with the interval of Student's t.
    """
    others, freedom = np.column_stack([np.ones(len(values)), design.others(term)]), design.freedom

    def residuals(of: np.ndarray) -> np.ndarray:
        return of - others @ np.linalg.lstsq(others, of, rcond=None)[0]

    x, y = residuals(term.values), residuals(np.asarray(values, float))
    square = float(x @ x)
    slope = x @ y / square
    deviation = np.sqrt(np.square(y - np.outer(x, slope)).sum(axis=0) / freedom)
    with np.errstate(divide="ignore", invalid="ignore"):
        if term.levels:
            effect = (1 - 3 / (4 * freedom - 1)) * slope / deviation
            half = _normal_quantile() * np.sqrt(1 / square + np.square(effect) / (2 * freedom))
        else:
            scale = term.values.std(ddof=1) / np.std(values, axis=0, ddof=1)
            effect = slope * scale
            half = _student_quantile(freedom) * deviation / math.sqrt(square) * scale
    effect = np.nan_to_num(effect, nan=0.0, posinf=0.0, neginf=0.0)
    half = np.nan_to_num(half, nan=0.0, posinf=0.0, neginf=0.0)
    return effect, effect - half, effect + half


def effect_name(term: Term) -> str:
    """What the effect of a term is called."""
    return "Hedges' g" if term.levels else "standardised β"


def _masker(mask: np.ndarray) -> object:
    """What nilearn needs to know of the voxels' neighbours."""
    from nibabel.nifti1 import Nifti1Image
    from nilearn.maskers import NiftiMasker

    return NiftiMasker(Nifti1Image(mask.astype(np.uint8), np.eye(4))).fit()


def _normal_quantile() -> float:
    from scipy.stats import norm

    return float(norm.ppf((1 + CONFIDENCE) / 2))


def _student_quantile(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))
