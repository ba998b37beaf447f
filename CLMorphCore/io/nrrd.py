"""NRRD (.nrrd, .nhdr): a text header, checked word by word, and voxels behind it or in files of their own.

The fields are those of https://teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .compression import Damaged, Stream
from .files import cannot_read, check_file
from .nrrd_time import time_axis, times_of
from .volume import (
    FRONT,
    MAX_SHIFT_VOXELS,
    NO_ORIGIN,
    Volume,
    check_geometry,
    check_other,
    check_sides,
    in_mm,
    not_3d,
    not_supported,
    numbers,
    several_components,
    size_warnings,
    unit_warnings,
    unreadable,
    whole_numbers,
    wrong_header,
)

KIND = "NRRD"
MAX_HEADER_BYTES = 1 << 26  # Slicer puts whole tables into it
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
ENCODINGS = {"raw": "", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
TEXT = ("txt", "text", "ascii")
ENCODED = "raw, gzip, bzip2, text or hex"
SPACES = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
MANY = {"vector": "a vector", "covariant-vector": "a vector", "normal": "a vector", "complex": "complex"}
SPATIAL = ("domain", "space", "???", "none", "")


def is_nrrd(start: bytes) -> bool:
    """Whether a file begins as a NRRD header does."""
    return re.match(rb"NRRD000\d", start) is not None


def read(path: Path, *, series: bool = False) -> Volume:
    """The volume of a header with its voxels; FileError where it cannot be read.

    With ``series`` an axis that is none of space may be time, voxels (t, z, y, x), and ``header`` has its values.
    """
    with path.open("rb") as file:
        fields = _header(path, file)
        sides = whole_numbers(path, "sizes", _needed(path, fields, "sizes"), _dimension(path, fields))
        check_sides(path, sides)
        kind = _type(path, fields)
        time = time_axis(fields, sides, _directions(path, fields, len(sides))) if series else None
        times, fields = ({}, fields) if time is None else times_of(fields, time)
        keep, to_mm, warnings = _grid(path, fields, [1 if n == time else side for n, side in enumerate(sides)])
        encoding = _needed(path, fields, "encoding").lower()
        if encoding not in ENCODINGS and encoding not in TEXT and encoding != "hex":
            raise not_supported(path, f"its encoding is {encoding[:40]!r}, which is none that is read", ENCODED)
        try:
            if encoding in ENCODINGS:
                content, behind = _content(path, fields, file, math.prod(sides) * kind.itemsize, ENCODINGS[encoding])
                voxels = np.frombuffer(content, kind)
            else:
                voxels, behind = _as_text(path, fields, file, math.prod(sides), kind, encoding)
        except Damaged as error:
            raise unreadable(path, f"{path.name} {error}", KIND) from None
    warnings += [f"it holds {behind}, which were ignored"] if behind else []
    shape, told = [sides[n] for n in reversed(keep)], tuple(f"{path.name}: {w}" for w in warnings)
    if time is None:
        return Volume(voxels.reshape(shape), to_mm, told)
    frames = np.moveaxis(voxels.reshape(sides[::-1]), len(sides) - 1 - time, 0).reshape(-1, *shape)
    return Volume(frames, to_mm, told, times)


def _header(path: Path, file: BinaryIO) -> dict[str, str]:
    """Field → value up to the empty line; the file then stands behind it. Key/value pairs (':=') do not count."""
    fields: dict[str, str] = {}
    file.readline(MAX_HEADER_BYTES)
    while line := file.readline(MAX_HEADER_BYTES):
        if file.tell() > MAX_HEADER_BYTES:
            raise unreadable(path, "its header has no end (an empty line)", KIND)
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            break
        if text.startswith("#") or ":=" in text:
            name, _, value = text.partition(":=")
            fields |= {f"{name}:=": value.strip()} if name.startswith("axis ") else {}
            continue
        name, colon, value = text.partition(":")
        if not colon or not re.fullmatch(r"[A-Za-z ]+", name):
            raise unreadable(path, f"its header has the line {text[:40]!r}, which is no field with a value", KIND)
        name = re.sub(r"\s", "", name).lower()  # 'data file' is 'datafile'
        if name == "datafile" and value.split()[:1] == ["LIST"]:  # the files follow up to the end
            fields[name] = value.strip() + "\n" + file.read(MAX_HEADER_BYTES).decode("utf-8", "replace")
            break
        if fields.get(name, value.strip()) != value.strip():
            raise unreadable(path, f"its header has two values of {name}", KIND)
        fields[name] = value.strip()
    else:
        if "datafile" not in fields:
            raise unreadable(path, "its header has no end (an empty line)", KIND)
    return fields


def _needed(path: Path, fields: dict[str, str], name: str) -> str:
    if name not in fields:
        raise unreadable(path, f"its header lacks the field {name}", KIND)
    return fields[name]


def _dimension(path: Path, fields: dict[str, str]) -> int:
    count = whole_numbers(path, "dimension", _needed(path, fields, "dimension"), 1)[0]
    if not 1 <= count <= 16:
        raise unreadable(path, f"its dimension is {count}", KIND)
    return count


def _type(path: Path, fields: dict[str, str]) -> np.dtype:
    name = " ".join(_needed(path, fields, "type").lower().split())
    for kind, names in TYPES.items():
        if name in names:
            endian = fields.get("endian", "little").lower()
            if endian not in ("little", "big") or (
                np.dtype(kind).itemsize > 1 and "endian" not in fields and _binary(fields)
            ):
                raise unreadable(path, f"its endian is {fields.get('endian', 'not given')[:40]!r}", KIND)
            return np.dtype((">" if endian == "big" else "<") + kind)
    raise not_supported(path, f"its type is {name[:40]!r}, which is none that is read")


def _binary(fields: dict[str, str]) -> bool:
    return fields.get("encoding", "").lower() in ENCODINGS


def _grid(path: Path, fields: dict[str, str], sides: list[int]) -> tuple[list[int], np.ndarray, list[str]]:
    """Which axes are the three of space, the placement, and what is doubtful about it."""
    count = len(sides)
    kinds = fields.get("kinds", " ".join(["???"] * count)).lower().split()
    if len(kinds) != count:
        raise unreadable(path, f"its kinds are {len(kinds)} of {count} axes", KIND)
    directions = _directions(path, fields, count)
    spatial = [directions[n] is not None if "spacedirections" in fields else kinds[n] in SPATIAL for n in range(count)]
    keep = list(range(count))
    for n in [n for n in reversed(range(count)) if sides[n] == 1 and not spatial[n]]:
        keep.remove(n)
    for n in [n for n in reversed(keep) if sides[n] == 1]:  # kinds that nobody named
        if len(keep) > 3 and "spacedirections" not in fields:
            keep.remove(n)
    for n in keep:
        if not spatial[n]:
            what = next((said for name, said in MANY.items() if name in kinds[n]), "")
            if what or "color" in kinds[n] or "matrix" in kinds[n]:
                raise several_components(path, what or kinds[n], sides[n])
            raise not_3d(path, sides)
    if len(keep) != 3:
        raise not_3d(path, sides)
    to_mm, warnings = _placement(path, fields, [directions[n] for n in keep], keep, sides)
    check_geometry(path, to_mm)
    return keep, to_mm, warnings + size_warnings([sides[n] for n in keep], to_mm)


def _directions(path: Path, fields: dict[str, str], count: int) -> list[np.ndarray | None]:
    """The vector of each axis from voxel to voxel, None for an axis that is not of space."""
    if "spacedirections" not in fields:
        return [None] * count
    vectors = re.findall(r"\([^()]*\)|\S+", fields["spacedirections"])
    if len(vectors) != count:
        raise unreadable(path, f"its space directions are {len(vectors)} of {count} axes", KIND)
    found: list[np.ndarray | None] = []
    for vector in vectors:
        words = vector.strip("()").replace(",", " ").lower().split()
        if vector.lower() == "none" or (words and all(word == "nan" for word in words)):
            found.append(None)
        else:
            found.append(np.array(_vector(path, "space directions", vector)))
    return found


def _vector(path: Path, name: str, text: str) -> list[float]:
    if not re.fullmatch(r"\([^()]*\)", text):
        raise unreadable(path, f"its {name} holds {text[:40]!r}, which is no vector (x,y,z)", KIND)
    values = numbers(path, name, text[1:-1])
    if len(values) != 3:
        raise unreadable(path, f"its {name} holds {text[:40]!r}, which is no vector (x,y,z)", KIND)
    return values


def _placement(
    path: Path, fields: dict[str, str], directions: list[np.ndarray | None], keep: list[int], sides: list[int]
) -> tuple[np.ndarray, list[str]]:
    warnings, to_mm = [], np.eye(4)
    space = fields.get("space", "").lower().removesuffix("-time")
    if space in SPACES:
        signs = np.array(SPACES[space], float)
    else:
        signs = np.ones(3)
        said = f"its space is {space[:40]!r}" if space else "its header names no space"
        warnings.append(f"{said}; its axes were taken as left, posterior and superior, left and right may be swapped")
    origin = None
    if all(direction is not None for direction in directions):
        to_mm[:3, :3] = signs[:, None] * np.array(directions).T
        warnings += _other_spacings(path, fields, keep, sides, np.linalg.norm(to_mm[:3, :3], axis=0))
    else:
        spacing, origin = _by_axis(path, fields, keep, sides)
        if spacing is None:
            warnings.append("its header has no voxel size; voxels of 1 mm were taken")
        else:
            to_mm[:3, :3] = np.diag(spacing)
    if "spaceorigin" in fields:
        origin = signs * _vector(path, "space origin", fields["spaceorigin"])
    if origin is None:
        warnings.append(NO_ORIGIN)
    else:
        to_mm[:3, 3] = origin
    units = fields.get("spaceunits", fields.get("units", "")).replace('"', " ").split()
    return to_mm, warnings + unit_warnings(units)


def _other_spacings(
    path: Path, fields: dict[str, str], keep: list[int], sides: list[int], taken: np.ndarray
) -> list[str]:
    """A sentence about spacings that are not those of the space directions: NRRD knows only one of the two fields."""
    told = _each(path, {k: v for k, v in fields.items() if "nan" not in v.lower()}, "spacings", keep, len(sides))
    if told is None or (np.abs(told - taken) * np.take(sides, keep) <= MAX_SHIFT_VOXELS * taken).all():
        return []
    said = f"its voxels are {in_mm(taken)} large by its space directions, which were taken, and {in_mm(told)} by"
    return [f"{said} its spacings"]


def _by_axis(
    path: Path, fields: dict[str, str], keep: list[int], sides: list[int]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Spacing and origin by the fields that have a number for each axis, each None where they do not tell it.

    Axes begin at their min and end at their max: with cells around the samples, which is usual, or with the samples
    themselves (nodes).
    """
    shown = fields.get("centers", fields.get("centerings", "")).lower().split()
    node = np.array([len(shown) == len(sides) and shown[n] == "node" for n in keep])
    spacing, low, high = (_each(path, fields, name, keep, len(sides)) for name in ("spacings", "axismins", "axismaxs"))
    if spacing is not None and spacing.min() <= 0:
        raise wrong_header(path, f"its spacings are {fields['spacings'][:60]}", "sizes above zero")
    if spacing is None and low is not None and high is not None:
        spacing = (high - low) / np.maximum(np.array([sides[n] for n in keep]) - node, 1)
        if spacing.min() <= 0:
            raise wrong_header(path, "its axis maxs are not above its axis mins", "axes that ascend")
    return spacing, None if low is None or spacing is None else low + np.where(node, 0, spacing / 2)


