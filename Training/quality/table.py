"""``python -m Training.quality.table``: how the shipped quality scores do, from the recipes' files, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from Training import markdown
from Training.recipes import RECIPES

HEADS = (
    "model",
    "Spearman, subjects left out",
    "Spearman, test",
    "true Dice within the 90 % interval, test",
    "corrupted scans flagged, test",
    "corrupted scans rejected",
    "false alarms, test",
    "genuine scans rejected",
)


def table(recipes: Path = RECIPES) -> str:
    """A line for each recipe with quality-validation.json (subjects left out of the fit) and quality-test.json."""
    lines = []
    for path in sorted(recipes.glob("*/quality-test.json")):
        left_out, test = (
            json.loads(path.with_name(f"quality-{split}.json").read_text(encoding="utf-8"))
            for split in ("validation", "test")
        )
        lines.append(
            [
                path.parent.name,
                f"{left_out['spearman']:.3f}",
                f"{test['spearman']:.3f}",
                _percent(test["within interval"]),
                _flagged(test),
                _percent(test["corrupted: reject"]),
                _percent(test["false alarms"]),
                _percent(test["genuine: reject"]),
            ]
        )
    return markdown.table(HEADS, lines)


def _flagged(figures: Mapping[str, float]) -> str:
    """The share of all corrupted scans that are flagged, and of each kind of which some are not."""
    kinds = {name.removeprefix("flagged: "): share for name, share in figures.items() if name.startswith("flagged: ")}
    missed = ", ".join(f"{kind} {_percent(share)}" for kind, share in sorted(kinds.items()) if share < 1)
    return _percent(figures["flagged"]) + (f" ({missed})" if missed else "")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


if __name__ == "__main__":
    print(table())
