"""What is one for all slices of a DICOM series: where they differ in it they are several things, wherever they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import FileError

if TYPE_CHECKING:
    import pydicom

# What is one for all slices of a series, and how several are said; patients and frames of reference are not named.
ONE_FOR_ALL = {
    "PatientID": ("patients", False),
    "FrameOfReferenceUID": ("frames of reference", False),
    "PhotometricInterpretation": ("photometric interpretations", True),
    "Modality": ("modalities", True),
    "Units": ("units", True),
    "RescaleType": ("units", True),
    "DoseUnits": ("units", True),
    "EchoTime": ("echo times", True),
    "EffectiveEchoTime": ("echo times", True),
    "ImageType": ("parts of complex numbers", True),
    "ComplexImageComponent": ("parts of complex numbers", True),
    "ReferencedSegmentNumber": ("segments, which have one value there", True),
}
VOLUME_ALONE = "give the files of one volume alone"
REMEDIES = {"ReferencedSegmentNumber": "export them as one label map, for instance to NIfTI"}
# What may be several in one volume, as where a table stops at each place, and may be several volumes.
MAY_DIFFER = {"StackID": "stacks", "AcquisitionNumber": "acquisitions", "FrameAcquisitionNumber": "acquisitions"}
# The groups of an enhanced file that say such things of each frame or of all.
SAYING = (
    "FrameContentSequence",
    "PixelValueTransformationSequence",
    "MREchoSequence",
    "MRImageFrameTypeSequence",
    "SegmentIdentificationSequence",
)
MAX_ECHO = 0.05  # of the greatest echo time, between those of one volume: scanners round them
PARTS = {"MAGNITUDE": "M", "PHASE": "P", "REAL": "R", "IMAGINARY": "I"}  # as ImageType calls them


def said(name: str, tags: pydicom.Dataset) -> set[str]:
    """What a file says of a tag, for all of its frames or for each."""
    groups = [
        *(tags.get("SharedFunctionalGroupsSequence") or []),
        *(tags.get("PerFrameFunctionalGroupsSequence") or []),
    ]
    items = [item for group in groups for which in SAYING for item in group.get(which) or []]
    return {value for one in (tags, *items) if (value := _word(name, one.get(name)))}


def _word(name: str, value: Any) -> str:
    """What a tag of ONE_FOR_ALL or MAY_DIFFER says, in a word; nothing where it says nothing."""
    if name == "ImageType":
        return next((part for part in PARTS.values() if not isinstance(value, str) and part in (value or ())[2:]), "")
    if "EchoTime" in name:
        return f"{value:g}" if isinstance(value, float) else ""
    text = "" if value is None else str(value).strip()
    return PARTS.get(text, "") if name == "ComplexImageComponent" else text


def check_common(name: str, slices: Sequence[Mapping[str, set[str]]]) -> None:
    """FileError where the files of a series, and what is ``said`` in each, differ in what is one for all."""
    for tag, (what, is_shown) in ONE_FOR_ALL.items():
        values = sorted(set().union(*(each[tag] for each in slices)))
        numbers = sorted(map(float, values)) if "EchoTime" in tag else []
        if len(values) > 1 and not (numbers and numbers[-1] - numbers[0] <= MAX_ECHO * numbers[-1]):
            shown = f" ({', '.join(values[:5])})" if is_shown else ""
            raise FileError(
                f"{name} has slices of {len(values)} {what}{shown}; expected one; {REMEDIES.get(tag, VOLUME_ALONE)}"
            )


def several(slices: Sequence[Mapping[str, set[str]]], count: int) -> list[str]:
    """What is to be said where ``count`` slices are of several stacks or acquisitions, but not each of its own."""
    found = []
    for tag, what in MAY_DIFFER.items():
        values = sorted(set().union(*(each[tag] for each in slices)), key=lambda value: (len(value), value))
        if 1 < len(values) < count:
            found.append(
                f"its slices are of {len(values)} {what} ({tag} {', '.join(values[:5])}{' …' if values[5:] else ''}); "
                "they were taken for one volume, as they lie in even steps; check that they are"
            )
    return found
