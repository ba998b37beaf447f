"""The benchmark page and the README's tables of speed, from the results files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from statistics import mean

from Training.benchmarks import lesions, series
from Training.benchmarks.results import OK, BenchmarkRow, read_results
from Training.benchmarks.summary import NOTE, table
from Training.markdown import table as markdown

from .places import RESULTS
from .sources import mice, rows, tree

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
    measured = read_results(FOLDER / "results.csv")
    lines = []
    for dataset, title in SETS.items():
        own = [row for row in measured if row.dataset == dataset]
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


def lesion_table() -> str:
    """What a lesion does to a brain's map and labels, with and without a mask."""
    heads = (
        "",
        "map in the ball off by",
        f"up to {lesions.AROUND_MM:.0f} mm around",
        f"structures ≥ {lesions.FAR_MM:.0f} mm away, mean Dice",
        f"of them with ≥ {lesions.MIN_VOXELS} voxels below {lesions.MIN_DICE}",
    )
    runs = json.loads((FOLDER / "lesions.json").read_text(encoding="utf-8"))["runs"]
    lines = [
        [
            re.sub(r"--.+", r"`\g<0>`", name),
            f"{run['ball_mm']:.1f} mm",
            f"{run['around_mm']:.2f} mm",
            f"{run['far_dice']:.3f}",
            str(run["far_below"]),
        ]
        for name, run in runs.items()
    ]
    return markdown(heads, lines)


def beats_table() -> str:
    """Hearts whose beat is known, followed."""
    return series.cine_table(tree("benchmarks/series.json")["cine"])


def systoles_table() -> str:
    """Real ends of systole, carried and by themselves."""
    return series.pairs_table(tree("benchmarks/series.json")["pairs"])


def mice_table() -> str:
    """A model of mice, by how many of them are labelled, beside Greedy."""
    runs = {
        "fifteen, as it is made": ("their votes on the average, refined, with tissue: one call", ""),
        "eleven, as it is made": ("their votes on the average, refined (ended early), with tissue", ""),
        "eleven, network's votes": ("as before: votes by the network alone, unrefined, with tissue", ""),
        "one, lent": ("its labels lent to the ten others by refined maps, all vote; refined, with tissue", "one"),
        "one, its own atlas": ("itself as the atlas, refined", "one"),
    }
    lines = [
        [run.partition(",")[0], what, mice(run, "validation"), mice(run, "test"), *_greedy(peer or run)]
        for run, (what, peer) in runs.items()
    ]
    heads = ("labelled", "CLMorph, as `train FOLDER` makes and chooses it", "validation", "test")
    return markdown((*heads, "Greedy, validation", "test"), lines)


def _greedy(run: str) -> list[str]:
    measured = {(each["run"], each["split"]) for each in rows("Training/results/mice.csv")}
    splits = ("validation", "test")
    return [mice(f"Greedy, {run}", each) if (f"Greedy, {run}", each) in measured else "–" for each in splits]


def benchmarks_page() -> str:
    """Every data set's whole table with its picture, and the speed of the command."""
    measured = read_results(FOLDER / "results.csv")
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
        "Of `clmorph segment IMAGE --model NAME -o out/ --threads 2`: start, reading, affine, network, labels, files "
        "and page; `segment.csv` says how often and with which version each was measured. By `/usr/bin/time -v`, as "
        "`python -m Training.benchmarks.whole` measures it now.",
        "## On a GPU",
        gpu_table(),
        "Printed by `python -m Training.benchmarks.speed --device cuda`.",
        "## Every figure",
        NOTE,
    ]
    for dataset in SETS:
        picture = f"training/results/benchmarks/{dataset}.png"
        own = [row for row in measured if row.dataset == dataset]
        parts += [f"### {dataset}", f"![{dataset}: Dice against seconds, a point for each tool]({picture})", table(own)]
    return "\n\n".join(parts) + "\n"
