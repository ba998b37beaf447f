"""DICOM, classic or multi-frame: every frame with its own place and its own scale, sorted, or refused.

A reader that takes the places, or the scale, of a series from its first slice puts frames in the wrong order and values
in the wrong unit without a word; so the tags of every frame are read (by pydicom), and what they say is checked. Packed
pixels are unpacked by ITK.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..atomic import check_utf8
from ..errors import FileError, counted
from .dicom_common import MAY_DIFFER, ONE_FOR_ALL, check_common, said, several
from .dicom_phases import MOMENTS, moments_of, phases_of
from .dicom_pixels import dataset, short, stored
from .files import LFS, check_file
from .volume import Volume, check_geometry, not_supported, several_components, size_warnings, unreadable

if TYPE_CHECKING:  # it is loaded with the first DICOM file: that takes as long as reading a whole scan
    import pydicom

logging.getLogger("pydicom").addHandler(logging.NullHandler())  # what matters of what it says is checked here
warnings.filterwarnings("ignore", module=r"pydicom\b")

KIND = "DICOM"
Groups: TypeAlias = "Sequence[pydicom.Dataset | dict[str, Any]]"  # functional ones, of a frame and of all
POSITION, ORIENTATION, PIXEL_SPACING = "0020|0032", "0020|0037", "0028|0030"
MAX_SHIFT = 0.1  # of a slice from its place in an even stack, in steps of the stack: positions are rounded
MAX_TILT = 0.005  # of the stack against its slices' normal, tangent
MAX_FRAMES = 1_000_000
GREY = ("MONOCHROME1", "MONOCHROME2")
# The first element of files without the preamble: old ones, and what was sent over a network.
WITHOUT_PREAMBLE = tuple(bytes((group, 0, element, 0)) for group in (2, 8) for element in (0, 1, 5, 8, 16, 18, 22, 24))
TAGS = [
    "SeriesInstanceUID",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "DoseGridScaling",
    "GridFrameOffsetVector",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "PatientID",
    "FrameOfReferenceUID",
    "Modality",
    "Units",
    "RescaleType",
    "DoseUnits",
    "EchoTime",
    "ImageType",
    "ComplexImageComponent",
    "SegmentationType",
    *MAY_DIFFER,
    *MOMENTS,
]
MAX_FOLDERS = 1000  # that are looked into for a series, where a folder has none


@dataclass(frozen=True)
class Frame:
    """One frame of a file: where it lies, stored · slope + intercept are its values, when. None: the tag is missing."""

    number: int
    position: np.ndarray | None
    orientation: np.ndarray | None
    spacing: np.ndarray | None
    slope: float
    intercept: float
    moments: Mapping[str, float]


@dataclass(frozen=True)
class Source:
    """A file and its frames; ``common`` is what it says of ONE_FOR_ALL and of MAY_DIFFER, if anything."""

    path: Path
    series: str
    shape: tuple[int, int]
    frames: tuple[Frame, ...]
    common: dict[str, set[str]]


def is_dicom(start: bytes) -> bool:
    """Whether a file begins as DICOM does, with or without its preamble."""
    return start[128:132] == b"DICM" or start[:4] in WITHOUT_PREAMBLE


def read(path: Path, *, series: bool = False) -> Volume:
    """The volume of one file, of one frame or many, or the phases of it; FileError where it is none."""
    source = _source(path)
    if source is None:
        raise FileError(
            f"{path} holds no image{_other_kind(path)}; expected a DICOM image; give it, or the folder of its series"
        )
    return _stacked(str(path), [source], series)


def _other_kind(path: Path) -> str:
    """' but a …' of an object of DICOM that is no image, or nothing."""
    try:
        kind = dataset(path, []).file_meta.MediaStorageSOPClassUID
        return f" but a {kind.name}" if kind.name != kind else ""
    except Exception:  # a damaged tag ends in any of pydicom's or Python's
        return ""


def read_folder(folder: Path, *, series: bool = False) -> Volume:
    """The volume, or the phases, of the one series in a folder; FileError where there is none, or several."""
    found: dict[str, list[Source]] = {}
    short: list[Path] = []  # cut off, or pointers to files that are elsewhere
    for file in sorted(folder.iterdir()):
        check_utf8(file)
        if file.is_dir():
            continue
        check_file(file, f"a slice of the DICOM series in {folder}")
        with file.open("rb") as opened:
            start = opened.read(132)
        if is_dicom(start) and (source := _source(file)) is not None:
            found.setdefault(source.series, []).append(source)
        elif not is_dicom(start) and (len(start) < 132 or start.startswith(LFS)) and not file.name.startswith("."):
            short.append(file)
    endings = {source.path.suffix for sources in found.values() for source in sources}
    if lost := [file.name for file in short if file.suffix in endings]:
        raise FileError(
            f"{folder} has {counted(len(lost), 'file')} cut off before a slice begins ({lost[0]}); expected whole "
            "slices; copy the series again"
        )
    if series and len(found) > 1 and _slices(list(found.values())):
        found = {"": [source for sources in found.values() for source in sources]}
    if len(found) != 1:
        below = _below(folder) if not found else None
        raise FileError(
            f"{folder} holds {len(found)} DICOM series{f', {below} below it does' if below else ''}; "
            "expected exactly one; give the folder of one series or a file"
        )
    return _stacked(f"the DICOM series in {folder}", next(iter(found.values())), series)


def _slices(series: Sequence[Sequence[Source]]) -> bool:
    """Whether each series has all of its frames at one place of its own: scanners store a cine so, slice by slice."""
    places = [{_rounded(frame) for source in sources for frame in source.frames} for sources in series]
    return all(len(one) == 1 for one in places) and len(set.union(*places)) == len(places)


def _rounded(frame: Frame) -> tuple[float, ...]:
    return () if frame.position is None else tuple(frame.position.round(2).tolist())


def _below(folder: Path) -> Path | None:
    """The first folder below one that holds a file of DICOM, for a message; folders that cannot be read have none."""
    for place, folders, files in islice(os.walk(folder), MAX_FOLDERS):
        folders.sort()
        for file in sorted(files)[:1]:
            with suppress(OSError), (Path(place) / file).open("rb") as opened:
                if is_dicom(opened.read(132)):
                    return Path(place)
    return None


def _source(path: Path) -> Source | None:
    """What a file's tags say of its frames; None where it holds no image."""
    tags = dataset(path, TAGS)
    if "Rows" not in tags or "Columns" not in tags:
        return None
    try:
        kind = str(tags.get("PhotometricInterpretation") or "MONOCHROME2")
        samples = int(tags.get("SamplesPerPixel", 1) or 1)
        if kind not in GREY or samples != 1:
            raise several_components(path, kind, max(samples, 3))
        if tags.get("SegmentationType") == "FRACTIONAL":
            raise not_supported(path, "it is a segmentation of fractions, not of whole structures", "a label map")
        return Source(
            path,
            str(tags.get("SeriesInstanceUID", "")),
            (int(tags.Rows), int(tags.Columns)),
            tuple(_frames(path, tags)),
            {name: said(name, tags) for name in (*ONE_FOR_ALL, *MAY_DIFFER)},
        )
    except FileError:
        raise
    except Exception as error:  # a damaged tag ends in any of pydicom's or Python's
        raise unreadable(path, f"a tag makes no sense ({short(error)})", KIND) from None


def _frames(path: Path, tags: pydicom.Dataset) -> Iterator[Frame]:
    count = int(tags.get("NumberOfFrames", 1) or 1)
    each = tags.get("PerFrameFunctionalGroupsSequence") or []
    shared = tags.get("SharedFunctionalGroupsSequence") or [{}]
    if not 1 <= count <= MAX_FRAMES:
        raise unreadable(path, f"it tells of {count} frames", KIND)
    if each and len(each) != count:
        raise FileError(
            f"{path} has {count} frames and tells the place of {len(each)}; expected every frame's; give the original"
        )
    offsets = _numbers(tags.get("GridFrameOffsetVector"), count) if count > 1 else None
    for n in range(count):
        groups = (each[n] if each else {}, shared[0])
        position = _numbers(_of(groups, "PlanePositionSequence", "ImagePositionPatient"), 3)
        orientation = _numbers(_of(groups, "PlaneOrientationSequence", "ImageOrientationPatient", tags), 6)
        if position is None and (count == 1 or offsets is not None):
            position = _numbers(tags.get("ImagePositionPatient"), 3)
            if position is not None and offsets is not None and orientation is not None:
                position = _plane(path, position, orientation, offsets, n)
        yield Frame(
            n,
            position,
            orientation,
            _numbers(_of(groups, "PixelMeasuresSequence", "PixelSpacing", tags), 2),
            *_scale(path, groups, tags),
            moments_of(groups, tags),
        )


