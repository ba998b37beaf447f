"""DICOM files of a made-up image: a classic series, and one file of many frames."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from CLMorphCore.io.images import warnings_of

AXES = np.array([[0.0, -0.8, 0.6], [1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])  # columns: of rows, columns, slices
ORIGIN, SPACING = np.array([-30.0, 12.5, 7.0]), (0.75, 1.25, 2.5)


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


# --- what the values mean


def lut(first, values, count=None):
    data = np.array(values, "<u2").tobytes()
    return [tags(LUTDescriptor=[count or len(values), first, 16], ModalityLUTType="US", LUTData=data)]
