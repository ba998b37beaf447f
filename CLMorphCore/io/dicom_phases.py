"""Several volumes in one DICOM series: which frame is of which phase, and when that was.

Each place of the stack has as many frames as there are phases, which are told apart by what the frames say of time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FileError

if TYPE_CHECKING:
    import pydicom

# What tells phases apart, the most telling first, and how many seconds its unit is; None: it only counts.
SECONDS: dict[str, float | None] = {
    "TemporalPositionIdentifier": None,
    "TriggerTime": 1e-3,
    "TemporalPositionTimeOffset": 1.0,
    "AcquisitionTime": 1.0,
    "AcquisitionNumber": None,
    "InstanceNumber": None,
}
# The same in the functional groups of enhanced objects.
ENHANCED = {
    "TemporalPositionIdentifier": ("FrameContentSequence", "TemporalPositionIndex"),
    "TriggerTime": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    "TemporalPositionTimeOffset": ("TemporalPositionSequence", "TemporalPositionTimeOffset"),
    "AcquisitionNumber": ("FrameContentSequence", "FrameAcquisitionNumber"),
}
MOMENTS = tuple(SECONDS)
SAME_PLACE = 0.01  # of the greatest step between places


def moments_of(groups: Sequence[Any], tags: pydicom.Dataset) -> dict[str, float]:
    """What a frame says of its time: by its functional groups, or by the file's tags where it is the only frame."""
    found = {}
    single = int(tags.get("NumberOfFrames", 1) or 1) == 1
    for name in MOMENTS:
        sequence, tag = ENHANCED.get(name, ("", ""))
        items = next((one.get(sequence) for one in groups if sequence and one.get(sequence)), None)
        value = items[0].get(tag) if items else None
        value = tags.get(name) if value is None and single else value
        number = _of_clock(value) if name == "AcquisitionTime" else _number(value)
        if number is not None:
            found[name] = number
    return found


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _of_clock(value: Any) -> float | None:
    """Seconds since midnight of HHMMSS.FFFFFF."""
    text = str(value or "")
    whole, _, rest = text.partition(".")
    if len(whole) != 6 or not (whole + rest).isdecimal():
        return None
    return 3600.0 * int(whole[:2]) + 60.0 * int(whole[2:4]) + float(f"{whole[4:]}.{rest or 0}")


def phases_of(
    name: str, moments: Sequence[Mapping[str, float]], along: np.ndarray
) -> tuple[np.ndarray, dict[str, str]]:
    """The phase 0, 1, … of each frame (N,), and ``frame_values`` with their ``frame_unit``, where times are told.

    ``along`` (N,) is where the frames lie, mm. FileError where places have different numbers of frames, and where
    nothing tells those of one place apart.
    """
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    place = np.empty(len(along), int)
    place[order] = np.concatenate([[0], np.cumsum(steps > SAME_PLACE * max(steps.max(initial=0.0), 1e-6))])
    counts = np.bincount(place)
    if counts.max() == 1:
        return np.zeros(len(along), int), {}
    if counts.min() < counts.max():
        raise FileError(
            f"{name} has {counts.min()} frames at one place and {counts.max()} at another; expected every phase of "
            "every slice",
            "copy the whole series, or give the files of one phase alone",
        )
    for key in MOMENTS:
        times = np.array([each.get(key, np.nan) for each in moments])
        by_time = np.lexsort((times, place))
        table = times[by_time].reshape(len(counts), -1)
        if np.isfinite(table).all() and (np.diff(table, axis=1) > 0).all():
            phase = np.empty(len(along), int)
            phase[by_time] = np.tile(np.arange(table.shape[1]), len(counts))
            return phase, _times(moments, phase)
    raise FileError(
        f"{name} has {counts[0]} frames at each place, and no tag ({', '.join(MOMENTS)}) tells them "
        "apart; expected one",
        "give the files of one phase alone",
    )


def _times(moments: Sequence[Mapping[str, float]], phase: np.ndarray) -> dict[str, str]:
    """The mean time of each phase's frames since that of the first phase, by the first tag that tells it in seconds."""
    for key, seconds in SECONDS.items():
        times = np.array([each.get(key, np.nan) for each in moments])
        if seconds is None or not np.isfinite(times).all():
            continue
        means = np.array([times[phase == n].mean() for n in range(int(phase.max()) + 1)]) * seconds
        if (np.diff(means) > 0).all():
            return {"frame_values": " ".join(f"{t:.6g}" for t in means - means[0]), "frame_unit": "s"}
    return {}
