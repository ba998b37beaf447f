"""DICOM of one frame or many: in its place and in its unit, or refused with the reason."""

import re

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from made_up_dicom import (
    ORDERS,
    ORIENTATION,
    ORIGIN,
    SPACING,
    assert_same,
    enhanced,
    file,
    lut,
    pixels,
    place,
    series,
    tags,
)

from CLMorphCore.errors import InputError
from CLMorphCore.io.images import read_file, read_image, warnings_of


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("alone", ["the file", "its folder", "its folder, beside another file"])
def test_frames_of_one_file_are_sorted_by_their_places(order, alone, image, tmp_path):
    (tmp_path / "a").mkdir()
    enhanced(image, ORDERS[order]).save_as(tmp_path / "a" / "e.dcm")
    if "beside" in alone:
        (tmp_path / "a" / "readme.txt").write_text("not a slice")
    assert_same(read_file(tmp_path / "a" / "e.dcm" if alone == "the file" else tmp_path / "a"), image)


@pytest.mark.parametrize("names", ["{}.dcm", "{}"])
@pytest.mark.parametrize("beside", [".clmorph-run-1234abcd", "._{}", ".DS_Store"])
def test_hidden_files_beside_slices_are_no_slices_that_are_cut_off(names, beside, image, tmp_path):
    """What this program, macOS and others leave there: also under the names of slices, with a dot before them."""
    for slices in list(series(image, tmp_path / "a").iterdir()):
        slices.rename(tmp_path / "a" / names.format(slices.stem))
    (tmp_path / "a" / beside.format(names.format("03"))).write_bytes(b"\0\5\x16\7 not a slice")
    assert_same(read_file(tmp_path / "a"), image)


@pytest.mark.parametrize("below", ["s", "patient/study/s"])
def test_a_series_in_a_folder_below_is_told_of(below, image, tmp_path):
    (tmp_path / below).parent.mkdir(parents=True, exist_ok=True)
    series(image, tmp_path / below)
    with pytest.raises(InputError, match=r"holds 0 DICOM series.*; give .*folder") as caught:
        read_file(tmp_path)
    assert str(tmp_path / below) in str(caught.value)


def test_a_file_that_itk_wrote_of_many_frames_is_read_in_its_place(image, tmp_path):
    image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / "a.dcm"))
    assert_same(read_file(tmp_path / "a.dcm"), image)


def without(name):
    def change(found):
        delattr(found, name)

    return change


def no_orientation(found):
    del found.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence


def two_orientations(found):
    turned = [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    for group in found.PerFrameFunctionalGroupsSequence[:7]:
        group.PlaneOrientationSequence = [tags(ImageOrientationPatient=turned)]


def not_at_right_angles(found):
    found.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = [
        tags(ImageOrientationPatient=[1.0, 0.0, 0.0, 0.7, 0.7, 0.0])
    ]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda i: enhanced(i, [*range(4), *range(6, 14)]), "2 slices are missing between .* copy the whole"),
        (lambda i: enhanced(i, [*range(14), *range(14)]), "14 of 28 slices of .* share a position .*: several volumes"),
        (
            lambda i: enhanced(i, places=[np.add(place(i, n), [0, 0.4 * n, 0]).tolist() for n in range(14)]),
            r"shifted against each other by .* \(a tilted gantry\)",
        ),
        (lambda i: (without("PerFrameFunctionalGroupsSequence"), enhanced(i)), r"do not tell their place \(tag 0020"),
        (lambda i: (no_orientation, enhanced(i)), r"do not tell their place \(tag 0020\|0037\)"),
        (lambda i: (two_orientations, enhanced(i)), "several orientations; expected parallel"),
        (lambda i: (not_at_right_angles, enhanced(i)), "expected two directions at right angles"),
        (lambda i: enhanced(i, places=[place(i, n) for n in range(13)]), "14 frames and tells the place of 13"),
        (lambda i: enhanced(i, NumberOfFrames=99), "99 frames and tells the place of 14"),
        (lambda i: enhanced(i, PhotometricInterpretation="RGB", SamplesPerPixel=3), "expected one intensity"),
        (lambda i: enhanced(i, BitsStored=40), "stores 40 bits"),
    ],
)
def test_frames_that_are_no_even_stack_are_refused(make, said, image, tmp_path):
    made = make(image)
    if isinstance(made, tuple):
        change, made = made
        change(made)
    made.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match=said):
        read_image(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"PixelSpacing": lambda n: [1.25, 0.75 + 0.1 * (n == 5)]}, "several sizes or pixel spacings"),
        ({"Rows": lambda n: 6 if n == 3 else 12}, "several sizes or pixel spacings"),
        ({"ImageOrientationPatient": lambda n: ORIENTATION if n else [0, 1, 0, 0, 0, 1]}, "several orientations"),
        ({"PixelSpacing": None}, r"do not tell their pixel spacing \(tag 0028\|0030\)"),
        ({"SeriesInstanceUID": lambda n: f"1.2.{n % 3}"}, "holds 3 DICOM series; expected exactly one"),
    ],
)
def test_a_series_whose_slices_differ_is_refused(values, said, image, tmp_path):
    with pytest.raises(InputError, match=said):
        read_file(series(image, tmp_path / "a", **values))


