"""NIfTI-1, NIfTI-2 and Analyze 7.5, one file or two, packed or not: header and voxels, checked; and written.

https://nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields and the header files nifti1.h and nifti2.h say what the
fields mean. Of two valid placements the sform is taken, as nibabel and dcm2niix do; results carry both as they are.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .compression import Damaged, Stream, packed_kind
from .files import check_file
from .volume import (
    MAX_EXTENT_MM,
    MAX_NUMBER,
    MAX_SHIFT_VOXELS,
    MIN_EXTENT_MM,
    Volume,
    check_geometry,
    check_sides,
    in_mm,
    is_flat,
    not_3d,
    not_supported,
    several_components,
    shear_voxels,
    shift_voxels,
    size_warnings,
    unreadable,
    wrong_header,
)

KIND = "NIfTI"
# field → (type, offset) of the header's fields that are read; of NIfTI-1, and of NIfTI-2
FIELDS = {
    348: {
        "dim": ("8h", 40),
        "datatype": ("h", 70),
        "bitpix": ("h", 72),
        "pixdim": ("8f", 76),
        "vox_offset": ("f", 108),
        "scl": ("2f", 112),
        "xyzt_units": ("b", 123),
        "codes": ("2h", 252),
        "quatern": ("3f", 256),
        "qoffset": ("3f", 268),
        "srow": ("12f", 280),
        "magic": ("4s", 344),
    },
    540: {
        "magic": ("8s", 4),
        "datatype": ("h", 12),
        "bitpix": ("h", 14),
        "dim": ("8q", 16),
        "pixdim": ("8d", 104),
        "vox_offset": ("q", 168),
        "scl": ("2d", 176),
        "codes": ("2i", 344),
        "quatern": ("3d", 352),
        "qoffset": ("3d", 376),
        "srow": ("12d", 400),
        "xyzt_units": ("i", 500),
    },
}
TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
COMPLEX = {32: "complex of 32 bits", 1792: "complex of 64 bits", 2048: "complex of 128 bits"}
SEVERAL = {128: ("RGB", 3), 2304: ("RGBA", 4)}
UNITS = {0: ("no unit", 1.0), 1: ("metres", 1000.0), 2: ("millimetres", 1.0), 3: ("micrometres", 0.001)}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MAX_OFFSET = 1 << 30  # of the voxels in the file: header extensions are small


@dataclass(frozen=True)
class Header:
    """The fields of a header as they stand there; ``order`` is the byte order, ``paired`` an .hdr beside an .img."""

    size: int
    order: str
    paired: bool
    analyze: bool
    sides: tuple[int, ...]
    datatype: int
    pixdim: np.ndarray
    vox_offset: int
    slope: float
    inter: float
    units: int
    time_units: int
    qform_code: int
    sform_code: int
    quatern: np.ndarray
    qoffset: np.ndarray
    srow: np.ndarray

    def sform(self) -> np.ndarray:
        """4×4, voxel → RAS, in the header's unit."""
        return np.vstack([self.srow.reshape(3, 4), [0, 0, 0, 1]])

    def qform(self) -> np.ndarray:
        """R(quaternion) · diag(pixdim, the third with pixdim[0]'s sign), and qoffset: 4×4, voxel → RAS."""
        b, c, d = self.quatern
        a = math.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
        rotation = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
            ]
        )
        matrix = np.eye(4)
        matrix[:3, :3] = rotation * (self.pixdim[1:4] * [1, 1, -1 if self.pixdim[0] < 0 else 1])
        matrix[:3, 3] = self.qoffset
        return matrix


def is_nifti(start: bytes) -> bool:
    """Whether a file, unpacked, begins with a header of NIfTI or Analyze."""
    return len(start) >= 4 and any(struct.unpack(order + "i", start[:4])[0] in FIELDS for order in "<>")


