"""Figures 2, 3, 6 and 8: box plots per region, the map of significance, the grid of loss weights.

Every figure is drawn for light or dark pages. Systems are named where they are drawn, so that nothing hangs on telling
colours apart; the colours that are left are those of Okabe and Ito (2008), made for colour-blind readers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from Training.spread import Spread

from ..catalogue import OURS, SUPERVISED, SYSTEMS, UNSUPERVISED, WEIGHT_GRID, WEIGHTS, title_of
from ..measures import DICE, PAPER_METRICS, Metric, Selection, comparison, per_subject, select
from ..statistics import FRIEDMAN, SIGNIFICANT, WILCOXON, Comparison, all_tests
from ..store import Results

AVERAGE = "Average"
LEVELS = ((0.001, "***"), (0.01, "**"), (SIGNIFICANT, "*"))
WIDE = 10.0  # times the least distance, where an axis becomes logarithmic
PAPERS_WEIGHTS = (1.0, 0.01)  # alpha, beta


@dataclass(frozen=True)
class Palette:
    """Colours of a page: its ground, its ink, a system among others, ours, the supervised one, better, worse."""

    paper: str
    ink: str
    soft: str
    line: str
    other: str
    ours: str
    supervised: str
    better: tuple[str, str, str]
    worse: tuple[str, str, str]
    neutral: str


LIGHT = Palette(
    "#ffffff",
    "#1d2229",
    "#5c6672",
    "#dde1e6",
    "#a9b3bd",
    "#0072b2",
    "#d55e00",
    ("#b9d9ec", "#6aaed6", "#0072b2"),
    ("#f8d3b0", "#ee9f5c", "#c45100"),
    "#eef0f2",
)
DARK = Palette(
    "#14171b",
    "#e8ebee",
    "#9aa5b1",
    "#30363d",
    "#6b7681",
    "#56b4e9",
    "#e69f00",
    ("#1f4257", "#2f7ca8", "#56b4e9"),
    ("#54391d", "#a8702a", "#e69f00"),
    "#23282e",
)


@contextmanager
def on(palette: Palette) -> Iterator[None]:
    """Matplotlib with the colours of a page."""
    with matplotlib.rc_context(
        {
            "figure.facecolor": palette.paper,
            "savefig.facecolor": palette.paper,
            "axes.facecolor": palette.paper,
            "text.color": palette.ink,
            "axes.labelcolor": palette.ink,
            "axes.titlecolor": palette.ink,
            "xtick.color": palette.ink,
            "ytick.color": palette.ink,
            "axes.edgecolor": palette.soft,
            "grid.color": palette.line,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.size": 9,
            "axes.titlesize": 10,
            "font.family": "DejaVu Sans",
        }
    ):
        yield


def boxes(results: Results, dataset: str, palette: Palette = LIGHT) -> Figure | None:
    """Figures 2 and 3: one panel a region and metric, one box a system, over the test subjects; None without any."""
    selection = comparison(results, dataset)
    if not selection.runs:
        return None
    names = selection.region_names()
    regions = [*names, AVERAGE] if len(names) > 1 else names
    with on(palette):
        figure = Figure(
            figsize=(1.9 + 1.75 * max(len(regions), 3), 1.2 + 2.55 * len(PAPER_METRICS)), layout="constrained"
        )
        grid = figure.subplots(len(PAPER_METRICS), len(regions) or 1, sharex="row", sharey=True, squeeze=False)
        for line, metric in zip(grid, PAPER_METRICS, strict=True):
            for axes, region in zip(line, regions, strict=False):
                _box_panel(axes, selection, metric, region, palette)
            _name_systems(line[0], selection, palette)
            if metric.key != DICE.key:
                _spread_small(line)
        for axes, region in zip(grid[0], regions, strict=False):
            axes.set_title(region, fontsize=10, fontweight="bold", color=palette.ink)
        figure.suptitle(
            f"{title_of(dataset)}: Dice, HD and ASSD per region, over the test subjects{_trained(selection)}",
            fontsize=12,
        )
    return figure


def significance(results: Results, dataset: str, palette: Palette = LIGHT) -> Figure | None:
    """Figure 6: whether each two systems differ (Wilcoxon, Bonferroni), by how much, which is better; None for one."""
    selection = comparison(results, dataset)
    systems = [system for system in UNSUPERVISED if selection.of(system)]
    if len(systems) < 2:
        return None
    tests = all_tests(results, dataset)
    side = 1.0 + 0.6 * max(len(systems), 3)
    with on(palette):
        figure = Figure(figsize=(max(side + 1.4, 8.0), 1.7 + (side - 0.4) * len(PAPER_METRICS)), layout="constrained")
        column = figure.subplots(len(PAPER_METRICS), 1, squeeze=False)[:, 0]
        for axes, metric in zip(column, PAPER_METRICS, strict=True):
            _significance_panel(axes, metric, systems, tests, palette)
        titles = [SYSTEMS[system].title for system in systems]
        column[-1].set_xticks(range(len(systems)), titles, rotation=45, ha="right", rotation_mode="anchor")
        figure.legend(
            handles=_significance_key(palette),
            loc="outside lower center",
            ncols=4,
            frameon=False,
            fontsize=8.5,
            handlelength=1.2,
            handleheight=1.2,
        )
        figure.suptitle(
            f"{title_of(dataset)}: median difference of the row's system from the column's{_trained(selection)}",
            fontsize=12,
        )
    return figure


def weights(results: Results, dataset: str, palette: Palette = LIGHT) -> Figure | None:
    """Figure 8: mean Dice for each weight of the smoothness (α) and of the contrastive term (β); None without any."""
    values = weight_grid(results, dataset)
    dice = np.array([[values[alpha, beta].mean for beta in WEIGHTS] for alpha in WEIGHTS])
    if np.isnan(dice).all():
        return None
    with on(palette):
        figure = Figure(figsize=(6.4, 5.2), layout="constrained")
        axes = figure.subplots()
        axes.spines[:].set_visible(False)
        axes.set_facecolor(palette.neutral)
        drawn = axes.imshow(np.ma.masked_invalid(dice), cmap="cividis", aspect="auto")
        for row, column in np.ndindex(dice.shape):
            _weight_cell(axes, row, column, dice, palette)
        ticks = [f"{weight:g}" for weight in WEIGHTS]
        axes.set_xticks(range(len(WEIGHTS)), ticks)
        axes.set_yticks(range(len(WEIGHTS)), ticks)
        axes.set_xlabel("β, weight of the contrastive term")
        axes.set_ylabel("α, weight of the smoothness")
        axes.tick_params(length=0)
        figure.colorbar(drawn, ax=axes, label="mean Dice", shrink=0.9).outline.set_visible(False)
        axes.set_title(f"{title_of(dataset)}: Dice by loss weights{_trained(weight_runs(results, dataset))}")
    return figure


def weight_grid(results: Results, dataset: str) -> Mapping[tuple[float, float], Spread]:
    """(alpha, beta) → Dice over the test subjects; a spread without values where it was not run."""
    selection = weight_runs(results, dataset)
    return {
        weights: Spread.of(per_subject(selection, selection.of(*variant), DICE).values())
        for weights, variant in WEIGHT_GRID.items()
    }


def weight_runs(results: Results, dataset: str) -> Selection:
    """The trainings of figure 8, of one budget."""
    return select(results, dataset, WEIGHT_GRID.values())


def _trained(selection: Selection) -> str:
    """The end of a title: what all that is trained was given."""
    return f"\ntrainings of {selection.budget}" if selection.budget else ""


def _box_panel(axes: Axes, selection: Selection, metric: Metric, region: str, palette: Palette) -> None:
    """Horizontal boxes (Tukey), the median as a line of the page's colour."""
    for place, system in enumerate(SYSTEMS):
        of = per_subject(selection, selection.of(system), metric, None if region == AVERAGE else region)
        values = [value for value in of.values() if not math.isnan(value)]
        if not values:
            continue
        color = _color(system, palette)
        axes.boxplot(
            [values],
            positions=[place],
            orientation="horizontal",
            widths=0.66,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": color, "edgecolor": color},
            medianprops={"color": palette.ink, "linewidth": 1.6},
            whiskerprops={"color": color},
            capprops={"color": color},
            flierprops={"marker": ".", "markersize": 4, "markerfacecolor": color, "markeredgecolor": color},
        )
    axes.set_ylim(len(SYSTEMS) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(metric.title)


def _spread_small(row: Sequence[Axes]) -> None:
    """A logarithmic axis where values differ much: one system's far islands of labels would press all others together.

    The panels of a row share their axis.
    """
    ends = np.array([axes.dataLim.intervalx for axes in row])
    low, high = ends.min(), ends.max()
    if low <= 0 or high < WIDE * low:
        return
    axes = row[0]
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < WIDE**2 * low else (1.0,)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _name_systems(axes: Axes, selection: Selection, palette: Palette) -> None:
    titles = [entry.title if selection.of(system) else f"{entry.title}: not run" for system, entry in SYSTEMS.items()]
    axes.set_yticks(range(len(titles)), titles)
    for label, system in zip(axes.get_yticklabels(), SYSTEMS, strict=True):
        label.set_color(palette.ink if selection.of(system) else palette.soft)
        label.set_fontweight("bold" if system == OURS else "normal")


def _color(system: str, palette: Palette) -> str:
    if system.startswith(OURS):
        return palette.ours
    return palette.supervised if system == SUPERVISED else palette.other


def _significance_panel(
    axes: Axes, metric: Metric, systems: Sequence[str], tests: Sequence[Comparison], palette: Palette
) -> None:
    of = {(test.first, test.second): test for test in tests if test.test == WILCOXON and test.metric == metric.key}
    for row, first in enumerate(systems):
        for column, second in enumerate(systems):
            forward = (first, second) in of
            test = of.get((first, second) if forward else (second, first))
            if test is None or first == second:
                continue
            difference = test.difference if forward else -test.difference
            color, stars = _verdict(difference, test.p_corrected, metric, palette)
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=color, edgecolor=palette.paper, lw=1.5))
            axes.text(
                column,
                row,
                f"{_signed(difference, metric)}\n{stars}",
                ha="center",
                va="center",
                fontsize=8,
                color=_readable_on(color),
            )
    axes.set_xlim(-0.5, max(len(systems), 1) - 0.5)
    axes.set_ylim(max(len(systems), 1) - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks(range(len(systems)), [SYSTEMS[system].title for system in systems])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    overall = next((test for test in tests if (test.test, test.metric) == (FRIEDMAN, metric.key)), None)
    hopeless = any(test.least_p > SIGNIFICANT for test in of.values())
    warning = "\ntoo few subjects for any pair to differ significantly" if hopeless else ""
    axes.set_title(f"{metric.title}: {_friedman(overall)}{warning}")


def _verdict(difference: float, p: float, metric: Metric, palette: Palette) -> tuple[str, str]:
    """Colour and stars of a pair: blue where the row is better, orange where it is worse, the deeper the surer."""
    sure = sum(p < limit for limit, _ in LEVELS)
    if not sure:
        return palette.neutral, ""
    better = (difference > 0) == metric.higher_is_better
    return (palette.better if better else palette.worse)[sure - 1], "*" * sure


def _significance_key(palette: Palette) -> list[Patch]:
    names = ("p < 0.05 *", "p < 0.01 **", "p < 0.001 ***")
    keys = [
        Patch(color=color, label=f"{word}, {name}")  # a legend is filled column by column
        for name, better, worse in zip(names, palette.better, palette.worse, strict=True)
        for word, color in (("better", better), ("worse", worse))
    ]
    return [*keys, Patch(color=palette.neutral, label="no difference shown")]


def _friedman(test: Comparison | None) -> str:
    if test is None or math.isnan(test.p):
        return "Friedman: not computed"
    p = "p < 0.0001" if test.p < 1e-4 else f"p = {test.p:.2g}"
    return f"Friedman χ² = {test.statistic:.1f}, {p}, n = {test.count}"


def _weight_cell(axes: Axes, row: int, column: int, dice: np.ndarray, palette: Palette) -> None:
    value = dice[row, column]
    remarks = ["(paper)"] if (WEIGHTS[row], WEIGHTS[column]) == PAPERS_WEIGHTS else []
    if math.isnan(value):
        axes.text(column, row, "\n".join(["not run", *remarks]), ha="center", va="center", color=palette.soft)
        return
    low, high = np.nanmin(dice), np.nanmax(dice)
    remarks = ["best", *remarks] if value == high else remarks
    dark = high > low and (value - low) / (high - low) < 0.5
    axes.text(
        column,
        row,
        "\n".join([f"{value:.3f}", *remarks]),
        ha="center",
        va="center",
        color="white" if dark else "black",
        fontweight="bold" if remarks else "normal",
    )


def _signed(value: float, metric: Metric) -> str:
    return f"{value:+.{metric.digits}f}".replace("-", "−")


def _readable_on(color: str) -> str:
    """Black or white, whichever stands out (ITU-R BT.601 luma)."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"
