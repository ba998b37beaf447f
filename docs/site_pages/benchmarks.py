"""The benchmark page and the README's tables of speed, from the results files."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from statistics import mean

from Training.benchmarks.results import OK, BenchmarkRow, read_results
from Training.benchmarks.summary import NOTE, table
from Training.markdown import table as markdown

from .places import RESULTS

FOLDER = RESULTS / "benchmarks"
SHOWN = {
    "clmorph": "`clmorph`",
    "clmorph+refine": "`clmorph --refine 60`",
    "syn": "SyN",
    "greedy": "Greedy",
    "greedy-oasis": "Greedy, OASIS settings",
    "fireants": "FireANTs",
    "demons": "demons",
    "convexadam": "ConvexAdam",
}
SETS = {"brain": "brain, 97 structures", "heart": "heart, end-diastole → end-systole", "hippocampus": "hippocampus"}


def compared_table() -> str:
    """Dice and seconds of one registration, for each data set and system."""
    rows = read_results(FOLDER / "results.csv")
    lines = []
    for dataset, title in SETS.items():
        own = [row for row in rows if row.dataset == dataset]
        done = [[row for row in own if row.system == system and row.status == OK] for system in SHOWN]
        pairs = max(map(len, done))
        affine = f"{mean(row.dice_affine for row in own if row.status == OK):.3f}"
        lines.append([f"{title}, {pairs} pairs", affine, *(_figures(each) for each in done)])
    return markdown(("Dice, seconds", "affine", *SHOWN.values()), lines)


def _figures(rows: Sequence[BenchmarkRow]) -> str:
    if not rows:
        return "–"
    return f"{mean(row.dice for row in rows):.3f}, {_seconds(mean(row.seconds for row in rows))}\u202fs"


def _seconds(value: float) -> str:
    """With two digits, whole from ten on."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"


def segment_times() -> list[dict[str, str]]:
    """The rows of segment.csv: the whole command on one scan."""
    with (FOLDER / "segment.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def segment_table() -> str:
    """Seconds and memory of the whole command."""
    lines = [[row["scan"], f"`{row['model']}`", row["seconds"], row["peak_gb"]] for row in segment_times()]
    return markdown(("scan", "`--model`", "seconds", "peak memory (GB)"), lines)


def gpu_table() -> str:
    """Seconds and memory of the network and its training on a GPU."""
    tree = json.loads((FOLDER / "speed-h200.json").read_text(encoding="utf-8"))
    names = {
        "network": "network, both directions, after the first call",
        "training": "training step of one pair, both directions",
    }
    lines = [[name, f"{tree[key]['seconds']:.2g}", f"{tree[key]['peak_mb'] / 1000:.1f}"] for key, name in names.items()]
    size = "×".join(map(str, tree["size"]))
    return markdown(
        (f"{tree['device']}, {size} voxels, network of `{tree['model']}`", "seconds", "GPU memory (GB)"), lines
    )


def benchmarks_page() -> str:
    """Every data set's whole table with its picture, and the speed of the command."""
    rows = read_results(FOLDER / "results.csv")
    parts = [
        "# Benchmarks",
        "Generated from `Training/results/benchmarks/`: `results.csv` has a row for each pair and tool. How to run "
        "them: [Training](training/README.md); what was aimed at and missed: "
        "[what came out](training/results/benchmarks/README.md); versions and settings: "
        "[every table with its settings](training/results/benchmarks/summary.md).",
        "## In short",
        "One atlas, the same affinely aligned pairs of test subjects, the same two CPU cores; Dice, and "
        "seconds of a registration.",
        compared_table(),
        "## The whole command on two CPU cores",
        segment_table(),
        "Of `/usr/bin/time -v clmorph segment IMAGE --model NAME -o out/ --threads 2`: start, reading, affine, "
        "network, labels, files and page; `segment.csv` says how often and with which version each was measured.",
        "## On a GPU",
        gpu_table(),
        "Printed by `python -m Training.benchmarks.speed --device cuda`.",
        "## Every figure",
        NOTE,
    ]
    for dataset in SETS:
        picture = f"training/results/benchmarks/{dataset}.png"
        own = [row for row in rows if row.dataset == dataset]
        parts += [f"### {dataset}", f"![{dataset}: Dice against seconds, a point for each tool]({picture})", table(own)]
    return "\n\n".join(parts) + "\n"
