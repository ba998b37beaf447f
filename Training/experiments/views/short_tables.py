"""The tables in short, as Markdown: what a README shows of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from CLMorphCore.reports.page import NO_FIGURE, number
from Training import markdown
from Training.spread import Spread

from ..catalogue import Budget, title_of
from ..findings import Findings
from ..measures import DICE, PAPER_METRICS
from ..statistics import STUDENT, WILCOXON, Comparison
from ..tables import ABLATIONS, ALL, RUN, SEEDS, TableRow, by_budget, seeds_of
from .html_tables import TITLES


def text(findings: Sequence[Findings]) -> str:
    """Each data set's tables with means ± standard deviation, what was not run left out, and its contrastive tests."""
    parts = [
        "Written by `python -m Training.experiments`; every figure is in the CSV files beside this one.\n",
        "## Dice of all systems, beside the paper's\n",
        _overview(findings) + "\n",
    ]
    for of_one in findings:
        for name, table in of_one.tables.items():
            rows = [row for row in table if row.status == RUN and row.region == ALL]
            if not rows:
                continue
            parts.append(f"## {title_of(of_one.dataset)}. {TITLES[name][0]}\n")
            over = "seeds" if name in ABLATIONS else "subjects"
            for budget, of_budget in by_budget(rows).items():
                parts.append(f"{_trained(budget, of_budget)}Mean ± standard deviation over {over}.\n")
                parts.append((_ablation(of_budget) if over == "seeds" else _systems(of_budget)) + "\n")
            if name == "table3" and (contrast := _contrast(of_one.tests)):
                parts.append(contrast + "\n")
    return "\n".join(parts)


def _trained(budget: Budget | None, rows: Sequence[TableRow]) -> str:
    """What the rows were trained with, as a sentence; empty where none was trained."""
    if budget is None:
        return ""
    devices = ", ".join(dict.fromkeys(row.cost["device"] for row in rows if row.cost["train_steps"]))
    beside = max(row.cost["processes"] for row in rows)
    shared = f"up to {beside} trainings side by side" if beside > 1 else ""
    where = ", ".join(words for words in (devices, shared) if words)  # nothing, of systems that are not trained
    return f"Training: {budget}{f' ({where})' if where else ''}. "


def _overview(findings: Sequence[Findings]) -> str:
    """Mean Dice of each system on each data set where anything was run: measured, and published."""
    columns: dict[str, dict[str, TableRow]] = {}
    for of_one in findings:
        table = of_one.tables.get("table1", of_one.tables.get("table4", ()))
        groups = by_budget([row for row in table if row.region == ALL])
        for budget, of_budget in groups.items():
            if any(row.status == RUN for row in of_budget):
                name = title_of(of_one.dataset) + (f", {budget}" if len(groups) > 1 else "")
                columns[name] = {row.title: row for row in of_budget}
    titles = dict.fromkeys(title for rows in columns.values() for title in rows)
    absent = TableRow("", "", "", "", "", "")
    lines = [
        [
            title,
            *(
                number(figure, 3)
                for rows in columns.values()
                for row in [rows.get(title, absent)]
                for figure in (row.figure(DICE).mean, row.paper.get(DICE.key, Spread()).mean)
            ),
        ]
        for title in titles
    ]
    return markdown.table(["system", *(head for name in columns for head in (name, "paper"))], lines)


def _systems(rows: Sequence[TableRow]) -> str:
    lines = [
        [
            row.title,
            *(row.figure(metric).text(metric.digits, NO_FIGURE) for metric in PAPER_METRICS),
            number(row.deformation["folding_percent"], 2),
            number(row.deformation["log_jacobian_sd"], 2),
            str(row.cost["train_steps"] or NO_FIGURE),
            number(row.paper.get(DICE.key, Spread()).mean, 3),
        ]
        for row in rows
    ]
    heads = ["system", *(metric.title for metric in PAPER_METRICS), "folding (%)", "SD log J", "steps", "paper: Dice"]
    return markdown.table(heads, lines)


def _ablation(rows: Sequence[TableRow]) -> str:
    lines = []
    for row in rows:
        if row.spread_over == SEEDS:
            seeds = [number(seed.figure(DICE).mean, 3) for seed in seeds_of(row, rows)]
            lines.append(
                [
                    row.title,
                    row.figure(DICE).text(DICE.digits, NO_FIGURE),
                    ", ".join(seeds),
                    number(row.deformation["folding_percent"], 2),
                    str(row.cost["train_steps"]),
                    number(row.cost["contrast_loss"], 4),
                    number(row.paper.get(DICE.key, Spread()).mean, 3),
                ]
            )
    heads = ["loss", "Dice", "of each seed", "folding (%)", "steps", "contrastive loss at the end", "paper: Dice"]
    return markdown.table(heads, lines)


def _contrast(tests: Sequence[Comparison]) -> str:
    """The difference that the contrastive term makes to Dice, over the seeds and over the subjects."""
    over = {(test.first, test.second, test.test): test for test in tests if test.metric == DICE.key}
    lines = []
    for (first, second, kind), seeds in over.items():
        if kind == STUDENT and seeds.count:
            subjects = over[first, second, WILCOXON]
            interval = NO_FIGURE if math.isnan(seeds.low) else f"{seeds.low:+.4f} … {seeds.high:+.4f}"
            lines.append(
                [
                    f"{first} − {second}",
                    f"{seeds.difference:+.4f}",
                    interval,
                    str(seeds.count),
                    number(seeds.p_corrected, 3),
                    number(subjects.p_corrected, 4),
                ]
            )
    if not lines:
        return ""
    heads = [
        "difference in Dice",
        "mean over seeds",
        "95 % interval",
        "seeds",
        "p over seeds (Student × 4)",
        "p over subjects (Wilcoxon × 4)",
    ]
    return markdown.table(heads, lines)
