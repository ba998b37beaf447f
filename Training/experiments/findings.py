"""The tables and tests of one data set, made once for the page, the short tables and the CSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .catalogue import covers
from .statistics import Comparison, all_tests
from .store import Results
from .tables import TABLES, TableRow


@dataclass(frozen=True)
class Findings:
    """A data set's tables by name, those that cover it, and its tests."""

    dataset: str
    tables: Mapping[str, Sequence[TableRow]]
    tests: Sequence[Comparison]


def findings_of(results: Results, dataset: str) -> Findings:
    """Every table that covers a data set, and all its tests."""
    made = {name: table(results, dataset) for name, table in TABLES.items() if covers(name, dataset)}
    return Findings(dataset, made, all_tests(results, dataset))
