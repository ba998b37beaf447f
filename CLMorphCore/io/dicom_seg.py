"""Labels as a DICOM Segmentation: of the scan's own patient, study and frame of reference, on its own slices.

The object is made by highdicom (extra ``dicom``), which is loaded only where one is written.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..atomic import atomic_write, check_not_overwritten
from ..bundles.atlas import Structure, default_structures
from ..errors import FileError, InputError, OutputError, counted
from . import dicom_codes
from .dicom import is_dicom
from .dicom_pixels import short
from .files import cannot_read
from .images import SOURCE

if TYPE_CHECKING:
    import pydicom
    from highdicom.seg import SegmentDescription

logging.getLogger("highdicom").addHandler(logging.NullHandler())  # what matters of what it says is checked here
FILE = "segmentation.dcm"
MAX_SHIFT = 0.25  # of a slice from its place in the labels, in steps of theirs
MAX_DRIFT = 1.5  # of a slice's first pixel from that of the labels' slice, in pixels: as much as the reader allows
MAX_TURN = 1e-2  # between the axes of both, of a unit
MAX_SEGMENTS = 65535  # that a segmentation can number
MAX_SERIES = 2**31 - 1
SERIES_ABOVE = 1000  # of a segmentation's number, above that of the series it is of
NEEDED = {
    "SOPClassUID": "0008,0016",
    "SOPInstanceUID": "0008,0018",
    "StudyInstanceUID": "0020,000D",
    "SeriesInstanceUID": "0020,000E",
    "FrameOfReferenceUID": "0020,0052",
}
# Tags that a study has and may leave empty; what a file leaves out is left empty.
MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
SEXES = ("M", "F", "O")
MODALITY = "OT"  # where a scan does not tell its own


@dataclass(frozen=True)
class Plane:
    """A slice of the scan: where its first pixel's centre lies (LPS, mm), and its two in-plane directions."""

    position: tuple[float, ...]
    axes: tuple[float, ...]
    spacing: tuple[float, ...]


@dataclass(frozen=True)
class Source:
    """The scan that is segmented: its files, or its one file of many frames, and a plane for each of their slices."""

    name: str
    files: tuple[Path, ...]
    datasets: tuple[pydicom.Dataset, ...]
    planes: tuple[Plane, ...]


def scan_of(image: sitk.Image, folder: Path) -> Source:
    """The scan that an image was read from, of which a segmentation may be written into ``folder``.

    InputError as ``read_source`` and ``check_place``.
    """
    scan = read_source(image.GetMetaData(SOURCE) if image.HasMetaDataKey(SOURCE) else None)
    check_place(scan, folder)
    return scan


def read_source(path: Path | str | None) -> Source:
    """The tags of a DICOM scan, a file or a folder of one series; its pixels are not read.

    InputError where highdicom is not installed, or where the scan is not DICOM or lacks what tells a segmentation
    whose, of which study and in which space it is.
    """
    _check_installed()
    if path is None:
        raise _no_dicom("an image that was not read from a file")
    path = Path(path)
    try:
        files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
        found = [(file, _tags(file)) for file in files if _starts_as_dicom(file)]
    except OSError as error:
        raise cannot_read(path, error, "a DICOM scan") from None
    images = [(file, tags) for file, tags in found if "Rows" in tags and "Columns" in tags]
    if not images:
        raise _no_dicom(str(path))
    for file, tags in images:
        _check_tags(file, tags)
    if len({tags.SeriesInstanceUID for _, tags in images}) > 1:
        raise InputError(
            f"{path} holds several DICOM series; expected one, of which a segmentation can be",
            "give the folder of one series",
        )
    if len({tags.SOPInstanceUID for _, tags in images}) < len(images):
        raise FileError(
            f"{path} has several files of one SOPInstanceUID (0008,0018), by which a segmentation tells them apart",
            "give the original series, or omit `dicom_seg`",
        )
    planes = [plane for file, tags in images for plane in _planes(file, tags)]
    if (places := len({plane.position for plane in planes})) < len(planes):
        raise FileError(
            f"{path} has {counted(len(planes), 'slice')} at {counted(places, 'place')}, "
            f"as several volumes have; expected one, of which a "
            "segmentation can be",
            "give the files of one volume alone, or omit `dicom_seg`",
        )
    return Source(str(path), tuple(file for file, _ in images), tuple(tags for _, tags in images), tuple(planes))


def check_tags(scan: Source) -> None:
    """FileError where no segmentation can be made of a scan, whatever its labels: found by one of a single voxel."""
    first = scan.datasets[0]
    voxels = np.zeros((len(scan.planes), int(first.Rows), int(first.Columns)), np.uint16)
    voxels[0, 0, 0] = 1
    _segmentation(voxels, default_structures([1]), scan, 1.0, "")


def check_place(scan: Source, folder: Path) -> None:
    """OutputError where ``folder`` is that of the scan's slices: with a segmentation it would hold two series."""
    if any(file.parent.resolve() == folder.resolve() for file in scan.files):
        raise OutputError(
            f"{folder} holds the slices of the scan; expected a folder of its own for the segmentation in DICOM, which "
            "would be a second series beside them",
            "choose another output folder",
        )


def write_dicom_seg(
    labels: sitk.Image,
    structures: Sequence[Structure],
    source: Path | str | Source | None,
    path: Path,
    *,
    model: str = "",
) -> None:
    """Writes integer ``labels`` as a binary DICOM Segmentation of the scan in ``source``: a segment for each value.

    ``labels`` lie on the scan's grid, whatever the order of its slices; values that ``structures`` do not name are
    called by their number. ``model`` is told as a parameter of the algorithm. InputError where the scan cannot be
    ``read_source``, its grid is another, or no voxel has a label; OutputError where ``path`` cannot be written.
    """
    scan = source if isinstance(source, Source) else read_source(source)
    check_not_overwritten(path.parent, [path.name], scan.files)
    voxels, named = _numbered(labels, structures)
    voxels = voxels[_order(labels, scan)]
    made = _segmentation(voxels, named, scan, float(labels.GetSpacing()[2]), model)
    with atomic_write(path) as temporary:
        made.save_as(temporary)


def _check_installed() -> None:
    if find_spec("highdicom") is None:
        raise InputError(
            "`dicom_seg` needs the package highdicom, which is not installed; expected the extra dicom",
            "pip install highdicom",
        )


def _no_dicom(name: str) -> InputError:
    return InputError(
        f"`dicom_seg` writes a segmentation of a DICOM scan, and {name} is none; expected a folder of one DICOM "
        "series, or a multi-frame file",
        "give the scan in DICOM, or omit `dicom_seg`",
    )


def _starts_as_dicom(file: Path) -> bool:
    with file.open("rb") as opened:
        return is_dicom(opened.read(132))


def _tags(file: Path) -> pydicom.Dataset:
    from pydicom import dcmread

    try:
        return dcmread(file, force=True, stop_before_pixels=True)
    except OSError:
        raise
    except Exception as error:  # a damaged tag ends in any of pydicom's or Python's
        raise FileError(f"{file} cannot be read: its tags are damaged ({short(error)}); copy it again") from None


def _check_tags(file: Path, tags: pydicom.Dataset) -> None:
    """FileError for tags without which a segmentation has no place; those that may be empty are filled in."""
    for name, number in NEEDED.items():
        if not tags.get(name):
            raise FileError(
                f"{file} lacks the {name} ({number}), by which a DICOM segmentation belongs to its scan",
                "give the original series, or omit `dicom_seg`",
            )
    for name in MAY_BE_EMPTY:
        if name not in tags:
            setattr(tags, name, None)
    if tags.PatientSex not in SEXES:
        tags.PatientSex = ""
    if not tags.get("Modality"):
        tags.Modality = MODALITY


def _planes(file: Path, tags: pydicom.Dataset) -> list[Plane]:
    """The planes of a file's frames; FileError where one does not tell its place."""
    each = tags.get("PerFrameFunctionalGroupsSequence")
    shared = (tags.get("SharedFunctionalGroupsSequence") or [{}])[0]
    if each is None and int(tags.get("NumberOfFrames") or 1) > 1:
        raise FileError(
            f"{file} holds several frames of an older kind, without a place for each; expected a series of single "
            "slices or an enhanced multi-frame file, of which a segmentation can refer to each frame",
            "give the original series, or omit `dicom_seg`",
        )
    try:
        if each is None:
            return [Plane(*(_floats(tags[name].value) for name in PLANE))]
        return [Plane(*(_in_groups(frame, shared, group, name) for name, group in PLANE.items())) for frame in each]
    except (KeyError, IndexError, TypeError, ValueError):
        raise FileError(
            f"{file} does not tell the place of its slices; expected {', '.join(PLANE)}; give the original series"
        ) from None


MEASURES = "PixelMeasuresSequence"
# Tags of a plane, and the functional group that they are in where a file has many.
PLANE = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": MEASURES,
}


def _in_groups(frame: Any, shared: Any, group: str, name: str) -> tuple[float, ...]:
    return _floats((frame.get(group) or shared.get(group))[0][name].value)


def _floats(value: Any) -> tuple[float, ...]:
    return tuple(float(number) for number in value)


def _numbered(labels: sitk.Image, structures: Sequence[Structure]) -> tuple[np.ndarray, list[Structure]]:
    """Segment numbers 1…N in place of label values, uint16 (z, y, x), and what each of them is."""
    values, numbers = np.unique(sitk.GetArrayViewFromImage(labels), return_inverse=True)
    if values[0] < 0:
        raise InputError(f"labels hold the negative value {values[0]}; expected 0 for background and values above it")
    there = [int(value) for value in values if value]
    if not there:
        raise InputError("the labels are empty; expected at least one voxel with a label, to write a segmentation of")
    if len(there) > MAX_SEGMENTS:
        raise InputError(f"the labels have {len(there)} values; expected at most {MAX_SEGMENTS}")
    known = {s.value: s for s in (*default_structures(there), *structures)}
    shift = 0 if values[0] == 0 else 1
    return (numbers.reshape(labels.GetSize()[::-1]) + shift).astype(np.uint16), [known[value] for value in there]


def _order(labels: sitk.Image, scan: Source) -> np.ndarray:
    """The index of the labels' slice that lies on each plane of the scan; InputError unless each lies on one."""
    wide, high, deep = labels.GetSize()
    first = scan.datasets[0]
    axes = np.reshape(labels.GetDirection(), (3, 3))
    fault = ""
    if (int(first.Columns), int(first.Rows), len(scan.planes)) != (wide, high, deep):
        fault = f"size ({first.Columns}, {first.Rows}, {len(scan.planes)}) and {(wide, high, deep)}"
    else:
        places = np.array([labels.TransformPhysicalPointToContinuousIndex(plane.position) for plane in scan.planes])
        order = np.round(places[:, 2]).astype(int)
        turned = max(np.abs(np.array(plane.axes) - axes[:, :2].T.ravel()).max() for plane in scan.planes)
        scaled = max(np.abs(np.array(plane.spacing)[::-1] / labels.GetSpacing()[:2] - 1).max() for plane in scan.planes)
        if turned > MAX_TURN or scaled > MAX_TURN or np.abs(places[:, :2]).max() > MAX_DRIFT:
            fault = "their rows and columns lie elsewhere"
        elif np.abs(places[:, 2] - order).max() > MAX_SHIFT or sorted(order) != list(range(deep)):
            fault = "their slices lie elsewhere"
        else:
            return order
    raise InputError(
        f"the labels lie on another grid than the DICOM scan {scan.name}: {fault}; expected the scan's own",
        "resample the labels onto the scan first, without interpolation between them",
    )


