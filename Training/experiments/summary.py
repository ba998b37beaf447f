"""The tables in short, as Markdown: what a README shows of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from CLMorphCore.reports.page import NO_FIGURE, number
from Training import markdown

from .measures import DICE, PAPER_METRICS, Metric, Spread, title_of
from .statistics import STUDENT, WILCOXON, Comparison, contrast_tests
from .store import Results
from .tables import ALL, RUN, SEEDS, TABLES, Row, seeds_of

TITLES = {"table1": "Table I, segmentation", "table2": "Table II, the by-product", "table3": "Table III, ablation",
          "table4": "Table IV, heart", "pyramid": "Contrasts in the coarse-to-fine network"}


def text(results: Results, tables: Sequence[tuple[str, str]]) -> str:
    """Each (table, data set) with its means ± standard deviation, what was not run left out."""
    parts = ["Written by `python -m Training.experiments`; every figure is in the CSV files beside this one.\n"]
    for table, dataset in tables:
        rows = [row for row in TABLES[table](results, dataset) if row.status == RUN and row.region == ALL]
        if not rows:
            continue
        over = "seeds" if table in ("table3", "pyramid") else "subjects"
        parts.append(f"## {title_of(dataset)}: {TITLES[table]}\n\nMean ± standard deviation over {over}.\n")
        parts.append((_ablation(rows) if over == "seeds" else _systems(rows)) + "\n")
        if table == "table3":
            parts.append(_contrast(contrast_tests(results, dataset)) + "\n")
    return "\n".join(parts)


def _systems(rows: Sequence[Row]) -> str:
    lines = [[row.title, *(_spread(row.figure(metric), metric) for metric in PAPER_METRICS),
              number(row.deformation["folding_percent"], 2), number(row.deformation["log_jacobian_sd"], 2),
              str(row.cost["train_steps"] or NO_FIGURE), number(row.paper.get(DICE.key, Spread()).mean, 3)]
             for row in rows]
    heads = ["system", *(metric.title for metric in PAPER_METRICS), "folding (%)", "SD log J", "steps", "paper: Dice"]
    return markdown.table(heads, lines)


def _ablation(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        if row.spread_over == SEEDS:
            seeds = [number(seed.figure(DICE).mean, 3) for seed in seeds_of(row, rows)]
            lines.append([row.title, _spread(row.figure(DICE), DICE), ", ".join(seeds), str(row.cost["train_steps"]),
                          number(row.cost["contrast_loss"], 4), number(row.paper.get(DICE.key, Spread()).mean, 3)])
    heads = ["loss", "Dice", "of each seed", "steps", "contrastive loss at the end", "paper: Dice"]
    return markdown.table(heads, lines)


def _contrast(tests: Sequence[Comparison]) -> str:
    """The difference that the contrastive term makes to Dice, over the seeds and over the subjects."""
    over = {(test.first, test.second, test.test): test for test in tests if test.metric == DICE.key}
    lines = []
    for (first, second, kind), seeds in over.items():
        subjects = over[first, second, WILCOXON]
        if kind == STUDENT and seeds.count:
            interval = NO_FIGURE if math.isnan(seeds.low) else f"{seeds.low:+.4f} … {seeds.high:+.4f}"
            lines.append([f"{first} − {second}", f"{seeds.difference:+.4f}", interval, str(seeds.count),
                          number(seeds.p_corrected, 3), number(subjects.p_corrected, 4)])
    heads = ["difference in Dice", "mean over seeds", "95 % interval", "seeds", "p over seeds (Student × 4)",
             "p over subjects (Wilcoxon × 4)"]
    return markdown.table(heads, lines)


def _spread(spread: Spread, metric: Metric) -> str:
    sd = "" if math.isnan(spread.sd) else f" ± {spread.sd:.{metric.digits}f}"
    return number(spread.mean, metric.digits) + sd