def _plane(path: Path, first: np.ndarray, orientation: np.ndarray, offsets: np.ndarray, number: int) -> np.ndarray:
    """Where a plane of a dose lies, by DICOM PS3.3 C.8.8.3.2; FileError where its offsets are of neither kind.

    Offsets that begin with zero are along the normal, from the first plane on; those of transverse planes may begin
    with the first one's z, and are each plane's z then.
    """
    normal = np.cross(orientation[:3], orientation[3:])
    if offsets[0] == 0:
        return first + offsets[number] * normal
    if abs(normal[2]) < 1 - 1e-4 or abs(offsets[0] - first[2]) > 1e-2:
        raise FileError(
            f"{path}: its GridFrameOffsetVector (3004|000C) begins with {offsets[0]:g}, its first plane lies at z = "
            f"{first[2]:g}; expected 0 or {first[2]:g} of transverse planes, 0 of others; export the dose again"
        )
    return np.array([first[0], first[1], offsets[number]])


def _scale(path: Path, groups: Groups, tags: pydicom.Dataset) -> tuple[float, float]:
    """Slope and intercept of a frame; FileError where they are no numbers."""
    slope, intercept = (
        _of(groups, "PixelValueTransformationSequence", name, tags) for name in ("RescaleSlope", "RescaleIntercept")
    )
    slope = tags.get("DoseGridScaling") if slope is None else slope
    found = float(1.0 if slope is None else slope), float(0.0 if intercept is None else intercept)
    if not np.isfinite(found).all() or found[0] == 0:
        raise unreadable(path, f"its values are stored · {found[0]:g} + {found[1]:g}", KIND)
    return found


def _of(groups: Groups, group: str, name: str, else_of: pydicom.Dataset | None = None) -> Any:
    """A value in a functional group of the frame, or of all frames, or a tag of the file; None where there is none."""
    for one in groups:
        items = one.get(group)
        if items and items[0].get(name) is not None:
            return items[0].get(name)
    return else_of.get(name) if else_of is not None else None


def _numbers(value: Any, count: int) -> np.ndarray | None:
    """The numbers of a tag, None unless there are ``count`` finite ones."""
    if value is None or isinstance(value, str | int | float) or len(value) != count:
        return None
    found = np.array([float(number) for number in value])
    return found if np.isfinite(found).all() else None


def _stacked(name: str, sources: Sequence[Source], series: bool = False) -> Volume:
    """All frames of all files as one volume, in the order of their places; FileError unless they are an even stack.

    With ``series`` they may be several such stacks in time, voxels (t, z, y, x).
    """
    check_common(name, [source.common for source in sources])
    frames = [(source, frame) for source in sources for frame in source.frames]
    positions, orientations, spacings = (
        _told(name, [getattr(frame, which) for _, frame in frames], which, tag)
        for which, tag in (("position", POSITION), ("orientation", ORIENTATION), ("spacing", PIXEL_SPACING))
    )
    shape = sources[0].shape
    if spacings.min() <= 0:
        wrong = " × ".join(f"{n:g}" for n in spacings[spacings.min(axis=1).argmin()])
        raise FileError(f"{name} has pixels of {wrong} mm; expected sizes above zero; give the original series")
    if any(source.shape != shape for source in sources) or np.ptp(spacings, axis=0).max() > 1e-3 * spacings.min():
        raise FileError(
            f"{name} has slices of several sizes or pixel spacings; expected equal ones; give one volume alone"
        )
    axes = _axes(name, orientations)
    along = positions @ axes[:, 2]
    phase, header = phases_of(name, [frame.moments for _, frame in frames], along) if series else (0 * along, {})
    order, count = np.lexsort((along, phase)), int(phase.max()) + 1
    slices = len(frames) // count
    for one in order.reshape(count, slices) if slices > 1 else ():
        _check_stack(name, positions[one], axes[:, 2])
    step = float(along[order[slices - 1]] - along[order[0]]) / max(1, slices - 1) or 1.0
    to_mm = np.eye(4)
    to_mm[:3, :3] = axes * [spacings[0, 1], spacings[0, 0], step]
    to_mm[:3, 3] = positions[order[0]]
    check_geometry(Path(name), to_mm)
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    voxels, warned = _values(sources, shape, place)
    voxels = voxels.reshape(count, slices, *shape) if count > 1 else voxels
    warned += size_warnings(voxels.shape[:-4:-1], to_mm)
    warned += several([source.common for source in sources], len(frames)) if count == 1 else []
    if "MONOCHROME1" in sources[0].common["PhotometricInterpretation"]:
        warned.append("large values are shown dark (MONOCHROME1); they were taken as they are stored")
    return Volume(voxels, to_mm, tuple(f"{name}: {w}" for w in warned), header)


