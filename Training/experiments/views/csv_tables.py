"""The tables and tests as CSV files, every figure in a column of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from Training.csv_rows import write_lines, write_rows
from Training.spread import Spread

from ..measures import METRICS
from ..statistics import Comparison
from ..tables import TableRow

DIGITS = 6  # significant ones


def write_table(path: Path, rows: Sequence[TableRow]) -> None:
    """One line for each row of a table."""
    lines = [flat(row) for row in rows]
    write_lines(path, list(lines[0]), (line.values() for line in lines), digits=DIGITS)


def write_tests(path: Path, tests: Sequence[Comparison]) -> None:
    """One line for each test."""
    write_rows(path, Comparison, tests, digits=DIGITS)


def flat(row: TableRow) -> dict[str, Any]:
    """The row's cells by column, the same columns for every row."""
    cells: dict[str, Any] = {
        "table": row.table,
        "dataset": row.dataset,
        "system": row.system,
        "variant": row.variant,
        "region": row.region,
        "status": row.status,
        "budget": str(row.budget or ""),
        "seeds": " ".join(map(str, row.seeds)),
        "spread_over": row.spread_over,
        "subjects": row.subjects,
        "missing_regions": row.missing,
    }
    for metric in METRICS:
        cells |= {metric.key: row.figure(metric).mean, f"{metric.key}_sd": row.figure(metric).sd}
    for key in ("folding_percent", "log_jacobian_sd", "inverse_consistency_mm"):
        cells[key] = row.deformation.get(key, math.nan)
    for key in (
        "seconds_per_pair",
        "budget_minutes",
        "train_minutes",
        "train_steps",
        "contrast_loss",
        "parameters",
        "device",
        "processes",
        "peak_memory_mb",
        "commit",
    ):
        cells[key] = row.cost.get(key, math.nan)
    for metric in METRICS:
        paper = row.paper.get(metric.key, Spread())
        cells |= {f"paper_{metric.key}": paper.mean, f"paper_{metric.key}_sd": paper.sd}
    return cells
