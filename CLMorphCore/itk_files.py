"""Image and transform files through ITK: read whole or not at all, written whole or an error, in one line.

ITK alone is no judge of either: it fills what a cut-off NIfTI file lacks with zeros and does not notice when the disk
is full; HDF5 then takes the process down; and both print on stderr what nobody can act on.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import SimpleITK as sitk

from .errors import InputError
from .files import cannot_write

CHUNK_BYTES = 1 << 20


def read_file(path: Path) -> sitk.Image:
    """The image of a file, or of a folder that holds one DICOM series; InputError if it is not there in full."""
    if not path.exists():
        raise InputError(f"{path} does not exist; expected an image file or a folder with a DICOM series")
    if path.is_dir():
        return _read_series(path)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); expected an image file; copy it again")
    try:
        with _quiet():
            image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read as an image ({_reason(error)}); expected a complete NIfTI, NRRD, "
                         "MetaImage or DICOM file; check that it was copied whole") from None
    missing = _missing_bytes(path, image)
    if missing:
        raise InputError(f"{path} is cut off, at least {missing} bytes of its voxels are missing; expected a complete "
                         "file; copy it again")
    return image


def write_image(image: sitk.Image, path: Path) -> None:
    """Writes a compressed image file; InputError when it cannot be."""
    try:
        with _quiet():
            sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=1)
            written = sitk.ImageFileReader()
            written.SetFileName(str(path))
            written.ReadImageInformation()
    except RuntimeError as error:
        raise cannot_write(path, _reason(error)) from None
    if _missing_bytes(path, written):
        raise cannot_write(path, "the disk is full")


def read_transform(path: Path) -> sitk.Transform:
    """The transform of a file; InputError if there is none."""
    try:
        with _quiet():
            return sitk.ReadTransform(str(path))
    except RuntimeError:
        raise InputError(f"{path} cannot be read as a transform; expected an ITK transform file "
                         "(.h5, .tfm, .mat)") from None


def write_transform(transform: sitk.CompositeTransform, path: Path) -> None:
    """Writes a transform file; InputError when it cannot be."""
    try:
        _make_room(path, _bytes_of(transform))
        with _quiet():
            sitk.WriteTransform(transform, str(path))
    except OSError as error:
        raise cannot_write(path, error) from None
    except RuntimeError as error:
        raise cannot_write(path, _reason(error)) from None


def _read_series(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    with _quiet():
        series = reader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        raise InputError(f"{folder} holds {len(series)} DICOM series; expected exactly one; "
                         "give the folder of one series or a file")
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series[0]))
    try:
        with _quiet():
            return reader.Execute()
    except RuntimeError as error:
        raise InputError(f"the DICOM series in {folder} cannot be read ({_reason(error)}); "
                         "check that it was copied whole") from None


def _missing_bytes(path: Path, header: sitk.Image | sitk.ImageFileReader) -> int:
    """How many bytes a NIfTI file is shorter than its header says; 0 for the formats that ITK checks itself."""
    if not header.HasMetaDataKey("vox_offset"):
        return 0
    sides = [int(header.GetMetaData(f"dim[{n}]")) for n in range(1, int(header.GetMetaData("dim[0]")) + 1)]
    needed = float(header.GetMetaData("vox_offset")) + math.prod(sides) * int(header.GetMetaData("bitpix")) // 8
    voxels = path.with_suffix(".img") if path.suffix == ".hdr" else path
    return max(0, int(needed) - _length(voxels))


def _length(path: Path) -> int:
    """Bytes of a file, unpacked where it is a gzip stream, as far as that can be unpacked."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path.stat().st_size
    length = 0
    with gzip.open(path) as stream:
        try:
            while chunk := stream.read(CHUNK_BYTES):
                length += len(chunk)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            length -= 1  # the end is damaged, however much could be unpacked
    return length


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps off stderr what C libraries print there; what went wrong arrives as an exception."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _reason(error: Exception) -> str:
    """The line of ITK's message that holds the reason, without source file, address and errno of another call."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Reason:")]
    return re.sub(r"^\w+ ERROR: |^sitk::ERROR: |\w+\(0x[0-9a-f]+\): ", "", lines[-1]) if lines else "no reason given"
