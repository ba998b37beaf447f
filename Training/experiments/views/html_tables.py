"""The tables and statistics of the report as HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from CLMorphCore.reports import page
from Training.spread import Spread

from ..catalogue import OURS, SYSTEMS, UNSUPERVISED
from ..measures import DICE, METRICS, PAPER_METRICS, Metric
from ..statistics import FRIEDMAN, SIGNIFICANT, STUDENT, WILCOXON, Comparison
from ..tables import ABLATIONS, ALL, RUN, SEEDS, TableRow, by_budget, seeds_of

TITLES = {
    "table1": (
        "Table I: segmentation",
        "The atlas' labels warped to each test subject. Mean ± standard deviation over "
        "the subjects of each one's mean over regions and seeds, the same seeds for all. Bold: best of the "
        "unsupervised systems. Seconds are by the clock, whatever else the machine did, with the making of the "
        "transform's inverse; folding and log J are over the whole grid.",
    ),
    "table2": (
        "Table II: the by-product",
        "Each test subject's labels warped to the atlas, by the other direction of the same system.",
    ),
    "table3": (
        "Table III: ablation",
        "CLMorph with parts of its loss, under the supervised U-Net. Mean ± standard "
        "deviation over the seeds, then the mean of each seed. Contrast: the contrastive loss at the end; the "
        "NT-Xent of embeddings that tell nothing of the image is ln 3 = 1.099 for batches of two pairs.",
    ),
    "table4": (
        "Table IV: heart",
        "The atlas' labels warped to each test subject, beside the paper's table IV. Bold: "
        "best of the unsupervised systems.",
    ),
    "pyramid": (
        "Beyond the paper: the coarse-to-fine network",
        "Local correlation alone; with the paper's contrast of whole images; with contrast voxel by voxel; "
        "with both; with similarity at the coarser levels; with three passes at each level; with the forces of "
        "local correlation as an input; with both. Mean ± standard deviation over the seeds, then the mean of "
        "each seed.",
    ),
    "contrast": (
        "Beyond the paper: the contrastive term told apart",
        "CLMorph with the paper's batch of eight: without contrast; with that of the two images of a pair, with the "
        "paper's weight and with 1; with images that the network sees as random views, without and with contrast of "
        "two views of each; with contrast voxel by voxel. Chance is ln 15 = 2.708 for pairs, ln 31 = 3.434 for "
        "views. Mean ± standard deviation over the seeds, then the mean of each seed.",
    ),
}
METRIC_TITLES = {metric.key: metric.title for metric in METRICS}


def html(table: str, rows: Sequence[TableRow]) -> str:
    """A table with its title, its notes and, for systems, its regions behind a click."""
    title, text = TITLES[table]
    body = "".join(
        (f'<p class="soft">Training: {escape(str(budget))}.</p>' if budget else "")
        + (_ablation(of_budget) if table in ABLATIONS else _systems(of_budget) + _regions(of_budget))
        for budget, of_budget in by_budget(rows).items()
    )
    absent = [row.title for row in rows if row.status != RUN]
    note = f'<p class="soft">Without figures: {escape(", ".join(absent))}.</p>' if absent else ""
    return f'<h3>{escape(title)}</h3><p class="soft">{escape(text)}</p>{body}{note}'


def statistics_html(tests: Sequence[Comparison]) -> str:
    """Friedman's tests in words, CLMorph against each system, and what the contrastive term does."""
    contrast = [test for test in tests if "recon" in test.first]
    pairs = [test for test in tests if test.test == WILCOXON and OURS in (test.first, test.second)]
    friedman = "".join(f"<li>{escape(_friedman(test))}</li>" for test in tests if test.test == FRIEDMAN)
    text = (
        "The blocks are test subjects, each with its mean over regions and seeds: regions of one subject come out "
        "of one deformation and are no independent evidence. Unsupervised systems only, all with the same seeds; "
        "what another training of the same system would change is no part of these p values."
    )
    claim = (
        "Over the seeds that both have: median difference over the subjects (Wilcoxon), and mean difference seed "
        "by seed with Student's 95 % interval: only the second says whether another seed could undo it."
    )
    return (
        f'<h3>Statistics</h3><p class="soft">{escape(text)}</p><ul>{friedman}</ul>'
        + _details("CLMorph against each system", _tests(pairs))
        + f'<h3>What the contrastive term does</h3><p class="soft">{escape(claim)}</p>'
        + _tests([test for test in contrast if test.metric == DICE.key])
        + _details("HD and ASSD", _tests([test for test in contrast if test.metric != DICE.key]))
    )


