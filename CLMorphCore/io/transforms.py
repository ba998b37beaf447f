"""Transform files, read or refused, written whole or an error."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..atomic import cannot_write, check_utf8
from ..errors import FileError
from . import itk
from .files import check_file, read_bytes, short

EXPECTED = "an ITK transform file (.h5, .tfm, .mat)"
CHUNK_BYTES = 1 << 20
NAME = re.compile(rb"[A-Za-z0-9]*Transform[A-Za-z0-9]*_(double|float)_[0-9]_[0-9]")
MATRIX_TYPES = (0, 10, 1000, 1010)  # double and single, of both byte orders
MAX_PARAMETERS, MAX_NAME_BYTES = 1_000_000, 256
MAX_NUMBER = 1e9  # of a matrix and an offset in mm: beyond it nothing lies in a room
MIN_DETERMINANT = 1e-6


def read_transform(path: Path) -> sitk.Transform:
    """The transform of a file; FileError if there is none. A linear one comes as an affine transform."""
    about = _about(path, str(path))
    linear = _linear(about)
    if linear is not None:
        return linear
    try:
        return sitk.ReadTransform(str(path))  # a process of its own has survived it
    except RuntimeError as error:
        raise _not_read(str(path), itk.reason(str(error))) from None


def _about(path: Path, name: str, expected: str = EXPECTED) -> dict:
    check_utf8(path)
    check_file(path, expected, name=name)
    ending = path.suffix.lower()
    if ending in (".mat", ".tfm", ".txt"):
        content = read_bytes(path, expected, name=name)
        if fault := _fault_of_matrices(content) if ending == ".mat" else _fault_of_text(content):
            raise _not_read(str(path), fault)
    try:
        return itk.read("transform", path)[0]
    except itk.CannotRead as error:
        raise _not_read(str(path), str(error)) from None


def _fault_of_matrices(content: bytes) -> str:
    """Why a file is not a row of MATLAB's matrices (version 4), each a transform's numbers, or nothing.

    Of a matrix there are five whole numbers: type, rows, columns, whether it is complex, bytes of its name; then the
    name and the numbers. ITK believes them all, and reads for minutes, or beyond the end.
    """
    at, names = 0, []
    while at < len(content):
        heads = [struct.unpack_from(order + "5i", content, at) for order in "<>"] if at + 20 <= len(content) else []
        sound = [head for head in heads if head[0] in MATRIX_TYPES and max(head[1:3]) <= MAX_PARAMETERS]
        if not sound or min(sound[0][1:3]) < 1 or sound[0][3] != 0 or not 1 <= sound[0][4] <= MAX_NAME_BYTES:
            return "it holds no matrix of numbers where one has to begin"
        kind, rows, columns, _, length = sound[0]
        names.append(content[at + 20 : at + 20 + length].rstrip(b"\0"))
        at += 20 + length + rows * columns * (4 if kind % 100 >= 10 else 8)
    if at > len(content) or not names:
        return "it is cut off"
    if any(not NAME.fullmatch(name) for name in names[::2]) or any(name != b"fixed" for name in names[1::2]):
        return "its matrices are not a transform's"
    return ""


def _fault_of_text(content: bytes) -> str:
    """Why a file is not a text of one transform, or nothing: every line is a comment, a name or finite numbers."""
    keys = [line.partition(b":")[0].strip() for line in content.splitlines() if line.strip()[:1] not in (b"", b"#")]
    for line in content.splitlines():
        key, colon, value = (part.strip() for part in line.partition(b":"))
        if not line.strip() or line.startswith(b"#"):
            continue
        if not colon or key not in (b"Transform", b"Parameters", b"FixedParameters"):
            return f"it has the line {short(line, 60)}"
        if key == b"Transform" and not NAME.fullmatch(value):
            return f"it names the transform {short(value, 60)}"
        if key != b"Transform" and (wrong := next((w for w in value.split() if not _is_number(w)), None)) is not None:
            return f"it has the number {short(wrong, 60)}"
    if b"CompositeTransform" not in content.split(b"Parameters", 1)[0]:
        for key in (b"Transform", b"Parameters", b"FixedParameters"):
            if (count := keys.count(key)) != 1:
                return f"it has {count or 'no'} lines with {key.decode()}, where one transform has one"
    return ""


def _is_number(word: bytes) -> bool:
    try:
        return math.isfinite(float(word)) and len(word) < 64
    except ValueError:
        return False


def _not_read(name: str, reason: str) -> FileError:
    return FileError(f"{name} cannot be read as a transform ({reason}); expected {EXPECTED}; check the file")


def _linear(about: dict) -> sitk.AffineTransform | None:
    if not about["linear"] or about["dimension"] != 3:
        return None
    return sitk.AffineTransform(np.ravel(about["matrix"]).tolist(), about["offset"])


def write_transform(transform: sitk.CompositeTransform, path: Path) -> None:
    """Writes a transform file; InputError when it cannot be."""
    try:
        _make_room(path, _bytes_of(transform))
        sitk.WriteTransform(transform, str(path))
    except OSError as error:
        raise cannot_write(path, error) from None
    except RuntimeError as error:
        raise cannot_write(path, itk.reason(str(error))) from None


def _bytes_of(transform: sitk.CompositeTransform) -> int:
    """Size of a transform's file, at most: three doubles a point of its fields, and what HDF5 adds."""
    parts = [transform.GetNthTransform(n) for n in range(transform.GetNumberOfTransforms())]
    sizes = [part.GetFixedParameters()[:3] for part in parts if part.GetName() == "DisplacementFieldTransform"]
    return CHUNK_BYTES // 8 + sum(24 * math.prod(int(n) for n in size) for size in sizes)


def _make_room(path: Path, size: int) -> None:
    """Fills a file with zeros, which ITK then replaces: here a full disk is an OSError, inside HDF5 it is a crash."""
    with path.open("wb") as file:
        for start in range(0, size, CHUNK_BYTES):
            file.write(bytes(min(CHUNK_BYTES, size - start)))


def read_affine(path: str | Path) -> sitk.Transform:
    """A linear transform fixed → moving from a file that ITK reads; InputError otherwise."""
    name = f"`affine={path}`"
    about = _about(Path(path), name, "none, or a transform file (.h5, .tfm, .mat)")
    transform = _linear(about)
    if transform is None:
        raise FileError(
            f"{name} holds a {about['dimension']}D {about['name']}; expected a "
            "linear 3D transform from the image to the atlas"
        )
    numbers = np.array([*transform.GetMatrix(), *transform.GetTranslation()])
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > MAX_NUMBER:
        raise FileError(
            f"{name} holds numbers that are not finite or above {MAX_NUMBER:g}; expected a matrix and an offset in mm"
        )
    if abs(np.linalg.det(np.reshape(transform.GetMatrix(), (3, 3)))) < MIN_DETERMINANT:
        raise FileError(f"{name} has no inverse; expected a matrix with a determinant that is not zero")
    return transform
