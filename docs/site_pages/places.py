"""Where things lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GENERATED = DOCS / "generated"  # not kept in the repository
README = ROOT / "README.md"
RESULTS = ROOT / "Training" / "results"
REPOSITORY = "https://github.com/CLMorph/CLMorph"


def pages() -> list[Path]:
    """Every written page of README and site; not the generated ones, nor those about training results."""
    own = [path for path in sorted(DOCS.rglob("*.md")) if not path.is_relative_to(GENERATED)]
    return [README, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md")), *own]
