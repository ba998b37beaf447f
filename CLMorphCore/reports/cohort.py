"""The page of a cohort: every scan as a small picture, the doubtful ones first, and how the volumes are distributed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from ..errors import counted
from . import page

DONE, FAILED, WAITING = "done", "failed", "waiting"
ORDER = ("failed", "reject", "review", "pass", "done", "waiting")
WORDS = {
    "reject": "Do not use these labels without correction.",
    "review": "Look at these before use.",
    "pass": "Nothing unusual was found in these.",
    "done": "The model has no quality score: nothing is known about these but what you see.",
}
TITLES = {"reject": "Reject", "review": "Review", "pass": "Pass", "done": "Segmented"}
MAX_NAMED = 3  # outlying structures beside a picture
MAX_WARNING = 160  # characters of one
LABEL_WIDTH, PLOT_WIDTH, LINE_HEIGHT, AXIS_HEIGHT = 250, 620, 20, 24
MAX_RATIO = 4.0  # of a volume to the median, at which the plot ends
STYLE = """
.scans{display:grid;grid-template-columns:repeat(auto-fill,minmax(318px,1fr));gap:12px;margin:12px 0}
.scan{background:var(--panel);border-radius:8px;overflow:hidden;break-inside:avoid;border-top:4px solid var(--line)}
.scan img,.scan .none{display:block;width:100%;height:112px;object-fit:contain;background:#000;
print-color-adjust:exact;-webkit-print-color-adjust:exact}
.scan .none{color:#bbb;line-height:112px;text-align:center;font-size:.85rem}
.scan div{padding:7px 12px 9px}
.scan p{margin:0;font-size:.85rem;color:var(--soft);overflow-wrap:anywhere}
.scan .name{display:flex;gap:8px;justify-content:space-between;font-weight:600;font-size:.95rem;color:var(--ink)}
.scan .name span{font-weight:400;white-space:nowrap}
.scan a{display:inline-block;line-height:26px}
.scan .odd{color:var(--ink)}
.reject{border-top-color:#c8372d}.review{border-top-color:#d9a400}.pass{border-top-color:#3d9a50}
a{color:var(--accent)}
.reason{overflow-wrap:anywhere}
"""


@dataclass(frozen=True)
class Row:
    """A scan in the table: ``status`` is done, failed with its ``reason``, or waiting for another run.

    ``outliers`` are structures of unusual volume with their robust z; ``thumbnail`` is a PNG in base64; ``links`` lead
    to page, labels and report.
    """

    name: str
    status: str
    verdict: str = ""
    reason: str = ""
    quality: float | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    colors: Mapping[str, str] = field(default_factory=dict)
    outliers: Mapping[str, float] = field(default_factory=dict)
    thumbnail: str = ""
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def standing(self) -> str:
        """One word: pass, review, reject, failed, waiting, or done where the model has no quality score."""
        return self.verdict or self.status if self.status == DONE else self.status


@dataclass(frozen=True)
class Summary:
    """What the page says of the whole: where the scans are from, the model, and what was passed over."""

    source: str
    model: str
    licence: str = ""
    version: str = ""
    notes: tuple[str, ...] = ()


def cohort_page(rows: Sequence[Row], summary: Summary) -> str:
    """HTML page of a cohort: counts, failures, pictures with the worst first, volumes."""
    body = [
        _header(rows, summary),
        _notes(summary.notes),
        _counts(rows),
        _failures([row for row in rows if row.status == FAILED]),
        *(_gallery(kind, rows) for kind in ("reject", "review", "pass", "done")),
        _distributions([row for row in rows if row.status == DONE]),
    ]
    return page.page(f"Cohort of {counted(len(rows), 'scan')}", "\n".join(part for part in body if part), STYLE)


def _header(rows: Sequence[Row], summary: Summary) -> str:
    licence = f"Licence of the model: {escape(summary.licence)}. " if summary.licence else ""
    return (
        f"<header><h1>Cohort {escape(summary.source)}: {counted(len(rows), 'scan')}</h1>"
        f'<p class="soft">{page.when()} · model <strong>{escape(summary.model)}</strong> · CLMorph '
        f'{escape(summary.version)} · <a href="volumes.csv">volumes.csv</a><br>'
        f"{licence}For research; not a medical device.</p></header>"
    )


def _notes(notes: Sequence[str]) -> str:
    return page.notice("Not among the scans", notes)


def _counts(rows: Sequence[Row]) -> str:
    counts = {kind: sum(row.standing == kind for row in rows) for kind in ORDER}
    remarks = {
        "failed": "no result; each with its reason below" if counts["failed"] else "every scan has a result",
        "reject": "do not use",
        "review": "look before use",
        "pass": "nothing unusual",
        "done": "without a quality score",
        "waiting": "not segmented yet",
    }
    names = {**TITLES, "failed": "Failed", "waiting": "Waiting"}
    entries = [
        (names[kind], str(counts[kind]), remarks[kind])
        for kind in ("pass", "review", "reject", "done", "failed", "waiting")
        if counts[kind] or (kind in ("pass", "review", "reject") and not counts["done"]) or kind == "failed"
    ]
    done = [row for row in rows if row.status == DONE]
    if outlying := sum(bool(row.outliers) for row in done):
        entries.append(("Unusual volumes", str(outlying), "scans; marked by their pictures"))
    if done:
        entries.append(("Time", f"{np.mean([row.seconds for row in done]):.1f} s", "per scan, mean"))
    return page.facts(entries)


def _failures(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    lines = [page.row([escape(row.name), f'<span class="reason">{escape(row.reason)}</span>'], 2) for row in rows]
    table = page.table(["Scan", "Why there is no result"], lines, numbers_from=2)
    return (
        '<section><h2>Failed</h2><p class="soft">The same command tries these again and keeps the others.</p>'
        f"{page.scrolled(table)}</section>"
    )


def _gallery(kind: str, rows: Sequence[Row]) -> str:
    """Pictures of the scans of one standing: outliers first, then by the Dice to expect, the worst first."""
    chosen = [row for row in rows if row.standing == kind]
    if not chosen:
        return ""
    ordered = sorted(
        chosen, key=lambda row: (not row.outliers, row.quality if row.quality is not None else 0, row.name)
    )
    views = " Axial, coronal and sagittal; the subject's left is on the right." if kind == _first(rows) else ""
    return (
        f'<section id="{kind}"><h2>{TITLES[kind]} · {len(chosen)}</h2><p class="soft">{WORDS[kind]} Unusual volumes '
        f'come first, then the lowest expected Dice.{views}</p><div class="scans">'
        f"{''.join(_card(row) for row in ordered)}</div></section>"
    )


def _first(rows: Sequence[Row]) -> str:
    """The standing whose pictures come first."""
    there = {row.standing for row in rows}
    return next((kind for kind in ("reject", "review", "pass", "done") if kind in there), "")


def _card(row: Row) -> str:
    picture = (
        f'<img alt="Outlines of the labels on {escape(row.name)}" src="data:image/png;base64,{escape(row.thumbnail)}">'
        if row.thumbnail
        else '<p class="none">no picture</p>'
    )
    main = row.links.get("page") or row.links.get("labels", "")
    name = f'<a href="{escape(main)}">{escape(row.name)}</a>' if main else escape(row.name)
    quality = f"<span>expected Dice {page.number(row.quality)}</span>" if row.quality is not None else ""
    lines = [f'<p class="name">{name}{quality}</p>']
    if row.outliers:
        more = f" and {len(row.outliers) - MAX_NAMED} more" if len(row.outliers) > MAX_NAMED else ""
        named = ", ".join(_outlier(name, z) for name, z in list(row.outliers.items())[:MAX_NAMED])
        lines.append(f'<p class="odd">{escape(named + more)}</p>')
    said = dict.fromkeys([row.reason, *row.warnings])
    lines += [f"<p>{escape(_shortened(text, MAX_WARNING))}</p>" for text in said if text]
    others = [f'<a href="{escape(link)}">{what}</a>' for what, link in row.links.items() if link != main]
    if others:
        lines.append(f"<p>{' · '.join(others)}</p>")
    return f'<article class="scan {row.standing}">{picture}<div>{"".join(lines)}</div></article>'


def _outlier(name: str, z: float) -> str:
    if math.isinf(z):
        return f"{name} not found"
    return f"{name} {'large' if z > 0 else 'small'} (z {z:+.1f})"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 2]} …"


def _distributions(rows: Sequence[Row]) -> str:
    """Box plots of each structure's volume relative to its median over the scans, and the volumes in a table."""
    volumes = {
        name: np.array([row.volumes_ml[name] for row in rows if row.volumes_ml.get(name, 0) > 0])
        for name in dict.fromkeys(name for row in rows for name in row.volumes_ml)
    }
    volumes = {name: values for name, values in volumes.items() if values.size}
    if not volumes:
        return ""
    bottom = AXIS_HEIGHT + LINE_HEIGHT * len(volumes)
    height = bottom + AXIS_HEIGHT
    lines = []
    for place, (name, values) in enumerate(volumes.items()):
        middle = AXIS_HEIGHT + LINE_HEIGHT * (place + 0.5)
        lines.append(
            f'<text x="{LABEL_WIDTH - 12}" y="{middle + 4:.1f}" text-anchor="end" font-size="13">'
            f"{escape(_shortened(name, 34))}<title>{escape(name)}</title></text>{_box(values, middle)}"
        )
    axis = "".join(
        f'<path d="M{_across(ratio):.1f} {AXIS_HEIGHT}V{bottom}" stroke="var(--line)"/>'
        + "".join(
            f'<text x="{_across(ratio):.1f}" y="{y}" text-anchor="middle" font-size="12">{text}</text>'
            for y in (AXIS_HEIGHT - 8, height - 8)
        )
        for ratio, text in ((0.25, "¼"), (0.5, "½"), (1.0, "median"), (2.0, "2 ×"), (4.0, "4 ×"))
    )
    plot = (
        f'<div class="boxes scroll" {page.SCROLLED}>'
        f'<svg viewBox="0 0 {LABEL_WIDTH + PLOT_WIDTH + 20} {height}" role="img" '
        f'aria-label="Box plots of volumes; the table below gives the figures">{axis}{"".join(lines)}</svg></div>'
    )
    text = (
        "Each structure's volume relative to its median over the scans. The box holds the middle half of the scans, "
        "the whiskers reach up to 1.5 box lengths, dots lie beyond. A volume is called unusual where its logarithm "
        "lies more than 3.5 robust standard deviations from the median (eight scans or more)."
    )
    return f'<section><h2>Volumes</h2><p class="soft">{text}</p>{plot}{_volume_table(volumes, len(rows))}</section>'


def _volume_table(volumes: Mapping[str, np.ndarray], scans: int) -> str:
    heads = ["Structure", "Median (ml)", "Middle half (ml)", "Smallest", "Largest", "Found in"]
    lines = []
    for name, values in volumes.items():
        lower, median, upper = np.percentile(values, (25, 50, 75))
        ends = [page.volume(float(v)) for v in (lower, upper, values.min(), values.max())]
        found = f"{values.size} of {scans}"
        cells = [escape(name), page.volume(float(median)), f"{ends[0]} – {ends[1]}", *ends[2:], found]
        lines.append(page.row(cells))
    return f"<details open><summary>Figures</summary>{page.scrolled(page.table(heads, lines))}</details>"


def _across(ratio: float) -> float:
    share = math.log(min(max(ratio, 1 / MAX_RATIO), MAX_RATIO)) / math.log(MAX_RATIO)
    return LABEL_WIDTH + PLOT_WIDTH * (share + 1) / 2


def _box(values: np.ndarray, middle: float) -> str:
    """One box plot (Tukey) of the logarithms: quartiles, whiskers up to 1.5 interquartile ranges, outliers as dots."""
    ratios = values / np.median(values)
    lower, median, upper = np.percentile(np.log(ratios), (25, 50, 75))
    reach = 1.5 * (upper - lower)
    inside = ratios[(np.log(ratios) >= lower - reach - 1e-9) & (np.log(ratios) <= upper + reach + 1e-9)]
    left, right = (_across(float(end)) for end in (inside.min(), inside.max()))
    x, line, end = (_across(math.exp(v)) for v in (lower, median, upper))
    dots = "".join(
        f'<circle cx="{_across(ratio):.1f}" cy="{middle:.1f}" r="1.8" fill="var(--accent)"/>'
        for ratio in ratios.tolist()
        if ratio < inside.min() or ratio > inside.max()
    )
    return (
        f'<path d="M{left:.1f} {middle:.1f}H{right:.1f}" stroke="var(--accent)" stroke-width="1.2"/>'
        f'<rect x="{x:.1f}" y="{middle - 5:.1f}" width="{max(end - x, 0.5):.1f}" height="10" rx="1.5" '
        f'fill="var(--accent)"/><path d="M{line:.1f} {middle - 6:.1f}v12" stroke="var(--ink)" stroke-width="1.8"/>'
        f"{dots}"
    )
