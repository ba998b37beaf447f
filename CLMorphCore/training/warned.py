"""What reading the scans gave reason to say, of each once, and once of all that have it in common."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import counted, listed
from .intensities import MAX_NAMED
from .scans import Finding, Scan


def warned(scans: Sequence[Scan]) -> list[Finding]:
    """The warnings of scans and their labels; those of all scans, or of many, that differ by numbers alone are one."""
    kinds: dict[str, dict[str, list[str]]] = {}  # a sentence without its numbers → scan → its warnings
    for scan in scans:
        for warning in scan.warnings:
            kind = re.sub(r"\d[\d.e+-]*", "#", _sentence(warning))
            kinds.setdefault(kind, {}).setdefault(scan.subject.name, []).append(warning)
    found = []
    for of_scan in kinds.values():
        if len(of_scan) > MAX_NAMED or len(of_scan) == len(scans) > 1:
            names, first = [*of_scan], next(iter(of_scan.values()))[0]
            every = tuple(each for warnings in of_scan.values() for each in warnings)
            text = f"of {counted(len(names), 'scan')} ({listed(names, MAX_NAMED)}) is said: {_sentence(first)}"
            found.append(Finding("", text, warnings=every))
        else:
            found += [Finding(name, _sentence(each[0]), warnings=tuple(each)) for name, each in of_scan.items()]
    return found


def _sentence(warning: str) -> str:
    """A warning without the name of the file that it begins with."""
    return warning.partition(": ")[2] or warning
