"""One self-contained HTML page about one training: what it learned, what it made, how good that is, what was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import SimpleITK as sitk

from ..errors import counted
from . import drawing, page
from .drawing import VIEWS, Colors, Frame
from .evaluation import Summary
from .pictures import colorbar, row, section

CURVE_WIDTH, CURVE_HEIGHT, CURVE_LEFT, CURVE_BOTTOM = 520, 190, 72, 34
SMOOTHED = 40  # steps, of all, that a curve's points are means of
GRID_LINES = 15
PAIRS = (
    "Pairs are two scans each, which the network alone registers: harder than a scan and the average, by whose labels "
    "the accuracy is measured."
)
STYLE = "pre{background:var(--panel);padding:12px 16px;border-radius:8px;overflow-x:auto;font-size:.82rem}"


@dataclass(frozen=True)
class Point:
    """What the log has of one step: minutes of computing and the terms that were measured."""

    step: int
    minutes: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class HeldOut:
    """One scan beside the atlas: images on the scan's grid, transforms from scan to atlas (LPS, mm).

    ``unseen`` says whether it was held out; ``labels`` are the atlas' as warped, ``truth`` the scan's own; None
    where there are none.
    """

    name: str
    unseen: bool
    scan: sitk.Image
    affine_only: sitk.Image
    warped: sitk.Image
    jacobian: sitk.Image
    transform: sitk.Transform
    affine: sitk.Transform
    folding_fraction: float
    similarity: tuple[float, float]
    labels: sitk.Image | None = None
    truth: sitk.Image | None = None


@dataclass(frozen=True)
class TrainingRun:
    """What the page shows of a training.

    about        a line on the scans, ``counts`` of them per split, and ``left_out``, subject → why
    average      the atlas' image, or what the scans were aligned with; with its labels and their colours, if any
    accuracy     split → the evaluation's figures
    plan         the plan's text
    start        what was kept of the model that the training started from; empty: it started with fresh weights
    habits       what a segmentation with the model does unasked, in sentences
    """

    name: str
    about: str
    counts: Mapping[str, int]
    left_out: Mapping[str, str]
    log: Sequence[Point]
    average: sitk.Image
    average_labels: sitk.Image | None
    colors: Colors
    held_out: Sequence[HeldOut]
    accuracy: Mapping[str, Summary]
    plan: str
    start: str = ""
    habits: Sequence[str] = ()


def training_page(run: TrainingRun) -> str:
    """HTML page of a training."""
    body = [
        _header(run),
        _started(run.start, run.log),
        _left_out(run.left_out),
        page.notice("Doubts", doubts(run.accuracy)),
        _key_figures(run),
        _accuracy(run),
        _curves(run.log),
        _average(run),
        *[_before_and_after(one, run.colors, n) for n, one in enumerate(run.held_out)],
        f"<section><h2>What was chosen, and why</h2><pre>{escape(run.plan)}</pre></section>",
    ]
    return page.page(f"Training of {run.name}", "\n".join(body), STYLE)


def _header(run: TrainingRun) -> str:
    splits = ", ".join(f"{count} for {split}" for split, count in run.counts.items() if count)
    about = " · ".join(filter(None, (page.when(), escape(run.about))))
    return (
        f"<header><h1>Training of {escape(run.name)}</h1>"
        f'<p class="soft">{about}<br>Scans: {escape(splits)}. '
        "The network was trained without labels. For research; not a medical device.</p></header>"
    )


def _started(start: str, log: Sequence[Point]) -> str:
    """What the training started from, and whether its validation found anything better."""
    if not start:
        return ""
    words = {"validation_dice": "Dice of pairs of validation scans", "validation_loss": "Loss of pairs of scans"}
    verdict = ""
    for key, what in words.items():
        found = [(-p.values[key] if key == "validation_loss" else p.values[key], p) for p in log if key in p.values]
        if not found or found[0][1].step != 0:
            continue
        best, where = max(found[1:], key=lambda pair: pair[0], default=found[0])
        first, later = (f"{abs(value):.3f}" for value in (found[0][0], best))
        if best > found[0][0]:
            verdict = f"{what}: {first} at the start, {later} after step {where.step}, whose network is the model's."
        else:
            verdict = f"The start was not improved, and is the model's network: {what} {first}, later {later} at best."
    return f"<p>Started from {escape(start)}. {verdict}</p>"


def _left_out(left_out: Mapping[str, str]) -> str:
    return page.notice("Scans that were left out", [f"{name}: {why}" for name, why in left_out.items()])


def doubts(accuracy: Mapping[str, Summary]) -> list[str]:
    """Of each split on which the model did no better than the alignment that it begins with."""
    return [
        f"the model is no better than affine alignment alone on {counted(one.subjects, 'scan')} of the {split} split "
        f"(Dice {one.dice:.3f}, affine {one.dice_affine:.3f}): train it for more minutes, or look at the page for what "
        "does not fit"
        for split, one in accuracy.items()
        if one.dice <= one.dice_affine
    ]


def _key_figures(run: TrainingRun) -> str:
    last = run.log[-1] if run.log else Point(0, 0.0, {})
    entries = [("Steps", str(last.step), f"in {last.minutes:.3g} minutes of computing")]
    for split, summary in run.accuracy.items():
        entries.append(
            (
                f"Dice, {split}",
                f"{page.number(summary.dice_affine, 3)} → {page.number(summary.dice, 3)}",
                f"{counted(summary.subjects, 'scan')}, affine only → the model",
            )
        )
    folds = [one.folding_fraction for one in run.held_out]
    if folds:
        entries.append(("Folding", page.percent(max(folds)), "of the voxels, at most; 0 is best"))
        before, after = (float(np.mean([one.similarity[n] for one in run.held_out])) for n in (0, 1))
        entries.append(
            ("Similarity to the average", f"{before:.2f} → {after:.2f}", "local correlation, affine only → warped")
        )
    return page.facts(entries)


def _accuracy(run: TrainingRun) -> str:
    own = "".join(f"<p>{escape(habit)}</p>" for habit in run.habits)
    if not run.accuracy:
        text = "No labelled scan was held out, so that no accuracy can be told: label some, or look at the pictures."
        return section("Accuracy", text, [own])
    rows = [
        page.row(
            [
                f'<a href="{escape(split)}/report.html">{escape(split)}</a>',
                str(one.subjects),
                page.number(one.dice_affine, 3),
                f"{one.dice:.3f}" + (f" ± {one.dice_sd_over_subjects:.3f}" if one.subjects > 1 else ""),
                page.number(one.hd95_mm, 2),
                page.number(one.assd_mm, 2),
                page.percent(one.folding_fraction_mean),
            ]
        )
        for split, one in run.accuracy.items()
    ]
    heads = ["Split", "Scans", "Dice, affine only", "Dice", "HD95 (mm)", "ASSD (mm)", "Folding"]
    text = (
        "On scans that the network and the atlas have not seen: by those of validation choices were made, those of "
        "test only measure. Mean over structures and scans ± standard deviation over scans."
    )
    if run.start:
        text += " Whether the model that the training started from had seen any of them is not known."
    return section("Accuracy", text, [page.scrolled(page.table(heads, rows)), own])


def _curves(log: Sequence[Point]) -> str:
    curves = [
        _curve(log, "similarity", "Dissimilarity of the training's pairs", smoothed=True),
        _curve(log, "regulariser", "Unevenness of the deformation", smoothed=True),
        _curve(log, "validation_dice", "Dice of pairs of validation scans", smoothed=False),
        _curve(log, "validation_loss", "Loss of pairs of scans, not augmented", smoothed=False),
    ]
    shown = "".join(curve for curve in curves if curve)
    return (
        section("Training", f"Against minutes of computing. {PAIRS}", [f'<div class="columns">{shown}</div>'])
        if shown
        else ""
    )


def _curve(log: Sequence[Point], key: str, title: str, *, smoothed: bool) -> str:
    """One curve as SVG, or nothing where there are fewer than two points."""
    points = [(point.minutes, point.values[key]) for point in log if key in point.values]
    if len(points) < 2:
        return ""
    x, y = np.array(points).T
    if smoothed:
        parts = np.array_split(np.arange(len(x)), min(len(x), SMOOTHED))
        x, y = (np.array([of[part].mean() for part in parts]) for of in (x, y))
    low, high = float(y.min()), float(y.max())
    high = high if high > low else low + 1e-3
    across = CURVE_LEFT + (CURVE_WIDTH - CURVE_LEFT - 10) * x / max(float(x.max()), 1e-9)
    down = 10 + (CURVE_HEIGHT - CURVE_BOTTOM - 10) * (high - y) / (high - low)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across.tolist(), down.tolist(), strict=True))
    dots = "".join(
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="var(--accent)"/>'
        for a, b in zip(across.tolist(), down.tolist(), strict=True)
    )
    floor = CURVE_HEIGHT - CURVE_BOTTOM
    return (
        f'<figure style="flex:1 1 320px;max-width:540px"><figcaption>{escape(title)}</figcaption>'
        f'<svg style="background:none" viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}: from {y[0]:.3g} to {y[-1]:.3g}" font-size="12" fill="currentColor">'
        f'<path d="M{CURVE_LEFT} 10V{floor}H{CURVE_WIDTH - 10}" fill="none" stroke="var(--line)"/>'
        f'<text x="{CURVE_LEFT - 6}" y="16" text-anchor="end">{high:.3g}</text>'
        f'<text x="{CURVE_LEFT - 6}" y="{floor}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{CURVE_LEFT}" y="{floor + 18}">0</text>'
        f'<text x="{CURVE_WIDTH - 10}" y="{floor + 18}" text-anchor="end">{x.max():.3g} min</text>'
        f'<polyline points="{line}" fill="none" stroke="var(--accent)" stroke-width="2"/>{"" if smoothed else dots}'
        "</svg></figure>"
    )


def _frames(image: sitk.Image, labels: sitk.Image | None) -> tuple[Frame, ...]:
    """The three planes through the middle of the labels, or of the image."""
    bounds = drawing.bounds_mm(image)
    points = drawing.labelled_points_mm(labels) if labels is not None else np.empty((0, 3))
    middle = points.mean(axis=0) if len(points) else bounds.mean(axis=0)
    x, y, z = middle.tolist()
    pixel = float((bounds[1] - bounds[0]).max()) / drawing.MAX_SIDE_PIXELS
    return tuple(drawing.frame(view, bounds, (x, y, z), pixel) for view in VIEWS)


def _grey(image: sitk.Image, where: Frame) -> str:
    return drawing.svg_image(drawing.grey_png(drawing.sample(image, where), drawing.window(image)), where)


def _labelled(labels: sitk.Image | None, where: Frame, colors: Colors, *, areas: bool = True) -> str:
    if labels is None:
        return ""
    values = drawing.sample(labels, where, nearest=True)
    filled = drawing.svg_image(drawing.areas_png(values, colors), where) if areas else ""
    return filled + drawing.svg_image(drawing.outlines_png(values, colors), where)


def _average(run: TrainingRun) -> str:
    frames = _frames(run.average, run.average_labels)
    rows = [row("The average image", frames, lambda where: _grey(run.average, where) + drawing.svg_scale_bar(where))]
    if run.average_labels is not None:
        rows.append(
            row(
                "Its labels",
                frames,
                lambda where: _grey(run.average, where) + _labelled(run.average_labels, where, run.colors),
            )
        )
    text = "The mean of the training scans in their mean shape: sharp where the network brings them together."
    return section("The atlas" if run.average_labels is not None else "The average", text, rows)


def _before_and_after(one: HeldOut, colors: Colors, index: int) -> str:
    frames = _frames(one.scan, one.labels)
    step = drawing.round_length(max(frames[0].width_mm, frames[0].height_mm) / GRID_LINES)
    outlines = one.truth if one.truth is not None else one.labels

    def grid(where: Frame) -> str:
        return _grey(one.scan, where) + drawing.svg_grid(where, one.transform, one.affine, step)

    def map_of_volume(where: Frame) -> str:
        folds = drawing.sample(one.jacobian, where, nearest=True, outside=1.0) <= 0
        values = np.zeros(folds.shape, int) if outlines is None else drawing.sample(outlines, where, nearest=True)
        return drawing.svg_image(
            drawing.jacobian_png(drawing.sample(one.jacobian, where, outside=1.0), folds, values), where
        )

    def carried(where: Frame) -> str:
        return _grey(one.scan, where) + _labelled(one.labels, where, colors)

    scan = "The scan, with its own labels" if one.truth is not None else "The scan"
    rows = [
        row(scan, frames, lambda where: _grey(one.scan, where) + _labelled(one.truth, where, colors, areas=False)),
        row(
            "The average before: affine alignment only",
            frames,
            lambda where: _grey(one.affine_only, where) + _labelled(outlines, where, colors, areas=False),
        ),
        row(
            "The average after: warped onto the scan",
            frames,
            lambda where: _grey(one.warped, where) + _labelled(outlines, where, colors, areas=False),
        ),
        row(f"Grid of {step:g} mm", frames, grid),
    ]
    if one.labels is not None:
        rows.insert(1, row("The atlas' labels on it", frames, carried))
    if index == 0:
        rows += [row("Change of volume (Jacobian determinant)", frames, map_of_volume), colorbar()]
    before, after = one.similarity
    text = (
        f"Local correlation with the average {before:.2f} → {after:.2f}; folding {page.percent(one.folding_fraction)} "
        "of the voxels. Outlines on the average are the scan's labels."
    )
    return section(f"{'Held out' if one.unseen else 'A training scan'}: {one.name}", text, rows)
