"""The cards of the shipped models, read without the engine."""

import pytest

pytest.importorskip("SimpleITK")

from CLMorphSlicerLib import models
from qt_fixtures import write_bundle


def test_cards_are_listed_by_title(models_folder):
    write_bundle(models_folder / "abdomen", title="Abdomen", purpose="Organs", anatomy="Abdomen", modality="CT")
    first, second = models.shipped_models()
    assert (first.name, second.name) == ("abdomen", "phantom")
    assert first.description == "Organs\nNeeds: CT, Abdomen" and first.folder == models_folder / "abdomen"


def test_damaged_card_is_left_out_and_told_when_asked_for(models_folder):
    (models_folder / "broken").mkdir()
    (models_folder / "broken" / "card.toml").write_text("[model\nname =")
    assert [card.name for card in models.shipped_models()] == ["phantom"]
    with pytest.raises(ValueError, match="not a model"):
        models.read_card(models_folder / "broken")


def test_no_models_is_an_empty_list(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "models_folder", lambda: tmp_path / "nothing")
    assert models.shipped_models() == []


def test_model_without_an_atlas_is_told(tmp_path):
    card = models.read_card(write_bundle(tmp_path / "bare"))
    for path in sorted(card.folder.rglob("atlases/**/*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(ValueError, match="bare has no atlas"):
        models.atlas_image(card)


@pytest.mark.parametrize("inside", ["", "CLMorphSlicer"])
def test_engine_is_found_in_a_source_tree_and_where_it_was_installed(tmp_path, monkeypatch, inside):
    library = tmp_path / inside / "CLMorphSlicerLib"
    library.mkdir(parents=True)
    monkeypatch.setattr(models, "__file__", str(library / "models.py"))
    with pytest.raises(RuntimeError, match="install the extension again"):
        models.engine_root()
    (tmp_path / "CLMorphCore").mkdir()
    (tmp_path / "CLMorphCore" / "__init__.py").touch()
    assert models.engine_root() == tmp_path
