"""The page of report.json and of the other reports, from their dataclasses."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from CLMorphCore.reports import report, series

WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", NoneType: "null"}
REPORTS = (
    (report.Report, "report.json of `clmorph segment`, `demo` and each scan of `cohort`"),
    (series.Entry, "`series` that report.json has besides after `--frames`, and volumes_over_time.csv"),
    (report.RegistrationReport, "report.json of `clmorph register`"),
)


def schema_page() -> str:
    """Every report and every entry in it, each once."""
    parts = [
        "# Report schema",
        f"`report.json` is one JSON object; `schema` is {report.SCHEMA}, and grows when a reader has to know about a "
        "change. A field that a run has nothing for is null or empty, or has the default; what an older version wrote "
        "is read by `CLMorphCore.Report.read`. Files of a run add `files`, the SHA-256 of each result "
        "([formats](../formats.md)). Generated from the dataclasses.",
    ]
    waiting: list[type] = []
    seen: set[type] = set()
    for kind, what in REPORTS:
        parts += [f"## {kind.__name__}", f"The {what}.", _table(kind, waiting)]
        seen.add(kind)
    while waiting:
        kind = waiting.pop(0)
        if kind not in seen:
            seen.add(kind)
            parts += [f"## {kind.__name__}", _table(kind, waiting)]
    return "\n\n".join(parts) + "\n"


def _table(kind: type, waiting: list[type]) -> str:
    about = inspect.cleandoc(kind.__doc__ or "").replace("``", "`")
    hints = get_type_hints(kind)
    rows = [f"| `{each.name}` | {_words(hints[each.name], waiting)} | {_default(each)} |" for each in fields(kind)]
    return "\n".join([about, "", "| field | what | where absent |", "|---|---|---|", *rows])


def _words(hint: Any, waiting: list[type]) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_words(each, waiting) for each in inner)
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return f"list of {_words(inner[0], waiting)}"
        return f"list of {len(inner)}: {', '.join(_words(each, waiting) for each in inner)}"
    if origin is dict:
        return f"object of {_words(inner[1], waiting)}"
    if is_dataclass(hint) and isinstance(hint, type):
        waiting.append(hint)
        return f"[{hint.__name__}](#{re.sub(r'[^a-z]', '', hint.__name__.lower())})"
    return WORDS.get(hint, "any")


def _default(each: Any) -> str:
    if each.default is MISSING and each.default_factory is MISSING:
        return "always there"
    value = each.default if each.default is not MISSING else each.default_factory()
    if value is None:
        return "null"
    if is_dataclass(value):
        return "with its defaults"
    return "empty" if value in ("", ()) or value == {} else f"`{value}`"
