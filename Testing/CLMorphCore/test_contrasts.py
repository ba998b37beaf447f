"""A model with a second network: it is taken for scans that are not of the atlas' contrast, and said to be."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from made_up import TINY

from CLMorphCore.bundles.config import from_dict
from CLMorphCore.bundles.model import OTHER_CONTRASTS, load_model
from CLMorphCore.errors import FileError
from CLMorphCore.instance_optimization import InstanceOptimization
from CLMorphCore.networks import build
from CLMorphCore.segmentation import segment
from CLMorphCore.training.loop import save_weights


@pytest.fixture
def folder(tiny_model, tmp_path):
    """The tiny model with a network for other contrasts beside its own."""
    shutil.copytree(tiny_model, tmp_path / "both")
    save(tmp_path / "both" / OTHER_CONTRASTS, TINY)
    return tmp_path / "both"


def save(path, tree):
    config = from_dict(tree)
    torch.manual_seed(5)
    save_weights(path, build(config.network.name, config.network.settings), config, step=1)


def other_contrast(image):
    """What is bright is dark, and the air stays black."""
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    body = values > np.percentile(values, 99) * 0.1
    values[body] = 1.1 * values.max() - values[body]
    inverted = sitk.GetImageFromArray(values)
    inverted.CopyInformation(image)
    return inverted


def test_a_scan_of_the_atlas_contrast_is_left_to_the_models_own_network(folder, phantom):
    assert segment(phantom.image, load_model(folder)).report.network == ""


def test_a_scan_of_another_contrast_is_matched_by_the_other_network_which_the_report_names(folder, phantom, tmp_path):
    model = load_model(folder)
    found = segment(other_contrast(phantom.image), model)
    assert found.report.network == "for other contrasts"
    alone = segment(other_contrast(phantom.image), load_model(shutil.copytree(folder, tmp_path / "alone")))
    assert np.array_equal(*(sitk.GetArrayViewFromImage(each.labels) for each in (found, alone)))
    found.save(tmp_path / "out")
    assert (
        json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["network"] == "for other contrasts"
    )
    assert "unlike the atlas" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_refinement_across_contrasts_is_warned_of(folder, phantom):
    model, few = load_model(folder), InstanceOptimization(steps=1)
    for image, warned in ((other_contrast(phantom.image), True), (phantom.image, False)):
        found = segment(image, model, optimization=few)
        assert any("not of the atlas' contrast" in each for each in found.report.warnings) == warned


def test_it_is_the_other_networks_map_that_is_found(folder, phantom, tmp_path):
    swapped = shutil.copytree(folder, tmp_path / "swapped")
    shutil.copy(folder / OTHER_CONTRASTS, swapped / "weights.safetensors")
    (swapped / OTHER_CONTRASTS).unlink()
    scan = other_contrast(phantom.image)
    maps = [segment(scan, load_model(each), tissue="off").registration.jacobian for each in (folder, swapped)]
    assert np.array_equal(*(sitk.GetArrayViewFromImage(each) for each in maps))


def test_a_model_with_one_network_takes_it_for_every_contrast(model, phantom):
    assert segment(other_contrast(phantom.image), model).report.network == ""


def test_a_network_of_another_grid_beside_it_is_refused_in_one_line(folder):
    save(folder / OTHER_CONTRASTS, TINY | {"data": {"spacing_mm": [3.0, 3.0, 3.0]}})
    with pytest.raises(FileError, match="of another network or grid"):
        load_model(folder)
