"""MetaImage (.mha, .mhd): a text header, checked word by word, and voxels behind it or in files of their own.

The keys are those of https://itk.org/Wiki/MetaIO/Documentation; rows of TransformMatrix are the axes' directions, LPS.
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
from .volume import (
    FRONT,
    NO_ORIGIN,
    Volume,
    check_geometry,
    check_other,
    check_sides,
    not_supported,
    numbers,
    several_components,
    size_warnings,
    spatial_axes,
    unit_warnings,
    unreadable,
    whole_numbers,
    wrong_header,
)

KIND = "MetaImage"
MAX_HEADER_BYTES = 1 << 20
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
# Several names for one thing, the first of which is the usual one.
SAME = {
    "Position": "Offset",
    "Origin": "Offset",
    "Rotation": "TransformMatrix",
    "Orientation": "TransformMatrix",
    "ElementByteOrderMSB": "BinaryDataByteOrderMSB",
}
START = re.compile(rb"\s*(ObjectType|NDims|Comment|ObjectSubType|TransformType)\s*=")


def is_metaimage(start: bytes) -> bool:
    """Whether a file begins as a MetaImage header does."""
    return START.match(start) is not None


def read(path: Path, *, series: bool = False) -> Volume:
    """The volume of a header with its voxels; FileError where it cannot be read.

    With ``series`` a fourth axis may be time, voxels (t, z, y, x).
    """
    with path.open("rb") as file:
        keys = _header(path, file)
        if keys.get("ObjectType", "Image").lower() != "image":
            raise unreadable(path, f"it holds a {keys['ObjectType'][:40]}, no image", KIND)
        sides, to_mm, warnings = _grid(path, keys, series)
        kind = _type(path, keys, sides)
        try:
            content, behind = _content(path, keys, file, math.prod(sides) * kind.itemsize)
        except Damaged as error:
            raise unreadable(path, f"{path.name} {error}", KIND) from None
    warnings += [f"it holds {behind}, which were ignored"] if behind else []
    voxels = np.frombuffer(content, kind).reshape(sides[::-1])
    return Volume(voxels, to_mm, tuple(f"{path.name}: {w}" for w in warnings))


def _header(path: Path, file: BinaryIO) -> dict[str, str]:
    """Key → value up to ElementDataFile, with which the header ends; the file then stands behind it."""
    keys: dict[str, str] = {}
    while "ElementDataFile" not in keys:
        line = file.readline(MAX_HEADER_BYTES)
        if not line or file.tell() > MAX_HEADER_BYTES:
            raise unreadable(path, "its header has no end (ElementDataFile)", KIND)
        try:
            name, equals, value = line.decode("utf-8").partition("=")
        except UnicodeDecodeError:
            name, equals, value = "", "", ""
        if not line.strip():
            continue
        if not equals or not re.fullmatch(r"[\w \[\]()|.:-]+", name.strip()):
            shown = line[:40].decode("utf-8", "backslashreplace")
            raise unreadable(path, f"its header has the line {shown!r}, which is no key with a value", KIND)
        name, value = SAME.get(name.strip(), name.strip()), value.strip()
        if keys.get(name, value) != value:
            raise unreadable(path, f"its header has two values of {name}", KIND)
        keys[name] = value
    return keys


def _grid(path: Path, keys: dict[str, str], series: bool) -> tuple[tuple[int, ...], np.ndarray, list[str]]:
    """Sides (x, y, z), of a series (x, y, z, t), the placement, and what is doubtful about it."""
    if "NDims" not in keys or "DimSize" not in keys:
        raise unreadable(path, "its header lacks NDims or DimSize", KIND)
    count = whole_numbers(path, "NDims", keys["NDims"], 1)[0]
    if not 1 <= count <= 10:
        raise unreadable(path, f"its NDims is {count}", KIND)
    sides = whole_numbers(path, "DimSize", keys["DimSize"], count)
    check_sides(path, sides)
    spacing = np.array(_spacing(path, keys, count))
    if spacing.min() <= 0:
        raise wrong_header(path, f"its ElementSpacing is {keys.get('ElementSpacing', '')[:60]}", "sizes above zero")
    axes = np.eye(count)
    if "TransformMatrix" in keys:
        axes = np.reshape(numbers(path, "TransformMatrix", keys["TransformMatrix"], count**2), (count, count)).T
    origin = np.array(numbers(path, "Offset", keys["Offset"], count) if "Offset" in keys else [0.0] * count)
    frames = sides[3:] if series and count == 4 and min(sides) > 1 else []
    keep, rows = spatial_axes(path, [*sides[:3], 1] if frames else sides, axes)
    to_mm = np.eye(4)
    to_mm[:3, :3] = axes[np.ix_(rows, keep)] * spacing[keep]
    to_mm[:3, 3] = origin[rows]
    lengths = np.linalg.norm(axes[np.ix_(rows, keep)], axis=0)
    if np.abs(lengths - 1).max() > 1e-2:
        raise wrong_header(
            path, f"its TransformMatrix has axes of length {', '.join(f'{n:.4g}' for n in lengths)}", "length 1"
        )
    check_geometry(path, to_mm)
    warnings = size_warnings([sides[n] for n in keep], to_mm)
    if "TransformMatrix" not in keys:
        warnings.append(
            "its header has no orientation (TransformMatrix); its axes were taken as left, posterior, superior"
        )
    if not {"ElementSpacing", "ElementSize"} & keys.keys():
        warnings.append("its header has no voxel size (ElementSpacing); voxels of 1 mm were taken")
    if "Offset" not in keys:
        warnings.append(NO_ORIGIN)
    warnings += unit_warnings(keys.get("DistanceUnits", "").split())
    return (*(sides[n] for n in keep), *frames), to_mm, warnings


def _spacing(path: Path, keys: dict[str, str], count: int) -> list[float]:
    for key in ("ElementSpacing", "ElementSize"):
        if key in keys:
            return numbers(path, key, keys[key], count)
    return [1.0] * count


def _type(path: Path, keys: dict[str, str], sides: tuple[int, ...]) -> np.dtype:
    name = keys.get("ElementType", "")
    channels = whole_numbers(path, "ElementNumberOfChannels", keys.get("ElementNumberOfChannels", "1"), 1)[0]
    if channels != 1 or name.endswith("_ARRAY"):
        raise several_components(path, f"{name} vector", channels)
    if name not in TYPES:
        raise not_supported(path, f"its ElementType is {name[:40]!r}, which is none that is read")
    for key, usual in (("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)):
        if key in keys and numbers(path, key, keys[key], 1)[0] != usual:
            raise wrong_header(path, f"its {key} is {keys[key]}, which other programs ignore", f"{usual:g}")
    return np.dtype((">" if _is_true(keys, "BinaryDataByteOrderMSB") else "<") + TYPES[name])


def _is_true(keys: dict[str, str], key: str) -> bool:
    return keys.get(key, "False")[:1].lower() in ("t", "y", "1")


def _content(path: Path, keys: dict[str, str], file: BinaryIO, size: int) -> tuple[bytes | bytearray, str]:
    """The voxels' bytes, and what follows them; raises Damaged."""
    name = keys["ElementDataFile"]
    if "BinaryData" in keys and not _is_true(keys, "BinaryData"):
        raise not_supported(path, "its voxels are written as text, which is not read", "binary ones")
    if name.upper() == "LOCAL":
        return _part(path, keys, file, size)
    files = list(_files(path, name, file))
    content, behind = bytearray(), ""
    for part in files:
        check_file(part, f"the voxels of {path.name}")
        if "HeaderSize" not in keys:
            check_other(path, part)
        try:
            with part.open("rb") as voxels:
                piece, behind = _part(path, keys, voxels, size // len(files))
                behind += FRONT.format("a HeaderSize") if behind and "HeaderSize" not in keys else ""
        except OSError as error:
            raise cannot_read(part, error, f"the voxels of {path.name}") from None
        content += piece
    if len(content) != size:
        raise Damaged(f"names {len(files)} files, whose voxels are not as many as its size tells of")
    return content, behind


def _part(path: Path, keys: dict[str, str], file: BinaryIO, size: int) -> tuple[bytes | bytearray, str]:
    skip = whole_numbers(path, "HeaderSize", keys.get("HeaderSize", "0"), 1)[0]
    packed = _is_true(keys, "CompressedData")
    if skip < -1:
        raise unreadable(path, f"its HeaderSize is {skip}", KIND)
    start = file.tell()
    if skip == -1 and not packed:  # the voxels are the end of the file
        start = max(file.seek(0, 2) - size, start)
    elif skip > 0:
        start += skip
    file.seek(start)
    end = None
    if packed and "CompressedDataSize" in keys:
        end = whole_numbers(path, "CompressedDataSize", keys["CompressedDataSize"], 1)[0]
        end = start + end if end > 0 else None
    stream = Stream(file, "zlib" if packed else "", end)
    content = stream.read(size)
    if "LONG" in keys.get("ElementType", "") and stream.left == size and not packed:
        raise unreadable(path, f"its {keys['ElementType']} have 4 bytes, and there are 8 for each of its voxels", KIND)
    behind = stream.finish()
    surplus = file.seek(0, 2) - end if end is not None else 0
    return content, behind or (f"{surplus} bytes after its packed data" if surplus > 0 else "")


def _files(path: Path, name: str, file: BinaryIO) -> Iterator[Path]:
    """The files that hold the voxels: one, or those of a list or a pattern, a slice each."""
    words = name.split()
    if words and words[0].upper() == "LIST":
        for line in file.read(MAX_HEADER_BYTES).decode("utf-8", "replace").splitlines():
            if line.strip():
                yield _beside(path, line.strip())
    elif len(words) >= 3 and re.fullmatch(r"[^%]*%\d*d[^%]*", words[0]):
        first, last, *step = whole_numbers(path, "ElementDataFile", " ".join(words[1:]))
        if not 0 <= last - first < 100_000 or len(step) > 1 or (step and step[0] < 1):
            raise unreadable(path, f"its ElementDataFile is {name[:60]!r}", KIND)
        yield from (_beside(path, words[0] % n) for n in range(first, last + 1, step[0] if step else 1))
    else:
        yield _beside(path, name)


def _beside(path: Path, name: str) -> Path:
    if "\0" in name or not name:
        raise unreadable(path, f"its ElementDataFile is {name[:40]!r}", KIND)
    return path.parent / name