def _segmentation(
    voxels: np.ndarray, named: Sequence[Structure], scan: Source, step_mm: float, model: str
) -> pydicom.Dataset:
    """The object in DICOM of segment numbers (frames as the scan has them, rows, columns)."""
    import highdicom as hd
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    images = _completed(scan, step_mm)
    described = [_described(n, one, model) for n, one in enumerate(named, start=1)]
    schemes = [CodingSchemeIdentificationItem(dicom_codes.PRIVATE, name="Structures of CLMorph")]
    try:
        return hd.seg.Segmentation(
            source_images=images,
            pixel_array=voxels,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            series_instance_uid=hd.UID(),
            series_number=min(int(images[0].get("SeriesNumber") or 0) + SERIES_ABOVE, MAX_SERIES),
            series_description="CLMorph segmentation",
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="CLMorph",
            manufacturer_model_name="CLMorph",
            software_versions=__version__,
            device_serial_number="0",  # a program has none, and the standard wants one
            content_label="SEGMENTATION",
            content_description=f"CLMorph {model}".replace("\\", "/").strip()[: dicom_codes.MAX_MEANING],
            coding_schemes=schemes if any(_is_private(one) for one in described) else None,
            specific_character_set="ISO_IR 192",  # UTF-8, whatever the scan is written in
        )
    except MemoryError:
        raise
    except Exception as error:  # a tag that breaks the standard ends in any of highdicom's or pydicom's
        raise FileError(
            f"no DICOM segmentation can be made of {scan.name}: its tags break the standard ({short(error)}); expected "
            "an image of a patient as a scanner writes it",
            "give the original series, or omit `dicom_seg`",
        ) from None


def _is_private(segment: pydicom.Dataset) -> bool:
    return segment.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == dicom_codes.PRIVATE


def _completed(scan: Source, step_mm: float) -> list[pydicom.Dataset]:
    """Copies of the scan's tags, with axes and distances where highdicom looks for them: the same for all slices."""
    from pydicom import Dataset

    first, images = scan.planes[0], [copy(tags) for tags in scan.datasets]
    for tags in images:
        place = tags
        if "PerFrameFunctionalGroupsSequence" in tags:
            shared = copy((tags.get("SharedFunctionalGroupsSequence") or [Dataset()])[0])
            orientation = Dataset()
            orientation.ImageOrientationPatient = list(first.axes)
            each = tags.PerFrameFunctionalGroupsSequence[0]
            place = copy((shared.get(MEASURES) or each.get(MEASURES))[0])
            shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [place]
            tags.SharedFunctionalGroupsSequence = [shared]
        else:
            place.ImageOrientationPatient = list(first.axes)
        place.PixelSpacing = list(first.spacing)
        place.SliceThickness = place.get("SliceThickness") or round(step_mm, 6)
        place.SpacingBetweenSlices = round(step_mm, 6)
    return images


def _described(number: int, structure: Structure, model: str) -> SegmentDescription:
    """One segment: what it is, in words, in codes and in colour, and by what it was found."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    category, kind, modifiers = dicom_codes.coded(structure.name, structure.terminology)
    described = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=dicom_codes.label(structure.name),
        segmented_property_category=_concept(category),
        segmented_property_type=_concept(kind),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="CLMorph",
            family=codes.cid7162.ArtificialIntelligence,
            version=__version__,
            parameters={"model": model.replace("\\", "/")} if model else None,
        ),
        tracking_id=f"label {structure.value}",
        tracking_uid=hd.UID(),
        display_color=hd.color.CIELabColor.from_string(structure.color),
    )
    described.SegmentDescription = f"Label {structure.value} of the label map"
    if modifiers:
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            _concept(modifier) for modifier in modifiers
        ]
    return described


def _concept(term: dicom_codes.Term) -> Any:
    import highdicom as hd

    return hd.sr.CodedConcept(term.code, term.scheme, term.meaning)
