"""One self-contained HTML page about a study: maps of t on the atlas, peaks, structures, and how large effects are."""

from __future__ import annotations

from html import escape

import numpy as np
import SimpleITK as sitk

from ..errors import counted
from ..reports import drawing, page
from ..reports.drawing import VIEWS, Frame
from ..reports.pictures import row, section
from .statistics import Tested, effect_name
from .study import SIGNIFICANT, Study, TermResult

LINE_HEIGHT, LABEL_WIDTH, PLOT_WIDTH = 22, 270, 460
OPACITY = 215
CONTOUR = {1: (255, 255, 255)}
MAX_LINES = 40  # structures of a plot; the table has all


def study_page(study: Study) -> str:
    """HTML page of a study."""
    body = [_header(study), _warnings(study), _facts(study)]
    body += [_term(study, result) for result in study.results]
    return page.page(f"Morphometry: {study.design.formula}", "\n".join(body))


def _header(study: Study) -> str:
    size = (
        "Relative volumes: each scan's affine part, its size, is taken out."
        if study.settings.relative
        else "Total volumes: with the affine part, each scan's size."
    )
    both = "Both sides lie on the one atlas, one of them mirrored, and are one test. " if len(study.sides) > 1 else ""
    return (
        f"<header><h1>Morphometry: {escape(study.design.formula)}</h1>"
        f'<p class="soft">{page.when()} · {counted(study.scans, "scan")} in the space of the atlas '
        f"{escape(study.atlas.name)} of the model {escape(study.model)}. {both}{size} Each term is tested with all "
        "others and an intercept, two-sided, by permutation; p is corrected for all voxels, or all structures, by "
        f"{'threshold-free cluster enhancement (voxels) and ' if study.settings.tfce else ''}the greatest |t|.</p>"
        "</header>"
    )


def _warnings(study: Study) -> str:
    return page.notice("", study.warnings)


def _facts(study: Study) -> str:
    voxels = int(np.count_nonzero(sitk.GetArrayViewFromImage(study.mask)))
    return page.facts(
        [
            ("Scans", str(study.scans), f"{study.design.freedom} degrees of freedom"),
            ("Permutations", str(study.settings.permutations), f"seed {study.settings.seed}"),
            ("Smoothing", f"{study.settings.fwhm_mm:.3g} mm", "full width at half maximum"),
            ("Voxels", str(voxels), f"of {min(study.mask.GetSpacing()):.3g} mm or more, {study.mask_is}"),
        ]
    )


def _term(study: Study, result: TermResult) -> str:
    term = result.voxels.term
    title = f"{term.name}: {term.contrast}{f', {result.side} side' if result.side else ''}"
    found = int(np.count_nonzero(_p(result.voxels) < SIGNIFICANT))
    text = (
        f"Red: larger with the term ({term.contrast}); blue: smaller. Coloured by t, up to {_limit(result):.2g}; a "
        f"white line surrounds what is significant (corrected p < {SIGNIFICANT:g}): {found} of {len(result.voxels.t)} "
        "voxels. The planes go through the greatest |t|."
    )
    last = result.side == study.sides[-1]  # structures of both sides are one table, after the maps of both
    return section(title, text, [_maps(study, result), _peaks(result), *([_structures(study, result)] if last else [])])


def _p(test: Tested) -> np.ndarray:
    return test.p if test.p_tfce is None else test.p_tfce


def _limit(result: TermResult) -> float:
    """|t| at which colours saturate."""
    return float(max(np.abs(result.voxels.t).max(), 1e-6))


def _maps(study: Study, result: TermResult) -> str:
    image, limit = study.atlas.image, _limit(result)
    bounds = drawing.bounds_mm(image)
    highest = np.unravel_index(int(np.abs(sitk.GetArrayViewFromImage(result.t)).argmax()), result.t.GetSize()[::-1])
    place = result.t.TransformIndexToPhysicalPoint([int(n) for n in highest[::-1]])
    pixel = float((bounds[1] - bounds[0]).max()) / drawing.MAX_SIDE_PIXELS
    greys = drawing.window(image)

    def draw(where: Frame) -> str:
        t, inside = drawing.sample(result.t, where), drawing.sample(study.mask, where, nearest=True) > 0
        share = np.clip(t / limit, -1, 1)
        colored = np.zeros((*t.shape, 4), np.uint8)
        colored[..., :3] = drawing.jacobian_color(drawing.JACOBIAN_RANGE**share)
        colored[..., 3] = np.where(inside, OPACITY * np.sqrt(np.abs(share)), 0)
        significant = (drawing.sample(result.p, where, nearest=True, outside=1.0) < SIGNIFICANT).astype(np.uint8)
        return (
            drawing.svg_image(drawing.grey_png(drawing.sample(image, where), greys), where)
            + drawing.svg_image(drawing.png(colored), where)
            + drawing.svg_image(drawing.outlines_png(significant, CONTOUR), where)
            + drawing.svg_scale_bar(where)
        )

    return row("t on the atlas", [drawing.frame(view, bounds, place, pixel) for view in VIEWS], draw)


