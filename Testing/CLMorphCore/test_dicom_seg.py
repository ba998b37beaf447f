"""``clmorph segment --dicom-seg``: one more file beside the labels, or one line before any work."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from highdicom.seg import segread
from highdicom.sr import srread
from made_up_dicom import series


@pytest.fixture(scope="module")
def dicom(phantom, tmp_path_factory):
    """The made-up subject as a series, on its own oblique grid, in files of another order."""
    axes = np.reshape(phantom.image.GetDirection(), (3, 3))
    x, y, _ = phantom.image.GetSpacing()
    # float32 noise in whole numbers above zero, as scanners store it
    whole = sitk.Cast(sitk.Clamp(phantom.image, lowerBound=0), sitk.sitkUInt16)
    return series(
        whole,
        tmp_path_factory.mktemp("dicom") / "head",
        ImageOrientationPatient=axes.T[:2].ravel().round(8).tolist(),
        PixelSpacing=[y, x],
        StudyInstanceUID="1.2.3.5",
        FrameOfReferenceUID="1.2.3.6",
        PatientName="Müller^Jürgen",
        SpecificCharacterSet="ISO_IR 100",
    )


def test_the_labels_lie_beside_the_others_in_dicom(clmorph, dicom, tiny_model, tmp_path):
    out = tmp_path / "out"
    ran = clmorph("segment", dicom, "--model", tiny_model, "-o", out, "--effort", "fast", "--dicom-sr")
    assert (ran.code, ran.err) == (0, "")
    labels = sitk.ReadImage(str(out / "labels.nii.gz"))
    array = sitk.GetArrayFromImage(labels)
    read = segread(out / "segmentation.dcm")
    assert [s.SegmentLabel for s in read.SegmentSequence] == ["Left part", "Right part", "Back part"]
    assert read.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.4" and str(read.PatientName) == "Müller^Jürgen"
    volume = read.get_volume(combine_segments=True)
    points = volume.map_indices_to_reference(np.argwhere(volume.array > 0))
    found = [labels.TransformPhysicalPointToIndex(point) for point in points.tolist()]
    assert len(found) == np.count_nonzero(array)
    values = volume.array[volume.array > 0].tolist()
    assert [int(array[z, y, x]) for x, y, z in found] == values  # segments 1, 2, 3 are labels 1, 2, 3
    groups = srread(out / "volumes.dcm").content.get_volumetric_roi_measurement_groups()
    told = {group.tracking_identifier: group.get_measurements()[0].value for group in groups}
    structures = json.loads((out / "report.json").read_text(encoding="utf-8"))["structures"]
    assert told == pytest.approx({s["name"]: s["volume_ml"] for s in structures}, rel=1e-3)
    ran = clmorph("segment", dicom, "--model", tiny_model, "-o", out, "--effort", "fast")
    assert ran.code == 0 and not {"segmentation.dcm", "volumes.dcm"} & {file.name for file in out.iterdir()}


def test_of_a_scan_that_is_not_dicom_nothing_is_made(clmorph, scan, tiny_model, tmp_path):
    ran = clmorph("segment", scan, "--model", tiny_model, "-o", tmp_path / "out", "--dicom-seg")
    assert ran.code == 2 and ran.err.count("\n") == 1 and not (tmp_path / "out").exists()
    assert "--dicom-seg writes a segmentation of a DICOM scan" in ran.err and "scan.nii.gz is none" in ran.err


def test_the_folder_of_the_slices_is_no_place_for_it(clmorph, dicom, tiny_model):
    before = sorted(dicom.iterdir())
    ran = clmorph("segment", dicom, "--model", tiny_model, "-o", dicom, "--dicom-seg")
    assert ran.code == 2 and "second series" in ran.err and sorted(dicom.iterdir()) == before
