"""Cells of CSV files that a spreadsheet is to show, not to compute: text that begins as a formula does is marked."""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "\t", "\r")
MARK = "'"


def escaped(text: str) -> str:
    """'text with a mark before it, where it begins as a formula or with a mark."""
    return MARK + text if text.startswith((*FORMULA, MARK)) else text


def unescaped(text: str) -> str:
    """The inverse of ``escaped``."""
    return text[1:] if text.startswith(MARK) and text[1:].startswith((*FORMULA, MARK)) else text
