"""What a transform file is by its bytes, whatever its name, and why it is none that can be read."""

from __future__ import annotations

import math
import re
import struct
import zlib
from pathlib import Path

from ..errors import FileError
from .compression import GZIP
from .files import LFS, cannot_read, pointer, read_bytes, short

# kind → the endings by which ITK knows it, the usual one first
ENDINGS = {"text": (".tfm", ".txt"), "matrices": (".mat",), "HDF5": (".h5", ".hdf5", ".hdf")}
HDF5 = b"\x89HDF\r\n\x1a\n"
START_BYTES = 4096
NAME = re.compile(rb"[A-Za-z0-9]*Transform[A-Za-z0-9]*_(double|float)_[0-9]_[0-9]")
MATRIX_TYPES = (0, 10, 1000, 1010)  # double and single, of both byte orders
MAX_PARAMETERS, MAX_NAME_BYTES = 1_000_000, 256
NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
ROWS = re.compile(rb"\s*(?:" + rb"[\s,]+".join([NUMBER] * 16) + rb")\s*")
CONVERT = "convert it with "
IMAGE = "is an image"
# What other programs write, by how it begins: what it is, and what to do.
OTHERS = (
    (
        rb"MNI Transform File",
        "is a transform of MINC",
        CONVERT + "lta_convert --inmni FILE --outitk OUT.txt (FreeSurfer)",
    ),
    (
        rb"(#[^\n]*\n)*\s*type\s*=\s*\d",
        "is a transform of FreeSurfer (LTA)",
        CONVERT + "lta_convert --inlta FILE --outitk OUT.txt",
    ),
    (
        rb"\s*(//[^\n]*\n\s*)*\(\w+ ",
        "is a file of elastix' parameters",
        'have elastix write ITK\'s transform, with (ITKTransformOutputFileNameExtension "tfm")',
    ),
    (
        rb"MATLAB 5\.0 MAT-file",
        "is a file of MATLAB 5, ITK's are of version 4",
        "save the transform with ITK, ANTs or Slicer",
    ),
    (
        rb"MATLAB 7\.3 MAT-file",
        "is a file of MATLAB 7.3, ITK's are of version 4",
        "save the transform with ITK, ANTs or Slicer",
    ),
    (
        rb"\xef\xbb\xbf|\xff\xfe|\xfe\xff",
        "begins with a byte order mark, which ITK does not read",
        "save it as plain text without one",
    ),
    (
        rb"NRRD000|ObjectType|\x89PNG|.{344}n[i+][12]",
        IMAGE,
        "give a linear transform, not an image or a displacement field",
    ),
    (re.escape(GZIP), "is packed with gzip", "unpack it"),
    (rb"PK\x03\x04", "is a ZIP archive", "unpack it"),
    (rb"<!DOCTYPE|<html", "is a web page, perhaps of a download that failed", "download the file again"),
)


def examined(path: Path) -> tuple[str, str, str]:
    """(kind in ENDINGS, "", ""), or ("", why the file cannot be read as the end of 'X …', what to do)."""
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
        size = path.stat().st_size
    except OSError as error:
        raise cannot_read(path, error, "a transform file") from None
    if start.startswith(LFS):
        raise pointer(path)
    if not start:
        return "", "is empty (0 bytes)", "copy it again"
    if start.startswith(HDF5):
        fault = _fault_of_hdf5(start, size)
        return ("HDF5", "", "") if not fault else _damaged(fault)
    for begins, what, remedy in OTHERS:
        if re.match(begins, start, re.DOTALL) or (what == IMAGE and re.match(begins, _unpacked(start), re.DOTALL)):
            return "", what, remedy
    if ROWS.fullmatch(start):
        return (
            "",
            "holds four rows of four numbers, which programs mean differently",
            (
                f"{CONVERT}c3d_affine_tool: -ref FIXED -src MOVING FILE -fsl2ras -oitk OUT.txt where FSL wrote it, "
                "FILE -oitk OUT.txt where Greedy or ITK-SNAP did"
            ),
        )
    kind = (
        "text" if start.startswith(b"#Insight Transform File") else "matrices" if not _fault_of_matrices(start) else ""
    )
    return _examined_in_full(path, kind or next((k for k, e in ENDINGS.items() if path.suffix.lower() in e), ""))


def _unpacked(start: bytes) -> bytes:
    """The first bytes of a gzip stream, unpacked, or none."""
    try:
        return zlib.decompressobj(wbits=31).decompress(start, START_BYTES) if start.startswith(GZIP) else b""
    except zlib.error:
        return b""


def _examined_in_full(path: Path, kind: str) -> tuple[str, str, str]:
    if kind not in ("text", "matrices"):
        return _damaged("it does not begin as any transform file does")
    try:
        content = read_bytes(path, "a transform file")
    except FileError as error:
        return "", f"cannot be read: {error.problem}", error.remedy
    fault = _fault_of_text(content) if kind == "text" else _fault_of_matrices(content)
    return (kind, "", "") if not fault else _damaged(fault)


def _damaged(fault: str) -> tuple[str, str, str]:
    return "", f"cannot be read as a transform ({fault})", "check the file, or copy it again"


def _fault_of_hdf5(start: bytes, size: int) -> str:
    """Why a file is not as long as its superblock says, or nothing."""
    at = {0: 40, 1: 44, 2: 28, 3: 28}.get(start[8] if len(start) > 8 else -1)
    if at is None or len(start) < at + 8:
        return "it is cut off, or its superblock is damaged"
    lack = struct.unpack_from("<Q", start, at)[0] - size
    return f"it is cut off, {lack} bytes are missing" if lack > 0 else ""


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
            return f"it has the line {_shown(line)}"
        if key == b"Transform" and not NAME.fullmatch(value):
            return f"it names the transform {_shown(value)}"
        if key != b"Transform" and (wrong := next((w for w in value.split() if not _is_number(w)), None)) is not None:
            return f"it has the number {_shown(wrong)}"
    if b"CompositeTransform" not in content.split(b"Parameters", 1)[0]:
        for key in (b"Transform", b"Parameters", b"FixedParameters"):
            if (count := keys.count(key)) != 1:
                return f"it has {count or 'no'} lines with {key.decode()}, where one transform has one"
    return ""


def _shown(word: bytes) -> str:
    return short(word.decode("utf-8", "backslashreplace"), 60)


def _is_number(word: bytes) -> bool:
    try:
        return math.isfinite(float(word)) and len(word) < 64
    except ValueError:
        return False
