"""What a model made of one's own scans tells about itself, and what of its card a further call leaves alone."""

import datetime
import json
import shutil

import pytest
import SimpleITK as sitk
import torch

from CLMorphCore.bundles.atlas import Structure
from CLMorphCore.bundles.model import load_model, read_card, write_card
from CLMorphCore.io.layouts import find_scans
from CLMorphCore.reports.atlas_picture import MAX_PICTURE_BYTES
from CLMorphCore.training.card import purpose
from CLMorphCore.training.workflow import train_scans

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("quick")


def again(made, folder, run, **how):
    train_scans(find_scans(folder), run, minutes=1.0, device=CPU, **how)
    return read_card(run / "model")


def test_a_card_tells_what_it_is_for_what_of_and_how_good(made):
    card = read_card(made / "model")
    model, scans = card["model"], card["scans"]
    assert model["title"] == "run" and "For research only" in model["purpose"]
    assert "First part, Second part, Label 3" in model["purpose"]
    assert datetime.date.fromisoformat(model["made"]) <= datetime.date.today()
    counts = {key: scans[key] for key in ("train", "validation", "test", "labelled")}
    assert counts == {"train": 3, "validation": 2, "test": 1, "labelled": 6}
    assert scans["voxel_mm"] == [2.2, 2.2, 2.2] and scans["size_mm"] == pytest.approx([52.8, 59.4, 48.4])
    for split, subjects in (("validation", 2), ("test", 1)):
        measured = json.loads((made / split / "summary.json").read_text(encoding="utf-8"))
        assert card["accuracy"][split]["subjects"] == subjects
        assert card["accuracy"][split]["dice"] == pytest.approx(measured["dice"], abs=1e-6)
        assert "dice_sd_over_subjects" in card["accuracy"][split]


def test_its_picture_shows_the_outlines_of_every_structure(made):
    path = made / "model" / "picture.png"
    assert path.stat().st_size <= MAX_PICTURE_BYTES
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    for structure in load_model(made / "model").atlases[0].structures:
        color = [int(structure.color[n : n + 2], 16) for n in (1, 3, 5)]
        assert (picture == color).all(axis=-1).any(), structure.name


def test_words_of_ones_own_in_a_card_stay_and_what_lacks_is_added(made, folder, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")
    write_card(run / "model", {"model": {"name": "run", "version": "1", "title": "Mäuse", "modality": "T2"}})
    (run / "model" / "picture.png").unlink()
    card = again(made, folder, run, name="organ")
    assert card["model"]["title"] == "Mäuse" and card["model"]["modality"] == "T2" and "purpose" in card["model"]
    assert card["scans"]["train"] == 3 and card["accuracy"]["test"]["subjects"] == 1
    assert (run / "model" / "picture.png").read_bytes() == (made / "model" / "picture.png").read_bytes()
    when = (run / "model" / "picture.png").stat().st_mtime_ns
    assert again(made, folder, run) == card and (run / "model" / "picture.png").stat().st_mtime_ns == when


def test_the_scans_give_the_title_and_what_could_not_be_measured_is_left_out(made, folder, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")
    (run / "model" / "card.toml").unlink()
    write_card(run / "model", {"model": {"name": "run", "version": "1"}})
    summary = json.loads((run / "test" / "summary.json").read_text(encoding="utf-8"))
    (run / "test" / "summary.json").write_text(json.dumps(summary | {"hd95_mm": float("nan")}))
    card = again(made, folder, run, name='mein\n"Organ"')
    assert card["model"]["title"] == 'mein\n"Organ"' and card["model"]["name"] == "run"
    assert "hd95_mm" not in card["accuracy"]["test"] and card["accuracy"]["test"]["dice"] > 0


def test_a_model_of_many_structures_counts_them_and_one_without_any_registers(made):
    atlas = load_model(made / "model").atlases[0]
    many = type(atlas)(atlas.name, atlas.image, atlas.labels, tuple(Structure(n, str(n), "#fff000") for n in range(37)))
    assert "37 structures" in purpose(many) and "registers" in purpose(many)
    assert purpose(None).startswith("Registers scans") and "an atlas that is given" in purpose(None)
