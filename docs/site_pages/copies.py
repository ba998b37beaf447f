"""Pages that live elsewhere in the repository, brought into the site with their links."""

from __future__ import annotations

import os
import re
import shutil
from functools import partial
from pathlib import Path

from .places import DOCS, GENERATED, REPOSITORY, ROOT

TRAINING = (
    "README.md",
    "results/README.md",
    "results/models.md",
    "results/quality.md",
    "results/heads/README.md",
    "results/benchmarks/README.md",
    "results/benchmarks/summary.md",
    "results/report/tables.md",
)
COPIES = {
    **{ROOT / "Training" / name: GENERATED / "training" / name for name in TRAINING},
    ROOT / "CONTRIBUTING.md": GENERATED / "contributing.md",
    ROOT / "CHANGELOG.md": GENERATED / "changelog.md",
}
TITLES = {"tables.md": "The paper's tables"}  # of what begins without
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)#\s]+)((?:#[^)]*)?\))")


def copy_pages() -> None:
    """Writes each with its links turned to where they lead in the site, or to the repository."""
    for source, target in COPIES.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        text = LINK.sub(partial(_turned, source=source, target=target), source.read_text(encoding="utf-8"))
        title = "" if text.startswith("# ") else f"# {TITLES[source.name]}\n\n"
        target.write_text(title + text, encoding="utf-8")


def _turned(found: re.Match[str], source: Path, target: Path) -> str:
    start, link, end = found.groups()
    if "://" in link or link.startswith("mailto:"):
        return found.group()
    file = (source.parent / link).resolve()
    if start.startswith("!"):
        shutil.copy(file, target.parent / file.name)
        return f"{start}{file.name}{end}"
    there = COPIES.get(file, file if file.is_relative_to(DOCS) else None)
    if there is None:
        return f"{start}{REPOSITORY}/blob/main/{file.relative_to(ROOT).as_posix()}{end}"
    return f"{start}{Path(os.path.relpath(there, target.parent)).as_posix()}{end}"
