"""Scans that choose a model's settings are aligned once, whether their maps are refined or not."""

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.instance_optimization import InstanceOptimization
from CLMorphCore.io.manifest import Subject
from CLMorphCore.matching import align_scan, match, prepare
from CLMorphCore.tissue import choosing
from CLMorphCore.tissue.carried import warped_labels


@pytest.fixture(scope="module")
def subjects(atlas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    phantom = make_phantom(atlas, seed=3)
    sitk.WriteImage(phantom.image, str(folder / "image.nii.gz"))
    sitk.WriteImage(phantom.labels, str(folder / "labels.nii.gz"))
    return [Subject("one", folder / "image.nii.gz", folder / "labels.nii.gz", "validation")]


def test_refined_maps_are_those_of_a_match_that_is_refined_and_scans_are_aligned_once(model, subjects, monkeypatch):
    aligned = []
    monkeypatch.setattr(choosing, "align_scan", lambda *args: aligned.append(args) or align_scan(*args))
    optimization = InstanceOptimization(3)
    registered = choosing.register_labelled(model, subjects)
    refined = registered.refined(optimization)
    assert len(aligned) == 1
    prepared = prepare(model, model.atlases[:1])
    scan = align_scan(sitk.ReadImage(str(subjects[0].image)), prepared, model)
    for scans, own in ((registered, None), (refined, optimization)):
        expected = warped_labels(match(scan, prepared, model, optimization=own), prepared)
        found = warped_labels(scans.cases[0].found, prepared)
        assert np.array_equal(*(sitk.GetArrayFromImage(labels) for labels in (found, expected)))
    assert refined.cases[0].found.steps > 0 == registered.cases[0].found.steps
