"""Settings: the defaults are the paper's, everything survives a round trip, nothing wrong passes."""

import json
import math
import re
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from CLMorphCore.bundles.config import Config, from_dict, load_config, to_dict
from CLMorphCore.errors import InputError
from CLMorphCore.networks import NETWORKS


@pytest.fixture
def settings_file(tmp_path):
    def write(text):
        (tmp_path / "config.toml").write_text(text, encoding="utf-8")
        return tmp_path / "config.toml"

    return write


def test_an_empty_file_is_the_papers_settings(settings_file):
    config = load_config(settings_file(""))
    assert config == Config() and config.network.name == "clmorph"
    assert (config.loss.similarity, config.loss.regulariser, config.loss.contrastive) == ("mse", "kl", "nt-xent")
    assert (config.loss.smooth, config.loss.contrast) == (1.0, 0.01)  # α and β
    assert config.augment.crop == (160, 192, 160) and config.augment.rotation_degrees == 10.0
    assert config.network.settings.probabilistic and not config.network.settings.diffeomorphic


@pytest.mark.parametrize("name", NETWORKS)
def test_every_setting_survives_json(name):
    tree = {
        "network": {"name": name},
        "loss": {"regulariser": "diffusion", "sigma": 0.3},
        "augment": {"flip": "none"},
        "data": {"spacing_mm": [1, 2, 3]},
        "training": {"steps": 7, "learning_rate": 1},
    }
    config = from_dict(tree)
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert to_dict(config).keys() == {f.name for f in fields(Config)}
    assert config.data.spacing_mm == (3.0, 2.0, 1.0), "files have x, y, z"
    assert to_dict(config)["data"]["spacing_mm"] == (1.0, 2.0, 3.0) and isinstance(config.training.learning_rate, float)


def test_overrides_change_single_settings(settings_file):
    path = settings_file("[training]\nsteps = 5\nbatch_size = 4\n")
    config = load_config(
        path,
        [
            "training.steps=9",
            "data.spacing_mm=[2, 2, 2.5]",
            "loss.similarity=lncc",
            "loss.symmetric=false",
            " augment.crop = [32, 32, 32]",
        ],
    )
    assert (config.training.steps, config.training.batch_size) == (9, 4)
    assert config.data.spacing_mm == (2.5, 2.0, 2.0) and config.loss.similarity == "lncc"
    assert config.loss.symmetric is False and config.augment.crop == (32, 32, 32)


WRONG = {
    "loss.contrastve=byol": "unknown setting loss.contrastve; did you mean contrastive",
    "network.chanels=[4]": "unknown setting network.chanels; did you mean channels",
    "trainig.steps=5": "unknown section trainig; did you mean training",
    "network.name=5": "network.name is 5; expected text",
    "network.name=[1]": "network.name is .*; expected text",
    "network.name=voxelmorf": "unknown network.name 'voxelmorf'; did you mean voxelmorph",
    "training.steps=2.0": "training.steps is 2.0; expected a whole number",
    "training.steps=true": "training.steps is True; expected a whole number",
    "training.steps=0": "training.steps is 0; expected a number above zero",
    "training.seed=-1": "training.seed is -1; expected zero or more",
    "training.learning_rate=nan": "training.learning_rate is nan; expected a finite number",
    "training.learning_rate=inf": "training.learning_rate is inf; expected a finite number",
    "training.learning_rate=fast": "training.learning_rate is 'fast'; expected a number",
    "training.schedule=cosin": "training.schedule is 'cosin'; expected one of step, cosine",
    "training.schedule=5": "training.schedule is 5; expected one of step, cosine",
    "data.spacing_mm=[1, 1]": r"data.spacing_mm is \[1, 1\]; expected a list of 3 numbers",
    "data.spacing_mm=1": "data.spacing_mm is 1; expected a list of 3 numbers",
    "data.spacing_mm=[1, -1, 1]": "data.spacing_mm is .*; expected zero or more",
    "data.spacing_mm=[1, 'a', 1]": "data.spacing_mm is 'a'; expected a number",
    "data.affine=1": "data.affine is 1; expected true or false",
    "data.margin_voxels=-1": "data.margin_voxels is -1; expected zero or more",
    "network.channels=[]": r"network.channels is \[\]; expected a list of numbers",
    "network.channels=[8, -8]": "network.channels is .*; expected a number above zero",
    "network.field_level=4": "network.field_level is 4, network.channels has 4 levels; expected at most 3",
    "loss.smooth=-0.5": "loss.smooth is -0.5; expected zero or more",
    "loss.window_voxels=8": r"loss.window_voxels is \[8, 8, 8\]; expected odd numbers",
    "loss.symmetric=true": "loss.symmetric needs a network with an inverse",
    "network.probabilistic=false": "regulariser kl needs a probabilistic network",
    "training.batch_size=1": "at least 2 pairs in a batch, training.batch_size is 1; raise it or set loss.contrast = 0",
    "steps=1": "overrides=steps=1: expected section.key=value",
    "training.steps": "overrides=training.steps: expected section.key=value",
}


