"""What the rows say: a table for each data set, as Markdown, and a picture of accuracy against time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from CLMorphCore.atomic import atomic_write
from CLMorphCore.errors import InputError
from Training import markdown
from Training.spread import Spread

from .results import OK, BenchmarkRow

REFERENCE = "clmorph"  # what ratios and tests compare with
HEADS = (
    "system",
    "pairs",
    "Dice",
    "HD95 (mm)",
    "folding (%)",
    "SD log J",
    "inverse (mm)",
    "seconds",
    "× clmorph",
    "start (s)",
    "memory (MB)",
    "Dice − clmorph",
    "p",
)
NOTE = """Mean ± standard deviation over pairs of the means over structures. Every system got the same two files,
affinely aligned once beforehand; the labels were warped once, by the same function. *seconds*: the registration
alone, without start-up, reading and writing; *start*: from the start of the process to the end of its imports;
*memory*: the largest resident size of the process. *× clmorph*, *Dice − clmorph* and *p* (two-sided Wilcoxon
signed-rank test, not corrected for the number of systems) are over the pairs that both have."""


def save_summary(rows: Sequence[BenchmarkRow], out: Path) -> str:
    """Writes OUT/summary.md and OUT/DATASET.png; returns the page."""
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    parts = ["# CLMorph and its peers", NOTE]
    for dataset in datasets:
        own = [row for row in rows if row.dataset == dataset]
        parts += [f"## {dataset}", _facts(own), table(own), _settings(own), *_without_figures(own)]
        if any(row.status == OK for row in own):
            picture(own, out / f"{dataset}.png")
            parts.append(f"![Dice against time]({dataset}.png)")
    page = "\n\n".join(parts) + "\n"
    with atomic_write(out / "summary.md") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return page


def table(rows: Sequence[BenchmarkRow]) -> str:
    """A line for each system, the affine alignment's first."""
    lines = []
    by_system = _grouped(rows)
    reference = by_system.get(REFERENCE, [])
    measured = {(r.fixed, r.moving): r.dice_affine for r in rows if r.status == OK}
    if measured:
        lines.append(["affine only", str(len(measured)), Spread.of(list(measured.values())).text(3), *[""] * 10])
    lines += [_line(name, own, reference) for name, own in by_system.items()]
    return markdown.table(HEADS, lines)


def _line(name: str, rows: Sequence[BenchmarkRow], reference: Sequence[BenchmarkRow]) -> list[str]:
    done = [row for row in rows if row.status == OK]
    cells = [name, f"{len(done)} of {len(rows)}" if len(done) < len(rows) else str(len(done))]
    for key, digits, scale in (
        ("dice", 3, 1),
        ("hd95_mm", 2, 1),
        ("folding_fraction", 4, 100),
        ("log_jacobian_sd", 3, 1),
        ("inverse_error_mm", 3, 1),
        ("seconds", 2, 1),
    ):
        cells.append(Spread.of([scale * getattr(row, key) for row in done]).text(digits))
    cells += _compared(done, reference, name)
    cells.insert(9, Spread.of([row.seconds_import for row in done]).text(1))
    cells.insert(10, Spread.of([row.peak_mb for row in done]).text(0))
    return cells


def _compared(rows: Sequence[BenchmarkRow], reference: Sequence[BenchmarkRow], name: str) -> list[str]:
    """Ratio of the mean seconds, mean difference of Dice and its p, over the pairs that both have."""
    theirs = {(row.fixed, row.moving): row for row in reference if row.status == OK}
    both = [(row, theirs[row.fixed, row.moving]) for row in rows if (row.fixed, row.moving) in theirs]
    if not both or name == REFERENCE:
        return ["", "", ""]
    ratio = sum(own.seconds for own, _ in both) / sum(other.seconds for _, other in both)
    differences = [own.dice - other.dice for own, other in both]
    return [f"{ratio:.3g}", f"{np.mean(differences):+.3f}", p_value(differences)]


def p_value(differences: Sequence[float]) -> str:
    """Two-sided Wilcoxon signed-rank test of paired differences; empty where all are zero."""
    from scipy.stats import wilcoxon

    if not np.any(differences):
        return ""
    test: Any = wilcoxon(differences)
    return f"{test.pvalue:.2g}"


def picture(rows: Sequence[BenchmarkRow], path: Path) -> None:
    """Mean Dice against mean seconds (logarithmic) of each system, bars of one standard deviation."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("the picture needs matplotlib: pip install 'clmorph[experiments]'") from None

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    systems = _grouped([row for row in rows if row.status == OK])
    most = max(len(done) for done in systems.values())
    for name, done in systems.items():
        seconds, dice = ([getattr(row, key) for row in done] for key in ("seconds", "dice"))
        at = np.mean(seconds), np.mean(dice)
        colour, marker, height = ("#c0392b", "D", -13) if name.startswith(REFERENCE) else ("#34495e", "o", 5)
        axes.errorbar(*at, xerr=_deviation(seconds), yerr=_deviation(dice), color=colour, alpha=0.25)
        axes.plot(*at, marker, color=colour)
        said = name if len(done) == most else f"{name}, {len(done)} of {most} pairs"
        axes.annotate(said, at, (7, height), textcoords="offset points", color=colour)
    axes.set(xscale="log", xlabel="seconds of one registration", ylabel="Dice", title=_title(rows))
    for ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        ticks(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "125" else "")
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
    with atomic_write(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)


def _title(rows: Sequence[BenchmarkRow]) -> str:
    return f"{rows[0].dataset}, {rows[0].threads} threads, {rows[0].machine}"


def _facts(rows: Sequence[BenchmarkRow]) -> str:
    """Where and with what the rows were made: each difference among them is one to know of."""
    facts = {
        "threads": {row.threads for row in rows},
        "machine": {row.machine for row in rows},
        "commit": {row.commit for row in rows},
        "moving": {row.moving for row in rows},
    }
    told = []
    for name, values in facts.items():
        listed = ", ".join(sorted(map(str, values)))
        told.append(f"{name} {listed}" if len(values) < 4 else f"{name}: {len(values)} different")
    return "; ".join(told)


def _settings(rows: Sequence[BenchmarkRow]) -> str:
    """Version and settings of every system that ran."""
    lines = dict.fromkeys(f"- {row.system} {row.version}: `{row.settings}`" for row in rows if row.status == OK)
    return "\n".join(lines)


def _without_figures(rows: Sequence[BenchmarkRow]) -> list[str]:
    """Every reason why a system has no figure, with the number of pairs; of those that differ in numbers, the first."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row.status != OK:
            key = row.system, row.status, re.sub(r"\d+", "#", row.reason)
            reasons.setdefault(key, []).append(row.reason)
    lines = [f"- {system}, {len(said)} pairs: {status}: {said[0]}" for (system, status, _), said in reasons.items()]
    return ["Without figures:\n\n" + "\n".join(lines)] if lines else []


def _grouped(rows: Sequence[BenchmarkRow]) -> dict[str, list[BenchmarkRow]]:
    groups: dict[str, list[BenchmarkRow]] = {}
    for row in rows:
        groups.setdefault(row.system, []).append(row)
    return groups


def _deviation(values: Sequence[float]) -> float:
    """Standard deviation (n − 1), 0 of a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
