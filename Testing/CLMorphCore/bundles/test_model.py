"""Model bundles and atlases: found by name or folder, read as they were written, with names and colours."""

import re
import shutil
from dataclasses import dataclass

import pytest
import SimpleITK as sitk
import torch

from CLMorphCore.bundles import checkpoint
from CLMorphCore.bundles import model as models
from CLMorphCore.bundles.atlas import (
    Structure,
    default_structures,
    make_atlas,
    read_atlas,
    read_atlases,
    read_structures,
    save_atlas,
)
from CLMorphCore.bundles.config import from_dict, to_dict
from CLMorphCore.bundles.model import bundled_models, load_model, models_without_weights
from CLMorphCore.errors import InputError
from CLMorphCore.networks import NETWORKS, Prediction, RegistrationNetwork, System, build
from CLMorphCore.registration import register


@dataclass(frozen=True)
class Nothing:
    """A system without settings."""


def same_image(first, second):
    voxels = [sitk.GetArrayViewFromImage(image) for image in (first, second)]
    return (
        (voxels[0] == voxels[1]).all()
        and first.GetOrigin() == pytest.approx(second.GetOrigin(), abs=1e-5)
        and first.GetDirection() == pytest.approx(second.GetDirection(), abs=1e-6)
    )


def test_a_bundle_is_loaded_by_folder_and_by_name(tiny_model, monkeypatch):
    by_folder = load_model(tiny_model)
    assert by_folder.name == "tiny" and by_folder.about("licence") == "Apache-2.0" and by_folder.about("none") == ""
    assert by_folder.config.data.spacing_mm == (2.0, 2.0, 2.0) and not by_folder.network.training
    assert [atlas.name for atlas in by_folder.atlases] == ["ellipsoids"]
    monkeypatch.setattr(models, "BUNDLED", tiny_model.parent)
    assert bundled_models() == ["tiny"]
    by_name = load_model("tiny")
    first, second = (m.network.state_dict() for m in (by_folder, by_name))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_is_no_model_gets_a_suggestion(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "BUNDLED", tiny_model.parent)
    with pytest.raises(InputError, match=r"unknown model 'tinny'; expected the name .*; did you mean tiny"):
        load_model("tinny")
    with pytest.raises(InputError, match=r"holds no weights.safetensors; expected the folder"):
        load_model(tmp_path)


def test_an_atlas_is_read_as_it_was_saved(atlas, tmp_path):
    save_atlas(tmp_path / "ellipsoids", atlas)
    found = read_atlas(tmp_path / "ellipsoids")
    assert found.name == atlas.name and found.structures == atlas.structures
    assert same_image(found.image, atlas.image) and same_image(found.labels, atlas.labels)


def test_what_a_killed_run_left_is_no_atlas(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "atlases" / ".clmorph-1-average").mkdir()
    assert [found.name for found in load_model(tmp_path / "model").atlases] == ["ellipsoids"]
    assert [found.name for found in read_atlases(tmp_path / "model" / "atlases")] == ["ellipsoids"]


def test_structures_without_voxels_are_left_out(atlas, tmp_path):
    save_atlas(tmp_path, atlas)
    (tmp_path / "names.csv").write_text("value,name\n1,One\n2,Two\n3,Three\n77,Elsewhere\n", encoding="utf-8")
    found = make_atlas("own", tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz", tmp_path / "names.csv")
    assert [s.name for s in found.structures] == ["One", "Two", "Three"]


def test_a_table_of_names_may_omit_colours_and_terms(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text(
        '\ufeffvalue,name,color,terminology\n4,"Gyrus, left",,\n2,Ångström,#A0b1C2,SCT^1^X\n', encoding="utf-8"
    )
    first, second = read_structures(path)
    assert (first.value, first.name, first.terminology) == (4, "Gyrus, left", "")
    assert re.fullmatch("#[0-9a-f]{6}", first.color)
    assert second == Structure(2, "Ångström", "#A0b1C2", "SCT^1^X")


@pytest.mark.parametrize(
    "text, said",
    [
        ("value,name\none,One\n", "cannot be read as a table of labels .*expected a CSV with the columns"),
        ("number,name\n1,One\n", "cannot be read as a table of labels .*expected a CSV with the columns"),
        ("value,name\n1\n", "label 1 has no name"),
        ("value,name\n1,One\n1,Other\n", "names the label 1 twice"),
        ("value,name,color\n1,One,#12345\n", "colour '#12345'; expected #rrggbb"),
    ],
)
def test_a_wrong_table_of_names_is_refused(text, said, tmp_path):
    (tmp_path / "names.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_structures(tmp_path / "names.csv")


def test_default_colours_differ():
    structures = default_structures(range(1, 40))
    assert len({s.color for s in structures}) == 39 and structures[4].name == "Label 5"


def test_a_system_without_weights_is_a_model_by_its_name(monkeypatch, phantom, atlas):
    class Still(RegistrationNetwork):
        """A system that leaves everything where it is."""

        def __init__(self, config):
            super().__init__()

        def forward(self, fixed, moving):
            return Prediction(torch.zeros(1, 3, *fixed.shape[2:]))

    paper = {"data": {"spacing_mm": (0.0, 0.0, 0.0)}, "loss": {"regulariser": "diffusion", "contrast": 0.0}}
    monkeypatch.setitem(NETWORKS, "still", System(Nothing, Still, paper, trained=False))
    assert models_without_weights()["still"] == "A system that leaves everything where it is."
    found = load_model("still")
    assert (found.name, found.folder, found.atlases) == ("still", None, ())
    registration = register(phantom.image, atlas.image, found, affine=sitk.AffineTransform(3))
    assert registration.jacobian.GetSpacing() == pytest.approx(atlas.image.GetSpacing())
    with pytest.raises(InputError, match=r"unknown model 'stil'; .*did you mean still"):
        load_model("stil")


def test_a_bundle_without_card_or_atlas_is_a_model(tiny_model, tmp_path):
    shutil.copy(tiny_model / "weights.safetensors", tmp_path)
    bare = load_model(tmp_path)
    assert bare.atlases == () and bare.card == {} and bare.about("licence") == ""


def test_a_bundle_from_before_a_setting_was_there_answers_as_it_did(tmp_path):
    config = from_dict({"network": {"name": "clmorph-pyramid", "channels": [4, 8, 8], "embedding": 8}})
    network = build(config.network.name, config.network.settings)
    tree = to_dict(config)
    for setting in ("passes", "force_window_voxels"):  # which version 1.0 did not have
        del tree["network"][setting]
    tree["loss"]["window_voxels"] = 9
    checkpoint.save(tmp_path / "weights.safetensors", network.state_dict(), {"config": tree, "step": 1})
    found, images = load_model(tmp_path).network, torch.randn(2, 1, 1, 16, 16, 16).unbind()
    torch.testing.assert_close(found(*images).displacement, network.eval()(*images).displacement)
