"""Points in files: CSV, Slicer's .fcsv and .mrk.json. What else a file holds, names and columns, stays as it is.

https://slicer.readthedocs.io/en/latest/developer_guide/modules/markups.html says what Slicer's fields mean.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import FileError, InputError
from ..guidance.landmarks import Landmarks, paired
from .files import parse_json, read_text, short
from .tables import doubled, other_separator

Space = Literal["LPS", "RAS"]
ENDINGS = (".csv", ".fcsv", ".mrk.json", ".json")
EXPECTED = "points as .csv, .fcsv or .mrk.json"
SIGNS = {"LPS": np.array([1.0, 1.0, 1.0]), "RAS": np.array([-1.0, -1.0, 1.0])}
COLUMNS: tuple[tuple[tuple[str, str, str], Space | None], ...] = (
    (("x", "y", "z"), None),
    (("r", "a", "s"), "RAS"),
    (("l", "p", "s"), "LPS"),
)
FCSV_SPACES: dict[str, Space] = {"0": "RAS", "RAS": "RAS", "1": "LPS", "LPS": "LPS"}
POINT_KINDS = ("Fiducial", "Line", "Angle", "Curve", "ClosedCurve")
NAMED = ("label", "name", "id")  # columns that name a point, the first one first
DIGITS = 10
# What says that a point has no place: Slicer's .fcsv has numbers after the named columns (undefined, preview, missing;
# 2 is defined), though it writes coordinates all the same; its tables have a column of their own.
FCSV_UNPLACED, CSV_UNPLACED, PLACED = ("0", "1", "3"), ("0", "false", "no"), "defined"
Cells = list[list[str]]


@dataclass(frozen=True)
class Points:
    """Points (N, 3), LPS, mm, and ``text``: the same file with others in their place.

    ``names`` are theirs, empty where they have none. ``placed``: which points of the file they are, in its order; the
    others have no place, or not yet.
    """

    lps_mm: np.ndarray
    text: Callable[[np.ndarray], str]
    names: tuple[str, ...]
    placed: tuple[bool, ...]


def read_points(path: Path, space: Space | None = None) -> Points:
    """The points of a file; ``space`` is that of coordinates where the file does not say (LPS otherwise).

    FileError where it holds none; InputError where it says another space than ``space``.
    """
    text = read_text(path, EXPECTED, kind="points")
    name = path.name.lower()
    read = _json if name.endswith(".json") else _fcsv if name.endswith(".fcsv") else _csv
    return read(path, text, space)


def read_landmarks(fixed: Path, moving: Path) -> Landmarks:
    """The landmarks of two files, of a fixed and a moving image, as ``paired``; CSV is in LPS unless it says RAS."""
    first, second = read_points(fixed), read_points(moving)
    return paired(first.lps_mm, second.lps_mm, first.names, second.names, (first.placed, second.placed))


def space_of(path: Path, said: Space | None, given: Space | None) -> Space:
    """The space that a file says, or the one that is given, or LPS; InputError where the two differ."""
    if said is not None and given is not None and said != given:
        raise InputError(f"{path} says that its coordinates are {said}, {given} is given; expected the former")
    return said or given or "LPS"


def _written(number: float) -> str:
    return f"{number + 0.0:.{DIGITS}g}"


def _number(path: Path, where: str, word: Any) -> float:
    try:
        value = float(word)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise FileError(f"{path} cannot be read as points: {where} is {short(word, 40)}; expected a number in mm")
    return value


def _read_rows(path: Path, lines: str) -> Cells:
    try:
        return list(csv.reader(io.StringIO(lines), strict=True))
    except csv.Error as error:
        raise FileError(f"{path} cannot be read as points: {error}; expected a CSV file; mend it") from None


def _has_cells(row: Sequence[str]) -> bool:
    return any(cell.strip() for cell in row)


def _is_point(row: Sequence[str], status: int | None, unplaced: Sequence[str]) -> bool:
    """Whether a row has cells, and the one of its ``status`` does not say that the point has no place."""
    said = row[status].strip().lower() if status is not None and status < len(row) else ""
    return _has_cells(row) and said not in unplaced


def _placed_rows(rows: Cells, counts: Sequence[bool]) -> tuple[bool, ...]:
    """Of the rows that have cells, which hold a point with a place."""
    return tuple(count for row, count in zip(rows, counts, strict=True) if _has_cells(row))


def _placed(path: Path, rows: Cells, counts: Sequence[bool], columns: Sequence[int], first_row: int) -> np.ndarray:
    """The numbers of three columns of the rows that count, (N, 3)."""
    found = []
    for n, (row, count) in enumerate(zip(rows, counts, strict=True), start=first_row):
        if count:
            cells = [row[c] if c < len(row) else "" for c in columns]
            found.append([_number(path, f"coordinate {cell!r} of row {n}", cell) for cell in cells])
    if not found:
        raise FileError(f"{path} holds no points; expected a row of three coordinates for each")
    return np.array(found)


def _named(rows: Cells, counts: Sequence[bool], columns: Sequence[str]) -> tuple[str, ...]:
    """What each row that counts holds in the first of the columns NAMED that there is; nothing where there is none."""
    column = next((columns.index(name) for name in NAMED if name in columns), None)
    if column is None:
        return ()
    return tuple(row[column].strip() if column < len(row) else "" for row, n in zip(rows, counts, strict=True) if n)


def _replaced(rows: Cells, counts: Sequence[bool], columns: Sequence[int], points: np.ndarray) -> str:
    """The rows as CSV, with other numbers in three columns of those that count."""
    out, rest = io.StringIO(), iter(points.tolist())
    writer = csv.writer(out, lineterminator="\n")
    for row, count in zip(rows, counts, strict=True):
        if count:
            numbers = dict(zip(columns, map(_written, next(rest)), strict=True))
            writer.writerow([numbers.get(n, cell) for n, cell in enumerate(row)])
        else:
            writer.writerow(row)
    return out.getvalue()


def _csv(path: Path, text: str, given: Space | None) -> Points:
    rows = _read_rows(path, text)
    first = next((row for row in rows if _has_cells(row)), [])
    header, columns, said = _columns(path, first)
    start = rows.index(first) + 1 if header else 0
    signs = SIGNS[space_of(path, said, given)]
    head = io.StringIO()
    csv.writer(head, lineterminator="\n").writerows(rows[:start])
    body, names = rows[start:], [cell.strip().lower() for cell in first] if header else []
    status = names.index(PLACED) if PLACED in names else None
    counts = [_is_point(row, status, CSV_UNPLACED) for row in body]
    return Points(
        _placed(path, body, counts, columns, start + 1) * signs,
        lambda points: head.getvalue() + _replaced(body, counts, columns, points * signs),
        _named(body, counts, names),
        _placed_rows(body, counts),
    )


def _columns(path: Path, first: list[str]) -> tuple[bool, list[int], Space | None]:
    """Whether the first row names the columns; where the three coordinates are; the space that their names say."""
    if len(first) >= 3 and all(re.fullmatch(r"\s*[-+]?(\d|\.\d)\S*\s*", cell) for cell in first[:3]):
        return False, [0, 1, 2], None
    names = [cell.strip().lower() for cell in first]
    for known, space in COLUMNS:
        if set(known) <= set(names):
            if doubled(names) in known:
                raise FileError(f"{path} has two columns {doubled(names)}; expected one; rename one of them")
            return True, [names.index(name) for name in known], space
    raise FileError(
        f"{path} has no columns x, y, z: its first row is {short(','.join(first), 60)}{other_separator(first)}; "
        "expected three numbers, or a header with x, y, z"
    )


def _fcsv(path: Path, text: str, given: Space | None) -> Points:
    lines = text.splitlines()
    count = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    head = {
        key.strip().lower(): value.strip()
        for key, equals, value in (line[1:].partition("=") for line in lines[:count])
        if equals
    }
    word = head.get("coordinatesystem", "0")  # versions before 4.6 wrote none, and meant RAS
    if word.upper() not in FCSV_SPACES:
        raise FileError(f"{path} has the coordinate system {short(word, 20)}; expected LPS (1) or RAS (0)")
    names = [name.strip() for name in head.get("columns", "id,x,y,z").split(",")]
    if not {"x", "y", "z"} <= set(names):
        raise FileError(f"{path} has the columns {short(','.join(names), 60)}; expected x, y and z among them")
    columns, signs = [names.index(axis) for axis in "xyz"], SIGNS[space_of(path, FCSV_SPACES[word.upper()], given)]
    rows = _read_rows(path, "\n".join(lines[count:]))
    head_text = "".join(f"{line}\n" for line in lines[:count])
    counts = [_is_point(row, len(names), FCSV_UNPLACED) for row in rows]
    return Points(
        _placed(path, rows, counts, columns, count + 1) * signs,
        lambda points: head_text + _replaced(rows, counts, columns, points * signs),
        _named(rows, counts, names),
        _placed_rows(rows, counts),
    )


def _json(path: Path, text: str, given: Space | None) -> Points:
    try:
        content = parse_json(text)
        markups = content["markups"]
        lists = [(markup, list(markup["controlPoints"])) for markup in markups]
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"{path} cannot be read as markups: {short(error, 60)}; expected Slicer's .mrk.json, with markups and "
            "their controlPoints"
        ) from None
    found, signs, places, placed = [], [], [], []
    for markup, controls in lists:
        kind = markup.get("type", "Fiducial")
        if kind not in POINT_KINDS:
            raise FileError(
                f"{path} holds markups of type {short(kind, 20)}, which are more than points; expected "
                f"{', '.join(POINT_KINDS)}"
            )
        _check_units(path, markup.get("coordinateUnits", "mm"))
        said = str(markup.get("coordinateSystem", "")).upper() or None
        if said is not None and said not in FCSV_SPACES:
            raise FileError(f"{path} has the coordinate system {short(said, 20)}; expected LPS or RAS")
        sign = SIGNS[space_of(path, FCSV_SPACES[said] if said else None, given)]
        for n, point in enumerate(controls, start=1):
            if not isinstance(point, dict):
                raise FileError(f"{path} cannot be read as markups: control point {n} is {short(point, 40)}")
            position = point.get("position")
            placed.append(point.get("positionStatus", "undefined" if position is None else PLACED) == PLACED)
            if not placed[-1]:
                continue  # one that has no place, or not yet
            if not isinstance(position, list) or len(position) != 3:
                raise FileError(
                    f"{path}: control point {n} has the position {short(position, 40)}; expected three numbers"
                )
            found.append([_number(path, f"a coordinate of control point {n}", x) for x in position])
            signs.append(sign)
            places.append(point)
    if not found:
        raise FileError(f"{path} holds no points; expected control points with positions")

    def rewritten(points: np.ndarray) -> str:
        for place, point, sign in zip(places, points, signs, strict=True):
            place["position"] = [float(_written(x)) for x in point * sign]
        for markup in markups:
            markup.pop("measurements", None)  # lengths and angles between the points as they were
        return json.dumps(content, indent=4, ensure_ascii=False, allow_nan=False) + "\n"

    names = tuple(str(place.get("label", "")).strip() for place in places)
    return Points(np.array(found) * np.array(signs), rewritten, names, tuple(placed))


def _check_units(path: Path, units: Any) -> None:
    word = units[0] if isinstance(units, list) and units else units
    if word not in ("mm", "millimeter"):
        raise FileError(f"{path} has coordinates in {short(word, 20)}; expected mm; convert them")