def _systems(rows: Sequence[TableRow]) -> str:
    whole = [row for row in rows if row.region == ALL]
    published = [metric for metric in PAPER_METRICS if any(metric.key in row.paper for row in whole)]
    heads = [
        "System",
        *(metric.title for metric in METRICS),
        "Folding (%)",
        "SD log J",
        "s per pair",
        "Training (min)",
        "Steps",
        "Seeds",
        "Missing",
        *(f"Paper: {metric.title}" for metric in published),
    ]
    best = {metric.key: _best(whole, metric) for metric in METRICS}
    lines = []
    for row in whole:
        if row.status == RUN:
            cells = [_spread(row.figure(metric), metric, row.system == best[metric.key]) for metric in METRICS]
            cells += [
                _small(row.deformation["folding_percent"]),
                page.number(row.deformation["log_jacobian_sd"], 3),
                page.number(row.cost["seconds_per_pair"], 2),
                *_training(row),
                str(len(row.seeds)),
                str(row.missing),
            ]
        else:
            cells = [escape(row.status), *[""] * (len(METRICS) + 6)]
        cells += [_paper(row, metric) for metric in published]
        lines.append(page.row([escape(row.title), *cells], missing=row.status != RUN))
    return f'<div class="scroll">{page.table(heads, lines)}</div>'


def _training(row: TableRow) -> tuple[str, str]:
    """Minutes and steps of a row's training."""
    if not row.cost["train_steps"]:
        return page.NO_FIGURE, page.NO_FIGURE
    return page.number(row.cost["train_minutes"], 1), str(row.cost["train_steps"])


def _regions(rows: Sequence[TableRow]) -> str:
    """Each metric's figures per region, one table a metric."""
    names = list(dict.fromkeys(row.region for row in rows if row.region != ALL))
    if not names:
        return ""
    of = {(row.system, row.region): row for row in rows}
    measured = [system for system in SYSTEMS if (system, names[0]) in of]
    parts = []
    for metric in METRICS:
        lines = []
        for system in measured:
            figures = [_spread(of[system, name].figure(metric), metric) for name in names]
            lines.append(page.row([escape(SYSTEMS[system].title), *figures]))
        parts.append(f'<div class="scroll">{page.table([metric.title, *names], lines)}</div>')
    return _details("By region", "".join(parts))


def _ablation(rows: Sequence[TableRow]) -> str:
    published = [metric for metric in PAPER_METRICS if any(metric.key in row.paper for row in rows)]
    heads = [
        "Loss",
        *(metric.title for metric in PAPER_METRICS),
        "Seeds",
        "Dice of each seed",
        "Steps",
        "Contrast",
        *(f"Paper: {metric.title}" for metric in published),
    ]
    lines = []
    for row in rows:
        paper = [_paper(row, metric) for metric in published]
        if row.status != RUN:
            lines.append(page.row([escape(row.title), escape(row.status), *[""] * 6, *paper], missing=True))
        elif row.spread_over == SEEDS:
            seeds = [seed.figure(DICE).mean for seed in seeds_of(row, rows)]
            lines.append(
                page.row(
                    [
                        escape(row.title),
                        *(_spread(row.figure(metric), metric) for metric in PAPER_METRICS),
                        str(len(row.seeds)),
                        ", ".join(page.number(dice, 3) for dice in seeds),
                        str(row.cost["train_steps"]),
                        page.number(row.cost["contrast_loss"], 3),
                        *paper,
                    ]
                )
            )
    return f'<div class="scroll">{page.table(heads, lines)}</div>'