def test_offsets_of_a_grid_place_the_frames_of_a_dose(image, tmp_path):
    made = file(
        image,
        NumberOfFrames=14,
        ImagePositionPatient=place(image, 0),
        ImageOrientationPatient=ORIENTATION,
        PixelSpacing=[SPACING[1], SPACING[0]],
        GridFrameOffsetVector=[2.5 * n for n in range(14)],
        DoseGridScaling=0.01,
    )
    made.PixelData = pixels(image, range(14))
    made.save_as(tmp_path / "a.dcm")
    found = read_file(tmp_path / "a.dcm")
    assert found.GetOrigin() == pytest.approx(ORIGIN) and found.GetSpacing() == pytest.approx(SPACING)
    assert np.allclose(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(image) * 0.01)


# --- doses


UP, DOWN = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0, -1.0, 0.0]  # the normal is +z, -z


def dose(image, orientation, offsets, z=7.0):
    made = file(
        image,
        Modality="RTDOSE",
        NumberOfFrames=14,
        ImagePositionPatient=[-30.0, 12.5, z],
        ImageOrientationPatient=orientation,
        PixelSpacing=[SPACING[1], SPACING[0]],
        GridFrameOffsetVector=list(offsets),
        DoseGridScaling=0.01,
    )
    made.PixelData = pixels(image, range(14))
    return made


@pytest.mark.parametrize("orientation", [UP, DOWN, ORIENTATION], ids=["+z", "-z", "oblique"])
@pytest.mark.parametrize("step", [2.5, -2.5])
@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
def test_offsets_of_a_dose_are_along_the_normal_or_the_planes_own_z(orientation, step, absolute, image, tmp_path):
    """DICOM PS3.3 C.8.8.3.2: with a first element of zero the former, else the latter."""
    offsets = step * np.arange(14) + (7.0 if absolute else 0.0)
    dose(image, orientation, offsets).save_as(tmp_path / "a.dcm")
    if absolute and orientation is ORIENTATION:
        with pytest.raises(InputError, match=r"GridFrameOffsetVector .* begins with 7, .*; expected 0"):
            read_file(tmp_path / "a.dcm")
        return
    found = read_file(tmp_path / "a.dcm")
    normal = np.cross(orientation[:3], orientation[3:])
    along = np.array([0.0, 0.0, 1.0]) if absolute else normal
    stored = sitk.GetArrayViewFromImage(image) * 0.01
    for n in (0, 3, 13):
        at = np.array([-30.0, 12.5, 7.0]) + step * n * along
        index = found.TransformPhysicalPointToIndex(at.tolist())
        assert found.TransformIndexToPhysicalPoint(index) == pytest.approx(at, abs=1e-6)
        assert np.allclose(sitk.GetArrayViewFromImage(found)[index[2]], stored[n])


def test_a_dose_whose_offsets_are_neither_is_refused(image, tmp_path):
    dose(image, UP, 2.5 * np.arange(14) + 3.0).save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match=r"begins with 3, its first plane lies at z = 7; expected 0 or 7"):
        read_file(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ModalityLUTSequence": lut(0, [1, 2, 3]), "RescaleSlope": 2}, "a table .* and a slope"),
        ({"ModalityLUTSequence": lut(0, [1, 2], count=9)}, "its Modality LUT .* 2 of 9"),
        ({"PatientID": lambda n: f"someone-{n // 7}"}, "slices of 2 patients"),
        ({"FrameOfReferenceUID": lambda n: f"1.2.{n // 7}"}, "2 frames of reference"),
        ({"PhotometricInterpretation": lambda n: f"MONOCHROME{1 + n % 2}"}, r"\(MONOCHROME1, MONOCHROME2\)"),
        ({"Units": lambda n: "BQML" if n else "CNTS"}, r"2 units \(BQML, CNTS\)"),
        ({"RescaleType": lambda n: "HU" if n else "US"}, r"2 units \(HU, US\)"),
        ({"PixelSpacing": [-1.25, 0.75]}, r"has pixels of -1.25 × 0.75 mm; expected sizes above zero"),
        (
            {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0},
            "its pixels have 1 bits; expected whole numbers .*; convert",
        ),
        ({"Modality": lambda n: "CT" if n else "MR"}, r"2 modalities \(CT, MR\)"),
        ({"EchoTime": lambda n: (12.0, 90.0)[n % 2]}, r"2 echo times \(12, 90\)"),
        ({"ImageType": lambda n: ["ORIGINAL", "PRIMARY", "MP"[n % 2]]}, r"2 parts of complex numbers \(M, P\)"),
    ],
)
def test_slices_that_mean_different_things_are_refused(values, said, image, tmp_path):
    with pytest.raises(InputError, match=said) as caught:
        read_file(series(image, tmp_path / "a", **values))
    assert "someone" not in str(caught.value)  # who it is stands in no log


