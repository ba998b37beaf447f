"""Cells of CSV files: read strictly, and written so that a spreadsheet shows and does not compute them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")
MARK = "'"


def other_separator(columns: Sequence[str | None]) -> str:
    """'; its cells are separated by ";" …' where a header's only column looks so, or nothing."""
    found = next((mark for mark in ";\t" if len(columns) == 1 and mark in (columns[0] or "")), "")
    name = {"\t": "tabs", ";": "semicolons"}.get(found, "")
    return f"; its cells are separated by {name}, expected commas; save it as CSV with commas" if name else ""


def doubled(columns: Sequence[str | None]) -> str:
    """The first column that a header has twice, or nothing: readers take one of them without a word."""
    return next((column for n, column in enumerate(columns) if column and column in columns[:n]), "")


def more_cells(rows: Sequence[Mapping[Any, Any]]) -> list[str]:
    """'row 3 has more cells than there are columns …' of each row that has: perhaps they are in others than theirs."""
    return [
        f"row {n} has more cells than there are columns, expected cells with commas in quotation marks"
        for n, row in enumerate(rows, start=1)
        if any(cell.strip() for cell in row.get(None) or ())
    ]


def whole_number(text: str) -> int:
    """The number that is written in digits 0 to 9, perhaps with a sign; ValueError for all else that int() takes."""
    if not re.fullmatch(r"[+-]?[0-9]+", text.strip(" \t")):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def escaped(text: str) -> str:
    """'text with a mark before it, where it begins as a formula or with a mark."""
    return MARK + text if text.startswith((*FORMULA, MARK)) else text


def unescaped(text: str) -> str:
    """The inverse of ``escaped``."""
    return text[1:] if text.startswith(MARK) and text[1:].startswith((*FORMULA, MARK)) else text
