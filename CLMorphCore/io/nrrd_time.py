"""The axis of time of a NRRD file: a list of volumes, as Slicer writes sequences, and what its header says of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

FRAMES = ("list", "time")  # kinds of an axis of frames,
OTHER_KINDS = ("domain", "space", "???", "none")  # and those that tell nothing about one that has no direction


def time_axis(fields: dict[str, str], sides: Sequence[int], directions: Sequence[np.ndarray | None]) -> int | None:
    """The one axis of more than one that is none of space, nor of vectors and the like; None where there is none."""
    kinds = fields.get("kinds", " ".join(["???"] * len(sides))).lower().split()
    placed = "spacedirections" in fields
    known = (*FRAMES, *OTHER_KINDS) if placed else FRAMES
    found = [n for n, kind in enumerate(kinds[: len(sides)]) if kind in known and sides[n] > 1]
    found = [n for n in found if directions[n] is None]
    return found[0] if len(found) == 1 else None


def times_of(fields: dict[str, str], time: int) -> tuple[dict[str, str], dict[str, str]]:
    """The header's ``frame_values`` and ``frame_unit``, and the fields without that unit, which is none of length."""
    units = ["".join(unit) for unit in re.findall(r'"([^"]*)"|(\S+)', fields.get("units", ""))]
    unit = fields.get(f"axis {time} index unit:=", "".join(units[time : time + 1]))
    told = {"frame_values": fields.get(f"axis {time} index values:=", ""), "frame_unit": unit}
    return told, fields | {"units": " ".join(units[:time] + units[time + 1 :])}
