"""Labels that single precision does not tell apart are told apart in validation's figures."""

import numpy as np
import SimpleITK as sitk
import torch

from CLMorphCore.geometry import Grid
from CLMorphCore.io.manifest import Subject
from CLMorphCore.training.batches import prepare
from CLMorphCore.training.validation import mean_dice, warp_labels

LARGE = (2**24, 2**24 + 1, 2**31 + 5, 2**32 - 1)


def test_labels_are_prepared_as_they_are(phantom, tmp_path):
    values = sitk.GetArrayFromImage(phantom.labels)
    labels = sitk.GetImageFromArray(np.array([0, *LARGE])[values])
    labels.CopyInformation(phantom.labels)
    sitk.WriteImage(phantom.image, str(tmp_path / "image.nii.gz"))
    sitk.WriteImage(labels, str(tmp_path / "labels.nrrd"))
    subject = Subject("s", tmp_path / "image.nii.gz", tmp_path / "labels.nrrd", "validation")
    volume = prepare(subject, phantom.image, Grid.of(phantom.image), alignment="given")
    assert volume.labels.unique().tolist() == np.unique(sitk.GetArrayViewFromImage(labels)).tolist()
    assert mean_dice(volume.labels, volume.labels) == 1.0


def test_warped_labels_are_those_of_the_nearest_voxel_and_zero_outside():
    labels = torch.tensor([*LARGE, 0, -3]).view(1, 1, 1, 1, 6).expand(1, 1, 6, 6, 6).contiguous()
    shift = torch.zeros(1, 3, 6, 6, 6)
    shift[:, 2] = 1.0  # along x, or along z: all axes are looked at
    moved = [warp_labels(labels, torch.roll(shift, n, 1))[0, 0, 2, 2].tolist() for n in range(3)]
    assert [*LARGE[1:], 0, -3, 0] in moved
    assert warp_labels(labels, torch.zeros_like(shift)).equal(labels)


def test_dice_does_not_take_two_large_labels_for_one():
    first, second = (torch.full((1, 1, 2, 2, 2), value) for value in (2**24, 2**24 + 1))
    assert mean_dice(first, second) == 0.0
