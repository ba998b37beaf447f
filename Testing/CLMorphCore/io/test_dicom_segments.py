"""Segmentations of DICOM: those that are one label map are read, those of several segments or of fractions refused."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_dicom import enhanced, tags

from CLMorphCore.errors import InputError
from CLMorphCore.io.images import read_file, read_labels


@pytest.fixture
def mask(image):
    """A ball on the image's grid."""
    z, y, x = np.mgrid[-6.5:7, -5.5:6, -4.5:5]
    ball = sitk.GetImageFromArray((z**2 + y**2 + x**2 < 20).astype(np.uint16))
    ball.CopyInformation(image)
    return ball


def segmented(mask, numbers, **values):
    """A segmentation whose frames, one for each slice, are of these segments."""
    made = enhanced(mask, BitsAllocated=8, BitsStored=8, HighBit=7, Modality="SEG", **values)
    made.PixelData = sitk.GetArrayFromImage(mask).astype(np.uint8).tobytes()
    for group, number in zip(made.PerFrameFunctionalGroupsSequence, numbers, strict=True):
        group.SegmentIdentificationSequence = [tags(ReferencedSegmentNumber=number)]
    return made


def test_one_segment_is_a_label_map(mask, tmp_path):
    segmented(mask, [3] * 14, SegmentationType="BINARY").save_as(tmp_path / "a.dcm")
    found = read_labels(tmp_path / "a.dcm")
    assert np.array_equal(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(mask))


@pytest.mark.parametrize("read", [read_file, read_labels])
def test_segments_in_different_slices_do_not_become_one(read, mask, tmp_path):
    """Each of which has the value 1 there."""
    segmented(mask, [1] * 7 + [2] * 7, SegmentationType="BINARY").save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match=r"has slices of 2 segments.*\(1, 2\); expected one; export them as one label"):
        read(tmp_path / "a.dcm")


@pytest.mark.parametrize("read", [read_file, read_labels])
def test_fractions_of_a_segment_are_no_labels(read, mask, tmp_path):
    segmented(mask * 200, [1] * 14, SegmentationType="FRACTIONAL").save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match=r"it is a segmentation of fractions.*; expected a label map; convert it"):
        read(tmp_path / "a.dcm")
