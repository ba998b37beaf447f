"""DICOM pixels: stored bits, scales, lookup tables, packed ones, and files that lack them."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from made_up_dicom import ORDERS, enhanced, file, lut, pixels, series, tags
from pydicom.uid import RLELossless

from CLMorphCore.errors import InputError
from CLMorphCore.io.images import read_file, warnings_of


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


def test_a_file_cut_off_in_its_pixels_is_refused(image, tmp_path):
    enhanced(image).save_as(tmp_path / "a.dcm")
    (tmp_path / "a.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"a\.dcm cannot be read"):
        read_file(tmp_path / "a.dcm")


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


@pytest.mark.parametrize("make", ["one file", "a series"])
@pytest.mark.parametrize("packed", [False, True])
def test_inverted_greys_are_read_as_they_are_stored_and_it_is_said(make, packed, image, tmp_path):
    if make == "a series":
        path = series(image, tmp_path / "a", PhotometricInterpretation="MONOCHROME1")
    else:
        path = tmp_path / "a.dcm"
        enhanced(image, PhotometricInterpretation="MONOCHROME1").save_as(path)
    for each in (path.iterdir() if path.is_dir() else [path]) if packed else []:
        made = pydicom.dcmread(each)
        made.compress(RLELossless)
        made.save_as(each)
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
