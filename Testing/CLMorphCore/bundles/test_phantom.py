"""Made-up subjects: their truth is true."""

import numpy as np
import SimpleITK as sitk

from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.metrics import dice_per_label


def test_the_labels_are_the_atlas_through_the_true_transform(atlas):
    phantom = make_phantom(atlas, seed=1)
    expected = sitk.Resample(atlas.labels, phantom.image, phantom.transform, sitk.sitkNearestNeighbor, 0)
    assert (sitk.GetArrayFromImage(expected) == sitk.GetArrayFromImage(phantom.labels)).all()


def test_is_another_subject_on_an_oblique_grid(atlas):
    phantom = make_phantom(atlas, seed=1)
    assert phantom.image.GetDirection() != atlas.image.GetDirection()
    assert (
        np.linalg.det(np.array(phantom.image.GetDirection()).reshape(3, 3))
        * np.linalg.det(np.array(atlas.image.GetDirection()).reshape(3, 3))
        > 0
    )
    untouched = sitk.Resample(atlas.labels, phantom.image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    assert 0.2 < np.mean(list(dice_per_label(untouched, phantom.labels).values())) < 0.95


def test_one_seed_one_subject(atlas):
    first, again, other = (make_phantom(atlas, seed=s) for s in (1, 1, 2))
    assert (sitk.GetArrayFromImage(first.image) == sitk.GetArrayFromImage(again.image)).all()
    assert (sitk.GetArrayFromImage(first.image) != sitk.GetArrayFromImage(other.image)).any()
