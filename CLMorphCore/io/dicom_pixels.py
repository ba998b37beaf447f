"""The numbers in a DICOM file's pixels, as stored or as its table has them; packed ones are unpacked by ITK."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FileError, counted
from . import itk
from .files import cannot_read
from .volume import not_supported, unreadable

if TYPE_CHECKING:
    import pydicom

KIND = "DICOM"
SCALES = ("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence")


def dataset(path: Path, tags: Sequence[str] | None) -> pydicom.Dataset:
    """The tags of a file, or with ``None`` all of it; FileError where they cannot be read."""
    from pydicom import dcmread

    try:
        return dcmread(
            path,
            force=True,
            stop_before_pixels=tags is not None,
            specific_tags=list(tags) if tags is not None else None,
        )
    except OSError as error:
        raise cannot_read(path, error, "a DICOM file") from None
    except MemoryError:
        raise
    except Exception as error:
        raise unreadable(path, f"its tags are damaged ({short(error)})", KIND) from None


def stored(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """The numbers of all pixels, (frames, rows, columns), before slope and intercept; and what is doubtful, or nothing.

    They have gone through the Modality LUT where the file has one. FileError where they cannot be read.
    """
    whole = dataset(path, None)
    if "Rows" not in whole:  # which its tags alone have told; what ends in packed pixels, pydicom drops as a whole
        raise unreadable(path, f"{path.name} is cut off in its pixels", KIND)
    try:
        lookup = _lookup(path, whole)
        syntax = whole.file_meta.get("TransferSyntaxUID") if hasattr(whole, "file_meta") else None
        if syntax is not None and not syntax.is_transfer_syntax:
            raise not_supported(
                path, f"its transfer syntax is {syntax}, which is none that is read", "one of the standard's"
            )
        if syntax is not None and syntax.is_compressed and not syntax.is_deflated:
            return lookup(_unpacked(path, whole, shape)), ""
        little = syntax is None or syntax.is_little_endian
        kind, content = _content(path, whole, "<" if little else ">")
        count = int(np.prod(shape, dtype=np.int64))
        surplus = len(content) - count * kind.itemsize
        if surplus < 0:
            raise unreadable(path, f"{path.name} is cut off, at least {-surplus} bytes of its voxels are missing", KIND)
        numbers = np.frombuffer(content, kind, count).reshape(shape)
        if kind.kind != "f":
            numbers = _within_bits(path, numbers, whole)
        # A byte is the padding to an even number of them.
        behind = (
            f"{path.name} holds {surplus} bytes of pixels more than its {counted(shape[0], 'frame')}"
            if surplus > 1
            else ""
        )
        return lookup(numbers), behind
    except (FileError, MemoryError):
        raise
    except Exception as error:
        raise unreadable(path, f"its pixels make no sense ({short(error)})", KIND) from None


def _content(path: Path, whole: pydicom.Dataset, order: str) -> tuple[np.dtype, bytes]:
    """The type of the pixels and their bytes."""
    for name, kind in (("FloatPixelData", "f4"), ("DoubleFloatPixelData", "f8")):
        if name in whole:
            return np.dtype(order + kind), whole[name].value
    if "PixelData" not in whole:
        raise unreadable(path, "it holds no pixels", KIND)
    bits = int(whole.BitsAllocated)
    if bits not in (8, 16, 32):
        raise not_supported(path, f"its pixels have {bits} bits")
    signed = "i" if int(whole.get("PixelRepresentation", 0)) else "u"
    return np.dtype(f"{order}{signed}{bits // 8}"), whole.PixelData


def _within_bits(path: Path, numbers: np.ndarray, whole: pydicom.Dataset) -> np.ndarray:
    """The numbers in the stored bits: what lies above and below them is an overlay, or nothing."""
    allocated = int(whole.BitsAllocated)
    bits = int(whole.get("BitsStored", allocated))
    high = int(whole.get("HighBit", bits - 1))
    if not 1 <= bits <= high + 1 <= allocated:
        raise unreadable(path, f"it stores {bits} bits up to bit {high} in {allocated}", KIND)
    if bits == allocated:
        return numbers
    native = numbers.astype(numbers.dtype.newbyteorder("="))
    return (native << (allocated - 1 - high)) >> (allocated - bits)


def _lookup(path: Path, whole: pydicom.Dataset) -> Callable[[np.ndarray], np.ndarray]:
    """number ↦ table[number − first], its ends for what lies beyond (Modality LUT, PS3.3 C.11.1); without, itself."""
    if not whole.get("ModalityLUTSequence"):
        return lambda numbers: numbers
    if any(name in whole for name in ("RescaleSlope", "RescaleIntercept", "DoseGridScaling")):
        raise unreadable(
            path, "its values have a table (Modality LUT Sequence) and a slope, one of which is wrong", KIND
        )
    item = whole.ModalityLUTSequence[0]
    count, first = int(item.LUTDescriptor[0]) or 1 << 16, int(item.LUTDescriptor[1])
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, ">u2" if whole.original_encoding[1] is False else "<u2")
    table = np.atleast_1d(np.asarray(data, np.float64))
    if len(table) != count:
        raise unreadable(path, f"its Modality LUT has {len(table)} of {count} entries", KIND)
    return lambda numbers: table[np.clip(numbers.astype(np.int64) - first, 0, count - 1)]


def _unpacked(path: Path, whole: pydicom.Dataset, shape: tuple[int, ...]) -> np.ndarray:
    """Packed pixels (JPEG and its kin, RLE), unpacked by ITK from a copy without scales, so that none is applied.

    ITK turns greys of MONOCHROME1 over, too: the copy has MONOCHROME2.
    """
    from pydicom.encaps import generate_frames, parse_basic_offsets
    from pydicom.uid import RLELossless

    bits = int(whole.get("BitsStored", whole.BitsAllocated))
    high = int(whole.get("HighBit", bits - 1))
    if high != bits - 1:  # which ITK takes for that without a word
        raise not_supported(path, f"it stores {bits} bits up to bit {high}, packed", f"bits up to {bits - 1}")
    there = len(parse_basic_offsets(whole.PixelData)) if "PixelData" in whole else 0
    if there > 1 and there != shape[0]:  # the table of offsets may be empty
        raise unreadable(path, f"it holds {counted(there, 'frame')} and tells of {shape[0]}", KIND)
    if whole.file_meta.TransferSyntaxUID == RLELossless:
        for n, frame in enumerate(generate_frames(whole.PixelData, number_of_frames=shape[0])):
            if not _is_whole_rle(frame, shape[1] * shape[2]):  # ITK fills in for what is missing
                raise unreadable(path, f"frame {n + 1} of its packed pixels is cut off", KIND)
    groups = [
        *(whole.get("SharedFunctionalGroupsSequence") or []),
        *(whole.get("PerFrameFunctionalGroupsSequence") or []),
    ]
    for group, name in [(whole, n) for n in SCALES] + [(g, "PixelValueTransformationSequence") for g in groups]:
        if name in group:
            delattr(group, name)
    whole.PhotometricInterpretation = "MONOCHROME2"
    with tempfile.TemporaryDirectory(prefix="clmorph-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "frames.dcm"
        whole.save_as(copy)
        try:
            about, content = itk.read("image", copy)
        except itk.CannotRead as error:
            name = whole.file_meta.TransferSyntaxUID.name
            raise FileError(
                f"{path} cannot be read: its pixels are packed as {name}, and cannot be unpacked ({error}); "
                "expected a complete DICOM file of plain or JPEG pixels; unpack it, for instance with gdcmconv --raw, "
                "or copy it again"
            ) from None
    if about["components"] != 1 or int(np.prod(about["size"])) != int(np.prod(shape)):
        raise unreadable(path, f"its packed pixels are of size {tuple(about['size'])}", KIND)
    return np.frombuffer(content, about["type"]).reshape(shape)


def _is_whole_rle(frame: bytes, count: int) -> bool:
    """Whether each segment of a frame in RLE (PS3.5 annex G: byte by byte, as PackBits) unpacks to ``count`` bytes."""
    segments = int.from_bytes(frame[:4], "little")
    starts = np.frombuffer(frame[4:64].ljust(60, b"\0"), "<u4")[:segments].tolist()
    if not starts:
        return False
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        at, found = start, 0
        while at < end and found < count:
            control = frame[at] if at < len(frame) else 128
            if control < 128:
                found += control + 1
                at += control + 2
            elif control == 128:
                at += 1
            else:
                found += 257 - control
                at += 2
        if found < count or at > min(end, len(frame)):
            return False
    return True


def short(error: Exception) -> str:
    """Type and text of an error, in at most 120 characters of a line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]
