"""The picture of CONTRIBUTING: the way of a scan through the rooms, from files to tensors and back."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

COLUMNS = ("files and commands", "millimetres: SimpleITK", "the bridge", "voxels: torch")
WIDTH, TOP, ROW, BOX_WIDTH, BOX_HEIGHT = 1040, 74, 66, 236, 50
STEP = WIDTH / len(COLUMNS)


@dataclass(frozen=True)
class Stop:
    """Where the scan is: a column, the module, what happens."""

    column: int
    module: str
    deed: str


WAY = (
    Stop(0, "commands/segment.py", "options become values"),
    Stop(0, "bundles/model.py", "network, settings, atlases"),
    Stop(0, "io/images.py", "the scan, or one line why not"),
    Stop(1, "extraction/step.py", "brain out of a head, or sides"),
    Stop(2, "matching.py", "the atlas prepared, once"),
    Stop(1, "alignment.py", "the affine A"),
    Stop(2, "network_input.py", "on the network's grid"),
    Stop(3, "networks/pyramid.py", "the deformation D"),
    Stop(3, "instance_optimization.py", "goes on, with --refine"),
    Stop(2, "registration.py", "T = D ∘ A, and its inverse"),
    Stop(2, "tissue/labels.py", "labels on the scan's grid"),
    Stop(2, "quality/judgement.py", "what to expect of them"),
    Stop(1, "segmentation.py", "labels, maps and report"),
    Stop(0, "reports/segmentation.py", "the page"),
    Stop(0, "atomic.py", "all files, or none"),
)


def way_svg() -> str:
    """The picture, in colours that are read by light and in the dark."""
    height = TOP + ROW * len(WAY) + 6
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="The way of a scan through the modules, from files to tensors and back" '
        'font-family="system-ui,sans-serif" font-size="14">',
        '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#445"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for index, name in enumerate(COLUMNS):
        fill = "#f3f5f8" if index % 2 == 0 else "#fff"
        parts.append(f'<rect x="{index * STEP:g}" y="0" width="{STEP:g}" height="{height}" fill="{fill}"/>')
        middle = (index + 0.5) * STEP
        parts.append(_text(middle, 34, name, "#1d2229", 700))
    places = [((stop.column + 0.5) * STEP, TOP + index * ROW + BOX_HEIGHT / 2) for index, stop in enumerate(WAY)]
    for (x, y), (there, below) in pairwise(places):
        start, end = y + BOX_HEIGHT / 2, below - BOX_HEIGHT / 2
        middle = (start + end) / 2
        line = f"M{x:g} {start:g}V{middle:g}H{there:g}V{end:g}"
        parts.append(f'<path d="{line}" fill="none" stroke="#445" stroke-width="1.5" marker-end="url(#end)"/>')
    for stop, (x, y) in zip(WAY, places, strict=True):
        left, top = x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2
        parts.append(
            f'<rect x="{left:g}" y="{top:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8" fill="#fff" '
            f'stroke="#175a70"/>{_text(x, y - 4, stop.module, "#175a70", 600)}{_text(x, y + 15, stop.deed, "#1d2229")}'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, color: str, weight: int = 400) -> str:
    style = f'text-anchor="middle" font-weight="{weight}" fill="{color}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(text)}</text>'


def draw(path: Path) -> None:
    """Writes the picture."""
    path.write_text(way_svg(), encoding="utf-8")
