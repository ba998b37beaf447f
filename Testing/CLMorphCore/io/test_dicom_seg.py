"""Labels as a DICOM Segmentation, read back by others: pydicom alone, highdicom, ITK and GDCM through SimpleITK."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from highdicom.seg import segread
from highdicom.sr import srread
from made_up_dicom import AXES, ORDERS, ORIENTATION, ORIGIN, SPACING, enhanced, series

from CLMorphCore.bundles.atlas import Structure
from CLMorphCore.errors import InputError
from CLMorphCore.io import dicom_seg
from CLMorphCore.io.dicom_codes import KNOWN, PRIVATE, coded, label
from CLMorphCore.io.dicom_seg import check_tags, read_source, scan_of, write_dicom_seg
from CLMorphCore.io.dicom_sr import FILES, write_dicom
from CLMorphCore.io.images import read_image

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
STUDY = {
    "StudyInstanceUID": "1.2.3.5",
    "FrameOfReferenceUID": "1.2.3.6",
    "PatientID": "4711",
    "PatientName": "Doe^Jane",
    "PatientBirthDate": "19700131",
    "PatientSex": "F",
    "StudyDate": "20200102",
    "StudyTime": "101112",
    "AccessionNumber": "A7",
    "StudyID": "S1",
    "SeriesNumber": 4,
    "SliceThickness": 2.0,  # less than the slices' distance: a gap
}
STRUCTURES = (
    Structure(17, "Left hippocampus", "#dcd814", "SCT^5366008^Hippocampus"),
    Structure(53, "Right hippocampus", "#dcd814", "SCT^5366008^Hippocampus"),
    Structure(1025, "Left precuneus", "#5a6ee6"),
    Structure(2000, "Nowhere in this scan", "#ffffff"),
)
NAMES = {17: "Left hippocampus", 53: "Right hippocampus", 1025: "Left precuneus", 90001: "Label 90001"}


@pytest.fixture(scope="module")
def image():
    noise = np.random.default_rng(1).integers(0, 4000, (14, 12, 10)).astype(np.uint16)
    made = sitk.GetImageFromArray(noise)
    made.SetSpacing(SPACING)
    made.SetOrigin(ORIGIN.tolist())
    made.SetDirection(AXES.ravel().tolist())
    return made


@pytest.fixture(scope="module")
def labels(image):
    """Boxes, one of them in one voxel, another on the first and the last slice; the value 90001 has no name."""
    array = np.zeros((14, 12, 10), np.uint32)
    array[3:7, 2:6, 3:8], array[6:12, 6:11, 1:4], array[8, 1, 9] = 17, 53, 90001
    array[[0, 13], 4:9, 5] = 1025
    made = sitk.GetImageFromArray(array)
    made.CopyInformation(image)
    return made


def segments(path):
    """Label → place → mask of its frames, by pydicom alone: bits, positions and numbers as the file has them."""
    file = pydicom.dcmread(path)
    bits = np.unpackbits(np.frombuffer(file.PixelData, np.uint8), bitorder="little")
    frames = bits[: file.NumberOfFrames * file.Rows * file.Columns].reshape(-1, file.Rows, file.Columns)
    of = {int(s.SegmentNumber): int(s.TrackingID.split()[-1]) for s in file.SegmentSequence}
    found = {}
    for frame, groups in zip(frames, file.PerFrameFunctionalGroupsSequence, strict=True):
        place = tuple(float(v) for v in groups.PlanePositionSequence[0].ImagePositionPatient)
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        found.setdefault(of[number], {})[place] = frame
    return file, found


def expected(labels, value):
    array = sitk.GetArrayFromImage(labels)
    return {
        tuple(round(p, 6) for p in labels.TransformIndexToPhysicalPoint((0, 0, n))): array[n] == value
        for n in range(labels.GetDepth())
        if (array[n] == value).any()
    }


def assert_holds(path, labels):
    """Each label's voxels on the scan's own positions, by pydicom and by highdicom; names and no empty segments."""
    file, found = segments(path)
    values = [v for v in np.unique(sitk.GetArrayFromImage(labels)).tolist() if v]
    assert sorted(found) == values
    for value in values:
        wanted = expected(labels, value)
        assert found[value].keys() == wanted.keys()
        assert all((found[value][place] == mask).all() for place, mask in wanted.items())
    assert [s.SegmentNumber for s in file.SegmentSequence] == [1, 2, 3, 4]
    assert [s.SegmentLabel for s in file.SegmentSequence] == [NAMES[value] for value in values]
    read = segread(path)
    volume = read.get_volume(combine_segments=True)
    for n, value in enumerate(values, start=1):
        at = volume.map_indices_to_reference(np.argwhere(volume.array == n))
        mine = [
            labels.TransformIndexToPhysicalPoint(tuple(map(int, index[::-1])))
            for index in np.argwhere(sitk.GetArrayFromImage(labels) == value)
        ]
        assert np.allclose(sorted(map(tuple, np.round(at, 3).tolist())), sorted(np.round(mine, 3).tolist()), atol=1e-2)
    return file


@pytest.mark.parametrize("order", ORDERS)
def test_an_enhanced_file_gets_its_labels_frame_by_frame(image, labels, tmp_path, order):
    scan = enhanced(image, ORDERS[order], SOPClassUID=ENHANCED_MR, **STUDY)
    scan.file_meta.MediaStorageSOPClassUID = ENHANCED_MR
    scan.save_as(tmp_path / "scan.dcm")
    write_dicom_seg(labels, STRUCTURES, tmp_path / "scan.dcm", tmp_path / "seg.dcm")
    file = assert_holds(tmp_path / "seg.dcm", labels)
    for groups in file.PerFrameFunctionalGroupsSequence:
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        at = scan.PerFrameFunctionalGroupsSequence[int(source.ReferencedFrameNumber) - 1]
        mine = groups.PlanePositionSequence[0].ImagePositionPatient
        assert mine == at.PlanePositionSequence[0].ImagePositionPatient
        assert source.ReferencedSOPInstanceUID == scan.SOPInstanceUID


def test_a_series_gets_its_labels_slice_by_slice_with_the_patients_and_the_studys_tags(image, labels, tmp_path):
    scan = series(image, tmp_path / "scan", **STUDY)
    write_dicom_seg(labels, STRUCTURES, scan, tmp_path / "seg.dcm", model="brain")
    file = assert_holds(tmp_path / "seg.dcm", labels)
    for name, value in STUDY.items():
        if name not in ("SeriesNumber", "SliceThickness"):
            assert str(file[name].value) == value
    assert (file.Modality, file.SegmentationType, file.SeriesNumber) == ("SEG", "BINARY", 1004)
    sources = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, scan.iterdir())}
    assert file.SeriesInstanceUID not in {one.SeriesInstanceUID for one in sources.values()}
    assert {r.ReferencedSOPInstanceUID for r in file.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == set(
        sources
    )
    for groups in file.PerFrameFunctionalGroupsSequence:
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        place = groups.PlanePositionSequence[0].ImagePositionPatient
        assert place == sources[source.ReferencedSOPInstanceUID].ImagePositionPatient
    measures = file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (measures.SliceThickness, measures.SpacingBetweenSlices) == (2.0, 2.5)
    first, second, third, last = file.SegmentSequence
    assert [s.SegmentAlgorithmType for s in (first, last)] == ["AUTOMATIC"] * 2
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmParameters) == ("CLMorph", "model=brain")
    kinds = [s.SegmentedPropertyTypeCodeSequence[0] for s in (first, second, third, last)]
    assert [k.CodeValue for k in kinds[:2]] == ["5366008", "5366008"]
    sides = [k.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue for k in kinds[:2]]
    assert sides == ["7771000", "24028007"]  # SNOMED CT: left, right
    assert kinds[2].CodingSchemeDesignator == PRIVATE and kinds[2].CodeMeaning == "Left precuneus"
    assert kinds[2].CodeValue != kinds[3].CodeValue


def test_gdcm_finds_the_frames_where_the_scan_has_them(image, labels, tmp_path):
    """A reader that knows nothing of segments: SimpleITK shows the frames one after another."""
    write_dicom_seg(labels, STRUCTURES, series(image, tmp_path / "scan", **STUDY), tmp_path / "seg.dcm")
    read = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "seg.dcm")))
    _, found = segments(tmp_path / "seg.dcm")
    mine = [frame for masks in found.values() for frame in masks.values()]
    assert read.shape == (len(mine), 12, 10)
    assert sorted(np.unique(read).tolist())[0] == 0 and int((read > 0).sum()) == sum(int(m.sum()) for m in mine)


def test_labels_whose_slices_run_the_other_way_are_the_same_segmentation(image, labels, tmp_path):
    """A left-handed label map, as another reader of the same series may have it."""
    scan = series(image, tmp_path / "scan", **STUDY)
    flipped = sitk.Flip(labels, (False, False, True))
    assert np.linalg.det(np.reshape(flipped.GetDirection(), (3, 3))) < 0
    write_dicom_seg(flipped, STRUCTURES, scan, tmp_path / "seg.dcm")
    assert_holds(tmp_path / "seg.dcm", labels)


@pytest.mark.parametrize(
    ("name", "charset"),
    [
        ("Müller^Jürgen", "ISO_IR 100"),
        ("Łukasz^Żółć", "ISO_IR 192"),
        ("Yamada^Tarou=山田^太郎", ["", "ISO 2022 IR 87"]),
    ],
)
def test_a_name_in_any_letters_stays_itself(image, labels, tmp_path, name, charset):
    values = STUDY | {"PatientName": name, "SpecificCharacterSet": charset}
    scan = series(image, tmp_path / "scan", **values)
    write_dicom_seg(labels, (Structure(17, "Hippocampe gauche – tête", "#dcd814"),), scan, tmp_path / "seg.dcm")
    file = pydicom.dcmread(tmp_path / "seg.dcm")
    assert str(file.PatientName) == name and file.SpecificCharacterSet == "ISO_IR 192"
    assert file.SegmentSequence[0].SegmentLabel == "Hippocampe gauche – tête"
    assert name.split("=")[-1].encode() in (tmp_path / "seg.dcm").read_bytes()


def test_colours_are_those_of_the_structures(image, labels, tmp_path):
    """CIELab of #5a6ee6 by the formula of CIE 15 for sRGB and D65, scaled as in PS3.3 C.10.7.1.1."""
    write_dicom_seg(labels, STRUCTURES, series(image, tmp_path / "scan", **STUDY), tmp_path / "seg.dcm")
    stored = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence[2].RecommendedDisplayCIELabValue
    rgb = np.array([0x5A, 0x6E, 0xE6]) / 255
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    matrix = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    f = np.cbrt(np.array(matrix) @ linear / [0.95047, 1.0, 1.08883])
    lab = 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])
    wanted = [lab[0] / 100 * 65535, (lab[1] + 128) / 255 * 65535, (lab[2] + 128) / 255 * 65535]
    assert np.abs(np.array(stored) - wanted).max() < 65535 * 0.005


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_a_scan_that_does_not_tell_whose_it_is_ends_in_one_line(image, labels, tmp_path, missing):
    scan = series(image, tmp_path / "scan", **{name: value for name, value in STUDY.items() if name != missing})
    with pytest.raises(InputError, match=f"lacks the {missing}"):
        write_dicom_seg(labels, STRUCTURES, scan, tmp_path / "seg.dcm")
    assert not (tmp_path / "seg.dcm").exists()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"PatientBirthDate": "unknown"}, "tags break the standard"),
        ({"SOPInstanceUID": "1.2.3.9"}, "several files of one SOPInstanceUID"),
        ({"SeriesInstanceUID": lambda n: f"1.2.{n % 2}"}, "several DICOM series"),
        ({"StudyInstanceUID": lambda n: f"1.2.{n % 2}"}, "tags break the standard"),
        ({"SOPClassUID": "1.2.3.4"}, "tags break the standard"),
        ({"ImagePositionPatient": lambda n: [0.0, 0.0, n // 2]}, "as several volumes have"),
    ],
)
def test_tags_of_which_no_segmentation_can_be_made_are_found_before_any_work(image, tmp_path, values, said):
    with pytest.raises(InputError, match=said) as raised:
        check_tags(read_source(series(image, tmp_path / "scan", **STUDY | values)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "values",
    [
        {"PatientSex": "U", "StudyDate": "2020.01.02", "SeriesNumber": None, "SliceThickness": 0},
        {"ImageOrientationPatient": lambda n: [v + 1e-5 * n for v in ORIENTATION]},  # as scanners round it
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT", "LossyImageCompression": "01"},
    ],
)
def test_tags_that_are_a_little_off_do_no_harm(image, labels, tmp_path, values):
    write_dicom_seg(labels, STRUCTURES, series(image, tmp_path / "scan", **STUDY | values), tmp_path / "seg.dcm")
    assert_holds(tmp_path / "seg.dcm", labels)


def test_places_of_an_enhanced_file_may_stand_with_each_frame(image, labels, tmp_path):
    scan = enhanced(image, ORDERS["any"], SOPClassUID=ENHANCED_MR, **STUDY)
    (shared,) = scan.SharedFunctionalGroupsSequence
    for groups in scan.PerFrameFunctionalGroupsSequence:
        groups.PlaneOrientationSequence = shared.PlaneOrientationSequence
        groups.PixelMeasuresSequence = shared.PixelMeasuresSequence
    del scan.SharedFunctionalGroupsSequence
    scan.save_as(tmp_path / "scan.dcm")
    write_dicom_seg(labels, STRUCTURES, tmp_path / "scan.dcm", tmp_path / "seg.dcm")
    assert_holds(tmp_path / "seg.dcm", labels)


def test_tags_that_may_be_empty_may_be_missing(image, labels, tmp_path):
    only = {name: STUDY[name] for name in ("StudyInstanceUID", "FrameOfReferenceUID")}
    write_dicom_seg(labels, STRUCTURES, series(image, tmp_path / "scan", **only), tmp_path / "seg.dcm")
    file = assert_holds(tmp_path / "seg.dcm", labels)
    assert file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 2.5


def test_a_slice_that_is_missing_and_labels_of_another_grid_end_in_one_line(image, labels, tmp_path):
    scan = series(image, tmp_path / "scan", **STUDY)
    shifted = sitk.Image(labels)
    shifted.SetOrigin([v + 2.5 for v in labels.GetOrigin()])
    for wrong in (shifted, sitk.Flip(labels, (True, False, False)), labels[:, :, 1:]):
        with pytest.raises(InputError, match="another grid than the DICOM scan"):
            write_dicom_seg(wrong, STRUCTURES, scan, tmp_path / "seg.dcm")
    (scan / "05.dcm").unlink()
    with pytest.raises(InputError, match="another grid than the DICOM scan"):
        write_dicom_seg(labels, STRUCTURES, scan, tmp_path / "seg.dcm")


def test_what_is_no_dicom_or_in_the_series_folder_ends_in_one_line(image, labels, tmp_path):
    sitk.WriteImage(image, str(tmp_path / "scan.nii.gz"))
    with pytest.raises(InputError, match=r"scan.nii.gz is none; expected a folder of one DICOM series"):
        write_dicom_seg(labels, STRUCTURES, tmp_path / "scan.nii.gz", tmp_path / "seg.dcm")
    scan = series(image, tmp_path / "scan", **STUDY)
    with pytest.raises(InputError, match="would be a second series"):
        scan_of(read_image(scan), scan)
    with pytest.raises(InputError, match="not read from a file"):
        scan_of(image, tmp_path)
    with pytest.raises(InputError, match="empty"):
        write_dicom_seg(labels * 0, STRUCTURES, scan, tmp_path / "seg.dcm")


def test_without_highdicom_one_line_says_what_to_install(image, labels, tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_seg, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install highdicom"):
        write_dicom_seg(labels, STRUCTURES, tmp_path, tmp_path / "seg.dcm")


# --- codes


def test_every_known_code_is_in_pydicoms_dictionary_by_that_meaning():
    from pydicom.sr._concepts_dict import concepts

    for name, term in KNOWN.items():
        meanings = {
            m for entry in concepts[term.scheme].values() for code, (m, _) in entry.items() if code == term.code
        }
        assert term.meaning in meanings, name


@pytest.mark.parametrize(
    ("name", "terminology", "code", "modifiers"),
    [
        ("Left ventricle", "SCT^87878005^Left ventricle", "87878005", []),  # of the heart: the code tells the side
        ("Left lateral ventricle", "SCT^66720007^Lateral ventricle", "66720007", ["Left"]),
        ("Left anterior hippocampus", "SCT^5366008^Hippocampus", "5366008", ["Left", "Anterior"]),
        ("Right cerebellar cortex", "", "25991003", ["Right"]),
        ("putamen_left", "", "89278009", ["Left"]),
        ("Left Putamen", "not a term", "89278009", ["Left"]),
        ("Fourth ventricle", "", "35918002", []),
    ],
)
def test_codes_of_names(name, terminology, code, modifiers):
    found = coded(name, terminology)
    assert (found.kind.code, [m.meaning for m in found.modifiers]) == (code, modifiers)


def test_an_unknown_structure_gets_a_code_of_its_own_that_is_always_the_same():
    left, right = coded("Left pulvinar\\x"), coded("Right pulvinar\\x")
    assert left == coded("Left pulvinar\\x") and left.kind.code != right.kind.code
    assert left.kind.scheme == PRIVATE and len(left.kind.code) <= 16 and "\\" not in left.kind.meaning
    assert len(label("n" * 200)) == 64 and label("\\") == "/"


# --- volumes as a structured report


def told_volumes(report):
    """Tracking identifier → (volume in ml, finding, laterality, segment), by pydicom alone."""
    found = {}

    def walk(items):
        for item in items:
            name = item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""
            inner = item.get("ContentSequence") or []
            if name == "Measurement Group":
                of = {one.ConceptNameCodeSequence[0].CodeMeaning: one for one in inner}
                value = of["Volume"].MeasuredValueSequence[0]
                assert value.MeasurementUnitsCodeSequence[0].CodeValue == "ml"
                site = of["Finding Site"].get("ContentSequence") or []
                sides = [one.ConceptCodeSequence[0].CodeMeaning for one in site]
                segment = of["Referenced Segment"].ReferencedSOPSequence[0]
                found[of["Tracking Identifier"].TextValue] = (
                    float(value.NumericValue),
                    of["Finding"].ConceptCodeSequence[0].CodeValue,
                    sides,
                    (segment.ReferencedSOPInstanceUID, int(segment.ReferencedSegmentNumber)),
                )
            walk(inner)

    walk(report.ContentSequence)
    return found


def test_volumes_are_told_of_the_segments_in_their_codes(image, labels, tmp_path):
    values = STUDY | {"PatientName": "Müller^Jürgen", "SpecificCharacterSet": "ISO_IR 100"}
    scan = read_source(series(image, tmp_path / "scan", **values))
    write_dicom(tmp_path, labels, STRUCTURES, scan, report=True)
    segmentation, report = (pydicom.dcmread(tmp_path / name) for name in FILES)
    assert (
        report.Modality == "SR" and str(report.PatientName) == "Müller^Jürgen" and report.StudyInstanceUID == "1.2.3.5"
    )
    array, voxel_ml = sitk.GetArrayFromImage(labels), float(np.prod(SPACING)) / 1000
    told = told_volumes(report)
    assert told.keys() == set(NAMES.values())
    for number, (value, name) in enumerate(sorted(NAMES.items()), start=1):
        volume, code, sides, segment = told[name]
        assert volume == pytest.approx(np.count_nonzero(array == value) * voxel_ml, rel=1e-5)
        assert segment == (segmentation.SOPInstanceUID, number)
        assert (code == "5366008") == ("hippocampus" in name)
        assert sides == ([name.split()[0]] if "hippocampus" in name else [])
    read = srread(tmp_path / "volumes.dcm").content
    assert len(read.get_volumetric_roi_measurement_groups()) == 4
