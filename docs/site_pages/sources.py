"""Where the figures of sentences come from: results files, cards, what was measured once."""

from __future__ import annotations

import csv
import json
import re
from functools import cache
from statistics import mean
from typing import Any

from CLMorphCore.bundles.model import load_model

from .places import RESULTS, ROOT

REPORT = RESULTS / "report"


@cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """The rows of a CSV file of the project."""
    with (ROOT / name).open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


@cache
def tree(name: str) -> Any:
    """A JSON file of Training/results."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def once(name: str) -> str:
    """What ``once.csv`` has by this name: measured by hand, with how it was."""
    (row,) = [each for each in rows("Training/results/once.csv") if each["name"] == name]
    return row["value"]


def mice(run: str, split: str, labelled: str = "") -> str:
    """The mean Dice of a run on mice, of a split; of one that was labelled alone by its name."""
    measured = [each for each in rows("Training/results/mice.csv") if (each["run"], each["split"]) == (run, split)]
    return short(mean(float(each["dice"]) for each in measured if each["subject"].startswith(labelled)))


def mean_dice(results: str) -> float:
    """Over structures and subjects of a file of results."""
    return mean(float(each["dice"]) for each in rows(f"Training/recipes/{results}.csv") if each["dice"])


def short(value: float) -> str:
    """With three digits, without the zero before the point."""
    return f"{value:.3f}".removeprefix("0")


def structures(model: str) -> int:
    """How many structures the first atlas of a model has."""
    return len(load_model(model).atlases[0].structures)


def of_table(
    table: str, dataset: str, system: str, column: str, *, variant: str = "paper", over: str = "", budget: str = ""
) -> float:
    """A cell of the paper's tables, over all regions: of a single seed, or the mean ``over`` seeds.

    ``budget`` is how one begins, as "30 min"; without it the first that a table has.
    """
    for each in rows(f"Training/results/report/{table}.csv"):
        found = each["dataset"], each["system"], each["variant"], each["region"], each["status"]
        spread = each["spread_over"] == (over or "subjects")
        there = spread and each[column] and each["budget"].startswith(budget)
        if found == (dataset, system, variant, "all", "run") and there:
            return float(each[column])
    raise KeyError(f"{table}: {dataset}, {system}, {variant}, {column}")


def paper(dataset: str, row: str, metric: str = "dice", table: str = "table1") -> float:
    """What the paper reports: the mean of one of its tables."""
    for each in rows("Training/experiments/paper.csv"):
        if (each["table"], each["dataset"], each["row"], each["metric"]) == (table, dataset, row, metric):
            return float(each["mean"])
    raise KeyError(f"{table}: {dataset}, {row}, {metric}")


def paper_gains() -> dict[tuple[str, str], float]:
    """By how much the paper's Dice is higher with the contrastive term, by data set and what else the loss has."""
    return {
        (dataset, loss): paper(dataset, f"{loss}+contrast", table="table3") - paper(dataset, loss, table="table3")
        for dataset in ("lpba40", "mindboggle101")
        for loss in ("recon", "recon+smooth")
    }


def test_of(dataset: str, first: str, second: str, test: str = "Student, paired") -> dict[str, float]:
    """A comparison of Dice from the statistics: difference, low, high."""
    for each in rows(f"Training/results/report/statistics-{dataset}.csv"):
        if (each["metric"], each["test"], each["first"], each["second"]) == ("dice", test, first, second):
            return {name: float(each[name]) for name in ("difference", "low", "high")}
    raise KeyError(f"{dataset}: {first}, {second}")


def weights(dataset: str) -> dict[tuple[str, str], float]:
    """The mean test Dice for each pair (α, β) of figure 8."""
    found: dict[tuple[str, str], list[float]] = {}
    for each in rows("Training/results/regions.csv"):
        run = re.fullmatch(rf"{dataset}/clmorph/alpha=(.+),beta=(.+)/seed0/2min", each["run"])
        if run and each["direction"] == "segmentation" and each["dice"]:
            found.setdefault((run[1], run[2]), []).append(float(each["dice"]))
    return {pair: mean(values) for pair, values in found.items()}