def _each(path: Path, fields: dict[str, str], name: str, keep: list[int], count: int) -> np.ndarray | None:
    """A field's numbers for the axes that are kept; None where one of them is not given."""
    words, said = fields.get(name, "").split(), name.replace("axis", "axis ")
    if not words:
        return None
    if len(words) != count:
        raise unreadable(path, f"its {said} are {len(words)} of {count} numbers", KIND)
    chosen = [words[n] for n in keep]
    if name != "spacings" and "nan" in chosen:  # an end that nobody knows
        return None
    return np.array(numbers(path, said, " ".join(chosen), 3))


def _content(
    path: Path, fields: dict[str, str], file: BinaryIO, size: int, packing: str
) -> tuple[bytes | bytearray, str]:
    """The voxels' bytes, and what follows them; raises Damaged."""
    if "datafile" not in fields:
        return _part(path, fields, file, size, packing)
    files = list(_files(path, fields["datafile"]))
    content, behind = bytearray(), ""
    for part in files:
        check_file(part, f"the voxels of {path.name}")
        if "byteskip" not in fields:
            check_other(path, part)
        try:
            with part.open("rb") as voxels:
                piece, behind = _part(path, fields, voxels, size // len(files), packing)
                behind += FRONT.format("a byte skip") if behind and not packing and "byteskip" not in fields else ""
        except OSError as error:
            raise cannot_read(part, error, f"the voxels of {path.name}") from None
        content += piece
    if len(content) != size:
        raise Damaged(f"names {len(files)} files, whose voxels are not as many as its size tells of")
    return content, behind


def _part(path: Path, fields: dict[str, str], file: BinaryIO, size: int, packing: str) -> tuple[bytes | bytearray, str]:
    _skip_lines(path, fields, file)
    skip = whole_numbers(path, "byte skip", fields.get("byteskip", "0"), 1)[0]
    if skip < -1:
        raise unreadable(path, f"its byte skip is {skip}", KIND)
    if skip == -1 and not packing:  # the voxels are the end of the file
        file.seek(max(file.seek(0, 2) - size, 0))
    elif skip > 0 and not packing:
        file.seek(skip, 1)
    stream = Stream(file, packing)
    if skip > 0 and packing:
        stream.read(skip)
    return stream.read(size), stream.finish()


def _skip_lines(path: Path, fields: dict[str, str], file: BinaryIO) -> None:
    lines = whole_numbers(path, "line skip", fields.get("lineskip", "0"), 1)[0]
    if not 0 <= lines <= 1_000_000:
        raise unreadable(path, f"its line skip is {lines}", KIND)
    for _ in range(lines):
        file.readline(MAX_HEADER_BYTES)


def _as_text(
    path: Path, fields: dict[str, str], file: BinaryIO, count: int, kind: np.dtype, encoding: str
) -> tuple[np.ndarray, str]:
    """Voxels that are written in digits, a number each, or bytes in hexadecimal ones; and what follows them."""
    if "datafile" in fields:
        parts = list(_files(path, fields["datafile"]))
        check_file(parts[0], f"the voxels of {path.name}")
        if len(parts) > 1:
            raise not_supported(path, f"its voxels are written as {encoding} in several files", "one file")
        check_other(path, parts[0])
        with parts[0].open("rb") as voxels:
            return _as_text(path, {k: v for k, v in fields.items() if k != "datafile"}, voxels, count, kind, encoding)
    _skip_lines(path, fields, file)
    stream = Stream(file)
    stream.check_room(count)  # a digit each, at least
    text = file.read().replace(b",", b" ")
    try:
        if encoding == "hex":
            packed = bytes.fromhex(text.decode("ascii"))
            surplus, unit = len(packed) - count * kind.itemsize, "bytes"
            stored = np.frombuffer(packed[: count * kind.itemsize], kind)
        else:
            words = text.split()
            surplus, unit = len(words) - count, "numbers"
            stored = np.array(words[:count], kind.newbyteorder("="))
    except (ValueError, OverflowError, UnicodeDecodeError) as error:
        raise unreadable(path, f"its voxels are no numbers ({str(error)[:60]})", KIND) from None
    if len(stored) < count:
        raise Damaged(f"is cut off, at least {count - len(stored)} of its voxels are missing")
    return stored, f"{surplus} {unit} more than its header tells of" if surplus > 0 else ""


def _files(path: Path, text: str) -> Iterator[Path]:
    """The files that hold the voxels: one, or those of a list or a pattern."""
    first, *rest = text.split("\n")
    words = first.split()
    if words[:1] == ["LIST"]:
        names = [line.strip() for line in rest if line.strip()]
    elif len(words) >= 4 and re.fullmatch(r"[^%]*%\d*d[^%]*", words[0]):
        start, stop, step, *_ = whole_numbers(path, "data file", " ".join(words[1:4]))
        numbered = range(start, stop + (1 if step > 0 else -1), step) if step else range(0)
        if not 0 < len(numbered) < 100_000:
            raise unreadable(path, f"its data file is {first[:60]!r}", KIND)
        names = [words[0] % n for n in numbered]
    else:
        names = [first]
    if not names or not all(names) or any("\0" in name for name in names):
        raise unreadable(path, f"its data file is {first[:60]!r}", KIND)
    yield from (path.parent / name for name in names)
