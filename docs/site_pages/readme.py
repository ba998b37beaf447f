"""Tables and figures in README and pages, which are generated: python docs/make.py readme puts them in.

Such a table stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; figures in sentences are those of
``said.py``, ``said_training.py`` and ``said_results.py``. The tests compare both.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from Training.quality.table import table as quality_table

from . import benchmarks, commands, models
from .figures import Sentences, put
from .places import RESULTS, ROOT, pages
from .said import site
from .said_results import results
from .said_training import training

TABLES: dict[str, Callable[[], str]] = {
    "accuracy": models.accuracy_table,
    "compared": benchmarks.compared_table,
    "segment": benchmarks.segment_table,
    "gpu": benchmarks.gpu_table,
    "exit codes": commands.exit_codes,
    "lesions": benchmarks.lesion_table,
    "beats": benchmarks.beats_table,
    "systoles": benchmarks.systoles_table,
    "mice": benchmarks.mice_table,
    "quality": quality_table,
}
MARKED = re.compile(r"(<!-- generated: (?P<name>.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled_pages() -> list[Path]:
    """Every page that may have tables or figures of ours in it."""
    told = ("README.md", "quality.md", "heads/README.md", "benchmarks/README.md")
    return [*pages(), ROOT / "Training" / "README.md", *(RESULTS / name for name in told)]


@cache
def sentences() -> dict[str, Sentences]:
    """What each page says in figures, by its path in the project."""
    return site() | training() | results()


def filled(text: str, page: Path) -> str:
    """The text of a page with tables and figures as they are now; KeyError for an unknown table."""
    text = MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found['name']]()}\n\n{found[3]}", text)
    own = sentences().get(page.relative_to(ROOT).as_posix())
    return put(text, own.said) if own else text


def fill_all() -> list[Path]:
    """Rewrites the pages whose tables or figures have changed; returns which."""
    changed = []
    for path in filled_pages():
        before = path.read_text(encoding="utf-8")
        if (after := filled(before, path)) != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed
