"""Image files through ITK: read whole or not at all, written whole or an error, in one line.

ITK alone is no judge of either: what a cut-off NIfTI file lacks, and NaN in one, it reads as zeros; it does not notice
when the disk is full, and HDF5 then takes the process down; and all of them print on stderr what nobody can act on.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

from ..atomic import cannot_write, check_utf8
from ..errors import FileError
from .dicom import read_series
from .itk import CHUNK_BYTES, quiet, reason

SINGLE_FILE = "1"  # nifti_type where header and voxels are one file; 0 is Analyze's pair of files, 2 is NIfTI's
FLOATS = {"16": "f4", "64": "f8"}  # NIfTI's datatype → NumPy's
LABEL_TYPES = (
    sitk.sitkUInt8,
    sitk.sitkInt8,
    sitk.sitkUInt16,
    sitk.sitkInt16,
    sitk.sitkUInt32,
    sitk.sitkInt32,
    sitk.sitkUInt64,
    sitk.sitkInt64,
)
MAX_LABEL = 2**32 - 1
MAX_SHEAR = 1e-3  # cosine between two axes: NIfTI, which results are written as, has no place for more


def read_file(path: Path) -> sitk.Image:
    """The image of a file, or of a folder that holds one DICOM series; InputError if it is not there in full."""
    check_utf8(path)
    if not path.exists():
        raise FileError(f"{path} does not exist; expected an image file or a folder with a DICOM series")
    if path.is_dir():
        return read_series(path)
    if path.stat().st_size == 0:
        raise FileError(f"{path} is empty (0 bytes); expected an image file; copy it again")
    try:
        with quiet():
            image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise FileError(
            f"{path} cannot be read as an image ({reason(error)}); expected a complete NIfTI, NRRD, "
            "MetaImage or DICOM file; check that it was copied whole"
        ) from None
    missing, not_finite = _wrong_with_nifti(path, image)
    if missing:
        raise FileError(
            f"{path} is cut off, at least {missing} bytes of its voxels are missing; expected a complete "
            "file; copy it again"
        )
    if not_finite:
        raise FileError(
            f"{path} has {not_finite} voxels that are NaN or infinite; expected finite values; replace "
            "them, for instance by zero"
        )
    return image


def write_image(image: sitk.Image, path: Path) -> None:
    """Writes a compressed image file; InputError when it cannot be."""
    try:
        with quiet():
            sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=1)
            written = sitk.ImageFileReader()
            written.SetFileName(str(path))
            written.ReadImageInformation()
    except RuntimeError as error:
        raise cannot_write(path, reason(error)) from None
    if _wrong_with_nifti(path, written)[0]:
        raise cannot_write(path, "the disk is full")


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


def read_image(path: str | Path) -> sitk.Image:
    """The scalar 3D image of a file (whatever ITK reads) or of a folder that holds one DICOM series, checked."""
    image = read_file(Path(path))
    check_image(image, str(path))
    return image


def read_labels(path: str | Path) -> sitk.Image:
    """An integer label image. Float files whose values are whole numbers are taken as what they mean."""
    image = read_file(Path(path))
    _check_scalar_3d(image, str(path))
    array, whole = sitk.GetArrayViewFromImage(image), image.GetPixelID() in LABEL_TYPES
    if not whole and (not np.isfinite(array).all() or (array != np.round(array)).any()):
        raise FileError(
            f"labels {path} hold fractional values or NaN ({image.GetPixelIDTypeAsString()}); expected "
            "whole numbers; resample labels with nearest-neighbour interpolation"
        )
    if array.max() > MAX_LABEL:
        raise FileError(
            f"labels {path} hold the value {array.max():.0f}; expected at most {MAX_LABEL}; give the "
            "structures smaller numbers"
        )
    if whole:
        return image
    return sitk.Cast(image, sitk.sitkInt32 if array.max() <= np.iinfo(np.int32).max else sitk.sitkInt64)


def check_image(image: sitk.Image, name: str) -> None:
    """InputError unless it is a scalar 3D image with finite values that differ, several slices, orthogonal axes."""
    _check_scalar_3d(image, name)
    if min(image.GetSize()) < 2:
        raise FileError(
            f"{name} has size {image.GetSize()}; expected at least 2 voxels along each axis; give a volume, not a slice"
        )
    axes = np.array(image.GetDirection()).reshape(3, 3)
    if np.abs(axes.T @ axes - np.eye(3)).max() > MAX_SHEAR:
        raise FileError(
            f"{name} has sheared axes (direction {', '.join(f'{d:.4g}' for d in image.GetDirection())}); "
            "expected axes at right angles; resample it onto a grid without shear"
        )
    array = sitk.GetArrayViewFromImage(image)
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise FileError(
            f"{name} has {bad} voxels that are NaN or infinite; expected finite intensities; "
            "replace them, for instance by zero"
        )
    if array.min() == array.max():
        raise FileError(
            f"{name} is constant ({array.min():g} everywhere); expected an image with contrast; "
            "check that the right file was given"
        )


def _check_scalar_3d(image: sitk.Image, name: str) -> None:
    if image.GetDimension() != 3:
        raise FileError(
            f"{name} has {image.GetDimension()} dimensions, size {image.GetSize()}; expected a 3D image; "
            "extract one volume first"
        )
    if image.GetNumberOfComponentsPerPixel() != 1 or "complex" in image.GetPixelIDTypeAsString():
        raise FileError(
            f"{name} has pixels of type {image.GetPixelIDTypeAsString()} with "
            f"{image.GetNumberOfComponentsPerPixel()} components; expected one intensity per voxel; "
            "convert it to a scalar image"
        )
