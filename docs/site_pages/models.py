"""The pages of the bundled models, from their cards, atlases and results, and the README's table of them."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from statistics import mean

from CLMorphCore.bundles.model import Model, bundled_models, load_model, models_without_weights
from CLMorphCore.reports.atlas_picture import atlas_picture
from CLMorphCore.reports.drawing import rgb
from Training.markdown import table

from .benchmarks import segment_times
from .places import ROOT

HEADS = (  # what is looked for stands first: a phone shows three columns
    "model",
    "Dice",
    "Dice, affine",
    "HD95 (mm)",
    "folding",
    "seconds, two cores",
    "test subjects",
    "what it labels",
)
ROWS = (
    ("what it is for", "purpose"),
    ("images", "modality"),
    ("what they show", "anatomy"),
    ("licence", "licence"),
    ("credit", "credit"),
    ("made of", "training_data"),
    ("version", "version"),
)
MEASURES = (
    ("subjects", "subjects", 0),
    ("Dice", "dice", 3),
    ("its standard deviation over subjects", "dice_sd_over_subjects", 3),
    ("Dice of the affine alignment alone", "dice_affine", 3),
    ("HD95 (mm)", "hd95_mm", 2),
    ("ASSD (mm)", "assd_mm", 2),
    ("folding, mean over subjects", "folding_fraction_mean", 4),
)


def accuracy_table() -> str:
    """A row for each model: what the README and the page of models show first."""
    lines, seconds = [], {row["model"]: row["seconds"] for row in segment_times()}  # the last row of a model: its crop
    for name in bundled_models():
        model = load_model(name)
        test = model.card["accuracy"]["test"]
        dice = f"{test['dice']:.3f} ± {test['dice_sd_over_subjects']:.3f}"
        folding = f"{100 * test['folding_fraction_mean']:.2g} %"
        figures = [dice, f"{test['dice_affine']:.3f}", f"{test['hd95_mm']:.2f}", folding, seconds[name]]
        lines.append([f"`{name}`", *figures, str(test["subjects"]), model.about("title")])
    return table(HEADS, lines)


def models_page(folder: Path) -> str:
    """All cards; the pictures of the atlases are written into ``folder``."""
    parts = [
        "# Models",
        "Bundled with the package; nothing is downloaded. Mean over structures and subjects ± standard deviation over "
        "subjects, on each subject's own grid, with one atlas, an average of training subjects. Generated from "
        "`card.toml`, the atlases and `Training/recipes/NAME/results-test.csv`.",
        accuracy_table(),
        "`clmorph evaluate --model NAME --data manifest.csv --split test -o out/` measures it again, with the manifest "
        "of `Training/recipes/NAME/prepare.py`. How each was trained, what labels that follow the tissue gain and "
        "how far other contrasts are from good: [the shipped models](training/results/models.md). Networks were "
        "trained on the train split, choices were made on validation. A structure of a scan that the atlas lacks "
        "counts as 0.",
        f"Nine brains of the train split as atlases, fused with the scan's tissue (`--atlas-dir`), reach a Dice of "
        f"{_nine_atlases():.3f} on the same test brains.",
    ]
    for name in bundled_models():
        parts.append(_model(load_model(name), folder))
    systems = [[f"`{name}`", what] for name, what in models_without_weights().items()]
    parts += ["## Systems without weights", "Optimise on the pair; names for `--model` as well."]
    parts += [table(("name", "what it is"), systems)]
    return "\n\n".join(parts) + "\n"


def _model(model: Model, folder: Path) -> str:
    atlas = model.atlases[0]
    colors = {each.value: rgb(each.color) for each in atlas.structures}
    (folder / f"atlas-{model.name}.png").write_bytes(atlas_picture(atlas.image, atlas.labels, colors))
    card = [[title, _plain(model.about(key))] for title, key in ROWS if model.about(key)]
    splits = ("validation", "test")
    accuracy = model.card["accuracy"]
    figures = [[title, *(f"{accuracy[each][key]:.{digits}f}" for each in splits)] for title, key, digits in MEASURES]
    dice = _dice_by_structure(ROOT / "Training" / "recipes" / model.name / "results-test.csv")
    structures = [
        [str(each.value), each.name, dice.get(each.value, "–"), f"`{each.color}`", _code(each.terminology)]
        for each in atlas.structures
    ]
    return "\n\n".join(
        [
            f"## {model.name}",
            f"![Atlas of {model.name} in three planes, its structures outlined](atlas-{model.name}.png)",
            table(("", model.about("title")), card),
            table(("", "validation", "test"), figures),
            f"### Structures of {model.name}",
            table(("label", "structure", "Dice, test", "colour", "code"), structures),
        ]
    )


def _nine_atlases() -> float:
    path = ROOT / "Training" / "recipes" / "brain" / "results-test-nine-atlases.csv"
    with path.open(newline="", encoding="utf-8") as file:
        return mean(float(row["dice"]) for row in csv.DictReader(file))


def _dice_by_structure(path: Path) -> dict[int, str]:
    """The mean over subjects of each label's Dice."""
    found: dict[int, list[float]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["dice"]:
                found[int(row["value"])].append(float(row["dice"]))
    return {value: f"{mean(each):.3f}" for value, each in found.items()}


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


def _code(terminology: str) -> str:
    return terminology.replace("^", " ") or "–"
