"""Made-up subjects: their truth is true."""

import numpy as np
import SimpleITK as sitk
from made_up import PAIR, Ellipsoid, ellipsoid_atlas

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


def test_an_animals_subject_is_the_same_on_its_own_scale():
    """Fewer millimetres, as many voxels: the labels of a small atlas are not torn."""
    large, small = (
        make_phantom(ellipsoid_atlas(spacing_mm=mm, ellipsoids=scaled(mm)), seed=1, noise=0.0) for mm in (1.0, 0.1)
    )
    overlap = (sitk.GetArrayFromImage(large.labels) == sitk.GetArrayFromImage(small.labels)).mean()
    assert overlap > 0.99


def scaled(mm):
    at = {value: [tuple(mm * n / 1.5 for n in numbers) for numbers in (e.centre, e.radii)] for value, e in PAIR.items()}
    return {value: Ellipsoid(centre, radii, PAIR[value].brightness) for value, (centre, radii) in at.items()}


def test_one_seed_one_subject(atlas):
    first, again, other = (make_phantom(atlas, seed=s) for s in (1, 1, 2))
    assert (sitk.GetArrayFromImage(first.image) == sitk.GetArrayFromImage(again.image)).all()
    assert (sitk.GetArrayFromImage(first.image) != sitk.GetArrayFromImage(other.image)).any()
