"""One labelled scan is enough: without a model the affine alignment is optimised on the pair."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.bundles.model import load_model, models_without_weights
from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.errors import InputError
from CLMorphCore.instance_optimization import InstanceOptimization
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.registration import register
from CLMorphCore.segmentation import segment


def mean_dice(labels, expected):
    return np.mean(list(dice_per_label(labels, expected).values()))


def report_of(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def own_atlas(tiny_model):
    folder = tiny_model / "atlases" / "ellipsoids"
    return "--atlas", folder / "image.nii.gz", "--atlas-labels", folder / "labels.nii.gz"


@pytest.fixture(scope="module")
def bent(atlas):
    """A scan that an affine alignment is plainly not enough for."""
    return make_phantom(atlas, seed=3, deformation_mm=3.0).image


def test_a_scan_is_segmented_with_a_labelled_one_and_nothing_else(phantom, atlas):
    found = segment(phantom.image, atlases=[atlas])
    affine = found.registration.warp(atlas.labels, labels=True, affine_only=True)
    assert found.report.model.name == "affine" and found.report.refinement_steps > 0
    assert mean_dice(found.labels, phantom.labels) > mean_dice(affine, phantom.labels) + 0.03


def test_the_steps_without_a_model_are_those_asked_for(phantom, atlas):
    few = segment(phantom.image, atlases=[atlas], optimization=InstanceOptimization(1))
    assert 0 < few.report.refinement_steps <= 3
    registration = register(phantom.image, atlas.image, optimization=InstanceOptimization(1))
    assert 0 < registration.optimization_steps <= 3


def test_two_images_are_registered_without_a_model(bent, atlas):
    found = register(bent, atlas.image)
    assert found.optimization_steps > 3 and found.similarity[1] > found.similarity[0] + 0.05


def test_the_command_needs_no_model(clmorph, bent, own_atlas, tmp_path):
    sitk.WriteImage(bent, str(tmp_path / "scan.nii.gz"))
    ran = clmorph("segment", tmp_path / "scan.nii.gz", *own_atlas, "-o", tmp_path / "out")
    report = report_of(tmp_path / "out")
    assert ran.code == 0 and report["model"]["name"] == "affine" and report["refinement_steps"] > 3
    similarity = report["similarity"]
    assert similarity["warped"] > similarity["affine"] + 0.05


@pytest.mark.parametrize("steps", [(), ("--refine", 1)])
def test_the_model_of_a_report_is_a_model_by_its_name(clmorph, scan, own_atlas, tmp_path, steps):
    ran = clmorph("segment", scan, "--model", "affine", *own_atlas, *steps, "-o", tmp_path / "out")
    report = report_of(tmp_path / "out")
    assert ran.code == 0 and report["model"]["name"] == "affine"
    assert report["refinement_steps"] in (range(1, 4) if steps else [0])


def test_the_affine_model_is_listed_and_loaded_as_any_other(clmorph, atlas, phantom):
    assert "affine" in models_without_weights() and "affine" in clmorph("models").out
    model = load_model("affine")
    assert (model.name, model.folder, model.atlases) == ("affine", None, ())
    found = register(phantom.image, atlas.image, model, affine=sitk.AffineTransform(3))
    assert found.optimization_steps == 0 and found.transform.TransformPoint((1, 2, 3)) == pytest.approx((1, 2, 3))


def test_labelled_subjects_are_measured_without_a_model(clmorph, scan, own_atlas, tiny_model, tmp_path):
    labels = tiny_model / "atlases" / "ellipsoids" / "labels.nii.gz"
    image = tiny_model / "atlases" / "ellipsoids" / "image.nii.gz"
    manifest = tmp_path / "subjects.csv"
    manifest.write_text(f"subject,image,labels,split\nown,{image},{labels},test\n", encoding="utf-8")
    ran = clmorph("evaluate", "--data", manifest, *own_atlas, "--refine", 1, "-o", tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert ran.code == 0 and summary["dice"] > 0.95


@pytest.mark.parametrize("factor", [0.02, 0.2])
def test_a_scan_of_other_units_is_said_to_be_of_another_size(factor, atlas, phantom):
    """In the error where no affine is found, in a warning where one is."""
    small = phantom.image[:]
    small.SetSpacing([factor * mm for mm in small.GetSpacing()])
    try:
        said = " ".join(segment(small, atlases=[atlas], optimization=InstanceOptimization(1)).report.warnings)
    except InputError as error:
        said = error.problem
    assert "another organ or species, or other units in a header" in said
    usual = segment(phantom.image, atlases=[atlas], optimization=InstanceOptimization(1)).report.warnings
    assert "units" not in " ".join(usual)
