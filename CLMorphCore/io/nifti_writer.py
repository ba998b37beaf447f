"""NIfTI-1 files written: both placements with codes, or those of the scan that a result belongs to."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .compression import CHUNK_BYTES
from .nifti import LPS, TYPES, UNITS, Header
from .volume import at_right_angles, is_flat, shift_voxels

SCANNER, MILLIMETRES = 1, 2
AGREES_VOXELS = 1e-2
LEVEL = 2  # of zlib: what a third more time saves is a tenth
CODES = {kind: code for code, kind in TYPES.items()}


def write(path: Path, voxels: np.ndarray, to_mm: np.ndarray, scan: Mapping[str, str] | None = None) -> None:
    """Writes voxels (z, y, x) that lie at ``to_mm`` (4×4, LPS) into .nii or .nii.gz; OSError where that fails.

    ``scan`` is what the header of the scan says, of which the result is: the result gets the same placements. Voxels
    (t, z, y, x) are frames, between which is the scan's ``frame_step``.
    """
    voxels = np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("<"))
    kind = voxels.dtype.str[1:]
    forms = (scan and _placements(scan, to_mm, voxels.shape[:-4:-1])) or _both(to_mm)
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    step, unit = (float((scan or {}).get(key, 0)) for key in ("frame_step", "frame_units"))
    struct.pack_into("<8h", header, 40, voxels.ndim, *voxels.shape[::-1], *[1] * (7 - voxels.ndim))
    struct.pack_into("<2h", header, 70, CODES[kind], 8 * voxels.dtype.itemsize)
    struct.pack_into("<8f", header, 76, *forms["pixdim"], step, 0, 0, 0)
    struct.pack_into("<3f", header, 108, 352, 1, 0)
    struct.pack_into("<b", header, 123, int(forms["units"][0]) | int(unit))
    struct.pack_into("<2h", header, 252, *map(int, forms["codes"]))
    struct.pack_into("<18f", header, 256, *forms["qform"], *forms["srow"])
    struct.pack_into("<4s", header, 344, b"n+1")
    with path.open("wb") as file:
        if path.name.endswith(".gz"):
            with gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed:
                _write_all(packed, header, voxels)
        else:
            _write_all(file, header, voxels)


def _write_all(file: BinaryIO | gzip.GzipFile, header: bytes | bytearray, voxels: np.ndarray) -> None:
    file.write(header)
    content = voxels.reshape(-1).view(np.uint8).data
    for start in range(0, len(content), CHUNK_BYTES):
        file.write(content[start : start + CHUNK_BYTES])


def _both(to_mm: np.ndarray, code: int = SCANNER) -> dict[str, tuple[float, ...]]:
    """sform and qform of one placement, in the order of the header's fields."""
    matrix = LPS @ to_mm
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    left, _, right = np.linalg.svd(matrix[:3, :3] / spacing)
    rotation = left @ right
    turned = np.linalg.det(rotation) < 0
    return {
        "codes": (code, code),
        "units": (MILLIMETRES,),
        "pixdim": (-1.0 if turned else 1.0, *spacing.tolist()),
        "qform": (*quaternion(rotation * [1, 1, -1 if turned else 1]), *matrix[:3, 3].tolist()),
        "srow": tuple(matrix[:3].ravel().tolist()),
    }


def quaternion(rotation: np.ndarray) -> tuple[float, float, float]:
    """b, c, d of a rotation's quaternion with a ≥ 0: the eigenvector of the largest eigenvalue (Bar-Itzhack, 2000)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    matrix = np.array(
        [
            [xx - yy - zz, 0, 0, 0],
            [yx + xy, yy - xx - zz, 0, 0],
            [zx + xz, zy + yz, zz - xx - yy, 0],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    b, c, d, a = np.linalg.eigh(matrix / 3)[1][:, -1]
    sign = math.copysign(1.0, a)
    return float(sign * b), float(sign * c), float(sign * d)


def _placements(
    scan: Mapping[str, str], to_mm: np.ndarray, sides: tuple[int, ...]
) -> dict[str, tuple[float, ...]] | None:
    """The scan's own placements, the one that it lacks added; None where its header does not place it at ``to_mm``."""
    try:
        header = header_of(scan, sides)
    except (KeyError, ValueError):
        return None
    forms = {}
    if header.sform_code > 0:
        forms["sform"] = header.sform()
    if header.qform_code > 0:
        forms["qform"] = header.qform()
    known = [LPS @ matrix for matrix in forms.values()] or [LPS @ LPS @ np.diag([*header.pixdim[1:4], 1.0])]
    known += [at_right_angles(sides, matrix) for matrix in known if not is_flat(matrix) and np.isfinite(matrix).all()]
    scales = (1.0, UNITS.get(header.units, UNITS[0])[1])
    if not any(
        shift_voxels(sides, to_mm, np.diag([scale] * 3 + [1.0]) @ matrix)[0] < AGREES_VOXELS
        for matrix in known
        for scale in scales
    ):
        return None
    own = {
        "codes": (header.qform_code, header.sform_code),
        "units": (header.units,),
        "pixdim": tuple(header.pixdim[:4]),
        "qform": (*header.quatern, *header.qoffset),
        "srow": tuple(header.srow),
    }
    if len(forms) == 1:  # the other one says the same
        name, matrix = next(iter(forms.items()))
        added = _both(at_right_angles(sides, LPS @ matrix), max(header.qform_code, header.sform_code))
        same = ("codes", "srow") if name == "qform" else ("codes", "qform", "pixdim")
        own |= {key: added[key] for key in same}
    return own


def header_of(scan: Mapping[str, str], sides: tuple[int, ...]) -> Header:
    """The placements in the metadata of an image that was read from NIfTI; KeyError or ValueError where none are."""
    rows = [float(word) for axis in "xyz" for word in scan[f"srow_{axis}"].split()]
    if len(rows) != 12:
        raise ValueError("srow has 12 numbers")
    return Header(
        size=348,
        order="<",
        paired=False,
        analyze=False,
        sides=sides,
        datatype=16,
        pixdim=np.array([float(scan[f"pixdim[{n}]"]) for n in range(4)]),
        vox_offset=0,
        slope=0.0,
        inter=0.0,
        units=int(float(scan["xyzt_units"])) & 7,
        time_units=0,
        qform_code=int(float(scan["qform_code"])),
        sform_code=int(float(scan["sform_code"])),
        quatern=np.array([float(scan[f"quatern_{axis}"]) for axis in "bcd"]),
        qoffset=np.array([float(scan[f"qoffset_{axis}"]) for axis in "xyz"]),
        srow=np.array(rows),
    )
