"""The contrastive term told apart: three figures and a table of what the encoders have learned."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from CLMorphCore.atomic import atomic_write
from CLMorphCore.reports.page import number
from CLMorphCore.training.objective import CONTRASTED_VOXELS
from Training import markdown
from Training.spread import Spread, mean

from ..catalogue import CONTRAST, OURS, title_of
from ..encoders import (
    ALIGNMENT_PAIRS,
    ALIGNMENT_VIEWS,
    READ_OUT,
    READ_OUT_POSITION,
    UNIFORMITY,
    UNTRAINED,
    CurveRow,
    by_run,
    read,
)
from ..measures import DICE, Selection, per_subject, select
from ..store import Results, Run, load
from .figures import LIGHT, on

DPI = 110
FOLDER = "contrast"
TITLES = {  # of the variants of the catalogue
    UNTRAINED: "not trained",
    "eight": "no contrast",
    "eight+pairs": "pairs (the paper), β = 0.01",
    "eight+pairs,beta=1": "pairs, β = 1",
    "eight+views": "sees views, no contrast",
    "eight+views+contrast,beta=1": "two views of one image, β = 1",
    "eight+voxels,weight=1": "voxel by voxel, weight 1",
}
# Okabe and Ito (2008)
COLOURS = ("#9aa5b1", "#1d2229", "#0072b2", "#56b4e9", "#e69f00", "#d55e00", "#009e73")
Measures = Mapping[str, float]


@dataclass(frozen=True)
class Arm:
    """A variant: its finished runs by seed, what was measured of each one's encoder, its mean Dice on the test set."""

    name: str
    runs: tuple[Run, ...]
    measured: tuple[Measures, ...]
    dice: tuple[float, ...]

    @property
    def title(self) -> str:
        return TITLES[self.name]

    @property
    def colour(self) -> str:
        return COLOURS[list(TITLES).index(self.name)]

    def spread(self, measure: str) -> Spread:
        return Spread.of(one[measure] for one in self.measured if measure in one)


def write_encoders(folder: Path, datasets: Sequence[str]) -> list[Path]:
    """Writes contrast/table-DATASET.md and its three figures for each data set that has measures; returns the files."""
    results, (rows, curves) = load(folder), read(folder)
    made = []
    for dataset in datasets:
        selection, arms = arms_of(results, dataset, by_run(rows))
        if not any(arm.measured for arm in arms):
            continue
        figures = {
            "curves": draw_curves(arms, curves),
            "embeddings": draw_embeddings(arms),
            "readout": draw_read_outs(arms),
        }
        for name, figure in figures.items():
            path = folder / FOLDER / f"{name}-{dataset}.png"
            figure.suptitle(f"{title_of(dataset)}, {selection.budget} a training, batches of eight", fontsize=11)
            with atomic_write(path) as temporary:
                figure.savefig(
                    temporary, format="png", dpi=DPI, facecolor=figure.get_facecolor(), metadata={"Software": None}
                )
            made.append(path)
        path = folder / FOLDER / f"table-{dataset}.md"
        with atomic_write(path) as temporary:
            temporary.write_text(f"Training: {selection.budget}.\n\n{table(arms)}\n", encoding="utf-8")
        made.append(path)
    return made


def arms_of(results: Results, dataset: str, measured: Mapping[str, Measures]) -> tuple[Selection, list[Arm]]:
    """The variants that were run, under the budget that most runs have, after the encoder that was not trained."""
    selection = select(results, dataset, tuple(CONTRAST))
    prefix = f"{dataset}/{OURS}/{UNTRAINED}/"
    arms = [Arm(UNTRAINED, (), tuple(of for name, of in measured.items() if name.startswith(prefix)), ())]
    for system, variant in CONTRAST:
        runs = tuple(selection.of(system, variant))
        dice = tuple(mean(per_subject(selection, [run], DICE).values()) for run in runs)
        arms.append(Arm(variant, runs, tuple(measured[run.name] for run in runs if run.name in measured), dice))
    return selection, [arm for arm in arms if arm.runs or arm.measured]


def chance(settings: str) -> dict[str, float]:
    """term → the loss of embeddings that tell nothing of the image: the logarithm of the number of candidates."""
    tree = json.loads(settings)
    pairs = tree["training"]["batch_size"]
    images = 2 * pairs if tree["loss"].get("contrasted") == "views" else pairs
    return {"contrast": math.log(2 * images - 1), "voxel_contrast": math.log(CONTRASTED_VOXELS * pairs)}


def table(arms: Sequence[Arm]) -> str:
    """One line a variant, mean ± standard deviation over its seeds."""
    heads = [
        "what is contrasted",
        "seeds",
        "steps",
        "Dice, test",
        "loss at the end / chance",
        "alignment of views",
        "alignment of pairs",
        "uniformity",
        "read-out",
        "by each level, finest first",
    ]
    lines = []
    for arm in arms:
        levels = [arm.spread(name).mean for name in _levels(arm)]
        lines.append(
            [
                arm.title,
                str(len(arm.runs) or len(arm.measured)),
                number(mean(run.train_steps for run in arm.runs), 0),
                Spread.of(arm.dice).text(3, "–"),
                _end(arm),
                *(arm.spread(m).text(3, "–") for m in (ALIGNMENT_VIEWS, ALIGNMENT_PAIRS, UNIFORMITY, READ_OUT)),
                ", ".join(number(value, 3) for value in levels),
            ]
        )
    place = Spread.of(one[READ_OUT_POSITION] for arm in arms for one in arm.measured if READ_OUT_POSITION in one)
    lines.append(["the place in the grid alone", "", "", "–", "–", "–", "–", "–", number(place.mean, 3), ""])
    return markdown.table(heads, lines)


def _levels(arm: Arm) -> list[str]:
    return sorted({name for one in arm.measured for name in one if name.startswith(f"{READ_OUT}_level")})


def _end(arm: Arm) -> str:
    """'2.71 / 2.71': the contrastive loss over the last tenth of the steps, and by chance."""
    for term in ("contrast", "voxel_contrast"):
        ends = [json.loads(run.losses)[term] for run in arm.runs if term in json.loads(run.losses)]
        if ends:
            return f"{mean(ends):.3f} / {chance(arm.runs[0].settings)[term]:.3f}"
    return "–"


def draw_curves(arms: Sequence[Arm], curves: Sequence[CurveRow]) -> Figure:
    """The similarity of every variant, and each contrastive loss as a share of chance, by steps."""
    with on(LIGHT):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for arm in arms:
            for n, run in enumerate(arm.runs):
                of_run = [row for row in curves if row.run == run.name]
                label = arm.title if n == 0 else None
                _curve(left, of_run, "similarity", 1.0, arm.colour, label)
                for term, of_chance in chance(run.settings).items():
                    _curve(right, of_run, term, of_chance, arm.colour, label)
        left.set(xlabel="step", ylabel="reconstruction loss, equation 7", yscale="log", title="What all minimise")
        right.set(xlabel="step", ylabel="contrastive loss / chance", title="What is contrasted")
        right.axhline(1.0, color=LIGHT.soft, lw=0.9, ls="--")
        right.set_ylim(0, None)
        for axes in (left, right):
            if axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False, fontsize=8)
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
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


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
                if line == 0 and values:
                    name = level.removeprefix(f"{READ_OUT}_level")
                    axes.annotate(name, (values[0], -0.42), ha="center", fontsize=7, color=LIGHT.soft)
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
