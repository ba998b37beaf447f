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


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [((-0.03, -0.02, 0.01, 0.04), 0.8), ((-0.1, -0.06, -0.03, 0.01), 0.65), ((0.01, 0.03, 0.06, 0.1), 1.0)],
    ids=["volumes too small", "far too small", "too large already"],
)
def test_the_background_counts_for_less_where_volumes_are_nearer_and_no_dice_is_lost(
    volumes, expected, model, subjects, monkeypatch
):
    """Made-up measurements; the last factor has the best volumes of all and a lower Dice, and so has what is dark."""
    dice = {1.0: 0.70, 0.9: 0.71, 0.8: 0.72, 0.65: 0.705, 0.5: 0.69}
    measured = {factor: (dice[factor], volume) for factor, volume in zip(dice, (*volumes, 0.0), strict=True)}
    monkeypatch.setattr(choosing, "_measured", lambda *_: (0.6, 0.0))
    worse = (0.6, 0.0)
    followed = lambda cases, prepared, one: [measured[one.background] if one.dark_background == 1 else worse]  # noqa: E731
    monkeypatch.setattr(choosing, "_followed", followed)
    told = []
    chosen, tried = choosing.choose_tissue(choosing.register_labelled(model, subjects), tell=told.append)
    assert chosen.on and chosen.background == expected and told == tried
    assert len(tried) == choosing.TRIED
    assert choosing.reached(chosen, tried) == dice[expected] > choosing.reached(chosen, tried[:1]) == 0.6


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ({(1.0, 1.0): (0.70, 0.03), (1.0, 0.4): (0.72, 0.02), (0.8, 1.0): (0.71, 0.0)}, (1.0, 0.4)),
        ({(1.0, 1.0): (0.70, 0.06), (1.0, 0.4): (0.72, 0.09), (1.25, 0.4): (0.71, 0.04)}, (1.25, 0.4)),
        ({(1.0, 1.0): (0.70, 0.03), (1.0, 0.4): (0.69, 0.0), (0.9, 1.0): (0.69, 0.0)}, (1.0, 1.0)),
    ],
    ids=["the highest Dice of true volumes", "the nearest volumes where none are true", "no Dice is lost"],
)
def test_what_is_dark_counts_for_less_where_that_is_better(measured, expected, model, subjects, monkeypatch):
    """Made-up measurements by the factors of all background and of what is dark."""
    monkeypatch.setattr(choosing, "_measured", lambda *_: (0.6, 0.0))
    found = lambda cases, prepared, one: [measured.get((one.background, one.dark_background), (0.6, 0.0))]  # noqa: E731
    monkeypatch.setattr(choosing, "_followed", found)
    chosen, _ = choosing.choose_tissue(choosing.register_labelled(model, subjects))
    assert (chosen.background, chosen.dark_background) == expected


def test_volumes_are_those_of_the_structures_that_were_found(model, subjects):
    registered = choosing.register_labelled(model, subjects)
    truth = sitk.Cast(registered.cases[0].truth, sitk.sitkInt32)
    assert choosing._measured(truth, registered.cases[0], registered.prepared) == (1.0, 0.0)
    values = [s.value for s in registered.prepared.atlases[0].structures]
    array = sitk.GetArrayFromImage(truth)
    array[array == values[0]] = 0
    half = np.argwhere(array == values[1])[::2]
    array[tuple(half.T)] = 0
    less = sitk.GetImageFromArray(array)
    less.CopyInformation(truth)
    dice, volume = choosing._measured(less, registered.cases[0], registered.prepared)
    assert volume == pytest.approx(np.log(0.5) / (len(values) - 1), abs=0.01) and dice < 1
