"""Tables I–IV as views of the results: ours beside the paper's, what was not run as a row that says so."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from Training.csv_rows import read_rows
from Training.spread import Spread, mean

from .catalogue import AS_PUBLISHED, CONTRAST, PYRAMID_ABLATION, SUPERVISED, SYSTEMS, TABLE3, Budget, Variant
from .measures import METRICS, Metric, Selection, budgets, comparison, deformation_mean, missing, per_subject, select
from .store import BY_PRODUCT, SEGMENTATION, Results, Run

RUN, NOT_RUN, NO_DEFORMATION = "run", "not run", "has no deformation"
ALL = "all"  # regions together, or seeds together
SUBJECTS, SEEDS = "subjects", "seeds"

Published = Mapping[tuple[str, str, str, str], Spread]  # table, dataset, row, metric


@dataclass(frozen=True)
class PublishedRow:
    """A line of paper.csv: a figure of the paper's; NaN for a spread that it does not give."""

    table: str
    dataset: str
    row: str
    metric: str
    mean: float
    sd: float


@dataclass(frozen=True)
class TableRow:
    """One line of a table.

    ``seeds`` are the seeds that it covers. A figure's spread is over what ``spread_over`` says: subjects (the mean over
    regions and seeds of each), or seeds (the mean over subjects of each). ``paper`` has the paper's own figures.
    ``budget`` is the training time that the row is compared under, also of a system that is not trained.
    """

    table: str
    dataset: str
    system: str
    variant: str
    title: str
    status: str
    region: str = ALL
    seeds: tuple[int, ...] = ()
    spread_over: str = SUBJECTS
    subjects: int = 0
    missing: int = 0
    figures: Mapping[str, Spread] = field(default_factory=dict)
    deformation: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Spread] = field(default_factory=dict)
    budget: Budget | None = None

    def figure(self, metric: Metric) -> Spread:
        return self.figures.get(metric.key, Spread())


def table1(results: Results, dataset: str) -> list[TableRow]:
    """Segmentation: the atlas' labels warped to each test subject, all systems, overall and per region."""
    return _comparison("table1", results, dataset, SEGMENTATION)


def table2(results: Results, dataset: str) -> list[TableRow]:
    """The by-product direction: each test subject's labels warped to the atlas."""
    return _comparison("table2", results, dataset, BY_PRODUCT)


def table4(results: Results, dataset: str) -> list[TableRow]:
    """Segmentation of the heart: table I for a cardiac data set, beside the paper's table IV."""
    return _comparison("table4", results, dataset, SEGMENTATION)


def table3(results: Results, dataset: str) -> list[TableRow]:
    """The ablation: each combination of losses over its seeds, then each seed alone, under the supervised U-Net."""
    return _ablation("table3", results, dataset, TABLE3)


def pyramid(results: Results, dataset: str) -> list[TableRow]:
    """Beyond the paper: the coarse-to-fine network with each contrast, over its seeds, then each seed alone."""
    return _ablation("pyramid", results, dataset, tuple(PYRAMID_ABLATION))


def contrast(results: Results, dataset: str) -> list[TableRow]:
    """Beyond the paper: what may be contrasted, with batches of eight, over its seeds, then each seed alone."""
    return _ablation("contrast", results, dataset, tuple(CONTRAST))


def by_budget(rows: Sequence[TableRow]) -> dict[Budget | None, list[TableRow]]:
    """A table's rows for each training time that they are compared under, in order."""
    groups: dict[Budget | None, list[TableRow]] = {}
    for row in rows:
        groups.setdefault(row.budget, []).append(row)
    return groups


def _of_each_budget(
    results: Results, dataset: str, variants: Sequence[Variant], under: Callable[[Budget | None], list[TableRow]]
) -> list[TableRow]:
    """Under the budget that most runs have every variant, also what was not run; under any other what was.

    Of another budget under which nothing was trained that has such figures there is no table.
    """
    first, *others = budgets(results, dataset, variants) or [None]
    found = under(first)
    for budget in others:
        run = [row for row in under(budget) if row.status == RUN]
        if any(row.cost.get("train_steps") for row in run):
            found += run
    return found


def _ablation(table: str, results: Results, dataset: str, variants: Sequence[Variant]) -> list[TableRow]:
    under = partial(_ablation_under, table, results, dataset, variants)
    return _of_each_budget(results, dataset, variants, under)


def _ablation_under(
    table: str, results: Results, dataset: str, variants: Sequence[Variant], budget: Budget | None
) -> list[TableRow]:
    selection, published = select(results, dataset, variants, budget=budget), load_paper()
    rows = []
    for system, variant in variants:
        runs = selection.of(system, variant)
        title = SYSTEMS[system].title if system == SUPERVISED else variant
        row_of_paper = system if system == SUPERVISED else variant
        paper = _published(published, table, dataset, row_of_paper)
        if not runs:
            rows.append(TableRow(table, dataset, system, variant, title, NOT_RUN, paper=paper, budget=budget))
            continue
        seeds = [_row(table, selection, [run], title) for run in runs]
        rows += [_over_seeds(_row(table, selection, runs, title), seeds, paper), *seeds]
    return rows