def _tests(tests: Sequence[Comparison]) -> str:
    heads = ["First", "Second", "Metric", "Test", "Difference", "95 % interval", "p", "p (Bonferroni)", "n", "Note"]
    lines = []
    for test in tests:
        digits = 4 if test.metric == "dice" else 3
        interval = f"{test.low:+.{digits}f} … {test.high:+.{digits}f}" if not math.isnan(test.low) else page.NO_FIGURE
        difference = f"{test.difference:+.{digits}f}" if not math.isnan(test.difference) else page.NO_FIGURE
        corrected = _p(test.p_corrected)
        if test.p_corrected < SIGNIFICANT:
            corrected = f'<span class="best">{corrected}</span>'
        over = f"{test.count} seeds" if test.test == STUDENT else f"{test.count} subjects"
        lines.append(
            page.row(
                [
                    escape(_title(test.first)),
                    escape(_title(test.second)),
                    escape(METRIC_TITLES[test.metric]),
                    escape(test.test),
                    difference,
                    interval,
                    _p(test.p),
                    corrected,
                    over,
                    escape(test.note),
                ],
                numbers_from=2,
            )
        )
    return f'<div class="scroll">{page.table(heads, lines, numbers_from=2)}</div>'


def _title(name: str) -> str:
    """Of a system, or of a variant, which has none but its name."""
    return SYSTEMS[name].title if name in SYSTEMS else name


def _friedman(test: Comparison) -> str:
    title = METRIC_TITLES[test.metric]
    left_out = f"; {test.left_out} subjects lack a figure and are left out" if test.left_out else ""
    if math.isnan(test.p):
        return f"{title}: Friedman's test was not made, it {test.note}{left_out}"
    p = "p < 0.0001" if test.p < 1e-4 else f"p = {test.p:.2g}"
    return (
        f"{title}: Friedman χ²({len(test.first.split()) - 1}) = {test.statistic:.2f}, {p}, "
        f"{test.count} subjects{left_out}"
    )


def _best(rows: Sequence[TableRow], metric: Metric) -> str | None:
    """The unsupervised system with the best mean; none where fewer than two were run."""
    known = [row for row in rows if row.system in UNSUPERVISED and not math.isnan(row.figure(metric).mean)]
    if len(known) < 2:
        return None
    sign = 1 if metric.higher_is_better else -1
    return max(known, key=lambda row: sign * row.figure(metric).mean).system


def _spread(spread: Spread, metric: Metric, best: bool = False) -> str:
    if math.isnan(spread.mean):
        return page.NO_FIGURE
    mean = f"{spread.mean:.{metric.digits}f}"
    sd = "" if math.isnan(spread.sd) else f' <span class="sd">± {spread.sd:.{metric.digits}f}</span>'
    return (f'<span class="best">{mean}</span>' if best else mean) + sd


def _paper(row: TableRow, metric: Metric) -> str:
    spread = row.paper.get(metric.key, Spread())
    if math.isnan(spread.mean):
        return page.NO_FIGURE
    sd = "" if math.isnan(spread.sd) else f" ± {spread.sd:.2f}"
    return f'<span class="paper">{spread.mean:.{3 if metric.key != "hd_mm" else 2}f}{sd}</span>'


def _small(value: float) -> str:
    """A number with as many digits as a small one needs."""
    return page.NO_FIGURE if math.isnan(value) else "0" if value == 0 else f"{value:.2g}"


def _p(value: float) -> str:
    return page.NO_FIGURE if math.isnan(value) else "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _details(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{body}</details>"
