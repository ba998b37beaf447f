"""The README's tables, which are generated: python docs/make.py readme puts them in, the tests compare them.

Such a table stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``, in the README or on a page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from . import benchmarks, commands, models
from .places import pages

TABLES: dict[str, Callable[[], str]] = {
    "accuracy": models.accuracy_table,
    "compared": benchmarks.compared_table,
    "segment": benchmarks.segment_table,
    "gpu": benchmarks.gpu_table,
    "exit codes": commands.exit_codes,
}
MARKED = re.compile(r"(<!-- generated: (?P<name>.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """The text with every marked table as it is generated now; KeyError for an unknown name."""
    return MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found['name']]()}\n\n{found[3]}", text)


def fill_all() -> list[Path]:
    """Rewrites the pages whose tables have changed; returns which."""
    changed = []
    for path in pages():
        before = path.read_text(encoding="utf-8")
        if (after := filled(before)) != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed
