"""Volumes over time: which frame is end-diastole, which end-systole, and how much of the blood is ejected."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..bundles.atlas import Structure
from ..errors import InputError

# SNOMED CT's codes of the ventricles, and names for atlases without codes; the blood, not the wall around it.
CODES = {"left": "SCT^87878005", "right": "SCT^53085002"}
NAMES = {"left": r"left ventric|\blv\b|\blvc?\b", "right": r"right ventric|\brv\b|\brvc?\b"}
NOT_BLOOD = r"myo|wall|muscle|lateral|horn|brain|cerebr|inf"  # the brain has ventricles too
HEART = r"heart|cardi|myocard|ventricle of heart"
MIN_FRAMES_SMOOTHED = 5
ALIKE = 0.03  # of a volume: frames of the plateau of end-diastole


@dataclass(frozen=True)
class HeartFunction:
    """Of one ventricle: end-diastolic and end-systolic volume, ml, and their frames, from 0; EF = (EDV − ESV) / EDV."""

    structure: int
    side: str
    end_diastole: int
    end_systole: int
    edv_ml: float
    esv_ml: float

    @property
    def ejection_fraction(self) -> float:
        """(EDV − ESV) / EDV; NaN without a volume."""
        return (self.edv_ml - self.esv_ml) / self.edv_ml if self.edv_ml > 0 else float("nan")

    @property
    def stroke_volume_ml(self) -> float:
        """EDV − ESV."""
        return self.edv_ml - self.esv_ml


def ventricles(structures: Sequence[Structure]) -> dict[str, int]:
    """Side → label of the blood in the heart's ventricles, as far as they are there: by their codes, or their names."""
    found: dict[str, int] = {}
    heart = any(re.search(HEART, structure.name, re.IGNORECASE) for structure in structures)
    for side in CODES:
        coded = [s.value for s in structures if s.terminology.startswith(CODES[side])]
        named = [
            s.value
            for s in structures
            if re.search(NAMES[side], s.name, re.IGNORECASE) and not re.search(NOT_BLOOD, s.name, re.IGNORECASE)
        ]
        if coded or (named and heart):
            found[side] = (coded or named)[0]
    return found


def smoothed(volumes: np.ndarray) -> np.ndarray:
    """(¼, ½, ¼) ∗ median₃ of a cycle's volumes (N,): one frame that went wrong is no extreme. Short ones stay."""
    if len(volumes) < MIN_FRAMES_SMOOTHED:
        return volumes
    median = np.median([np.roll(volumes, 1), volumes, np.roll(volumes, -1)], axis=0)
    return (np.roll(median, 1) + 2 * median + np.roll(median, -1)) / 4


def end_diastole_of(volumes: Mapping[int, Mapping[int, float]], structures: Sequence[Structure], key: int) -> int:
    """The frame of the left ventricle's largest volume; ``key`` where that is alike, as on a plateau, or is none.

    ``volumes`` are frame → label → ml, ``key`` is the frame that was segmented.
    """
    frames, curve = _curve(volumes, structures)
    if not len(curve):
        return key
    return key if curve[frames.index(key)] >= (1 - ALIKE) * curve.max() else frames[int(curve.argmax())]


def function_of(
    volumes: Mapping[int, Mapping[int, float]], structures: Sequence[Structure], key: int
) -> list[HeartFunction]:
    """What each ventricle pumps, at the left one's end-diastole and end-systole; nothing for other organs."""
    frames, curve = _curve(volumes, structures)
    if len(curve) < 2:
        return []
    diastole, systole = end_diastole_of(volumes, structures, key), frames[int(curve.argmin())]
    return [
        HeartFunction(
            value, side, diastole, systole, volumes[diastole].get(value, 0.0), volumes[systole].get(value, 0.0)
        )
        for side, value in ventricles(structures).items()
    ]


def _curve(volumes: Mapping[int, Mapping[int, float]], structures: Sequence[Structure]) -> tuple[list[int], np.ndarray]:
    """The frames and the smoothed volumes of the left ventricle in them; none where there is no such."""
    frames, left = sorted(volumes), ventricles(structures).get("left")
    if left is None:
        return frames, np.empty(0)
    return frames, smoothed(np.array([volumes[frame].get(left, 0.0) for frame in frames]))


def check_heart(structures: Sequence[Structure]) -> None:
    """InputError where no structure is the blood of the heart's left ventricle: nothing tells ed and es then."""
    if "left" not in ventricles(structures):
        raise InputError(
            "`frames` asks for ed or es, and none of the labels is a heart's left ventricle; expected a heart",
            "give all, or numbers of frames",
        )