def seeds_of(row: TableRow, rows: Sequence[TableRow]) -> list[TableRow]:
    """The rows of single seeds below an ablation's row over all of them."""
    of = (row.system, row.variant, row.budget)
    return [seed for seed in rows if (seed.system, seed.variant, seed.budget) == of and seed.spread_over != SEEDS]


def load_paper() -> Published:
    """The paper's own figures: (table, dataset, row, metric) → mean ± sd."""
    rows = read_rows(Path(__file__).with_name("paper.csv"), PublishedRow)
    return {(row.table, row.dataset, row.row, row.metric): Spread(row.mean, row.sd) for row in rows}


def _comparison(table: str, results: Results, dataset: str, direction: str) -> list[TableRow]:
    under = partial(_comparison_under, table, results, dataset, direction)
    return _of_each_budget(results, dataset, AS_PUBLISHED, under)


def _comparison_under(
    table: str, results: Results, dataset: str, direction: str, budget: Budget | None
) -> list[TableRow]:
    selection, published = comparison(results, dataset, direction, budget), load_paper()
    rows = []
    for system, variant in AS_PUBLISHED:
        title, paper = SYSTEMS[system].title, _published(published, table, dataset, system)
        runs = selection.of(system, variant)
        measured = [run for run in runs if selection.regions.get(run.name)]
        if measured:
            rows.append(_row(table, selection, measured, title, paper=paper))
            rows += [_row(table, selection, measured, title, region) for region in selection.region_names()]
        else:
            status = NO_DEFORMATION if runs or (system, direction) == (SUPERVISED, BY_PRODUCT) else NOT_RUN
            rows.append(TableRow(table, dataset, system, variant, title, status, paper=paper, budget=budget))
    return rows


def _row(
    table: str,
    selection: Selection,
    runs: Sequence[Run],
    title: str,
    region: str = ALL,
    paper: Mapping[str, Spread] | None = None,
) -> TableRow:
    """Runs that differ in their seed alone; the spread is over subjects."""
    only = None if region == ALL else region
    values = {metric.key: per_subject(selection, runs, metric, only) for metric in METRICS}
    whole = region == ALL
    return TableRow(
        table,
        selection.dataset,
        runs[0].system,
        runs[0].variant,
        title,
        RUN,
        region,
        tuple(run.seed for run in runs),
        subjects=len(values["dice"]),
        missing=missing(selection, runs, only),
        figures={key: Spread.of(of.values()) for key, of in values.items()},
        deformation=_deformation(selection, runs) if whole else {},
        cost=_cost(runs) if whole else {},
        paper=paper or {},
        budget=selection.budget,
    )


def _over_seeds(row: TableRow, seeds: Sequence[TableRow], paper: Mapping[str, Spread]) -> TableRow:
    """The row with the spread of its seeds' means in place of that of its subjects."""
    figures = {metric.key: Spread.of(seed.figure(metric).mean for seed in seeds) for metric in METRICS}
    return TableRow(**{**vars(row), "figures": figures, "spread_over": SEEDS, "paper": paper})


def _deformation(selection: Selection, runs: Sequence[Run]) -> dict[str, float]:
    return {
        "folding_percent": 100 * deformation_mean(selection, runs, "folding_fraction"),
        "log_jacobian_sd": deformation_mean(selection, runs, "log_jacobian_sd"),
        "inverse_consistency_mm": deformation_mean(selection, runs, "inverse_consistency_mm"),
    }


def _cost(runs: Sequence[Run]) -> dict[str, Any]:
    """What the runs took, each mean over seeds; device and commit of all of them."""
    return {
        "seconds_per_pair": mean(run.seconds_per_pair for run in runs),
        "budget_minutes": runs[0].budget_minutes,
        "train_minutes": mean(run.train_seconds for run in runs) / 60,
        "train_steps": round(mean(run.train_steps for run in runs)),
        "contrast_loss": mean(json.loads(run.losses).get("contrast", math.nan) for run in runs),
        "parameters": runs[0].parameters,
        "device": _distinct(run.device for run in runs),
        "processes": max(run.processes for run in runs),
        "peak_memory_mb": mean(run.peak_memory_mb for run in runs),
        "commit": _distinct(run.commit for run in runs),
    }


def _published(published: Published, table: str, dataset: str, row: str) -> dict[str, Spread]:
    return {key[3]: spread for key, spread in published.items() if key[:3] == (table, dataset, row)}


def _distinct(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))


TABLES: Mapping[str, Callable[[Results, str], list[TableRow]]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "pyramid": pyramid,
    "contrast": contrast,
}
ABLATIONS = ("table3", "pyramid", "contrast")  # the tables over seeds
