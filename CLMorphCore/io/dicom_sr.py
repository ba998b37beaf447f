"""Volumes as a DICOM structured report (TID 1500), of the segments of a segmentation: a number that a PACS can read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..atomic import atomic_write
from ..bundles.atlas import Structure
from . import dicom_seg
from .dicom_seg import MAX_SERIES, Source, write_dicom_seg

if TYPE_CHECKING:
    import pydicom
    from highdicom.sr import VolumetricROIMeasurementsAndQualitativeEvaluations

FILE = "volumes.dcm"
FILES = (dicom_seg.FILE, FILE)
LATERALITY = {"7771000", "24028007"}  # SNOMED CT: left, right


def write_dicom(
    folder: Path,
    labels: sitk.Image,
    structures: Sequence[Structure],
    scan: Source,
    *,
    model: str = "",
    report: bool = False,
) -> None:
    """Writes the labels as a DICOM Segmentation into ``folder``, with ``report`` their volumes beside it."""
    path = folder / dicom_seg.FILE
    write_dicom_seg(labels, structures, scan, path, model=model)
    if report:
        write_dicom_sr(path, folder / FILE)


def write_dicom_sr(segmentation: Path, path: Path) -> None:
    """Writes the volume of each segment of a binary segmentation in a file, in ml, as a structured report (TID 1500).

    The report refers to the segments, names them in their codes, and is of their patient and study. It is complete and
    verified by nobody. OutputError where ``path`` cannot be written.
    """
    from highdicom import UID
    from highdicom.sr import Comprehensive3DSR
    from pydicom import dcmread

    source = dcmread(segmentation)
    made = Comprehensive3DSR(
        evidence=[source],
        content=_content(source),
        series_instance_uid=UID(),
        series_number=min(int(source.SeriesNumber) + 1, MAX_SERIES),
        series_description="CLMorph volumes",
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="CLMorph",
        manufacturer_model_name="CLMorph",
        software_versions=__version__,
        is_complete=True,
        specific_character_set="ISO_IR 192",
    )
    if "CodingSchemeIdentificationSequence" in source:
        made.CodingSchemeIdentificationSequence = source.CodingSchemeIdentificationSequence
    with atomic_write(path) as temporary:
        made.save_as(temporary)


def segment_volumes_ml(segmentation: pydicom.Dataset) -> dict[int, float]:
    """The volume of each segment of a binary segmentation, by its number: voxels · spacing, ml."""
    frames = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    voxel_ml = float(np.prod([float(mm) for mm in measures.PixelSpacing])) * float(measures.SpacingBetweenSlices) / 1000
    counts = {int(segment.SegmentNumber): 0 for segment in segmentation.SegmentSequence}
    for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        counts[int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)] += int(np.count_nonzero(frame))
    return {number: count * voxel_ml for number, count in counts.items()}


def _content(segmentation: pydicom.Dataset) -> pydicom.Dataset:
    """The root of the report's tree."""
    from highdicom.sr import DeviceObserverIdentifyingAttributes, MeasurementReport, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    device = DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=["CLMorph", __version__]), name="CLMorph", manufacturer_name="CLMorph"
    )
    observer = ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    volumes = segment_volumes_ml(segmentation)
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[
            _measured(segmentation, segment, volumes[int(segment.SegmentNumber)])
            for segment in segmentation.SegmentSequence
        ],
    )
    return report[0]


def _measured(
    segmentation: pydicom.Dataset, segment: pydicom.Dataset, volume_ml: float
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    """A segment's volume, with what and which segment it is."""
    from highdicom.sr import (
        AlgorithmIdentification,
        CodedConcept,
        FindingSite,
        Measurement,
        ReferencedSegment,
        SourceSeriesForSegmentation,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )
    from pydicom.sr.codedict import codes

    millilitre = CodedConcept("ml", "UCUM", "milliliter")
    item = segment.SegmentedPropertyTypeCodeSequence[0]
    kind = CodedConcept(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)
    modifiers = [
        CodedConcept(one.CodeValue, one.CodingSchemeDesignator, one.CodeMeaning)
        for one in item.get("SegmentedPropertyTypeModifierCodeSequence") or []
    ]
    side = next((one for one in modifiers if one.value in LATERALITY), None)
    other = next((one for one in modifiers if one.value not in LATERALITY), None)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(segment.TrackingUID, str(segment.SegmentLabel)),
        referenced_segment=ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            int(segment.SegmentNumber),
            source_series=SourceSeriesForSegmentation(segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID),
        ),
        finding_type=kind,
        finding_sites=[FindingSite(kind, laterality=side, topographical_modifier=other)],
        algorithm_id=AlgorithmIdentification("CLMorph", __version__),
        measurements=[Measurement(codes.SCT.Volume, float(f"{volume_ml:.6g}"), millilitre)],
    )
