"""The volumes of a sequence -> one file of the engine, with the time of each.

NRRD, laid out as Slicer's own .seq.nrrd: its header keeps the grid and the times in full, where NIfTI has single
precision and one step of time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import slicer.util

from .errors import NodeError
from .exporting import check_image
from .geometry import LPS_TO_RAS
from .nodes import Grid
from .output import on_one_grid
from .words import _

TYPES = {"i1": "int8", "u1": "uint8", "i2": "int16", "u2": "uint16", "i4": "int32", "u4": "uint32", "i8": "int64",
         "u8": "uint64", "f4": "float", "f8": "double"}  # fmt: skip
UNITS = ("s", "sec", "second", "seconds", "ms", "msec", "milliseconds")  # of time, as the engine knows them


@dataclass(frozen=True)
class Frame:
    """A volume inside a sequence, and the index value that it has there."""

    value: str
    volume: slicer.vtkMRMLScalarVolumeNode


def check_one_grid(frames: Sequence[Frame], proxy: slicer.vtkMRMLVolumeNode) -> Grid:
    """The grid of all frames in the world. Raises NodeError where one is no image, or lies on another grid."""
    grids = []
    for frame in frames:
        check_image(frame.volume, proxy)
        grids.append(Grid.of(frame.volume, proxy))
        if not on_one_grid(grids[0], grids[-1]):
            refused = _("frame {value} lies on another grid than frame {first}; those that follow need the same one")
            raise NodeError(refused.format(value=frame.value, first=frames[0].value))
    return grids[0]


def export_sequence(frames: Sequence[Frame], proxy: slicer.vtkMRMLVolumeNode, unit: str, path: Path) -> Grid:
    """Write frames, whose index has a unit, as one NRRD file in world coordinates; returns the grid of each.

    Raises NodeError as `check_one_grid`.
    """
    grid = check_one_grid(frames, proxy)
    kind = np.result_type(*(slicer.util.arrayFromVolume(frame.volume).dtype for frame in frames)).newbyteorder("<")
    try:
        with open(path, "wb") as file:
            file.write(_header(frames, grid, kind, unit).encode("ascii"))
            for frame in frames:
                file.write(np.ascontiguousarray(slicer.util.arrayFromVolume(frame.volume), kind).tobytes())
    except OSError as error:
        refused = _("{file} could not be written into {folder}: is there room on the disk?")
        raise NodeError(refused.format(file=path.name, folder=path.parent)) from error
    return grid


def _header(frames: Sequence[Frame], grid: Grid, kind: np.dtype, unit: str) -> str:
    lps = LPS_TO_RAS @ grid.matrix
    lines = [
        "NRRD0005",
        f"type: {TYPES[kind.str[1:]]}",
        "dimension: 4",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, grid.size))} {len(frames)}",
        f"space directions: {' '.join(_vector(lps[:3, axis]) for axis in range(3))} none",
        "kinds: domain domain domain list",
        "endian: little",
        "encoding: raw",
        f"space origin: {_vector(lps[:3, 3])}",
        *_times([frame.value for frame in frames], unit),
    ]
    return "\n".join(lines) + "\n\n"


def _vector(values: np.ndarray) -> str:
    return f"({','.join(repr(float(value)) for value in values)})"


def _times(values: Sequence[str], unit: str) -> list[str]:
    """Fields of an index that is time; none for another one, as a number of a frame or a b-value."""
    if unit.strip().lower() not in UNITS or not all(map(is_number, values)):
        return []
    return [f"axis 3 index type:=numeric\naxis 3 index unit:={unit.strip()}",
            f"axis 3 index values:={' '.join(repr(float(value)) for value in values)}"]  # fmt: skip


def is_number(text: str) -> bool:
    """Whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
