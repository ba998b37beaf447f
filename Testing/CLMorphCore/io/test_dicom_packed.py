"""DICOM pixels in every packing that scanners use: read exactly, or near enough where it loses, or refused."""

import io

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from made_up_dicom import enhanced
from PIL import Image  # comes with matplotlib
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from CLMorphCore.errors import InputError
from CLMorphCore.io.images import read_file, warnings_of

# JPEG-LS of _ls_values(0) and (1) in 12 bits, as CharLS writes it: nothing that the tests need makes such files.
LS = (
    "ffd8fff7000b0b000c000a01011100ffda0008010100000000fe3db6daf37ad676fbcf3ae36d1243c7ca15284c91120f953a64a942648890"
    "7cd9b3c54a13244483e227c5868a4a09c98949068f1293149413931292181d247e4a504e4c4a486c708dc3e24272625243c3644c5bbd2326"
    "2524111a2154c5bbe242726140ffd9",
    "ffd8fff7000b0c000c000a01011100ffda0008010100000000fe7debcfaf3e3bf6ab53f9a9a1b1a9a1999189b3c36160ac54291409c4c307"
    "e74340b0d66a349a0ce163e78291a8403f9f8fa7c119ebb140c87e1505314851181e3a138bc781486819c661e9db9130b072130661f07b35"
    "1d38129a46c118601e8d03b9cb712198e62009a2d0ce110e1b04cc6703e8942b8c8116ffd9",
)


def _ls_values(which):
    n = np.arange(12)
    return (n[:, None] * n[None, :10] * (7 + which * 20) + n[:, None] * 31) % 4096


def packed(image, frames, syntax, **values):
    """A file of these packed frames."""
    made = enhanced(image, **values)
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate([frame + b"\0" * (len(frame) % 2) for frame in frames])
    made["PixelData"].is_undefined_length = True
    return made


def by_gdcm(image, compressor, folder):
    """The packed frames that ITK writes of an image's numbers, and their syntax."""
    signed = int(image.GetPixelID() == sitk.sitkInt16)
    enhanced(image, PixelRepresentation=signed).save_as(folder / "plain.dcm")
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(folder / "packed.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.Execute(sitk.ReadImage(str(folder / "plain.dcm")))  # signed numbers it takes from a file of DICOM alone
    made = pydicom.dcmread(folder / "packed.dcm")
    return list(generate_frames(made.PixelData, number_of_frames=image.GetDepth())), made.file_meta.TransferSyntaxUID


def frames_of(kind, image, folder):
    """Frames of 16 bits (of 8 where the kind loses), and their syntax."""
    if kind == "RLE":
        made = enhanced(image)
        made.compress(RLELossless)
        return list(generate_frames(made.PixelData, number_of_frames=image.GetDepth())), RLELossless
    if kind != "JPEG, lossy":
        return by_gdcm(image, kind, folder)
    frames = []
    for values in sitk.GetArrayViewFromImage(image):
        Image.fromarray((values // 16).astype(np.uint8)).save(written := io.BytesIO(), "JPEG", quality=98)
        frames.append(written.getvalue())
    return frames, JPEGBaseline8Bit


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_lossless_pixels_are_read_as_they_were(kind, signed, image, tmp_path):
    if signed:
        image = sitk.Cast(sitk.Cast(image, sitk.sitkInt32) - 1500, sitk.sitkInt16)
    frames, syntax = by_gdcm(image, kind, tmp_path)
    assert syntax.is_compressed
    packed(image, frames, syntax, PixelRepresentation=signed).save_as(tmp_path / "a.dcm")
    found = read_file(tmp_path / "a.dcm")
    assert np.array_equal(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(image))
    assert warnings_of(found) == ()


def test_jpeg_ls_is_read_as_it_was(image, tmp_path):
    values = np.stack([_ls_values(which) for which in (0, 1)])
    frames = [bytes.fromhex(text) for text in LS]
    packed(image[:, :, :2], frames, JPEGLSLossless, BitsStored=12, HighBit=11).save_as(tmp_path / "a.dcm")
    assert np.array_equal(sitk.GetArrayFromImage(read_file(tmp_path / "a.dcm")), values)


def test_jpeg_that_loses_is_read_near_enough(image, tmp_path):
    smooth = sitk.Cast(sitk.SmoothingRecursiveGaussian(image, 4.0), sitk.sitkUInt16)
    frames, syntax = frames_of("JPEG, lossy", smooth, tmp_path)
    packed(smooth, frames, syntax, BitsAllocated=8, BitsStored=8, HighBit=7).save_as(tmp_path / "a.dcm")
    found = sitk.GetArrayFromImage(read_file(tmp_path / "a.dcm"))
    assert np.abs(found - sitk.GetArrayFromImage(smooth) // 16).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000", "RLE", "JPEG, lossy", "JPEG-LS"])
@pytest.mark.parametrize("left", [0.0, 0.5, 0.95])
def test_a_packed_frame_that_is_cut_off_is_refused(kind, left, image, tmp_path):
    """What unpacks it may fill in for what is missing."""
    about = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7} if kind == "JPEG, lossy" else {}
    if kind == "JPEG-LS":
        image, about = image[:, :, :2], {"BitsStored": 12, "HighBit": 11}
        frames, syntax = [bytes.fromhex(text) for text in LS], JPEGLSLossless
    else:
        frames, syntax = frames_of(kind, image, tmp_path)
    frames[1] = frames[1][: round(left * len(frames[1]))] or b"\0\0"
    packed(image, frames, syntax, **about).save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match=r"a\.dcm cannot be read: .*(packed|cut off)"):
        read_file(tmp_path / "a.dcm")


@pytest.mark.parametrize("kind", ["JPEG", "RLE"])
def test_a_file_that_is_cut_off_in_packed_pixels_is_said_to_be(kind, image, tmp_path):
    frames, syntax = frames_of(kind, image, tmp_path)
    packed(image, frames, syntax).save_as(tmp_path / "a.dcm")
    (tmp_path / "a.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[:-200])
    with pytest.raises(InputError, match=r"a\.dcm is cut off in its pixels; expected a complete DICOM file"):
        read_file(tmp_path / "a.dcm")
