"""`clmorph models MODEL`: what a model is for, of which scans it was made, how good it is; as far as its card says."""

import json
import shutil

import pytest

WHOLE = """
[model]
name = "run"
title = "Mäuse"
purpose = "Labels 37 structures."
version = "1.0"
made = 2026-11-27
[scans]
train = 15
validation = 2
test = 8
labelled = 20
voxel_mm = [0.15, 0.15, 0.3]
size_mm = [12.5, 18, 9.75]
[accuracy.validation]
subjects = 2
dice = 0.85
[accuracy.test]
subjects = 8
dice = 0.8411
dice_sd_over_subjects = 0.0123
dice_affine = 0.76
hd95_mm = nan
"""


def events(ran):
    return [json.loads(line) for line in ran.out.splitlines()]


@pytest.fixture
def mine(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "mein Modell")
    (folder / "card.toml").write_text(WHOLE, encoding="utf-8")
    (folder / "picture.png").write_bytes(b"any")
    return folder


def test_a_folder_is_told_of_as_its_card_has_it(clmorph, mine):
    ran = clmorph("models", mine)
    assert ran.code == 0, ran.err
    assert [line.strip() for line in ran.out.splitlines()] == [
        "run            Mäuse",
        "Labels 37 structures.",
        "made: 2026-11-27",
        "scans: 15 for training, 2 for validation, 8 for test, 20 of them labelled",
        "made for scans with voxels 0.15 × 0.15 × 0.3 mm, size 12.5 × 18 × 9.75 mm (x, y, z)",
        "Dice, validation: 0.850 on 2 scans that were held out",
        "Dice, test: 0.841 ± 0.012 on 8 scans that were held out (affine only: 0.760)",
        f"picture: {mine / 'picture.png'}",
    ]
    (told,) = events(clmorph("models", mine, "--progress", "json"))
    assert told["scans"]["train"] == 15 and told["accuracy"]["test"]["hd95_mm"] is None and told["name"] == "run"
    assert told["made"] == "2026-11-27" and told["picture"] == str(mine / "picture.png")


def test_a_shipped_model_and_one_without_weights_are_told_of_by_their_names(clmorph):
    ran = clmorph("models", "heart")
    assert ran.code == 0 and "Dice, test: 0.731 ± 0.109 on 40 scans" in ran.out and "licence: CC BY-NC-SA" in ran.out
    assert "brain" not in ran.out.split()
    ran = clmorph("models", "lddmm")
    assert ran.code == 0 and ran.out.startswith("lddmm ") and ran.out.count("\n") == 1


@pytest.mark.parametrize(
    "card",
    [
        "",
        "scans = 3\naccuracy = [1]",
        '[scans]\ntrain = "many"\nvoxel_mm = [1, "a"]\nsize_mm = 4\n[accuracy.test]\ndice = "good"',
        "[scans]\ntrain = inf\nlabelled = true\nvoxel_mm = [nan, 1, 1]\n[accuracy]\ntest = 0.9",
    ],
)
def test_an_old_or_strange_card_is_told_as_far_as_it_says_something(card, clmorph, mine):
    (mine / "card.toml").write_text(card)
    (mine / "picture.png").unlink()
    ran = clmorph("models", mine)
    assert ran.code == 0 and ran.out.strip() == "mein Modell", ran.out + ran.err
    assert events(clmorph("models", mine, "--progress", "json"))[0]["name"] == "mein Modell"


def test_what_is_no_model_is_said_in_one_line(clmorph, mine, tmp_path):
    ran = clmorph("models", tmp_path)
    assert ran.code == 2 and ran.err.startswith(f"clmorph: {tmp_path} holds no weights.safetensors; expected")
    ran = clmorph("models", "harte")
    assert ran.code == 2 and "unknown model 'harte'" in ran.err and "heart" in ran.err
    (mine / "card.toml").write_text("[model\nname")
    ran = clmorph("models", mine)
    assert ran.code == 2 and ran.err.count("\n") == 1 and "cannot be read as TOML" in ran.err