def _peaks(result: TermResult) -> str:
    if not result.peaks:
        return f"<p>No voxel is significant (corrected p ≥ {SIGNIFICANT:g} everywhere).</p>"
    rows = [
        page.row(
            [
                escape(peak.structure) or page.NO_FIGURE,
                ", ".join(f"{at:.0f}" for at in peak.place_mm),
                page.volume(peak.volume_ml),
                page.number(peak.t),
                f"{peak.p:.2g}",
                page.number(peak.effect),
                page.interval((peak.low, peak.high)),
            ]
        )
        for peak in result.peaks
    ]
    heads = ["Structure", "Place, LPS (mm)", "Region (ml)", "t", "p", effect_name(result.voxels.term), "95 % interval"]
    caption = "Significant regions, each at its greatest |t|, where effects look larger than they are."
    return page.scrolled(page.table(heads, rows, caption))


def _structures(study: Study, result: TermResult) -> str:
    """A plot of the strongest effects, and the table of all."""
    test = result.structures
    order = np.argsort(-np.abs(test.t), kind="stable")
    rows = [
        page.row(
            [
                f'<span class="swatch" style="background:{escape(study.structures[n].color)}"></span>'
                f"{escape(study.structures[n].name)}",
                page.volume(float(study.mean_ml[n])),
                page.number(float(test.t[n])),
                f"{test.p[n]:.2g}",
                page.number(float(test.effect[n])),
                page.interval((float(test.low[n]), float(test.high[n]))),
            ]
        )
        for n in order
    ]
    heads = ["Structure", "Mean volume (ml)", "t", "p", effect_name(test.term), "95 % interval"]
    table = page.table(heads, rows, "Volumes of the labels, p corrected for all structures.")
    return _plot(study, test, order[:MAX_LINES].tolist()) + page.scrolled(table)


def _plot(study: Study, test: Tested, order: list[int]) -> str:
    """Effects with their intervals, a line for each structure; filled where significant."""
    reach = max(1e-6, *(max(abs(float(test.low[n])), abs(float(test.high[n]))) for n in order))

    def across(effect: float) -> float:
        return LABEL_WIDTH + PLOT_WIDTH * (0.5 + 0.5 * effect / reach)

    lines = []
    for place, n in enumerate(order):
        y, name = LINE_HEIGHT * (place + 0.5), study.structures[n].name
        fill = "var(--accent)" if test.p[n] < SIGNIFICANT else "var(--paper)"
        lines.append(
            f'<text x="{LABEL_WIDTH - 12}" y="{y + 4:.1f}" text-anchor="end" font-size="12">{escape(name[:38])}</text>'
            f'<path d="M{across(float(test.low[n])):.1f} {y:.1f}H{across(float(test.high[n])):.1f}" '
            f'stroke="var(--accent)" stroke-width="1.5"/><circle cx="{across(float(test.effect[n])):.1f}" cy="{y:.1f}" '
            f'r="4" fill="{fill}" stroke="var(--accent)" stroke-width="1.5"/>'
        )
    height, width = LINE_HEIGHT * len(order) + 26, LABEL_WIDTH + PLOT_WIDTH + 30
    axis = "".join(
        f'<path d="M{across(tick):.1f} 0V{height - 22}" stroke="var(--line)"/>'
        f'<text x="{across(tick):.1f}" y="{height - 6}" text-anchor="middle" font-size="12">{tick:.2g}</text>'
        for tick in (-reach, 0.0, reach)
    )
    name = f"{effect_name(test.term)} of volumes with 95 % intervals; filled: corrected p < {SIGNIFICANT:g}"
    return (
        f'<p class="label">{escape(name)}</p><div class="boxes scroll" {page.SCROLLED}>'
        f'<svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(name)}; the table gives the figures">{axis}{"".join(lines)}</svg></div>'
    )
