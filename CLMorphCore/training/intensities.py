"""Scans whose intensities are on another scale than those of most, or cut off: they are kept, but it is said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Of log intensities: farther from their median than this factor and this many of their deviations. Mice of one scanner
# reach 1.6, hearts .6, heads of many scanners 5.5 and less than two deviations.
MIN_FACTOR, MIN_DEVIATIONS = 5.0, 5.0
MAX_NAMED = 5  # scans, each with a line of its own
# Of the foreground, that has the highest value. Mice, heads, brains and hippocampi have .002 and less, hearts, which
# were published so, .025.
MAX_CLIPPED, MIN_CLIPPED_RATIO = 0.05, 3.0  # the latter to what is usual


def other_scales(names: Sequence[str], intensities: Sequence[float]) -> list[tuple[str, str]]:
    """(scan, what is said of it) for max(r, 1/r) > MIN_FACTOR, r an intensity over the median one.

    ``intensities``, above zero, are what the brightest of each foreground have above its darkest; their deviation is
    1.4826 times the median one of their logarithms. More than MAX_NAMED scans are one line of all, named "".
    """
    logs = np.log(np.asarray(intensities, dtype=float))
    if len(logs) < 3:  # of two, none is the usual one
        return []
    usual = float(np.median(logs))
    deviation = 1.4826 * float(np.median(np.abs(logs - usual)))
    limit = max(float(np.log(MIN_FACTOR)), MIN_DEVIATIONS * deviation)
    far: list[int] = np.flatnonzero(np.abs(logs - usual) > limit).tolist()
    if len(far) <= MAX_NAMED:
        return [
            (
                names[n],
                f"its greys reach {intensities[n]:.3g} above its darkest, {np.exp(logs[n] - usual):.2g} times the "
                f"usual {np.exp(usual):.3g}: another scale; it is kept, each scan is normalised for itself",
            )
            for n in far
        ]
    shown = ", ".join(names[n] for n in far[:MAX_NAMED])
    return [
        (
            "",
            f"in {len(far)} of {len(names)} greys are on another scale, {np.exp((logs - usual)[far].min()):.2g} to "
            f"{np.exp((logs - usual)[far].max()):.2g} times the usual {np.exp(usual):.3g} ({shown} …): they are kept, "
            "each scan is normalised for itself",
        )
    ]


def clipped(names: Sequence[str], shares: Sequence[float]) -> list[tuple[str, str]]:
    """(scan, what is said of it) for a share of highest values > MAX_CLIPPED, and MIN_CLIPPED_RATIO · the usual."""
    usual = float(np.median(shares))
    return [
        (
            name,
            f"{share:.0%} of its foreground have its highest grey, usually {usual:.1%} have: it was clipped, and "
            "what is bright in it cannot be told apart; it is kept",
        )
        for name, share in zip(names, shares, strict=True)
        if share > max(MAX_CLIPPED, MIN_CLIPPED_RATIO * usual) and len(names) > 2
    ]
