"""The contrastive term told apart: three figures and a table of what the encoders have learned."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from CLMorphCore.atomic import atomic_write
from CLMorphCore.reports.page import number
from Training import markdown
from Training.spread import Spread, mean

from ..catalogue import CPU, STEPS, Budget, title_of
from ..encoders import (
    ALIGNMENT_PAIRS,
    ALIGNMENT_VIEWS,
    CHANCE,
    READ_OUT,
    READ_OUT_POSITION,
    UNIFORMITY,
    UNTRAINED,
    VALIDATION_DICE,
    CurveRow,
    EncoderRow,
    by_run,
    read,
)
from ..store import SEGMENTATION, Results, load
from .figures import LIGHT, on

DPI = 110
FOLDER = "contrast"
# what is contrasted, and a colour of Okabe and Ito (2008), of each variant
TITLES = {
    UNTRAINED: ("not trained", "#9aa5b1"),
    "eight": ("no contrast", "#1d2229"),
    "eight+pairs": ("pairs (the paper), β = 0.01", "#0072b2"),
    "eight+pairs,beta=1": ("pairs, β = 1", "#56b4e9"),
    "pairs": ("pairs (the paper), β = 0.01", "#0072b2"),
    "eight+views": ("sees views, no contrast", "#e69f00"),
    "views": ("sees views, no contrast", "#e69f00"),
    "eight+views+contrast,beta=1": ("two views of one image, β = 1", "#d55e00"),
    "views+contrast": ("two views of one image, β = 0.05", "#d55e00"),
    "eight+voxels,weight=1": ("voxel by voxel, weight 1", "#009e73"),
}
CONTRASTS = ("contrast", "voxel_contrast")
Measures = Mapping[str, float]


@dataclass(frozen=True)
class Arm:
    """A variant: its runs by seed, what was measured of each one's encoder, its losses, its Dice on the test set."""

    name: str
    runs: tuple[str, ...]
    measured: tuple[Measures, ...]
    curves: tuple[tuple[CurveRow, ...], ...]
    dice: tuple[float, ...]

    @property
    def title(self) -> str:
        return TITLES[self.name][0]

    @property
    def colour(self) -> str:
        return TITLES[self.name][1]

    def spread(self, measure: str) -> Spread:
        return Spread.of(one[measure] for one in self.measured if measure in one)

    def ends(self, term: str) -> list[float]:
        """Mean of the last tenth of a term's curve, of each run that has one."""
        of_term = [[row.value for row in curve if row.term == term] for curve in self.curves]
        return [mean(values[-max(1, len(values) // 10) :]) for values in of_term if values]

    def steps(self) -> float:
        """How many steps the runs made, in the mean; NaN where none was logged."""
        return mean(curve[-1].step for curve in self.curves if curve)


def write_encoders(folder: Path) -> list[Path]:
    """Writes contrast/table-DATASET.md and its three figures for each data set that has measures; returns the files."""
    results, (rows, curves) = load(folder), read(folder)
    made = []
    for dataset in dict.fromkeys(row.run.split("/")[0] for row in rows):
        budget, arms = arms_of(results, dataset, rows, curves)
        figures = {"curves": draw_curves(arms), "embeddings": draw_embeddings(arms), "readout": draw_read_outs(arms)}
        for name, figure in figures.items():
            path = folder / FOLDER / f"{name}-{dataset}.png"
            figure.suptitle(f"{title_of(dataset)}, each training {budget}", fontsize=11)
            with atomic_write(path) as temporary:
                figure.savefig(
                    temporary, format="png", dpi=DPI, facecolor=figure.get_facecolor(), metadata={"Software": None}
                )
            made.append(path)
        path = folder / FOLDER / f"table-{dataset}.md"
        with atomic_write(path) as temporary:
            temporary.write_text(f"Training: {budget}.\n\n{table(arms)}\n", encoding="utf-8")
        made.append(path)
    return made


def arms_of(
    results: Results, dataset: str, rows: Sequence[EncoderRow], curves: Sequence[CurveRow]
) -> tuple[str, list[Arm]]:
    """The budget that most measured runs of a data set have, and each variant with its runs under it."""
    measured = {run: of for run, of in by_run(rows).items() if run.startswith(f"{dataset}/")}
    counts = Counter(run.split("/")[-1] for run in measured if run.split("/")[2] != UNTRAINED)
    budget = max(counts, key=lambda name: (counts[name], name), default="")
    arms = []
    for variant in TITLES:
        runs = [run for run in sorted(measured) if run.split("/")[2] == variant]
        runs = [run for run in runs if variant == UNTRAINED or run.endswith(f"/{budget}")]
        arms.append(
            Arm(
                variant,
                tuple(runs),
                tuple(measured[run] for run in runs),
                tuple(tuple(row for row in curves if row.run == run) for run in runs),
                tuple(_test_dice(results, run) for run in runs),
            )
        )
    return _budget_text(budget), [arm for arm in arms if arm.runs]


def _budget_text(name: str) -> str:
    """'5 min of one core' of the last part of a run's name, '5min'."""
    if name.endswith(STEPS):
        return str(Budget(float(name.removesuffix(STEPS)), STEPS))
    minutes, _, clock = name.partition("-")
    return str(Budget(float(minutes.removesuffix("min") or 0), clock or CPU))


def _test_dice(results: Results, run: str) -> float:
    """Mean Dice over the test subjects of a run that is one of the results'; NaN where it is not."""
    values: dict[str, list[float]] = {}
    for row in results.regions:
        if row.run == run and row.direction == SEGMENTATION:
            values.setdefault(row.subject, []).append(row.dice)
    return mean(mean(of) for of in values.values())


def table(arms: Sequence[Arm]) -> str:
    """One line a variant, mean ± standard deviation over its seeds."""
    heads = [
        "what is contrasted",
        "seeds",
        "steps",
        "Dice, test",
        "Dice, validation",
        "loss at the end / chance",
        "alignment of views",
        "alignment of pairs",
        "uniformity",
        "read-out",
        "by each level, finest first",
    ]
    lines = []
    for arm in arms:
        lines.append(
            [
                arm.title,
                str(len(arm.runs)),
                number(arm.steps(), 0),
                Spread.of(arm.dice).text(3, "–"),
                arm.spread(VALIDATION_DICE).text(4, "–"),
                _end(arm),
                *(arm.spread(m).text(3, "–") for m in (ALIGNMENT_VIEWS, ALIGNMENT_PAIRS, UNIFORMITY, READ_OUT)),
                ", ".join(number(arm.spread(name).mean, 3) for name in _levels(arm)),
            ]
        )
    place = Spread.of(one[READ_OUT_POSITION] for arm in arms for one in arm.measured)
    lines.append(["the place in the grid alone", *["–"] * 8, number(place.mean, 3), ""])
    return markdown.table(heads, lines)


def _levels(arm: Arm) -> list[str]:
    return sorted({name for one in arm.measured for name in one if name.startswith(f"{READ_OUT}_level")})


def _end(arm: Arm) -> str:
    """'2.710 / 2.708': the contrastive loss at the end of its curve, and by chance."""
    for term in CONTRASTS:
        if arm.ends(term):
            return f"{mean(arm.ends(term)):.3f} / {arm.spread(f'{CHANCE}_{term}').mean:.3f}"
    return "–"


def draw_curves(arms: Sequence[Arm]) -> Figure:
    """The similarity of every variant, and each contrastive loss as a share of chance, by steps."""
    with on(LIGHT):
        figure = Figure(figsize=(11, 4.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for arm in arms:
            for n, (of, rows) in enumerate(zip(arm.measured, arm.curves, strict=True)):
                label = arm.title if n == 0 else None
                _curve(left, rows, "similarity", 1.0, arm.colour, label)
                for term in CONTRASTS:
                    _curve(right, rows, term, of.get(f"{CHANCE}_{term}", math.nan), arm.colour, label)
        left.set(xlabel="step", ylabel="dissimilarity of the warped and the fixed image", title="What all minimise")
        right.set(xlabel="step", ylabel="contrastive loss / chance", title="What is contrasted")
        right.axhline(1.0, color=LIGHT.soft, lw=0.9, ls="--")
        right.set_ylim(0, None)
        handles, labels = left.get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _curve(axes: Axes, rows: Sequence[CurveRow], term: str, unit: float, colour: str, label: str | None) -> None:
    points = [(row.step, row.value / unit) for row in rows if row.term == term]
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, lw=1.4, label=label)


def draw_embeddings(arms: Sequence[Arm]) -> Figure:
    """Uniformity and alignment of each encoder's embeddings of validation images; hollow: alignment of pairs."""
    with on(LIGHT):
        figure = Figure(figsize=(8.2, 4.8), layout="constrained")
        axes = figure.subplots()
        for arm in arms:
            for n, of in enumerate(arm.measured):
                label = arm.title if n == 0 else None
                axes.plot(of[UNIFORMITY], of[ALIGNMENT_VIEWS], "o", color=arm.colour, ms=8, label=label)
                axes.plot(of[UNIFORMITY], of[ALIGNMENT_PAIRS], "o", color=arm.colour, ms=8, mfc="none")
                axes.plot([of[UNIFORMITY]] * 2, [of[ALIGNMENT_VIEWS], of[ALIGNMENT_PAIRS]], color=arm.colour, lw=0.7)
        # By Jensen's inequality no encoder's alignment of pairs lies below: on it all pairs are equally far apart.
        low = min((of[UNIFORMITY] for arm in arms for of in arm.measured), default=-1.0)
        axes.plot([low, 0], [-low / 2, 0], color=LIGHT.soft, ls="--", lw=0.9, label="all images equally far apart")
        axes.set(
            xlabel="uniformity, log E exp(−2‖u − v‖²): lower is more spread out",
            ylabel="alignment, E‖u − v‖²: lower is more alike",
            title="filled: two views of one image; hollow: two images, which the paper's pairs are",
        )
        _spread_near_zero(axes, low)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _spread_near_zero(axes: Axes, low: float) -> None:
    """Axes of square roots: most encoders' embeddings are all but one, and one that spreads them must not hide that."""

    def root(values: np.ndarray) -> np.ndarray:
        return np.sign(values) * np.sqrt(np.abs(values))

    def square(values: np.ndarray) -> np.ndarray:
        return np.sign(values) * np.square(values)

    axes.set_xscale("function", functions=(root, square))
    axes.set_yscale("function", functions=(root, square))
    axes.set_xticks([tick for tick in (-4.0, -3.0, -2.0, -1.0, -0.5, -0.2, -0.05, 0.0) if tick >= 1.4 * low])
    axes.set_yticks([0.0, 0.02, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0])
    axes.set_xlim(1.2 * low, 0.005)
    axes.set_ylim(-0.002, None)


def draw_read_outs(arms: Sequence[Arm]) -> Figure:
    """Balanced accuracy of a linear read-out of the structure at a voxel, by all levels of the encoder and by each."""
    with on(LIGHT):
        figure = Figure(figsize=(9, 1.4 + 0.5 * len(arms)), layout="constrained")
        axes = figure.subplots()
        shades = (0.95, 0.75, 0.55, 0.35, 0.2)
        for line, arm in enumerate(arms):
            for shade, level in zip(shades, _levels(arm), strict=False):
                values = [of[level] for of in arm.measured]
                axes.plot(values, [line] * len(values), "|", color=arm.colour, alpha=shade, ms=13, mew=2)
            whole = [of[READ_OUT] for of in arm.measured]
            axes.plot(whole, [line] * len(whole), "o", color=arm.colour, ms=8)
        places = [of[READ_OUT_POSITION] for arm in arms for of in arm.measured]
        if places:
            axes.axvline(float(np.mean(places)), color=LIGHT.soft, ls="--", lw=0.9)
            axes.annotate(
                "the place alone",
                (float(np.mean(places)), len(arms) - 0.45),
                fontsize=8,
                color=LIGHT.soft,
                ha="center",
                annotation_clip=False,
            )
        axes.set_yticks(range(len(arms)), [arm.title for arm in arms])
        axes.set_ylim(len(arms) - 0.4, -0.6)
        axes.set_xlabel("balanced accuracy of the read-out; dots: all levels, ticks: each level, the finest darkest")
    return figure
