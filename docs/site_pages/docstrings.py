"""Docstrings of the library as Sphinx reads them: aligned lists of names become definitions, bars are bars."""

from __future__ import annotations

import re
from collections.abc import Sequence

NAMED = re.compile(r"^(?P<name>[A-Za-z_]\w*(?:, \w+)*)(?: {2,})(?P<text>\S.*)$")
GOES_ON = re.compile(r"^ {4,}(?P<text>\S.*)$")


def as_rst(lines: Sequence[str]) -> list[str]:
    """The lines with every ``name   meaning`` as a definition, and with ``|`` escaped outside of literals."""
    out: list[str] = []
    in_list = False
    for line in lines:
        if named := NAMED.match(line):
            if not in_list:
                out.append("")
            out += [f"``{named['name']}``", f"    {_escaped(named['text'])}"]
            in_list = True
        elif in_list and (more := GOES_ON.match(line)):
            out.append(f"    {_escaped(more['text'])}")
        else:
            if in_list and line.strip():
                out.append("")
            in_list = False
            out.append(_escaped(line))
    return out


def _escaped(line: str) -> str:
    parts = re.split(r"(``.*?``)", line)
    return "".join(part if part.startswith("``") else part.replace("|", "\\|") for part in parts)
