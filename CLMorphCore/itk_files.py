"""Image and transform files through ITK: read whole or not at all, written whole or an error, in one line.

ITK alone is no judge of either: what a cut-off NIfTI file lacks, and NaN in one, it reads as zeros; it does not notice
when the disk is full, and HDF5 then takes the process down; and all of them print on stderr what nobody can act on.
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
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .files import cannot_write, check_letters

CHUNK_BYTES = 1 << 20
SINGLE_FILE = "1"  # nifti_type where header and voxels are one file; 0 is Analyze's pair of files, 2 is NIfTI's
POSITION, ORIENTATION = "0020|0032", "0020|0037"  # of a DICOM slice: its first voxel, its rows' and columns' directions
LARGEST_SHIFT = 0.1  # of a slice from its place in an even stack, in steps of the stack: positions are rounded
LARGEST_TILT = 0.005  # of the stack against its slices' normal, tangent
FLOATS = {"16": "f4", "64": "f8"}  # NIfTI's datatype → NumPy's


def read_file(path: Path) -> sitk.Image:
    """The image of a file, or of a folder that holds one DICOM series; InputError if it is not there in full."""
    check_letters(path)
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
    missing, not_finite = _wrong_with_nifti(path, image)
    if missing:
        raise InputError(f"{path} is cut off, at least {missing} bytes of its voxels are missing; expected a complete "
                         "file; copy it again")
    if not_finite:
        raise InputError(f"{path} has {not_finite} voxels that are NaN or infinite; expected finite values; replace "
                         "them, for instance by zero")
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
    if _wrong_with_nifti(path, written)[0]:
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
    for file in folder.iterdir():
        check_letters(file)
    reader = sitk.ImageSeriesReader()
    with _quiet():
        series = reader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        raise InputError(f"{folder} holds {len(series)} DICOM series; expected exactly one; "
                         "give the folder of one series or a file")
    files = reader.GetGDCMSeriesFileNames(str(folder), series[0])
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        with _quiet():
            image = reader.Execute()
        if len(files) > 1:
            _check_stack(folder, *(_numbers(folder, reader, len(files), tag) for tag in (POSITION, ORIENTATION)))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the DICOM series in {folder} cannot be read ({_reason(error)}); "
                         "check that it was copied whole") from None
    return image


def _numbers(folder: Path, reader: sitk.ImageSeriesReader, count: int, tag: str) -> np.ndarray:
    """The numbers of a tag of every slice, a row for each; InputError where one has none."""
    if not all(reader.HasMetaDataKey(n, tag) for n in range(count)):
        raise InputError(f"the DICOM series in {folder} has slices that do not tell their place (tag {tag}); expected "
                         "every slice to; give the original series, or a NIfTI file")
    return np.array([[float(number) for number in reader.GetMetaData(n, tag).split("\\")] for n in range(count)])


def _check_stack(folder: Path, positions: np.ndarray, orientations: np.ndarray) -> None:
    """InputError unless slices, (N, 3) and (N, 6), are an even stack: what ITK takes any series for, without a word."""
    series = f"the DICOM series in {folder}"
    if np.ptp(orientations, axis=0).max() > 1e-3:
        raise InputError(f"{series} has slices of several orientations; expected parallel ones; give one volume alone")
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    along = positions @ normal
    order = np.argsort(along)
    along, steps = along[order], np.diff(along[order])
    shared = int(np.count_nonzero(steps <= 0.01 * steps.max()))
    if shared:
        raise InputError(f"{shared} of {len(along)} slices of {series} share a position with another: several volumes; "
                         "expected one; give the files of one volume alone")
    even = np.linspace(along[0], along[-1], len(along))
    if np.abs(along - even).max() > LARGEST_SHIFT * steps.min():
        wide = int(steps.argmax())
        lack = round(float(steps[wide] / np.median(steps))) - 1
        what = f"{lack} slices are missing between {along[wide]:.6g} and {along[wide + 1]:.6g} mm" if lack else (
            f"the slices lie {steps.min():.4g} to {steps.max():.4g} mm apart")
        raise InputError(f"{what} in {series}; expected equal steps; copy the whole series, or resample it")
    extent = along[-1] - along[0]
    drift = float(np.linalg.norm(positions[order[-1]] - positions[order[0]] - extent * normal))
    if drift > LARGEST_TILT * extent:
        raise InputError(f"the slices of {series} are shifted against each other by {drift:.4g} mm over the stack (a "
                         "tilted gantry); expected a stack along their normal; resample it")


def _wrong_with_nifti(path: Path, header: sitk.Image | sitk.ImageFileReader) -> tuple[int, int]:
    """(bytes missing, values not finite) in a NIfTI or Analyze file, where ITK puts zeros for both; else 0 and 0."""
    if not header.HasMetaDataKey("nifti_type"):
        return 0, 0
    in_one = header.GetMetaData("nifti_type") == SINGLE_FILE
    header_path, voxels_path = (path, path) if in_one else (_of_pair(path, ".hdr"), _of_pair(path, ".img"))
    sides = [int(header.GetMetaData(f"dim[{n}]")) for n in range(1, int(header.GetMetaData("dim[0]")) + 1)]
    missing, not_finite = math.prod(sides) * int(header.GetMetaData("bitpix")) // 8, 0
    kind = FLOATS.get(header.GetMetaData("datatype"))
    try:
        with _opened(header_path) as file:
            order = ">" if file.read(1) == b"\0" else "<"  # a header begins with its length, 348, as four bytes
        with _opened(voxels_path) as file:
            file.seek(int(float(header.GetMetaData("vox_offset"))))
            while missing > 0 and (chunk := file.read(min(CHUNK_BYTES, missing))):
                missing -= len(chunk)
                if kind is not None:
                    values = np.frombuffer(chunk[: len(chunk) // 8 * 8], order + kind)
                    not_finite += int(np.count_nonzero(~np.isfinite(values)))
            file.read()  # a gzip stream tells at its end whether it is sound
    except (EOFError, zlib.error, gzip.BadGzipFile):
        missing = max(missing, 1)
    return missing, not_finite


def _of_pair(path: Path, ending: str) -> Path:
    """The .hdr or the .img of a pair of files, given either of them, packed or not."""
    plain = path.with_name(path.name.removesuffix(".gz")[:-4] + ending)
    return plain if plain.exists() else plain.with_name(plain.name + ".gz")


def _opened(path: Path) -> BinaryIO:
    """A file open for reading, unpacked on the way where it is a gzip stream, whatever its name."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


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
