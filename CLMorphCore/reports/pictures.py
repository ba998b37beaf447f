"""Rows of pictures, and what stands around them, as several pages have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from . import drawing
from .drawing import Frame

MIN_MARGIN_MM = 12.0
RELATIVE_MARGIN, MAX_RELATIVE_MARGIN = 0.1, 0.3  # of the structures' longest side: a mouse's are small
Draw = Callable[[Frame], str]


def margin_mm(longest: float) -> float:
    """What a picture shows around structures whose longest side is given (mm)."""
    return max(min(MIN_MARGIN_MM, MAX_RELATIVE_MARGIN * longest), RELATIVE_MARGIN * longest)


def row(title: str, frames: Sequence[Frame], draw: Draw, remark: Draw | None = None) -> str:
    """One titled line of pictures of the same height."""
    figures = []
    for where in frames:
        content = draw(where) + drawing.svg_letters(where)
        place = f"{where.view.name.capitalize()}, {where.position}"
        caption = f"{place} – {remark(where)}" if remark else place
        picture = drawing.svg_panel(where, f"{title}. {caption}", content)
        figures.append(
            f'<figure style="flex:{where.width_mm / where.height_mm:.3f} 1 0">{picture}'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    return f'<p class="label">{escape(title)}</p><div class="views">{"".join(figures)}</div>'


def section(title: str, text: str, parts: Sequence[str]) -> str:
    """A titled part of a page."""
    return f'<section><h2>{escape(title)}</h2><p class="soft">{escape(text)}</p>{"".join(parts)}</section>'


def colorbar() -> str:
    """The colours of the Jacobian determinant."""
    ratios = np.geomspace(1 / drawing.JACOBIAN_RANGE, drawing.JACOBIAN_RANGE, 13)
    stops = "".join(
        f'<stop offset="{place / 12:.3f}" stop-color="rgb({r},{g},{b})"/>'
        for place, (r, g, b) in enumerate(drawing.jacobian_color(ratios))
    )
    marks = [(1 / 3, "⅓"), (0.5, "½"), (1.0, "1"), (2.0, "2"), (3.0, "3")]
    ticks = "".join(
        f'<text x="{20 + 300 * (np.log(ratio) / np.log(drawing.JACOBIAN_RANGE) + 1) / 2:.1f}" y="32" font-size="12" '
        f'text-anchor="middle">{text}</text>'
        for ratio, text in marks
    )
    fold = "rgb({},{},{})".format(*drawing.FOLD_COLOR)
    return (
        '<div class="colorbar"><svg viewBox="0 0 420 50" role="img" aria-label="Colours of the map: blue below 1, '
        f'white at 1, red above 1, yellow for folds"><defs><linearGradient id="ratio">{stops}</linearGradient>'
        '</defs><rect x="20" y="2" width="300" height="16" fill="url(#ratio)" stroke="#888" stroke-width=".5"/>'
        f'{ticks}<text x="20" y="47" font-size="11">atlas smaller here</text><text x="320" y="47" font-size="11" '
        'text-anchor="end">atlas larger here</text>'
        f'<rect x="350" y="2" width="16" height="16" fill="{fold}" stroke="#000"/>'
        '<text x="372" y="14" font-size="12">fold</text></svg></div>'
    )
