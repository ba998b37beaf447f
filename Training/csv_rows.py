"""Typed rows ↔ CSV files: a column for each field of a dataclass, an empty cell for NaN."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from CLMorphCore.atomic import atomic_write
from CLMorphCore.errors import FileError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
KINDS = {str: "text", int: "a whole number", float: "a number or nothing"}


def read_rows(path: Path, kind: type[T], *, derived: Collection[str] = (), others: bool = False) -> list[T]:
    """The rows of a CSV file as dataclasses of strings, ints and floats.

    ``derived`` are columns that follow from the others: they have to be there and are not read. A column whose field
    has a default may be absent, as in files from before it. With ``others`` the file may have further columns, which
    are passed over. FileError tells the line and column that do not fit.
    """
    types = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    optional = {field.name for field in fields(kind) if field.default is not MISSING}
    wanted = f"expected a CSV with the columns {','.join((*derived, *names))}"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or ()
            lacking = [name for name in (*derived, *names) if name not in columns and name not in optional]
            further = [] if others else [name for name in columns if name not in (*derived, *names)]
            if lacking or further:
                what = f"no column {', '.join(lacking)}" if lacking else f"the column {', '.join(further)} besides"
                raise FileError(f"{path} has {what}", wanted)
            rows = []
            for cells in reader:
                if None in cells or None in cells.values():
                    raise FileError(f"{path}, line {reader.line_num} has not one cell for each column", wanted)
                at = f"{path}, line {reader.line_num}"
                given = [name for name in names if name in columns]
                rows.append(kind(**{name: _value(cells[name], types[name], f"{at}, {name}", wanted) for name in given}))
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{path} cannot be read ({type(error).__name__}: {error})", wanted) from None


def write_rows(
    path: Path,
    kind: type[T],
    rows: Iterable[T],
    *,
    derived: Mapping[str, str] | None = None,
    digits: int | None = None,
    nan: str = "",
) -> None:
    """Writes rows under the fields of ``kind``, after the columns ``derived`` from properties; see ``write_lines``."""
    columns = {**(derived or {}), **{field.name: field.name for field in fields(kind)}}
    lines = ([getattr(row, name) for name in columns.values()] for row in rows)
    write_lines(path, list(columns), lines, digits=digits, nan=nan)


def write_lines(
    path: Path, columns: Sequence[str], lines: Iterable[Iterable[Any]], *, digits: int | None = None, nan: str = ""
) -> None:
    """Writes lines of cells under their columns, whole or not at all.

    ``digits`` are the significant ones that a float keeps (default: all), ``nan`` is what stands for NaN.
    """
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_text(cell, digits, nan) for cell in cells] for cells in lines)


def _value(text: str, kind: type, at: str, wanted: str) -> Any:
    if kind is float and not text:
        return math.nan
    try:
        return kind(text)
    except ValueError:
        raise FileError(f"{at} is {text!r}, not {KINDS[kind]}", wanted) from None


def _text(cell: Any, digits: int | None, nan: str) -> Any:
    if not isinstance(cell, float):
        return cell
    if math.isnan(cell):
        return nan
    return cell if digits is None else f"{cell:.{digits}g}"
