"""Labels that their header mirrors: those of the others they fit only once they are mirrored back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .scans import MIRRORED, Finding, Scan

MAX_COMPARED = 24  # scans, from all over the list, that each is compared with
LEAST = 0.02  # agreement: below, it is by chance
AXES = ("top and bottom", "front and back", "left and right")


@dataclass(frozen=True)
class Limits:
    """From ``scans`` labelled ones on: of the agreement of pairs, mirrored over as they are.

    gain     more than this it is in all pairs of a scan but the share ``astray``
    others   less than this in all pairs of the others but that share: what is symmetric tells nothing
    """

    scans: int
    astray: float
    gain: float
    others: float


# Sets of 12 and more of 80 hearts, whose labels fit about as well upside down, had no false alarm, nor had any set of
# mice, brains or hippocampi. In smaller sets such hearts agree by chance, and more must be seen.
LIMITS = (Limits(12, 0.2, 1.1, 0.9), Limits(6, 0.1, 1.5, 0.6), Limits(4, 0.1, 2.0, 0.4))


def mirrored_labels(scans: Sequence[Scan]) -> list[Finding]:
    """Scans whose labels agree with those of the others after a reflection of their grid, and not without."""
    labelled = [scan for scan in scans if scan.mirrored is not None]
    limits = next((each for each in LIMITS if len(labelled) >= each.scans), None)
    if limits is None:
        return []
    ratios, compared = _ratios([scan.mirrored for scan in labelled if scan.mirrored is not None])
    found = []
    for n, scan in enumerate(labelled):
        own, others = ratios[n], np.delete(ratios, n, axis=0)[:, [m != n for m in compared]]
        least = np.nanquantile(own, limits.astray, axis=0)
        most = np.nanquantile(others.reshape(-1, len(MIRRORED)), 1 - limits.astray, axis=0)
        hits = np.flatnonzero((least > limits.gain) & (most < limits.others))
        if len(hits):
            found.append(Finding(scan.subject.name, _said(MIRRORED[hits[least[hits].argmax()]])))
    return found


def _ratios(mirrored: Sequence[np.ndarray]) -> tuple[np.ndarray, list[int]]:
    """(N, M, 8) and the M that all are compared with: agreement once mirrored over that without; NaN with itself."""
    count = min(MAX_COMPARED, len(mirrored))
    compared = [n * len(mirrored) // count for n in range(count)]
    ratios = np.full((len(mirrored), count, len(MIRRORED)), np.nan)
    for n, own in enumerate(mirrored):
        for m, other in enumerate(compared):
            if other != n:
                agreement = np.maximum(_agreement(own, mirrored[other][0]), LEAST)
                ratios[n, m] = agreement / agreement[0]
    return ratios, compared


def _agreement(several: np.ndarray, one: np.ndarray) -> np.ndarray:
    """(K,): 2 Σ [a = b > 0] / (Σ [a > 0] + Σ [b > 0]) of each of K label maps with one."""
    axes = (1, 2, 3)
    same = ((several == one) & (one > 0)).sum(axis=axes)
    return 2 * same / np.maximum((several > 0).sum(axis=axes) + (one > 0).sum(), 1)


def _said(signs: Sequence[int]) -> str:
    which = " and of ".join(name for name, sign in zip(AXES, signs, strict=True) if sign < 0)
    return (
        f"its labels fit those of the others only after an exchange of {which}: the labels' header, or the scan's, "
        "names a wrong direction; correct it"
    )
