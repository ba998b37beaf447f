"""Puts a trained model into the project, with its card: ``python -m Training.recipes.install NAME WORK``.

The card is the recipe's ``about.toml`` plus what the evaluations measured; the recipe's folder keeps the training's
log, the tables behind the figures, and how the quality score does.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import tomllib
from pathlib import Path

from CLMorphCore.bundles.model import write_card
from Training.provenance import commit
from Training.recipes import RECIPES

MODELS = RECIPES.parents[1] / "CLMorphCore" / "models"
FIGURES = (
    "subjects",
    "dice",
    "dice_sd_over_subjects",
    "dice_affine",
    "hd95_mm",
    "assd_mm",
    "folding_fraction_mean",
    "folding_fraction_max",
)


def main(name: str, work: Path) -> None:
    recipe, target = RECIPES / name, MODELS / name
    about = tomllib.loads((recipe / "about.toml").read_text(encoding="utf-8"))
    about["model"]["commit"] = commit()
    for split in ("validation", "test"):
        summary = json.loads((work / split / "summary.json").read_text(encoding="utf-8"))
        about[f"accuracy.{split}"] = {key: round(summary[key], 6) for key in FIGURES}
        shutil.copy(work / split / "results.csv", recipe / f"results-{split}.csv")
        shutil.copy(work / f"quality-{split}.json", recipe / f"quality-{split}.json")
    shutil.copy(work / "tissue-validation.json", recipe / "tissue-validation.json")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(work / "run" / "model", target)
    write_card(target, about)
    for training, name_of_log in (("run", "log"), ("views", "log-views")):
        if (log := work / training / "log.jsonl").exists():
            with gzip.GzipFile(recipe / f"{name_of_log}.jsonl.gz", "wb", mtime=0) as compressed:
                compressed.write(log.read_bytes())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
