"""Lists of registrations: a CSV with the files of each pair, one a row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path

from ..errors import FileError, did_you_mean
from .files import check_file, read_text, short
from .tables import doubled, more_cells, other_separator, unescaped

EXPECTED = "a CSV with the columns fixed, moving, transform"
NEEDED = ("fixed", "moving", "transform")
TOGETHER = (("fixed_labels", "moving_labels"), ("fixed_landmarks", "moving_landmarks"))
MAX_FAULTS, MAX_FAULT = 20, 300  # that are told, and characters of one


@dataclass(frozen=True)
class PairFiles:
    """One row: the files of a registration, None for those that it lacks; ``transform`` maps fixed to moving points."""

    pair: str
    fixed: Path
    moving: Path
    transform: Path
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    fixed_landmarks: Path | None = None
    moving_landmarks: Path | None = None
    inverse: Path | None = None
    mask: Path | None = None

    def files(self) -> list[Path]:
        """All that it has."""
        return [value for each in fields(self) if isinstance(value := getattr(self, each.name), Path)]


COLUMNS = tuple(each.name for each in fields(PairFiles))


def read_pairs(path: Path) -> list[PairFiles]:
    """The rows of a CSV file, in their order; paths are relative to it, ``pair`` is a name, by default the number.

    Every fault of every row is listed in one FileError.
    """
    check_file(path, EXPECTED)
    text = read_text(path, EXPECTED, kind="CSV")
    try:
        reader = csv.DictReader(StringIO(text, newline=""))
        reader.fieldnames = [(name or "").strip() for name in reader.fieldnames or ()]
        _check_columns(path, reader.fieldnames)
        rows = list(reader)
    except csv.Error as error:
        raise FileError(f"{path} cannot be read as CSV: {short(error)}; expected {EXPECTED}") from None
    if not rows:
        raise FileError(f"{path} has no rows; expected one for each registration")
    cells = [{name: unescaped((row.get(name) or "").strip()) for name in COLUMNS} for row in rows]
    faults = [*more_cells(rows), *(fault for n, row in enumerate(cells, start=1) for fault in _faults(n, row, path))]
    names = [row["pair"] or str(n) for n, row in enumerate(cells, start=1)]
    if twice := doubled(names):
        faults.append(f"two rows are called {short(twice, 40)}, expected a name of its own for each pair")
    if faults:
        more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
        raise FileError(f"{path}: " + "; ".join(fault[:MAX_FAULT] for fault in faults[:MAX_FAULTS]) + more)
    return [
        PairFiles(name, **{key: path.parent / cell for key, cell in row.items() if cell and key != "pair"})
        for name, row in zip(names, cells, strict=True)
    ]


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise FileError(
            f"{path} has no column {missing[0]}{other_separator(columns)}; expected {', '.join(COLUMNS)}, of which "
            f"{', '.join(NEEDED)} are needed"
        )
    if twice := doubled(columns):
        raise FileError(f"{path} has two columns {twice}; expected one; rename one of them")
    for name in columns:
        if name and name not in COLUMNS:
            raise FileError(f"{path} has the unknown column {short(name, 40)}{did_you_mean(name, COLUMNS)}")


def _faults(number: int, row: dict[str, str], path: Path) -> Iterator[str]:
    for name, cell in row.items():
        if name in NEEDED and not cell:
            yield f"row {number} has no {name}"
        elif name != "pair" and cell and not (path.parent / cell).exists():
            yield f"row {number}: {name} {short(cell, 120)} does not exist"
    for first, second in TOGETHER:
        if bool(row[first]) != bool(row[second]):
            yield f"row {number} has {first if row[first] else second} alone, expected {first} and {second}"