def read(path: Path, *, series: bool = False) -> Volume:
    """The volume of a file or of a pair of files, given either of them; FileError where it cannot be.

    With ``series`` several volumes in time may be in it, voxels (t, z, y, x); ``header`` then has the ``frame_step``,
    in the unit of time of the code ``frame_units``.
    """
    header_path = _of_pair(path, ".hdr") if re.search(r"\.img(\.gz)?$", path.name.lower()) else path
    with header_path.open("rb") as file:
        stream = _stream(file)
        try:
            header = parse(header_path, stream.read(4), stream)
            if header.paired and re.search(r"\.nii(\.gz)?$", path.name.lower()):
                raise unreadable(path, "its header's magic is not that of NIfTI in one file", KIND)
            if header.paired:
                with _of_pair(header_path, ".img").open("rb") as voxels_file:
                    stream.finish(more=True)
                    return _volume(header_path, header, _stream(voxels_file), 0, series)
            return _volume(path, header, stream, header.size, series)
        except Damaged as error:
            raise unreadable(path, f"{path.name} {error}", KIND) from None


def sides_of(path: Path) -> tuple[int, ...]:
    """The sides that a file's header tells of; FileError where it makes no sense."""
    with path.open("rb") as file:
        stream = _stream(file)
        try:
            return parse(path, stream.read(4), stream).sides
        except Damaged as error:
            raise unreadable(path, f"{path.name} {error}", KIND) from None


