"""The shell of the HTML pages: one file that needs nothing else, readable on a phone, on paper, in the dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape

NO_FIGURE = "–"
# Of what may be wider than a phone: by the keyboard it is moved, too.
SCROLLED = 'tabindex="0" role="group" aria-label="can be scrolled"'

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1d2229;--soft:#5c6672;--line:#dde1e6;--panel:#f4f6f8;--accent:#1f6f8b;
--warn:#fff4d6;--warn-line:#d9a400;--before:#a9b3bd}
@media (prefers-color-scheme:dark){:root{--paper:#14171b;--ink:#e8ebee;--soft:#9aa5b1;--line:#30363d;--panel:#1d2126;
--accent:#6cc0dc;--warn:#3a3015;--warn-line:#d9a400;--before:#6b7681}}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--soft:#444;--line:#ccc;--panel:#f6f6f6;--accent:#1f6f8b;
--warn:#fff4d6;--warn-line:#d9a400;--before:#a9b3bd}
.views,.colorbar,.soft,figure,tr{break-inside:avoid}h2,.label,.soft{break-after:avoid}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 20px 40px}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:36px 0 4px;padding-top:14px;border-top:1px solid var(--line)}
p{margin:4px 0 12px}
.soft{color:var(--soft);font-size:.92rem;max-width:78ch}
.warning{background:var(--warn);border-left:4px solid var(--warn-line);padding:8px 14px;margin:14px 0;border-radius:4px}
.warning ul{margin:4px 0;padding-left:20px}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin:20px 0 0;padding:0}
.facts div{background:var(--panel);border-radius:8px;padding:10px 14px}
.facts dt{color:var(--soft);font-size:.85rem}
.facts dd{margin:0;font-size:1.3rem;font-weight:600;font-variant-numeric:tabular-nums}
.facts small{display:block;font-size:.8rem;font-weight:400;color:var(--soft)}
.views{display:flex;flex-wrap:wrap;gap:10px;margin:10px 0 4px}
figure{margin:0;min-width:0}
figcaption{color:var(--soft);font-size:.85rem;padding-top:2px}
figure svg{display:block;width:100%;height:auto;background:#000;border-radius:4px;
print-color-adjust:exact;-webkit-print-color-adjust:exact}
.label{margin:16px 0 0;font-weight:600}
.label small{font-weight:400;color:var(--soft)}
.letters{fill:#fff;stroke:#000;stroke-width:.16em;paint-order:stroke;text-anchor:middle;
dominant-baseline:central;font-family:system-ui,sans-serif;font-weight:600}
.letters .end{text-anchor:end}
.letters .bar{fill:none;stroke:#fff;stroke-width:.14em}
.grid{fill:none;stroke:#4fe0ff;stroke-width:1px;stroke-opacity:.85;vector-effect:non-scaling-stroke;
stroke-linejoin:round}
.part{fill:none;stroke:#ffd400;stroke-width:1.5px;stroke-dasharray:5 4;vector-effect:non-scaling-stroke}
.colorbar{max-width:460px;margin:10px 0}
.colorbar svg{display:block;width:100%;height:auto}
.colorbar text,.boxes text{fill:currentColor}
.columns{display:flex;flex-wrap:wrap;gap:0 36px;align-items:flex-start}
.columns table{flex:1 1 320px;max-width:540px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;margin:10px 0;font-size:.95rem}
caption{text-align:left;color:var(--soft);font-size:.85rem;padding-bottom:4px}
th,td{text-align:left;padding:5px 12px 5px 0;border-bottom:1px solid var(--line);vertical-align:baseline}
th{font-size:.85rem;color:var(--soft);font-weight:600}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr.missing td{color:var(--soft);font-style:italic}
.swatch{display:inline-block;width:.85em;height:.85em;border-radius:3px;margin-right:8px;vertical-align:-.06em;
border:1px solid rgba(128,128,128,.5);print-color-adjust:exact;-webkit-print-color-adjust:exact}
.boxes svg{display:block;width:100%;min-width:600px;height:auto;font-family:system-ui,sans-serif}
summary{cursor:pointer;margin:10px 0}
footer{margin-top:36px;padding-top:12px;border-top:1px solid var(--line);color:var(--soft);font-size:.85rem}
@media (max-width:640px){main{padding:18px 14px 30px}h1{font-size:1.35rem}.views figure{flex-basis:100%!important}}
"""


def page(title: str, body: str, style: str = "") -> str:
    """A whole HTML document, every character outside ASCII as a reference, so that no encoding can spoil it.

    ``style`` are CSS rules of this page alone.
    """
    document = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Names come from files of others: whatever they hold, no script runs and nothing is fetched.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )
    return document.encode("ascii", "xmlcharrefreplace").decode("ascii")


def when(made: datetime | None = None) -> str:
    """A moment as 27 November 2026, 15:40; by default this one, here."""
    made = made or datetime.now().astimezone()
    return f"{made.day} {made:%B %Y, %H:%M}"


def notice(title: str, texts: Sequence[str], rest: str = "") -> str:
    """A box that stands out, with a list of plain texts and ``rest``, which is HTML; nothing where there is no text."""
    if not texts:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    head = f"<strong>{escape(title)}</strong>" if title else ""
    return f'<div class="warning">{head}<ul>{items}</ul>{rest}</div>'


def facts(entries: Iterable[tuple[str, str, str]]) -> str:
    """Key figures: name, figure, remark (may be empty)."""
    items = [
        f"<div><dt>{escape(name)}</dt><dd>{escape(figure)}<small>{escape(remark)}</small></dd></div>"
        for name, figure, remark in entries
    ]
    return f'<dl class="facts">{"".join(items)}</dl>'


def table(heads: Sequence[str], rows: Iterable[str], caption: str = "", numbers_from: int = 1) -> str:
    """A table of finished rows; the columns from `numbers_from` on hold numbers."""
    cells = [f'<th scope="col"{_number(place >= numbers_from)}>{escape(head)}</th>' for place, head in enumerate(heads)]
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{''.join(cells)}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def scrolled(content: str) -> str:
    """What may be wider than the page, in a box that is scrolled, also by the keyboard."""
    return f'<div class="scroll" {SCROLLED}>{content}</div>'


def row(cells: Sequence[str], numbers_from: int = 1, *, missing: bool = False) -> str:
    """A table row of cells that are HTML already."""
    inner = [f"<td{_number(place >= numbers_from)}>{cell}</td>" for place, cell in enumerate(cells)]
    kind = ' class="missing"' if missing else ""
    return f"<tr{kind}>{''.join(inner)}</tr>"


def number(value: float | None, digits: int = 2) -> str:
    """A rounded number, a dash where there is none."""
    return NO_FIGURE if value is None or math.isnan(value) else f"{value:.{digits}f}"


def volume(millilitres: float | None, digits: int = 3) -> str:
    """A volume in ml; one that would be rounded away, of a mouse for instance, to three significant digits."""
    if millilitres is None or not 0 < abs(millilitres) < 10.0 ** (2 - digits):
        return number(millilitres, digits)
    return f"{millilitres:.3g}"


def interval(ends: tuple[float, float] | None) -> str:
    """Two rounded numbers, a dash where there are none."""
    return NO_FIGURE if ends is None else f"{number(ends[0])} – {number(ends[1])}"


def percent(fraction: float | None) -> str:
    """A fraction as per cent with as many digits as a small one needs."""
    if fraction is None or math.isnan(fraction):
        return NO_FIGURE
    return "0 %" if fraction == 0 else f"{100 * fraction:.2g} %"


def _number(is_number: bool) -> str:
    return ' class="number"' if is_number else ""
