"""Image files and folders become images that can be used, or one line; images become files, whole or not at all.

NIfTI, NRRD, MetaImage and MGH are read here, header and voxels, checked to the end; DICOM by ``dicom``; what else ITK
reads it reads in a process of its own. ITK alone is no judge: what a cut-off file lacks it reads as zeros, it looks at
no checksum, and of two placements it takes one without a word.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..atomic import cannot_write, check_not_overwritten, check_utf8
from ..errors import FileError, counted, printable
from . import dicom, itk, metaimage, mgh, nifti, nifti_writer, nrrd
from .compression import GZIP
from .files import LFS, cannot_read, check_file, pointer
from .label_grid import on_grid_of
from .volume import (
    MAX_SHEAR,
    Volume,
    add_warning,
    check_place,
    in_mm,
    several_components,
    size_warnings,
    spatial_axes,
    straightened,
    to_image,
    unreadable,
    warnings_of,
)

__all__ = [
    "check_image",
    "check_sources",
    "read_file",
    "read_image",
    "read_labels",
    "read_labels_of",
    "warnings_of",
    "write_image",
]

LOG = logging.getLogger(__name__)
EXPECTED = "an image file or a folder with a DICOM series"
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
SOURCE = "clmorph_source"  # key of an image's metadata: the file, or folder, that it was read from
MAX_LABEL = 2**32 - 1
MANY_LABELS = 200  # from which on labels may be an image, where
MIN_ALIKE = 0.3  # of two labelled neighbours fewer are of one label
MIN_FLAT = 0.8  # of an image's neighbours, from which on it may be labels: noise leaves a tenth alike
LOOKS_LABELLED = "it looks like a label map, not like a scan: few values, alike over wide regions; check the file"
MAX_INTENSITY = 1e30  # what is computed with has eight bits of exponent
FLOAT32_BITS = 24  # of its digits
MIN_CONTRAST = 2.0**-20  # of the greatest intensity: float32 tells fewer than 16 greys apart below it
# What is no image, by its first bytes.
OTHERS = {
    b"PK\x03\x04": "a ZIP archive; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it",
    b"\xfd7zXZ": "packed with xz; unpack it",
    b"BZh": "packed with bzip2; unpack it",
    b"<!DOCTYPE": "a web page, perhaps of a download that failed; download the file again",
    b"<html": "a web page, perhaps of a download that failed; download the file again",
    b"\x93NUMPY": "an array of NumPy, which has no voxel size; save it as NIfTI",
    b"%PDF": "a PDF document; give the scan itself",
}
ORIENTED = (".h5", ".hdf5", ".hdf", ".he5")  # of the formats that ITK alone reads: those that hold axes' directions
# Formats that are not read, by the ending.
NOT_READ = {
    (".par", ".rec"): ("Philips PAR/REC", "convert it with dcm2niix"),
    (".head", ".brik", ".brik.gz"): ("AFNI", "convert it with 3dAFNItoNIFTI"),
    (".mif", ".mif.gz", ".mih"): ("MRtrix", "convert it with mrconvert"),
    (".npz", ".npy", ".mat", ".pkl", ".pt"): ("an array file, which has no voxel size", "save it as NIfTI"),
    # Versions of ITK differ in whether they turn its axes, which are RAS, to LPS.
    (".mnc", ".mnc.gz", ".mnc2"): ("MINC", "convert it with mnc2nii"),
    (".v", ".ecat"): ("ECAT", "convert it to NIfTI"),
    (".stl", ".obj", ".vtp", ".gii", ".ply"): ("a surface", "give the scan it was made from"),
}


def read_file(path: Path) -> sitk.Image:
    """The image of a file, or of a folder that holds one DICOM series; FileError if it is not there in full.

    What is doubtful about it is logged, and ``warnings_of`` the image tells it, for reports.
    """
    volume = straightened(volume_of(path), path.name)
    volume = replace(volume, warnings=tuple(map(printable, volume.warnings)))  # they quote names and headers
    for warning in volume.warnings:
        LOG.warning(warning)
    image = to_image(volume)
    image.SetMetaData(SOURCE, str(path.absolute()))
    return image


def volume_of(path: Path, *, series: bool = False) -> Volume:
    """The volume of a file, or of a folder that holds one DICOM series; FileError if it is not there in full.

    With ``series`` there may be several volumes in time, voxels (t, z, y, x), in NIfTI, NRRD, MetaImage and DICOM.
    """
    check_utf8(path)
    check_file(path, EXPECTED, folder=True)
    try:
        volume = dicom.read_folder(path, series=series) if path.is_dir() else _volume(path, series)
    except OSError as error:
        raise cannot_read(path, error, EXPECTED) from None
    check_place(path, volume.to_mm)
    return volume


def _volume(path: Path, series: bool) -> Volume:
    """What a file holds, read by whom its first bytes are for."""
    with path.open("rb") as file:
        start = file.read(4096)
    name = path.name.lower()
    if not start:
        raise FileError(f"{path} is empty (0 bytes); expected an image file; copy it again")
    if start.startswith(LFS):
        raise pointer(path)
    for magic, what in OTHERS.items():
        if start.startswith(magic):
            kind, _, remedy = what.partition("; ")
            raise FileError(f"{path} is {kind}; expected {EXPECTED}; {remedy}")
    unpacked = _unpacked(start)
    if name.endswith(mgh.ENDINGS):
        return mgh.read(path)
    if name.endswith((".img", ".img.gz")) or nifti.is_nifti(unpacked):
        return nifti.read(path, series=series)
    for kind, is_one in ((metaimage, metaimage.is_metaimage), (nrrd, nrrd.is_nrrd), (dicom, dicom.is_dicom)):
        if is_one(start):
            return kind.read(path, series=series)
        if is_one(unpacked):
            raise FileError(f"{path} is packed with gzip as a whole, which only NIfTI and MGH may be; unpack it")
    if name.endswith((".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd")):
        raise unreadable(path, f"it does not begin as a {name.removesuffix('.gz').rpartition('.')[2]} file does")
    for endings, (kind, remedy) in NOT_READ.items():
        if name.endswith(endings):
            raise FileError(f"{path} is {kind}, which is not read; expected {EXPECTED}; {remedy}")
    return _by_itk(path)


def _unpacked(start: bytes) -> bytes:
    """The first bytes of a file, unpacked where it is a gzip stream."""
    if not start.startswith(GZIP):
        return start
    try:
        return zlib.decompressobj(wbits=31).decompress(start, 1024)
    except zlib.error:
        return b""


def _by_itk(path: Path) -> Volume:
    """A file of any other format that ITK reads."""
    try:
        about, content = itk.read("image", path)
    except itk.CannotRead as error:
        raise FileError(
            f"{path} cannot be read as an image ({error}); expected a complete NIfTI, NRRD, "
            "MetaImage, MGH or DICOM file; check that it was copied whole"
        ) from None
    if about["components"] != 1 or "complex" in about["kind"]:
        raise several_components(path, about["kind"], about["components"])
    sides, direction = about["size"], np.reshape(about["direction"], (len(about["size"]),) * 2)
    keep, rows = spatial_axes(path, sides, direction)
    to_mm = np.eye(4)
    to_mm[:3, :3] = direction[np.ix_(rows, keep)] * np.take(about["spacing"], keep)
    to_mm[:3, 3] = np.take(about["origin"], rows)
    warnings = size_warnings([sides[n] for n in keep], to_mm)
    if not path.name.lower().endswith(ORIENTED):
        spacing = in_mm(np.take(about["spacing"], keep))
        warnings.append(
            "its format holds no orientation, perhaps no place and no voxel size; its axes were taken as left, "
            f"posterior and superior, its voxels as {spacing} large; left and right may be swapped"
        )
    voxels = np.frombuffer(content, about["type"]).reshape([sides[n] for n in reversed(keep)])
    return Volume(voxels, to_mm, tuple(f"{path.name}: {w}" for w in warnings))


def write_image(image: sitk.Image, path: Path, *, scan: sitk.Image | None = None, bits: int = FLOAT32_BITS) -> None:
    """Writes a compressed image file; OutputError when it cannot be.

    Of float32 numbers the first ``bits`` binary digits are kept: the last ones, which interpolation has made up, are
    what does not pack.

    ``scan`` is the image of whose grid it is: its file is never written over. Where that is a NIfTI file, the result
    carries the same placements, so that it lies on the scan whichever of them a program prefers.
    """
    voxels, to_mm = _shortened(sitk.GetArrayViewFromImage(image), bits), np.eye(4)
    to_mm[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    to_mm[:3, 3] = image.GetOrigin()
    header = {key: scan.GetMetaData(key) for key in scan.GetMetaDataKeys()} if scan is not None else None
    if header and (source := header.get(SOURCE)) and path.exists():
        check_not_overwritten(path.parent, [path.name], [source])
    try:
        nifti_writer.write(path, voxels, to_mm, header)
    except OSError as error:
        raise cannot_write(path, error) from None


def _shortened(voxels: np.ndarray, bits: int) -> np.ndarray:
    """x (1 + ε), |ε| ≤ 2⁻ᵇⁱᵗˢ: float32 in so many binary digits. Signs and zeros stay."""
    last = FLOAT32_BITS - bits
    if voxels.dtype != np.float32 or last == 0:
        return voxels
    whole = voxels.view(np.uint32) + np.uint32(1 << (last - 1))
    return (whole & np.uint32(-1 << last & 0xFFFFFFFF)).view(np.float32)


def check_sources(folder: Path, names: Iterable[str], images: Iterable[sitk.Image]) -> None:
    """OutputError where one of the results ``names`` in ``folder`` is the file that one of ``images`` was read from."""
    sources = [image.GetMetaData(SOURCE) for image in images if image.HasMetaDataKey(SOURCE)]
    check_not_overwritten(folder, names, sources)


def read_image(path: str | Path) -> sitk.Image:
    """The scalar 3D image of a file (whatever ITK reads) or of a folder that holds one DICOM series, checked."""
    image = read_file(Path(path))
    check_image(image, str(path))
    if _is_flat(sitk.GetArrayViewFromImage(image)):
        warning = f"{printable(Path(path).name)}: {LOOKS_LABELLED}"
        LOG.warning(warning)
        add_warning(image, warning)
    return image


def read_labels(path: str | Path) -> sitk.Image:
    """An integer label image. Float files whose values are whole numbers are taken as what they mean."""
    image = read_file(Path(path))
    _check_scalar_3d(image, str(path))
    array, whole = sitk.GetArrayViewFromImage(image), image.GetPixelID() in LABEL_TYPES
    if not whole and (bad := int(np.count_nonzero(~np.isfinite(array)))):
        raise FileError(
            f"labels {path} hold fractional values or NaN: it has "
            f"{counted(bad, 'voxel that is', 'voxels that are')} NaN or infinite, expected "
            "finite ones; labels are expected whole numbers; replace them by zero"
        )
    if not whole and (array != np.round(array)).any():
        raise FileError(
            f"labels {path} hold fractional values or NaN ({image.GetPixelIDTypeAsString()}); expected "
            "whole numbers; resample labels with nearest-neighbour interpolation"
        )
    if array.max() > MAX_LABEL or array.min() < -MAX_LABEL:
        worst = array.max() if array.max() > MAX_LABEL else array.min()
        raise FileError(
            f"labels {path} hold the value {worst:.10g}; expected at most {MAX_LABEL}; give the "
            "structures smaller numbers"
        )
    _check_scattered(array, str(path))
    if whole:
        return image
    return sitk.Cast(image, sitk.sitkInt32 if array.max() <= np.iinfo(np.int32).max else sitk.sitkInt64)


def read_labels_of(image: sitk.Image, path: Path, *, name: str) -> tuple[sitk.Image, float]:
    """A file's labels on the grid of the image called ``name``, and the share of its voxels that they have.

    Raises InputError, as ``on_grid_of`` does, for labels of another grid.
    """
    labels = read_labels(path)
    share = labels.GetNumberOfPixels() / image.GetNumberOfPixels()
    return on_grid_of(image, labels, names=(name, f"labels {path}")), share


def _check_scattered(array: np.ndarray, name: str) -> None:
    """FileError for an image that is given as labels: many values, and neighbours that are rarely of one."""
    count = len(np.unique(array))
    if count <= MANY_LABELS:
        return
    pairs = [(np.moveaxis(array, axis, 0)[1:], np.moveaxis(array, axis, 0)[:-1]) for axis in range(3)]
    labelled = sum(int(np.count_nonzero((a != 0) & (b != 0))) for a, b in pairs)
    alike = sum(int(np.count_nonzero((a != 0) & (a == b))) for a, b in pairs)
    if alike < MIN_ALIKE * labelled:
        raise FileError(
            f"labels {name} look like an image: they hold {count} values, and only {alike / labelled:.0%} of their "
            "neighbouring voxels have one value; expected a label map; give the file with the structures' labels"
        )


def _is_flat(array: np.ndarray) -> bool:
    """Whether nearly all neighbours above the least value are alike, and all values are few whole numbers."""
    first, second, least = array[..., 1:], array[..., :-1], array.min()
    inside = (first > least) & (second > least)
    if np.count_nonzero(inside & (first == second)) < MIN_FLAT * max(1, np.count_nonzero(inside)):
        return False
    values = np.unique(array)
    return len(values) <= MANY_LABELS and bool((values == np.round(values)).all())


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
            f"{name} has {counted(bad, 'voxel that is', 'voxels that are')} NaN or infinite; expected "
            "finite intensities; replace them, for instance by zero"
        )
    if array.min() == array.max():
        raise FileError(
            f"{name} is constant ({array.min():g} everywhere); expected an image with contrast; "
            "check that the right file was given"
        )
    low, high = float(array.min()), float(array.max())
    greatest = max(abs(low), abs(high))
    if greatest > MAX_INTENSITY or high - low < max(MIN_CONTRAST * greatest, 1 / MAX_INTENSITY):
        raise FileError(
            f"{name} has intensities from {low:.6g} to {high:.6g}; expected numbers below {MAX_INTENSITY:g} that "
            "32-bit floats can tell apart; rescale them, for instance to 0 … 1000"
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
