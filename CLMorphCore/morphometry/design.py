"""Who is compared with whom: a table of scans with their covariates, and a design over its columns.

A design is written as in R, 'group + age': each term is a column, tested with the others and an intercept held fixed.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from ..errors import FileError, InputError, did_you_mean
from ..io.files import read_text, short
from ..io.tables import doubled, more_cells, other_separator, unescaped

EXPECTED = "a CSV with the column result, folders of clmorph segment, and columns of covariates"
RESULT_COLUMNS = ("result", "results", "folder", "output")
MIN_FREEDOM = 3  # scans more than columns of the model, at least
MIN_IN_GROUP = 2  # scans of a group


@dataclass(frozen=True)
class Table:
    """The scans of a study: the folder of each one's results, and its cells by column."""

    path: Path
    folders: tuple[Path, ...]
    rows: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Term:
    """A column of the design: numbers, or 0 and 1 for the two ``levels`` of a factor, in the order of their names."""

    name: str
    values: np.ndarray
    levels: tuple[str, str] | None = None

    @property
    def contrast(self) -> str:
        """What a positive effect means: 'patient > control', or 'more with age'."""
        return f"{self.levels[1]} > {self.levels[0]}" if self.levels else f"more with {self.name}"


@dataclass(frozen=True)
class Design:
    """The terms of a study over N scans."""

    formula: str
    terms: tuple[Term, ...]

    def others(self, term: Term) -> np.ndarray:
        """(N, K): what is held fixed where a term is tested, without the intercept."""
        kept = [one.values for one in self.terms if one is not term]
        return np.stack(kept, axis=1) if kept else np.empty((len(term.values), 0))

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the residuals."""
        return len(self.terms[0].values) - len(self.terms) - 1


def read_table(path: Path) -> Table:
    """The scans of a CSV file; their folders are relative to it. FileError where it has none, or one twice."""
    try:
        reader = csv.DictReader(StringIO(read_text(path, EXPECTED, kind="CSV"), newline=""))
        columns = [(name or "").strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = list(reader)
    except csv.Error as error:
        raise FileError(f"{path} cannot be read as CSV: {short(error)}; expected {EXPECTED}") from None
    column = next((name for name in RESULT_COLUMNS if name in columns), None)
    if column is None:
        raise FileError(f"{path} lacks the column result{other_separator(columns)}; expected {EXPECTED}")
    if twice := doubled(columns):
        raise FileError(f"{path} has the column {short(twice)} twice; expected {EXPECTED}")
    if faults := more_cells(rows):
        raise FileError(f"{path}: {faults[0]}")
    cells = [{name: unescaped((row[name] or "").strip()) for name in columns} for row in rows]
    folders = []
    for n, row in enumerate(cells, start=1):
        if not row[column]:
            raise FileError(f"{path}: row {n} has no {column}; expected {EXPECTED}")
        folders.append(path.parent / row[column])
        if folders[-1] in folders[:-1]:
            raise FileError(f"{path} has the result {short(row[column])} twice; expected each scan once")
    if not folders:
        raise FileError(f"{path} has no rows; expected {EXPECTED}")
    return Table(path, tuple(folders), tuple(cells))


def design_of(table: Table, formula: str) -> Design:
    """The design 'a + b + …' over the columns of a table; InputError where it cannot be tested with these scans."""
    names = [name.strip() for name in formula.split("+")]
    if not all(names) or len(set(names)) < len(names):
        raise InputError(
            f"`design={formula}` is no list of different columns; expected for instance 'group + age'",
            "interactions and transformed columns are not known: add a column of your own for each",
        )
    columns = [name for name in table.rows[0] if name and name not in RESULT_COLUMNS]
    if unknown := next((name for name in names if name not in columns), None):
        raise InputError(f"`design={formula}`: {table.path} has no column {unknown}{did_you_mean(unknown, columns)}")
    design = Design(" + ".join(names), tuple(_term(table, name) for name in names))
    if design.freedom < MIN_FREEDOM:
        raise InputError(
            f"{table.path} has {len(table.rows)} scans for a design of {len(names)} terms and an intercept; expected "
            f"at least {len(names) + 1 + MIN_FREEDOM}",
            "add scans, or leave terms out",
        )
    _check_independent(design)
    return design


def _term(table: Table, name: str) -> Term:
    """A column as numbers: as they are, or 0 and 1 where it has two values; InputError for all others."""
    cells = [row[name] for row in table.rows]
    if missing := [n for n, cell in enumerate(cells, start=1) if cell.lower() in ("", "na", "n/a", "nan", "none")]:
        raise InputError(
            f"{table.path}: row {missing[0]} has no {name}; expected a value for every scan",
            "fill it in, or leave the scan out",
        )
    levels = sorted(set(cells))
    numbers = [_number(cell) for cell in cells]
    numeric = all(number is not None for number in numbers)
    different = len(set(numbers)) if numeric else len(levels)
    if different == 1:
        raise InputError(f"{table.path}: {name} is {levels[0]} for every scan; expected values that differ")
    if different == 2:
        return _factor(table.path, name, cells, sorted(levels, key=lambda level: (_number(level) or 0.0, level)))
    if not numeric:
        found = next(cell for cell, number in zip(cells, numbers, strict=True) if number is None)
        raise InputError(
            f"{table.path}: {name} has {len(levels)} values, and {short(found)} is no number; expected numbers, or two "
            "groups",
            "make a column for each group but one, with 1 for its scans and 0 for the others",
        )
    return Term(name, np.array(numbers, float))


def _factor(path: Path, name: str, cells: Sequence[str], levels: Sequence[str]) -> Term:
    first, second = levels[0], levels[-1]
    same = [cell == second or (_number(cell) is not None and _number(cell) == _number(second)) for cell in cells]
    for level, count in ((second, sum(same)), (first, len(cells) - sum(same))):
        if count < MIN_IN_GROUP:
            raise InputError(
                f"{path}: {count} scan has {name} {level}; expected at least {MIN_IN_GROUP} in each of two groups"
            )
    return Term(name, np.array(same, float), (first, second))


def _number(text: str) -> float | None:
    try:
        number = float(text) if "_" not in text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _check_independent(design: Design) -> None:
    """InputError where a term is a mixture of the others: nobody can tell then which of them matters."""
    columns = np.stack([np.ones(len(design.terms[0].values)), *(_scaled(term.values) for term in design.terms)], axis=1)
    for n, term in enumerate(design.terms, start=1):
        rest = np.delete(columns, n, axis=1)
        left = columns[:, n] - rest @ np.linalg.lstsq(rest, columns[:, n], rcond=None)[0]
        if np.linalg.norm(left) < 1e-6 * np.linalg.norm(columns[:, n]):
            raise InputError(
                f"`design={design.formula}`: {term.name} follows from the other terms; expected terms that tell "
                "something of their own",
                "leave one of them out",
            )


def _scaled(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()
