"""Each recipe is whole: its configuration loads, its structures are named, its model is the one it describes."""

import tomllib
from pathlib import Path

import pytest

from CLMorphCore.bundles import checkpoint
from CLMorphCore.bundles.atlas import read_structures
from CLMorphCore.bundles.config import from_dict, load_config, to_dict
from CLMorphCore.bundles.model import BUNDLED, OTHER_CONTRASTS, bundled_models, load_model, read_card, write_card
from CLMorphCore.networks import NETWORKS
from Training.recipes.regions import read_regions

RECIPES = Path(__file__).parents[3] / "Training" / "recipes"
SHIPPED = sorted(p.parent.name for p in RECIPES.glob("*/about.toml"))  # recipes of models that come along
COMPARED = sorted(p.parent.name for p in RECIPES.glob("*/regions.csv"))  # recipes of the paper's comparisons


def test_every_recipe_makes_a_model_that_ships_or_a_comparison():
    assert set(SHIPPED) | set(COMPARED) == {p.parent.name for p in RECIPES.glob("*/config.toml")}
    assert set(bundled_models()) <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_models_recipe_is_whole(name):
    load_config(RECIPES / name / "config.toml")
    assert read_structures(RECIPES / name / "labels.csv")
    about = tomllib.loads((RECIPES / name / "about.toml").read_text(encoding="utf-8"))["model"]
    assert {"title", "purpose", "licence", "credit", "training_data", "modality"} <= about.keys()


@pytest.mark.parametrize("name", COMPARED)
def test_a_comparisons_recipe_is_whole(name):
    regions = read_regions(RECIPES / name / "regions.csv")
    readme = (RECIPES / name / "README.md").read_text(encoding="utf-8")
    assert len(regions) > 1 and all(region.name.lower() in readme.lower() for region in regions)


@pytest.mark.parametrize("name", sorted(set(COMPARED) - set(SHIPPED)))
@pytest.mark.parametrize("system", NETWORKS)
def test_a_comparisons_protocol_holds_for_every_system_and_leaves_network_and_loss_to_it(name, system):
    path = RECIPES / name / "config.toml"
    stated = tomllib.loads(path.read_text(encoding="utf-8"))
    assert set(stated) == {"data", "augment", "training"} and "learning_rate" not in stated["training"]
    one, other = (to_dict(load_config(path, overrides)) for overrides in ([f"network.name={system}"], []))
    assert all(one[section][key] == other[section][key] for section in stated for key in stated[section])


@pytest.mark.parametrize("name", bundled_models())
def test_a_shipped_model_is_that_of_its_recipe(name):
    model = load_model(name)
    recipe = load_config(RECIPES / name / "config.toml")
    assert model.config.network == recipe.network and model.config.loss == recipe.loss
    views = RECIPES / name / "views.toml"  # of the network for other contrasts, where there is one
    assert views.exists() == (model.other_contrasts is not None)
    if views.exists():
        own = from_dict(checkpoint.load(BUNDLED / name / OTHER_CONTRASTS)[1]["config"])
        recipe = load_config(views)
        assert own.network == recipe.network and own.loss == recipe.loss and own.augment.views > 0
    assert (BUNDLED / name / "weights.safetensors").stat().st_size < 5e6
    atlas = model.atlases[0]
    named = {s.value: s for s in read_structures(RECIPES / name / "labels.csv")}
    assert all(named[s.value] == s for s in atlas.structures)


@pytest.mark.parametrize("name", bundled_models())
def test_the_cards_figures_come_from_the_committed_tables(name):
    import csv
    from statistics import mean

    card = load_model(name).card
    for split in ("validation", "test"):
        with (RECIPES / name / f"results-{split}.csv").open(newline="", encoding="utf-8") as file:
            dice = [float(row["dice"]) for row in csv.DictReader(file)]
        assert card["accuracy"][split]["dice"] == pytest.approx(mean(dice), abs=1e-5)


@pytest.mark.parametrize("name", bundled_models())
def test_the_readme_reports_what_the_card_says(name):
    test = load_model(name).card["accuracy"]["test"]
    readme = (RECIPES.parents[1] / "README.md").read_text(encoding="utf-8")
    line = next(line for line in readme.splitlines() if line.startswith(f"| `{name}`"))
    assert f"{test['dice']:.3f} ± {test['dice_sd_over_subjects']:.3f}" in line
    assert f"{test['dice_affine']:.3f}" in line and f"{test['hd95_mm']:.2f}" in line


def test_a_written_card_reads_back(tmp_path):
    tables = {"model": {"title": 'Cœur "4D" \\ test', "version": "1"}, "accuracy.test": {"dice": 0.5, "subjects": 3}}
    write_card(tmp_path, tables)
    read = read_card(tmp_path)
    assert read["model"] == tables["model"] and read["accuracy"]["test"] == tables["accuracy.test"]
