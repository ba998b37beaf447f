"""DICOM of one frame or many: in its place and in its unit, or refused with the reason."""

import re

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from CLMorphCore.errors import InputError
from CLMorphCore.io.images import read_file, read_image, warnings_of

AXES = np.array([[0.0, -0.8, 0.6], [1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])  # columns: of rows, columns, slices
ORIGIN, SPACING = np.array([-30.0, 12.5, 7.0]), (0.75, 1.25, 2.5)


@pytest.fixture
def image():
    """14 slices of 12 × 10 voxels on an oblique grid."""
    made = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 3000, (14, 12, 10)).astype(np.uint16))
    made.SetSpacing(SPACING)
    made.SetDirection(AXES.ravel().tolist())
    made.SetOrigin(ORIGIN.tolist())
    return made


def tags(**values):
    found = Dataset()
    for name, value in values.items():
        setattr(found, name, value)
    return found


def file(image, **values):
    """A data set with everything but places and pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = "1.2.840.10008.5.1.4.1.1.4", ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    found = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    known = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SeriesInstanceUID": "1.2.3.4",
        "Modality": "MR",
        "Rows": image.GetHeight(),
        "Columns": image.GetWidth(),
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
    }
    for name, value in (known | values).items():
        setattr(found, name, value)
    return found


def place(image, n):
    return [round(p, 6) for p in image.TransformIndexToPhysicalPoint((0, 0, int(n)))]


def pixels(image, order):
    return sitk.GetArrayFromImage(image)[list(order)].astype("<u2").tobytes()


ORIENTATION = AXES.T[:2].ravel().tolist()


def enhanced(image, order=None, places=None, **values):
    """One file of many frames in an order of slices, at places that may be others than theirs."""
    order = range(image.GetDepth()) if order is None else list(order)
    places = [place(image, n) for n in order] if places is None else places
    found = file(image, **{"NumberOfFrames": len(order)} | values)
    found.SharedFunctionalGroupsSequence = [
        tags(
            PixelMeasuresSequence=[tags(PixelSpacing=[SPACING[1], SPACING[0]], SliceThickness=SPACING[2])],
            PlaneOrientationSequence=[tags(ImageOrientationPatient=ORIENTATION)],
        )
    ]
    found.PerFrameFunctionalGroupsSequence = [
        tags(PlanePositionSequence=[tags(ImagePositionPatient=at)]) for at in places
    ]
    found.PixelData = pixels(image, order)
    return found


def series(image, folder, **values):
    """A file for each slice, in files whose order is not the patient's; a value may be a function of the slice."""
    folder.mkdir()
    for n in range(image.GetDepth()):
        own = {name: value(n) if callable(value) else value for name, value in values.items()}
        one = file(
            image,
            ImagePositionPatient=place(image, n),
            ImageOrientationPatient=ORIENTATION,
            PixelSpacing=[SPACING[1], SPACING[0]],
            InstanceNumber=n,
        )
        one.PixelData = pixels(image, [n])
        for name, value in own.items():
            setattr(one, name, value)
        one.save_as(folder / f"{(n * 5) % image.GetDepth():02}.dcm")
    return folder


def assert_same(found, image):
    assert found.GetSize() == image.GetSize()
    for which in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(found, which)() == pytest.approx(getattr(image, which)(), abs=1e-4)
    assert np.array_equal(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(image))
    assert warnings_of(found) == ()


ORDERS = {
    "as they lie": range(14),
    "from the other end": range(13, -1, -1),
    "odd after even": [*range(0, 14, 2), *range(1, 14, 2)],
    "any": [3, 13, 0, 7, 1, 12, 2, 11, 4, 10, 5, 9, 6, 8],
}


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


@pytest.mark.parametrize("frames", ["one file", "a series"])
def test_every_slice_has_its_own_scale_and_nothing_is_cut_to_integers(frames, image, tmp_path):
    slopes = [1.0, *(0.001 * (n + 1) for n in range(1, 14))]  # the first one's is 1: readers that take it cut the rest
    intercepts = [0.0, *(-0.25 * n for n in range(1, 14))]
    if frames == "a series":
        path = series(image, tmp_path / "a", RescaleSlope=lambda n: slopes[n], RescaleIntercept=lambda n: intercepts[n])
    else:
        made, path = enhanced(image, ORDERS["any"]), tmp_path / "a.dcm"
        for n, group in zip(ORDERS["any"], made.PerFrameFunctionalGroupsSequence, strict=True):
            group.PixelValueTransformationSequence = [tags(RescaleSlope=slopes[n], RescaleIntercept=intercepts[n])]
        made.save_as(path)
    stored = sitk.GetArrayFromImage(image).astype(float)
    expected = stored * np.reshape(slopes, (-1, 1, 1)) + np.reshape(intercepts, (-1, 1, 1))
    found = read_file(path)
    assert "float" in found.GetPixelIDTypeAsString()
    assert np.allclose(sitk.GetArrayViewFromImage(found), expected, rtol=1e-6)


