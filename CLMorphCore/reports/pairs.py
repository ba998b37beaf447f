"""One self-contained HTML page about registrations that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ..errors import counted
from . import page


@dataclass(frozen=True)
class PairRow:
    """One registration, a row of results.csv; None for what its files do not allow to measure.

    Landmarks' distances before (as the images lie) and after; means over the structures; det ∂T/∂p over the fixed
    image, or within its mask.
    """

    pair: str
    landmarks: int
    tre_before_mean_mm: float | None
    tre_mean_mm: float | None
    tre_median_mm: float | None
    tre_max_mm: float | None
    structures: int
    dice_before: float | None
    dice: float | None
    hd95_mm: float | None
    assd_mm: float | None
    folding_fraction: float
    jacobian_min: float | None
    jacobian_mean: float | None
    jacobian_max: float | None
    log_jacobian_sd: float | None
    inverse_mean_mm: float | None
    inverse_max_mm: float | None


@dataclass(frozen=True)
class RegionRow:
    """One structure of one registration, a row of structures.csv; ``dice_before`` is of the images as they lie."""

    pair: str
    value: int
    status: str
    dice_before: float | None
    dice: float | None
    hd_mm: float | None
    hd95_mm: float | None
    assd_mm: float | None
    volume_error_percent: float | None
    jacobian_mean: float | None
    log_jacobian_sd: float | None
    folding_fraction: float | None


@dataclass(frozen=True)
class LandmarkRow:
    """One landmark of one registration, a row of landmarks.csv."""

    pair: str
    name: str
    before_mm: float
    error_mm: float


@dataclass(frozen=True)
class PairsSummary:
    """summary.json: means over the pairs that have a figure, and which pair is the worst by it.

    ``model`` is empty, that of no model: as every summary it has one.
    """

    pairs: int
    landmarks: int
    mean: dict[str, float]
    worst: dict[str, str]
    model: str = ""
    warnings: tuple[str, ...] = ()


COLUMNS = (  # field of a row, heading, digits
    ("tre_before_mean_mm", "Landmarks before (mm)", 2),
    ("tre_mean_mm", "after, mean", 2),
    ("tre_median_mm", "median", 2),
    ("tre_max_mm", "largest", 2),
    ("dice_before", "Dice before", 3),
    ("dice", "Dice", 3),
    ("hd95_mm", "HD95 (mm)", 2),
    ("assd_mm", "ASSD (mm)", 2),
    ("log_jacobian_sd", "SD of log J", 3),
    ("jacobian_min", "least J", 3),
    ("inverse_mean_mm", "Inverse, mean (mm)", 3),
    ("inverse_max_mm", "largest (mm)", 3),
)
REGION_COLUMNS = (
    ("dice_before", "Dice before", 3),
    ("dice", "Dice", 3),
    ("hd95_mm", "HD95 (mm)", 2),
    ("assd_mm", "ASSD (mm)", 2),
    ("volume_error_percent", "Volume error (%)", 1),
    ("jacobian_mean", "Mean J", 3),
    ("log_jacobian_sd", "SD of log J", 3),
)


def pairs_page(
    rows: Sequence[PairRow], regions: Sequence[RegionRow], landmarks: Sequence[LandmarkRow], summary: PairsSummary
) -> str:
    """HTML page of registrations."""
    count = counted(summary.pairs, "registration")
    body = [
        f'<header><h1>Evaluation of {count}</h1><p class="soft">{page.when()} · landmarks in mm, labels of the moving '
        "image on the fixed one, J the Jacobian determinant of the whole transform (above 1: the moving image's volume "
        "is larger), inverse: how far from its start a point comes back.</p></header>",
        page.notice("", summary.warnings),
        _key_figures(summary),
        _pairs(rows),
        _regions(regions) if regions else "",
        _landmarks(landmarks) if landmarks else "",
    ]
    return page.page(f"Evaluation of {count}", "\n".join(body))


def _key_figures(summary: PairsSummary) -> str:
    mean, worst = summary.mean, summary.worst

    def fact(title: str, figure: str, digits: int, unit: str, before: str = "") -> list[tuple[str, str, str]]:
        if figure not in mean:
            return []
        first = f"{page.number(mean[before], digits)} → " if before in mean else ""
        last = f"; worst: {escape(worst[figure])}" if figure in worst else ""
        return [(title, f"{first}{page.number(mean[figure], digits)}{unit}", f"mean over the pairs{last}")]

    return page.facts(
        [
            *fact("Target registration error", "tre_mean_mm", 2, " mm", "tre_before_mean_mm"),
            *fact("Dice", "dice", 3, "", "dice_before"),
            *fact("HD95", "hd95_mm", 2, " mm"),
            ("Folding", page.percent(mean.get("folding_fraction")), "of the voxels, mean"),
            *fact("SD of log J", "log_jacobian_sd", 3, ""),
            *fact("Inverse consistency", "inverse_mean_mm", 3, " mm"),
        ]
    )


def _pairs(rows: Sequence[PairRow]) -> str:
    shown = [column for column in COLUMNS if any(getattr(row, column[0]) is not None for row in rows)]
    lines = [
        page.row(
            [
                escape(row.pair),
                *(page.number(getattr(row, key), digits) for key, _, digits in shown),
                page.percent(row.folding_fraction),
            ]
        )
        for row in rows
    ]
    heads = ["Pair", *(heading for _, heading, _ in shown), "Folding"]
    return f"<section><h2>By pair</h2>{page.scrolled(page.table(heads, lines))}</section>"


def _regions(regions: Sequence[RegionRow]) -> str:
    lines = []
    for value in sorted({row.value for row in regions}):
        group = [row for row in regions if row.value == value]
        cells = []
        for key, _, digits in REGION_COLUMNS:
            known = [figure for row in group if (figure := getattr(row, key)) is not None]
            cells.append(page.number(float(np.mean(known)) if known else None, digits))
        lines.append(page.row([str(value), *cells, str(len(group))]))
    heads = ["Label", *(heading for _, heading, _ in REGION_COLUMNS), "Pairs"]
    return (
        '<section><h2>By structure</h2><p class="soft">Means over the pairs; every one is in structures.csv.</p>'
        f"{page.scrolled(page.table(heads, lines))}</section>"
    )


def _landmarks(landmarks: Sequence[LandmarkRow]) -> str:
    lines = [
        page.row(
            [escape(row.pair), escape(row.name), page.number(row.before_mm, 2), page.number(row.error_mm, 2)],
            numbers_from=2,
        )
        for row in landmarks
    ]
    table = page.table(["Pair", "Landmark", "Before (mm)", "After (mm)"], lines, numbers_from=2)
    return (
        "<section><h2>Landmarks</h2><details><summary>Every landmark of every pair</summary>"
        f"{page.scrolled(table)}</details></section>"
    )
