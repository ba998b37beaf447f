"""One self-contained HTML page about one evaluation: agreement with manual labels over many subjects."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from ..errors import counted
from ..metrics import OK
from . import page

COLUMNS = (  # field of a row, heading, digits
    ("dice_affine", "Dice, affine only", 3),
    ("dice", "Dice", 3),
    ("hd95_mm", "HD95 (mm)", 2),
    ("assd_mm", "ASSD (mm)", 2),
    ("volume_error_percent", "Volume error (%)", 1),
)
LABEL_WIDTH, PLOT_WIDTH, LINE_HEIGHT = 250, 620, 30


@dataclass(frozen=True)
class Agreement:
    """One structure of one subject, a row of results.csv; NaN where the structure is missing, as ``status`` says."""

    subject: str
    value: int
    name: str
    status: str
    dice_affine: float
    dice: float
    hd_mm: float
    hd95_mm: float
    assd_mm: float
    volume_error_percent: float


@dataclass(frozen=True)
class Summary:
    """The figures over all rows, as summary.json; ``seconds`` are the mean of a subject's."""

    model: str
    split: str
    subjects: int
    dice_affine: float
    dice: float
    dice_sd_over_subjects: float
    hd95_mm: float
    assd_mm: float
    folding_fraction_mean: float
    folding_fraction_max: float
    seconds: float
    warnings: tuple[str, ...] = ()  # of reading the subjects' files


def evaluation_page(rows: Sequence[Agreement], summary: Summary) -> str:
    """HTML page of an evaluation."""
    structures = _grouped(rows, lambda row: (row.value, row.name))
    subjects = _grouped(rows, lambda row: row.subject)
    named = [(f"{name} ({value})", group) for (value, name), group in structures.items()]
    body = [
        _header(summary, len(subjects), len(structures)),
        _missing(rows),
        _key_figures(rows, summary),
        _box_plots(named),
        _table("By structure", "Mean ± standard deviation over the subjects.", "Structure", named),
        _table(
            "By subject",
            "Mean ± standard deviation over the structures.",
            "Subject",
            [(str(subject), group) for subject, group in subjects.items()],
        ),
        _every_row(rows),
    ]
    return page.page(f"Evaluation of {summary.model}", "\n".join(body))