def _of_pair(path: Path, ending: str) -> Path:
    """The .hdr or the .img of a pair of files, given either of them, packed or not; FileError where it is not there."""
    stem = re.sub(r"\.(hdr|img|nii)(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    there = [path.with_name(stem + other) for other in (ending, ending + ".gz", ending.upper())]
    found = next((other for other in there if other.exists()), there[0])
    check_file(found, f"the other half of {path.name}: a header (.hdr) and its voxels (.img) go together")
    return found


def _stream(file: BinaryIO) -> Stream:
    kind = packed_kind(file.read(4))
    file.seek(0)
    return Stream(file, kind)


def parse(path: Path, start: bytes | bytearray, rest: Stream) -> Header:
    """The header that begins with ``start``; FileError for fields that make no sense."""
    order = "<" if struct.unpack("<i", start)[0] in FIELDS else ">"
    size = struct.unpack(order + "i", start)[0]
    if size not in FIELDS:
        raise unreadable(path, "it does not begin as a NIfTI file does", KIND)
    raw = bytes(start) + bytes(rest.read(size - 4))

    def field(name: str) -> tuple[Any, ...]:
        kind, offset = FIELDS[size][name]
        return struct.unpack_from(order + kind, raw, offset)

    count, *sides = field("dim")
    magic = field("magic")[0][:3]
    if not 1 <= count <= 7:
        raise unreadable(path, f"its header tells of {count} dimensions", KIND)
    if size == 540 and magic not in (b"n+2", b"ni2"):
        raise unreadable(path, f"its header's magic is {magic.decode('latin-1')!r}", KIND)
    (slope, inter), (offset,), codes = field("scl"), field("vox_offset"), field("codes")
    if not math.isfinite(offset) or not 0 <= offset <= MAX_OFFSET or offset != int(offset):
        raise unreadable(path, f"its voxels begin at byte {offset:g} by its header", KIND)
    analyze = size == 348 and magic not in (b"n+1", b"ni1")
    number = np.float64 if size == 540 else np.float32
    return Header(
        size=size,
        order=order,
        paired=analyze or magic in (b"ni1", b"ni2"),
        analyze=analyze,
        sides=tuple(sides[:count]),
        datatype=field("datatype")[0],
        pixdim=np.array(field("pixdim"), number).astype(float),
        vox_offset=int(offset),
        slope=0.0 if analyze else slope,
        inter=inter,
        units=0 if analyze else field("xyzt_units")[0] & 7,
        time_units=0 if analyze else field("xyzt_units")[0] & 0x38,
        qform_code=0 if analyze else codes[0],
        sform_code=0 if analyze else codes[1],
        quatern=np.array(field("quatern"), float),
        qoffset=np.array(field("qoffset"), float),
        srow=np.array(field("srow"), number),
    )


def _volume(path: Path, header: Header, stream: Stream, position: int, series: bool) -> Volume:
    """The voxels behind a header, where they lie, and what there is to say; the stream stands at ``position``."""
    check_sides(path, header.sides)
    if header.datatype in COMPLEX:
        raise several_components(path, COMPLEX[header.datatype], 2)
    if header.datatype in SEVERAL:
        raise several_components(path, *SEVERAL[header.datatype])
    frames = header.sides[3] if series and len(header.sides) == 4 and min(header.sides) > 1 else 0
    spatial = header.sides[:3] if frames else _of_space(path, header)
    warnings = []
    if header.sides[:3] != spatial:
        warnings.append(
            f"its size is {header.sides}; the axes of one were dropped, the header's placement was taken for the others"
        )
    header = replace(header, sides=spatial)
    if header.datatype not in TYPES:
        raise not_supported(path, f"its voxels are of type {header.datatype}, which is none that is read")
    to_mm, doubts = placement(path, header)
    warnings += doubts + size_warnings(spatial, to_mm)
    # In one file the four bytes behind the header tell of extensions, whatever vox_offset says.
    skip = max(header.vox_offset, position + 4) - position if position else header.vox_offset
    kind = np.dtype(header.order + TYPES[header.datatype])
    count = math.prod(spatial) * max(1, frames)
    stream.check_room(skip + count * kind.itemsize)
    between, content = stream.read(skip), stream.read(count * kind.itemsize)
    if position:
        _check_extension(path, header, between + content[:8])
    voxels = np.frombuffer(content, kind).reshape(*[frames] * bool(frames), *spatial[::-1])
    behind = stream.finish()
    if behind:
        warnings.append(f"it holds {behind}, which were ignored")
    kept = _kept(path, header)
    if frames:
        kept |= {"frame_step": repr(float(header.pixdim[4])), "frame_units": repr(header.time_units)}
    return Volume(_scaled(path, voxels, header), to_mm, tuple(f"{path.name}: {w}" for w in warnings), kept)


def _check_extension(path: Path, header: Header, behind: bytes | bytearray) -> None:
    """FileError where the voxels are said to begin inside of an extension that the bytes behind the header tell of."""
    if len(behind) < 12 or not behind[0]:
        return
    size = struct.unpack_from(header.order + "i", behind, 4)[0]
    end = header.size + 4 + size
    if size >= 16 and size % 16 == 0 and max(header.vox_offset, header.size + 4) == header.size + 4:
        raise unreadable(
            path,
            f"its voxels begin at byte {header.vox_offset} by its header, inside of an extension that ends at {end}",
            KIND,
        )


def _of_space(path: Path, header: Header) -> tuple[int, ...]:
    """The sides of the three axes of space; FileError for several volumes and vectors.

    Axes of one behind them are dropped, and those that a program of arrays has put before or between them, as in
    (1, x, y, z) and (1, 1, x, y, z). With a unit of time the axis behind is time: those are several slices.
    """
    sides = header.sides
    while len(sides) > 3 and sides[-1] == 1:
        sides = sides[:-1]
    others = tuple(side for side in sides if side > 1)
    is_array = len(sides) == 4 or (len(sides) == 5 and sides[:2] == (1, 1))
    if len(sides) > 3 and is_array and len(others) == 3 and not header.time_units:
        return others
    if math.prod(sides[4:]) > 1:
        raise several_components(path, "a vector", math.prod(sides[4:]))
    if len(sides) != 3:
        raise not_3d(path, header.sides)
    return sides


def _scaled(path: Path, voxels: np.ndarray, header: Header) -> np.ndarray:
    """slope · stored + inter, where the header has a slope."""
    slope, inter = header.slope, header.inter
    if slope == 0 or not math.isfinite(slope) or (slope == 1 and inter == 0):
        return voxels
    if not math.isfinite(inter):
        raise unreadable(path, f"its scl_inter is {inter}", KIND)
    kind = np.float32 if voxels.dtype.itemsize <= 2 else np.float64
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite then is refused by name
        return (voxels.astype(np.float64) * slope + inter).astype(kind)


def placement(path: Path, header: Header) -> tuple[np.ndarray, list[str]]:
    """4×4 from voxel to LPS in mm, and what is doubtful about it; FileError where nothing can be taken."""
    sides, pixdim = header.sides[:3], header.pixdim[1:4]
    if not np.isfinite(pixdim).all() or pixdim.min() <= 0:
        raise wrong_header(
            path, f"its voxels are {' × '.join(f'{n:g}' for n in pixdim)} large (pixdim)", "sizes above zero"
        )
    forms, warnings = _forms(path, header)
    if not forms:
        matrix = LPS @ np.diag([*pixdim, 1.0])
        warnings.append(
            "its header has no orientation (no sform, no qform); its axes were taken as left, posterior and superior, "
            "left and right may be swapped"
        )
    else:
        taken = next(iter(forms))
        matrix = forms.pop(taken)
        for name, other in forms.items():
            voxels, units = shift_voxels(sides, matrix, other)
            if voxels > MAX_SHIFT_VOXELS:
                warnings.append(
                    f"its two placements disagree: the {taken} was taken, the {name} lies up to {units:.3g} units "
                    f"({voxels:.3g} voxels) away"
                )
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        if not forms and (np.abs(pixdim / spacing - 1) * sides).max() > MAX_SHIFT_VOXELS:
            warnings.append(
                f"its voxels are {in_mm(spacing)} large by its {taken}, which was taken, and {in_mm(pixdim)} by pixdim"
            )
    scale, said = _unit(header, np.linalg.norm(matrix[:3, :3], axis=0) * sides)
    matrix = np.diag([scale, scale, scale, 1.0]) @ LPS @ matrix
    check_geometry(path, matrix)
    return matrix, [w.replace(" units ", " mm ") for w in warnings] + said


def _forms(path: Path, header: Header) -> tuple[dict[str, np.ndarray], list[str]]:
    """The placements that the header has, the one to take first, and what is wrong with others."""
    forms: dict[str, np.ndarray] = {}
    faults: dict[str, str] = {}
    if header.sform_code > 0:
        forms["sform"] = header.sform()
        if not (np.abs(forms["sform"]) < MAX_NUMBER).all():
            faults["sform"] = "holds numbers that are not finite, or huge"
        elif is_flat(forms["sform"]):
            faults["sform"] = "has axes of no length or in one plane"
        elif (shear := shear_voxels(header.sides[:3], forms["sform"])) > MAX_SHIFT_VOXELS and header.qform_code > 0:
            faults["sform"] = f"is sheared, by {shear:.3g} voxels at its corners"
    if header.qform_code > 0:
        if not np.isfinite([*header.quatern, *header.qoffset]).all():
            faults["qform"] = "holds numbers that are not finite"
        elif np.square(header.quatern).sum() > 1.0001:
            faults["qform"] = "is no rotation"
        else:
            forms["qform"] = header.qform()
    sound = {name: matrix for name, matrix in forms.items() if name not in faults}
    if faults and not sound:
        raise wrong_header(
            path, "; ".join(f"its {name} {fault}" for name, fault in faults.items()), "a place in a room"
        )
    taken = next(iter(sound), "")
    return sound, [f"its {name} {fault}; the {taken} was taken" for name, fault in faults.items()]


def _unit(header: Header, extent: np.ndarray) -> tuple[float, list[str]]:
    """Millimetres in the header's unit, unless that makes the scan absurd and millimetres do not; and what to say."""
    name, scale = UNITS.get(header.units, UNITS[0])
    sane = [MIN_EXTENT_MM <= extent.max() * factor <= MAX_EXTENT_MM for factor in (scale, 1.0)]
    if sane[0] or not sane[1] or scale == 1.0:
        return scale, []
    return 1.0, [
        f"its header's unit is {name}, the scan would be {in_mm(extent * scale)} large; "
        f"its numbers were taken as millimetres: {in_mm(extent)}"
    ]


def _kept(path: Path, header: Header) -> dict[str, str]:
    """What results take over of the placements, so that they lie on the scan in every reader; each in ITK's words."""
    forms, _ = _forms(path, header)
    pixdim = header.pixdim[:4].copy()
    if "qform" not in forms and "sform" in forms:
        pixdim[1:4] = np.linalg.norm(forms["sform"][:3, :3], axis=0)
    sheared = header.sform_code > 0 and "sform" not in forms and np.isfinite(header.srow).all()
    kept = {
        "qform_code": header.qform_code if "qform" in forms else 0,
        "sform_code": header.sform_code if "sform" in forms or sheared else 0,
        "xyzt_units": header.units,
    }
    kept |= {f"pixdim[{n}]": value for n, value in enumerate(pixdim)}
    kept |= {f"quatern_{axis}": value for axis, value in zip("bcd", header.quatern, strict=True)}
    kept |= {f"qoffset_{axis}": value for axis, value in zip("xyz", header.qoffset, strict=True)}
    rows = header.srow.astype(float).reshape(3, 4)
    texts = {f"srow_{axis}": " ".join(map(repr, row.tolist())) for axis, row in zip("xyz", rows, strict=True)}
    return {name: repr(float(value)) for name, value in kept.items()} | texts