def _told(name: str, values: Sequence[np.ndarray | None], which: str, tag: str) -> np.ndarray:
    """The values of all frames, a row for each; FileError where one has none."""
    found, what = [value for value in values if value is not None], "pixel spacing" if which == "spacing" else "place"
    if len(found) < len(values):
        raise FileError(
            f"{name} has slices that do not tell their {what} (tag {tag}); "
            "expected every slice to; give the original series, or a NIfTI file"
        )
    return np.array(found)


def _axes(name: str, orientations: np.ndarray) -> np.ndarray:
    """3×3, its columns the directions of rows, columns and slices; FileError where slices differ in them."""
    if np.ptp(orientations, axis=0).max() > 1e-3:
        raise FileError(f"{name} has slices of several orientations; expected parallel ones; give one volume alone")
    row, column = orientations[0, :3], orientations[0, 3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(row @ column)) > 1e-2:
        raise FileError(
            f"{name} has rows and columns along ({', '.join(f'{n:.4g}' for n in orientations[0])}); expected two "
            "directions at right angles (tag 0020|0037); give the original series"
        )
    left, _, right = np.linalg.svd(np.stack([row, column, np.cross(row, column)], axis=1))
    return left @ right


def _values(sources: Sequence[Source], shape: tuple[int, int], place: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """stored · slope + intercept of every frame, always as floats, frame n at ``place[n]``; and what is doubtful."""
    voxels, at, doubts = np.empty((0,), np.float32), 0, []
    for source in sources:
        numbers, doubt = stored(source.path, (len(source.frames), *shape))
        doubts += [doubt] if doubt else []
        if at == 0:
            wide = numbers.dtype.itemsize > 2
            voxels = np.empty((len(place), *shape), np.float64 if wide else np.float32)
        for n, frame in enumerate(source.frames):
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite then is refused by name
                voxels[place[at + n]] = numbers[n].astype(np.float64) * frame.slope + frame.intercept
        at += len(source.frames)
    others = f" (and {len(doubts) - 1} further files)" if len(doubts) > 1 else ""
    return voxels, [f"{doubts[0]}{others}, which were ignored"] if doubts else []


def _check_stack(name: str, positions: np.ndarray, normal: np.ndarray) -> None:
    """FileError unless slices at positions (N, 3) are an even stack along their normal: what ITK takes any for."""
    along = positions @ normal
    order = np.argsort(along)
    along, steps = along[order], np.diff(along[order])
    shared = int(np.count_nonzero(steps <= 0.01 * steps.max()))
    if shared:
        raise FileError(
            f"{shared} of {len(along)} slices of {name} share a position with another: several volumes; "
            "expected one; give the files of one volume alone"
        )
    even = np.linspace(along[0], along[-1], len(along))
    if np.abs(along - even).max() > MAX_SHIFT * steps.min():
        wide = int(steps.argmax())
        lack = round(float(steps[wide] / np.median(steps))) - 1
        what = (
            f"{counted(lack, 'slice is', 'slices are')} missing between {along[wide]:.6g} and {along[wide + 1]:.6g} mm"
            if lack
            else (f"the slices lie {steps.min():.4g} to {steps.max():.4g} mm apart")
        )
        raise FileError(f"{what} in {name}; expected equal steps; copy the whole series, or resample it")
    extent = along[-1] - along[0]
    drift = float(np.linalg.norm(positions[order[-1]] - positions[order[0]] - extent * normal))
    if drift > MAX_TILT * extent:
        raise FileError(
            f"the slices of {name} are shifted against each other by {drift:.4g} mm over the stack (a "
            "tilted gantry); expected a stack along their normal; resample it"
        )
