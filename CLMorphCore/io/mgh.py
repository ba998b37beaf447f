"""FreeSurfer's MGH and MGZ: a big-endian header of 284 bytes, voxels behind it; .mgz is a gzip stream of it.

https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat says what the fields mean.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from .compression import Damaged, Stream, packed_kind
from .volume import Volume, check_geometry, check_sides, not_3d, not_supported, size_warnings, unreadable, wrong_header

KIND = "MGH"
HEADER_BYTES = 284
TYPES = {0: "u1", 1: "i4", 3: "f4", 4: "i2", 10: "u2"}
LPS = np.diag([-1.0, -1.0, 1.0])
ENDINGS = (".mgz", ".mgh", ".mgh.gz")


def read(path: Path) -> Volume:
    """The volume of a file; FileError where it cannot be read."""
    with path.open("rb") as file:
        kind = packed_kind(file.read(4))
        file.seek(0)
        stream = Stream(file, kind)
        try:
            header = bytes(stream.read(HEADER_BYTES))
            version, *sides, code, _ = struct.unpack_from(">7i", header)
            if version & 0xFF != 1:
                raise unreadable(path, f"its version is {version}, expected 1", KIND)
            check_sides(path, sides)
            if sides[3] != 1:
                raise not_3d(path, sides)
            if code not in TYPES:
                raise not_supported(path, f"its voxels are of type {code}, which is none that is read")
            to_mm, warnings = _placement(path, header, sides[:3])
            stored = np.dtype(">" + TYPES[code])
            voxels = np.frombuffer(stream.read(math.prod(sides) * stored.itemsize), stored)
            behind = stream.finish(more=True)  # scan parameters and tags follow
            warnings += [f"it holds {behind}, which were ignored"] if behind else []
        except Damaged as error:
            raise unreadable(path, f"{path.name} {error}", KIND) from None
    return Volume(voxels.reshape(sides[2::-1]), to_mm, tuple(f"{path.name}: {w}" for w in warnings))


def _placement(path: Path, header: bytes, sides: list[int]) -> tuple[np.ndarray, list[str]]:
    """Directions · spacing about the centre, which the header gives in RAS."""
    (good,) = struct.unpack_from(">h", header, 28)
    values = np.array(struct.unpack_from(">15f", header, 30), float)
    spacing, axes, centre = values[:3], values[3:12].reshape(3, 3).T, values[12:]
    warnings = []
    if good <= 0:  # as FreeSurfer: coronal slices of 1 mm
        spacing, axes, centre = np.ones(3), np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.zeros(3)
        warnings.append("its header has no orientation; coronal slices were taken, left and right may be swapped")
    lengths = np.linalg.norm(axes, axis=0)
    if not np.abs(lengths - 1).max() < 1e-2:
        raise wrong_header(path, f"its axes have length {', '.join(f'{n:.4g}' for n in lengths)}", "length 1")
    to_mm = np.eye(4)
    with np.errstate(all="ignore"):
        to_mm[:3, :3] = LPS @ (axes * spacing)
        to_mm[:3, 3] = LPS @ centre - to_mm[:3, :3] @ (np.array(sides) / 2)
    if not spacing.min() > 0:
        raise wrong_header(path, f"its voxels are {' × '.join(f'{n:g}' for n in spacing)} large", "sizes above zero")
    check_geometry(path, to_mm)
    return to_mm, warnings + size_warnings(sides, to_mm)
