"""Colours of structures that people with any kind of colour vision tell apart where structures touch.

Ten colours (Tol's muted scheme, technical note SRON/EPS/TN/09-002) are given out so that neighbours in the atlas differ
as much as they can, in CIELAB, as they are and as a dichromat sees them (Viénot, Brettel and Mollon, Color Research and
Application 1999). Structures that are not neighbours may share a colour.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import SimpleITK as sitk

from .atlas import Atlas

PALETTE = ("#cc6677", "#88ccee", "#ddcc77", "#332288", "#44aa99", "#882255", "#dddddd", "#117733", "#aa4499", "#999933")
# Linear RGB → what a protanope and a deuteranope see of it.
PROTAN = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])
DEUTAN = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
WHITE = TO_XYZ.sum(axis=1)  # D65


ATLAS, SAFE = COLORS = ("atlas", "safe")  # as the atlas has them, or told apart


def colored(atlases: Iterable[Atlas], colors: str) -> list[Atlas]:
    """The atlases with ``COLORS`` of one kind or the other."""
    return [told_apart(each) if colors == SAFE else each for each in atlases]


def told_apart(atlas: Atlas) -> Atlas:
    """The same atlas with colours of ``PALETTE``; those of neighbours differ."""
    colors = choose(touching(atlas.labels), [each.value for each in atlas.structures])
    structures = tuple(replace(each, color=colors[each.value]) for each in atlas.structures)
    return replace(atlas, structures=structures)


def touching(labels: sitk.Image) -> dict[tuple[int, int], int]:
    """How many faces of voxels two labels share, the smaller label first; the background does not count."""
    values, places = np.unique(sitk.GetArrayFromImage(labels), return_inverse=True)
    places = places.reshape(labels.GetSize()[::-1])
    counts = np.zeros((len(values), len(values)), int)
    for axis in range(3):
        ahead, behind = np.moveaxis(places, axis, 0)[1:], np.moveaxis(places, axis, 0)[:-1]
        met = ahead != behind
        pairs = ahead[met] * len(values) + behind[met]
        counts += np.bincount(pairs, minlength=counts.size).reshape(counts.shape)
    counts = np.triu(counts + counts.T)
    counts[values == 0] = 0
    counts[:, values == 0] = 0
    return {(int(values[a]), int(values[b])): int(counts[a, b]) for a, b in np.argwhere(counts)}


def choose(neighbours: Collection[tuple[int, int]], values: Sequence[int]) -> dict[int, str]:
    """A colour for each value: of those with most neighbours first, what is least like any neighbour's.

    Where several do as well, the one that fewest structures have.
    """
    around: dict[int, set[int]] = {value: set() for value in values}
    for a, b in neighbours:
        if a in around and b in around:
            around[a].add(b)
            around[b].add(a)
    chosen: dict[int, int] = {}
    for value in sorted(values, key=lambda each: (-len(around[each]), each)):
        taken = [chosen[other] for other in around[value] if other in chosen]
        used = [list(chosen.values()).count(place) for place in range(len(PALETTE))]

        def worth(place: int, taken: Sequence[int] = taken, used: Sequence[int] = used) -> tuple[float, int]:
            return min((differences()[place, other] for other in taken), default=0.0), -used[place]

        chosen[value] = max(range(len(PALETTE)), key=worth)
    return {value: PALETTE[place] for value, place in chosen.items()}


@cache
def differences() -> np.ndarray:
    """(10, 10): the least difference of two colours of the palette, in CIELAB, over the kinds of colour vision."""
    linear = np.array([_linear(color) for color in PALETTE])
    seen = [_lab(linear @ matrix.T) for matrix in (np.eye(3), PROTAN, DEUTAN)]
    return np.min([np.linalg.norm(each[:, None] - each[None], axis=-1) for each in seen], axis=0)


def _linear(color: str) -> list[float]:
    """Linear RGB, 0…1, of '#rrggbb' in sRGB."""
    shown = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shown]


def _lab(linear: np.ndarray) -> np.ndarray:
    """CIELAB (N, 3) of linear RGB under D65."""
    ratio = np.clip(linear @ TO_XYZ.T / WHITE, 0, None)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