@pytest.mark.parametrize("values", [{"RescaleSlope": 0}, {"RescaleSlope": 1.5, "RescaleIntercept": "9e999"}])
def test_a_scale_that_is_none_is_refused(values, image, tmp_path):
    with pytest.raises(InputError, match=r"its values are stored · |a tag makes no sense"):
        read_file(series(image, tmp_path / "a", **values))


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


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("signed", [0, 1])
def test_stored_bits_are_the_values_and_what_lies_above_them_is_not(bits, signed, image, tmp_path):
    rng = np.random.default_rng(1)
    low = -(1 << (bits - 1)) if signed else 0
    values = rng.integers(low, low + (1 << bits), (14, 12, 10))
    junk = rng.integers(0, 1 << (16 - bits), values.shape) << bits
    stored = ((values & ((1 << bits) - 1)) | junk).astype("<u2")
    made = enhanced(image, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=signed)
    made.PixelData = stored.tobytes()
    made.save_as(tmp_path / "a.dcm")
    assert np.array_equal(sitk.GetArrayFromImage(read_file(tmp_path / "a.dcm")), values)


def test_packed_pixels_whose_bits_do_not_begin_with_the_first_are_refused(image, tmp_path):
    made = enhanced(image, BitsStored=12, HighBit=15)  # what unpacks them takes those as 12 bits from the first on
    made.compress(RLELossless)
    made.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="it stores 12 bits up to bit 15, packed; expected"):
        read_file(tmp_path / "a.dcm")


def test_packed_frames_are_unpacked_and_have_their_own_scale(image, tmp_path):
    made = enhanced(image, ORDERS["odd after even"])
    for n, group in enumerate(made.PerFrameFunctionalGroupsSequence):
        group.PixelValueTransformationSequence = [tags(RescaleSlope=1.0 + n, RescaleIntercept=0.5)]
    made.compress(RLELossless)
    made.save_as(tmp_path / "a.dcm")
    found = sitk.GetArrayFromImage(read_file(tmp_path / "a.dcm"))
    for frame, n in enumerate(ORDERS["odd after even"]):
        assert np.allclose(found[n], sitk.GetArrayViewFromImage(image)[n] * (1.0 + frame) + 0.5)


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


