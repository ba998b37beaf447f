"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """One line of cells under the heads for each of ``lines``."""
    shown = [f"| {' | '.join(cells)} |" for cells in (heads, *lines)]
    return "\n".join([shown[0], "|" + "---|" * len(heads), *shown[1:]])