def _grouped(rows: Sequence[Agreement], key: Callable[[Agreement], Any]) -> dict[Any, list[Agreement]]:
    groups: dict[Any, list[Agreement]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _figures(rows: Sequence[Agreement], key: str) -> np.ndarray:
    """The figures that exist; what lacks one is counted in the tables and listed with its status."""
    values = [getattr(row, key) for row in rows]
    return np.array([value for value in values if not math.isnan(value)], float)


def _mean_and_deviation(values: np.ndarray, digits: int) -> str:
    if not values.size:
        return page.NO_FIGURE
    if values.size == 1:
        return page.number(float(values[0]), digits)
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


def _header(summary: Summary, subjects: int, structures: int) -> str:
    return (
        f"<header><h1>Evaluation of {escape(summary.model)}</h1>"
        f'<p class="soft">{page.when()} · {escape(summary.split)} split · {counted(subjects, "subject")} · '
        f"{counted(structures, 'structure')}. Automatic labels against manual ones, each on the subject's own grid.</p>"
        "</header>"
    )


def _missing(rows: Sequence[Agreement]) -> str:
    missing = [row for row in rows if row.status != OK]
    kinds = _grouped(missing, lambda row: row.status)
    texts = [f"{len(group)} of {len(rows)} {status}" for status, group in kinds.items()]
    rest = "They have no distances; each is listed in the table of all figures."
    return page.notice("Structures without a counterpart", texts, rest)


def _key_figures(rows: Sequence[Agreement], summary: Summary) -> str:
    before, after = _figures(rows, "dice_affine"), _figures(rows, "dice")
    return page.facts(
        [
            ("Mean Dice", f"{_mean(before, 3)} → {_mean(after, 3)}", "affine only → warped"),
            ("HD95", f"{_mean(_figures(rows, 'hd95_mm'), 2)} mm", "mean; 0 is best"),
            ("ASSD", f"{_mean(_figures(rows, 'assd_mm'), 2)} mm", "mean; 0 is best"),
            (
                "Folding",
                page.percent(summary.folding_fraction_mean),
                f"of the voxels, mean; at most {page.percent(summary.folding_fraction_max)}",
            ),
            ("Time", f"{page.number(summary.seconds, 1)} s", "per subject, mean"),
        ]
    )


def _mean(values: np.ndarray, digits: int) -> str:
    return page.number(float(values.mean()) if values.size else None, digits)


def _table(title: str, text: str, head: str, groups: Sequence[tuple[str, Sequence[Agreement]]]) -> str:
    rows = []
    for name, group in groups:
        figures = [_mean_and_deviation(_figures(group, key), digits) for key, _, digits in COLUMNS]
        complete = sum(row.status == OK for row in group)
        rows.append(page.row([escape(name), *figures, f"{complete} of {len(group)}"]))
    heads = [head, *(heading for _, heading, _ in COLUMNS), "Complete"]
    return f'<section><h2>{title}</h2><p class="soft">{text}</p>{page.scrolled(page.table(heads, rows))}</section>'


def _every_row(rows: Sequence[Agreement]) -> str:
    lines = [
        page.row(
            [
                escape(row.subject),
                escape(row.name),
                *(page.number(getattr(row, key), digits) for key, _, digits in COLUMNS),
                escape(row.status),
            ],
            numbers_from=2,
            missing=row.status != OK,
        )
        for row in rows
    ]
    heads = ["Subject", "Structure", *(heading for _, heading, _ in COLUMNS), "Status"]
    return (
        "<section><h2>All figures</h2><details><summary>Every structure of every subject</summary>"
        f"{page.scrolled(page.table(heads, lines, numbers_from=2))}</details></section>"
    )


def _box_plots(structures: Sequence[tuple[str, Sequence[Agreement]]]) -> str:
    """Horizontal box plots of Dice, one line a structure, before (grey) and after registration."""
    height = LINE_HEIGHT * len(structures) + 30
    lines = []
    for place, (name, rows) in enumerate(structures):
        middle = LINE_HEIGHT * (place + 0.5)
        lines.append(
            f'<text x="{LABEL_WIDTH - 12}" y="{middle + 4:.1f}" text-anchor="end" font-size="13">'
            f"{escape(_shortened(name))}<title>{escape(name)}</title></text>"
        )
        lines.append(_box(_figures(rows, "dice_affine"), middle - 6, "var(--before)"))
        lines.append(_box(_figures(rows, "dice"), middle + 6, "var(--accent)"))
    axis = "".join(
        f'<path d="M{_across(tick):.1f} 0V{height - 24}" stroke="var(--line)"/>'
        f'<text x="{_across(tick):.1f}" y="{height - 8}" text-anchor="middle" font-size="12">{tick:.1f}</text>'
        for tick in (0, 0.2, 0.4, 0.6, 0.8, 1)
    )
    text = (
        "Dice per structure: grey after affine alignment only, coloured after warping. The box holds the middle "
        "half of the subjects, its line the median, the whiskers reach up to 1.5 box lengths, dots lie beyond."
    )
    return (
        f'<section><h2>Overlap</h2><p class="soft">{text}</p><div class="boxes scroll" {page.SCROLLED}>'
        f'<svg viewBox="0 0 '
        f'{LABEL_WIDTH + PLOT_WIDTH + 20} {height}" role="img" aria-label="Box plots of Dice per structure; '
        f'the tables below give the figures">{axis}{"".join(lines)}</svg></div></section>'
    )


def _across(dice: float) -> float:
    return LABEL_WIDTH + PLOT_WIDTH * dice


def _shortened(name: str, letters: int = 34) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"


def _box(values: np.ndarray, middle: float, color: str) -> str:
    """One box plot (Tukey): quartiles, whiskers up to 1.5 interquartile ranges, outliers as dots."""
    if not values.size:
        return ""
    lower, median, upper = np.percentile(values, (25, 50, 75))
    reach = 1.5 * (upper - lower)
    inside = values[(values >= lower - reach) & (values <= upper + reach)]
    left, right = inside.min(), inside.max()
    dots = "".join(
        f'<circle cx="{_across(value):.1f}" cy="{middle:.1f}" r="1.8" fill="{color}"/>'
        for value in values
        if value < left or value > right
    )
    return (
        f'<path d="M{_across(left):.1f} {middle:.1f}H{_across(right):.1f}" stroke="{color}" stroke-width="1.2"/>'
        f'<rect x="{_across(lower):.1f}" y="{middle - 4:.1f}" width="{_across(upper) - _across(lower):.1f}" '
        f'height="8" rx="1.5" fill="{color}"/><path d="M{_across(median):.1f} {middle - 5:.1f}v10" '
        f'stroke="var(--ink)" stroke-width="1.8"/>{dots}'
    )