def test_a_file_cut_off_in_its_pixels_is_refused(image, tmp_path):
    enhanced(image).save_as(tmp_path / "a.dcm")
    (tmp_path / "a.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"a\.dcm cannot be read"):
        read_file(tmp_path / "a.dcm")


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


# --- what the values mean


def lut(first, values, count=None):
    data = np.array(values, "<u2").tobytes()
    return [tags(LUTDescriptor=[count or len(values), first, 16], ModalityLUTType="US", LUTData=data)]


@pytest.mark.parametrize("make", ["one file", "one file, packed", "a series"])
def test_values_go_through_the_modality_lut(make, image, tmp_path):
    table = [int(n) for n in np.random.default_rng(5).permutation(2000)]
    if make == "a series":
        path = series(image, tmp_path / "a", ModalityLUTSequence=lut(500, table))
    else:
        made, path = enhanced(image, ModalityLUTSequence=lut(500, table)), tmp_path / "a.dcm"
        if "packed" in make:
            made.compress(RLELossless)
        made.save_as(path)
    read = read_file(path)
    stored = sitk.GetArrayFromImage(image).astype(int)
    expected = np.array(table)[np.clip(stored - 500, 0, 1999)]
    assert np.array_equal(sitk.GetArrayViewFromImage(read), expected) and warnings_of(read) == ()


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


@pytest.mark.parametrize("make", ["one file", "a series"])
@pytest.mark.parametrize("packed", [False, True])
def test_inverted_greys_are_read_as_they_are_stored_and_it_is_said(make, packed, image, tmp_path):
    if make == "a series":
        path = series(image, tmp_path / "a", PhotometricInterpretation="MONOCHROME1")
    else:
        path = tmp_path / "a.dcm"
        enhanced(image, PhotometricInterpretation="MONOCHROME1").save_as(path)
    for file in (path.iterdir() if path.is_dir() else [path]) if packed else []:
        made = pydicom.dcmread(file)
        made.compress(RLELossless)
        made.save_as(file)
    found = read_file(path)
    assert np.array_equal(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(image))
    (said,) = warnings_of(found)
    assert "MONOCHROME1" in said and "taken as they are stored" in said


@pytest.mark.parametrize("packed", [False, True])
def test_more_pixels_than_frames_are_told_of(packed, image, tmp_path):
    made = enhanced(image)
    made.PixelData = pixels(image, [*range(14), 0, 1])
    if packed:
        made.NumberOfFrames = 16
        made.compress(RLELossless)
        made.NumberOfFrames = 14
    made.save_as(tmp_path / "a.dcm")
    try:
        found = read_file(tmp_path / "a.dcm")
    except InputError as error:
        assert packed and "16 frames" in str(error)
        return
    (said,) = warnings_of(found)
    assert "480 bytes of pixels more than its 14 frames" in said


def test_the_padding_to_an_even_number_of_bytes_is_nothing_to_tell(image, tmp_path):
    small = image[:9, :11, :13]
    made = enhanced(small, BitsAllocated=8, BitsStored=8, HighBit=7)
    values = (sitk.GetArrayFromImage(small) % 256).astype(np.uint8)
    made.PixelData = values.tobytes()
    made.save_as(tmp_path / "a.dcm")
    found = read_file(tmp_path / "a.dcm")
    assert np.array_equal(sitk.GetArrayViewFromImage(found), values) and warnings_of(found) == ()


def test_frames_in_several_units_are_refused(image, tmp_path):
    made = enhanced(image)
    for n, group in enumerate(made.PerFrameFunctionalGroupsSequence):
        scale = {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "HU" if n else "US"}
        group.PixelValueTransformationSequence = [tags(**scale)]
    made.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match=r"has slices of 2 units \(HU, US\)"):
        read_file(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("syntax", "said"),
    [
        (
            pydicom.uid.JPEG2000Lossless,
            "are packed as JPEG 2000 .*, and cannot be unpacked .*; unpack it, for instance",
        ),
        (pydicom.uid.MPEG2MPML, "are packed as MPEG2 .*, and cannot be unpacked"),
        (pydicom.uid.UID("1.2.3.4.5"), "its transfer syntax is 1.2.3.4.5, which is none that is read; .*convert it"),
    ],
)
def test_pixels_that_nobody_unpacks_are_called_by_their_name(syntax, said, image, tmp_path):
    made = enhanced(image)
    made.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51no picture"] * 14)
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(tmp_path / "a.dcm", made, implicit_vr=False, little_endian=True)
    with pytest.raises(InputError, match=said):
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
    ("kind", "said"),
    [
        (
            "1.2.840.10008.1.3.10",
            "DICOMDIR holds no image but a Media Storage Directory Storage; expected a DICOM image",
        ),
        ("1.2.840.10008.5.1.4.1.1.481.3", "holds no image but a RT Structure Set Storage"),
        ("1.2.3.4", "DICOMDIR holds no image; expected a DICOM image; give it, or the folder"),
    ],
)
def test_a_file_without_pixels_is_called_what_it_is(kind, said, image, tmp_path):
    made = file(image)
    made.file_meta.MediaStorageSOPClassUID = kind
    for name in ("Rows", "Columns"):
        delattr(made, name)
    made.save_as(tmp_path / "DICOMDIR")
    with pytest.raises(InputError, match=said):
        read_file(tmp_path / "DICOMDIR")
    content = (tmp_path / "DICOMDIR").read_bytes()
    for damage in (b"\x02\0\x02\0WI", b"\x02\0\x02\0DS"):  # of the kind's tag
        (tmp_path / "DICOMDIR").write_bytes(content.replace(b"\x02\0\x02\0UI", damage))
        with pytest.raises(InputError, match=r"holds no image|cannot be read"):
            read_file(tmp_path / "DICOMDIR")


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