@pytest.mark.parametrize(
    "values",
    [
        {"EchoTime": lambda n: 2.46 + 0.004 * (n % 2)},  # as scanners round it
        {"EchoTime": lambda n: 2.46 if n % 2 else None},
        {"PhotometricInterpretation": ""},
        {"ImageType": lambda n: ["ORIGINAL" if n % 2 else "DERIVED", "PRIMARY", "M", f"{n}"]},
    ],
)
def test_slices_that_differ_in_what_does_not_matter_are_read(values, image, tmp_path):
    assert_same(read_file(series(image, tmp_path / "a", **values)), image)


FRAME_GROUPS = {
    "MREchoSequence": (lambda n: {"EffectiveEchoTime": (12.0, 90.0)[n % 2]}, r"2 echo times \(12, 90\)"),
    "MRImageFrameTypeSequence": (
        lambda n: {"ComplexImageComponent": ("MAGNITUDE", "PHASE")[n % 2]},
        r"2 parts of complex numbers \(M, P\)",
    ),
}


@pytest.mark.parametrize("group", FRAME_GROUPS)
def test_frames_that_mean_different_things_are_refused(group, image, tmp_path):
    values, said = FRAME_GROUPS[group]
    made = enhanced(image)
    for n, frame in enumerate(made.PerFrameFunctionalGroupsSequence):
        setattr(frame, group, [tags(**values(n))])
    made.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match=f"has slices of {said}"):
        read_file(tmp_path / "a.dcm")


@pytest.mark.parametrize("name", ["PatientID", "FrameOfReferenceUID", "Units"])
def test_slices_that_lack_what_others_have_are_read(name, image, tmp_path):
    assert_same(read_file(series(image, tmp_path / "a", **{name: lambda n: "1.2" if n % 2 else ""})), image)


def test_frames_in_several_units_are_refused(image, tmp_path):
    made = enhanced(image)
    for n, group in enumerate(made.PerFrameFunctionalGroupsSequence):
        scale = {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "HU" if n else "US"}
        group.PixelValueTransformationSequence = [tags(**scale)]
    made.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match=r"has slices of 2 units \(HU, US\)"):
        read_file(tmp_path / "a.dcm")


@pytest.mark.parametrize("order", ["big-endian", "implicit", "deflated", "without a preamble"])
def test_every_way_of_writing_tags_is_read(order, image, tmp_path):
    folder = series(image, tmp_path / "a")
    syntax = {
        "big-endian": pydicom.uid.ExplicitVRBigEndian,
        "implicit": pydicom.uid.ImplicitVRLittleEndian,
        "deflated": pydicom.uid.DeflatedExplicitVRLittleEndian,
    }.get(order)
    for one in folder.iterdir():
        found = pydicom.dcmread(one)
        if syntax is None:
            del found.file_meta
            pydicom.dcmwrite(one, found, implicit_vr=True, little_endian=True, enforce_file_format=False)
            continue
        found.file_meta.TransferSyntaxUID = syntax
        if order == "big-endian":
            found.PixelData = np.frombuffer(found.PixelData, "<u2").astype(">u2").tobytes()
        pydicom.dcmwrite(one, found, implicit_vr=order == "implicit", little_endian=order != "big-endian")
    assert_same(read_file(folder), image)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"AcquisitionNumber": lambda n: 1 + n // 7}, r"of 2 acquisitions \(AcquisitionNumber 1, 2\)"),
        ({"AcquisitionNumber": lambda n: 1 + n % 2}, r"of 2 acquisitions \(AcquisitionNumber 1, 2\)"),
        ({"StackID": lambda n: "AB"[n % 2]}, r"of 2 stacks \(StackID A, B\)"),
    ],
)
@pytest.mark.parametrize("kind", ["one file", "a series"])
def test_several_stacks_or_acquisitions_in_even_steps_are_told_of(kind, values, said, image, tmp_path):
    if kind == "a series":
        found = read_file(series(image, tmp_path / "a", **values))
    else:
        made = enhanced(image)
        for n, frame in enumerate(made.PerFrameFunctionalGroupsSequence):
            own = {name.replace("Acq", "FrameAcq"): value(n) for name, value in values.items()}
            frame.FrameContentSequence = [tags(**own)]
        made.save_as(tmp_path / "a.dcm")
        found = read_file(tmp_path / "a.dcm")
    (warning,) = warnings_of(found)
    assert re.search(said.replace("(Acq", "(FrameAcq") if kind == "one file" else said, warning)
    assert np.array_equal(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(image))


@pytest.mark.parametrize("values", [{"AcquisitionNumber": lambda n: n}, {"AcquisitionNumber": 3}, {"StackID": "1"}])
def test_slices_of_an_acquisition_each_or_of_one_are_read_without_a_word(values, image, tmp_path):
    assert_same(read_file(series(image, tmp_path / "a", **values)), image)