@pytest.mark.parametrize("override", WRONG)
def test_what_does_not_fit_is_named(override, settings_file):
    with pytest.raises(InputError, match=WRONG[override]):
        load_config(settings_file(""), [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nsteps = 'many'\n", "training.steps is 'many'"),
        ("[loss]\nsymmetric = true\n", "loss.symmetric needs a network with an inverse"),
    ],
)
def test_a_fault_of_the_file_is_said_to_be_there(text, message, settings_file):
    path = settings_file(text)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: {message}"):
        load_config(path)
    with pytest.raises(InputError, match=r"^training\.seed is -1"):
        load_config(settings_file(""), ["training.seed=-1"])


REFUSED = {
    "loss.symmetric=true": r"an inverse, voxelmorph is not set so; use loss\.symmetric = false$",
    "loss.regulariser=kl": r'voxelmorph is not set so; use loss\.regulariser = "diffusion"$',
    "loss.contrast=0.1": "loss.contrast is 0.1, voxelmorph has no projection to contrast; set loss.contrast = 0",
    "network.field_level=4": "network.field_level is 4, network.channels has 4 levels",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_a_network_has_nothing_for_is_not_trained(override, settings_file):
    with pytest.raises(InputError, match=REFUSED[override]):
        load_config(settings_file('[network]\nname = "voxelmorph"'), [override])


def test_a_hint_names_a_setting_that_the_network_has(settings_file):
    with pytest.raises(InputError, match=r"loss\.symmetric = false or network\.diffeomorphic = true"):
        load_config(settings_file(""), ["loss.symmetric=true"])


def test_losses_of_a_trained_model_are_nothing_to_refuse():
    tree = {"network": {"name": "voxelmorph"}, "loss": {"symmetric": True, "contrast": 0.1}}
    assert from_dict(tree).loss.symmetric


@pytest.mark.parametrize("text", ["training = 5", "[[training]]\nsteps = 1", "training = 'steps'"])
def test_a_section_must_be_a_table(text, settings_file):
    with pytest.raises(InputError, match=r"training is .*; expected a table \[training\]"):
        load_config(settings_file(text), ["training.steps=3"])


def test_a_single_pair_is_enough_for_byol_and_without_contrast(settings_file):
    path = settings_file("[training]\nbatch_size = 1\n")
    assert load_config(path, ["loss.contrast=0"]).training.batch_size == 1
    assert load_config(path, ["loss.contrastive=byol"]).training.batch_size == 1


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=3)), max_size=4),
    st.just({}),
)
KEYS = [f"{section}.{key}" for section, table in to_dict(Config()).items() for key in table]


@given(st.sampled_from(KEYS), VALUES)
def test_any_value_is_taken_or_refused_in_words(key, value):
    section, name = key.split(".")
    try:
        config = from_dict({section: {name: value}})
    except InputError as error:
        assert "\n" not in str(error).replace(repr(value), "")
    else:
        assert from_dict(to_dict(config)) == config
        assert not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize(
    ("section", "alignment"),
    [
        ({}, "affine"),
        ({"data": {"affine": True}}, "affine"),
        ({"data": {"affine": False}}, "given"),
        ({"data": {"affine": False}, "training": {"moving": "group"}}, "centres"),
        ({"data": {"affine": False}, "training": {"moving": "mixed"}}, "centres"),
        ({"data": {"alignment": "centres"}}, "centres"),
    ],
)
def test_the_alignment_is_a_setting_and_was_a_flag(section, alignment):
    config = from_dict({"network": {"name": "clmorph-pyramid"}, **section})
    assert config.data.alignment == alignment and from_dict(to_dict(config)) == config


def test_the_alignment_under_both_names_is_refused():
    with pytest.raises(InputError, match=r"data\.affine is a former name of data\.alignment, both are given; omit"):
        from_dict({"network": {"name": "clmorph-pyramid"}, "data": {"affine": True, "alignment": "affine"}})


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("smooth_map_voxels = -1.0", "expected zero or more"),
        ("smooth_step_voxels = -0.1", "expected zero or more"),
        ("window_voxels = 1000", "expected at most 50 voxels"),
        ('smoothed = "all"', "expected one of change, map"),
    ],
)
def test_a_refinement_out_of_range_is_refused(settings_file, setting, said):
    with pytest.raises(InputError, match=said):
        load_config(settings_file(f"[refinement]\n{setting}\n"))
