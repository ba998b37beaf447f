"""The report of a segmented series: volumes over time, what a heart ejects, and a page with the curve."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..io.tables import escaped
from . import drawing, page, summary
from .drawing import VIEWS, Colors, Frame
from .pictures import margin_mm, row, section
from .report import RegistrationReport, Report, StructureEntry

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 300, 56, 40, 12, 12
MAX_CURVES = 8  # of the largest structures
MAX_ROWS = 60  # of the page's table; volumes_over_time.csv has all


@dataclass(frozen=True)
class FrameEntry:
    """One frame that was followed, its ``number`` from 1: volumes by label, and how well its map fits.

    ``similarity`` is the local correlation of the segmented frame, warped, with it; None of that frame itself.
    """

    number: int
    time_s: float | None
    volumes_ml: dict[str, float]
    similarity: float | None = None
    folding_fraction: float | None = None


@dataclass(frozen=True)
class HeartEntry:
    """What a ventricle pumps; frames from 1."""

    side: str
    structure: str
    end_diastole: int
    end_systole: int
    edv_ml: float
    esv_ml: float
    ejection_fraction: float | None


@dataclass(frozen=True)
class Entry:
    """The series: frames from 1; ``labelled`` are those of labels.nii.gz.

    ``closing_mean_mm`` and ``closing_max_mm`` are how far apart the two ways round the cycle end within the labels.
    """

    count: int
    segmented: int
    labelled: tuple[int, ...]
    frames: tuple[FrameEntry, ...]
    closing_mean_mm: float | None = None
    closing_max_mm: float | None = None
    heart: tuple[HeartEntry, ...] = ()


@dataclass(frozen=True)
class SeriesReport:
    """That of the segmented frame, and of the series."""

    frame: Report
    series: Entry

    def with_durations(self, seconds: Mapping[str, float]) -> SeriesReport:
        """The same report with the times of further steps."""
        return replace(self, frame=self.frame.with_durations(seconds))

    def save(self, path: Path) -> None:
        """Writes report.json: the frame's report, as of one scan, with ``series``."""
        write_report(path, self.frame, asdict(self.series))


def write_report(path: Path, of_frame: Report | RegistrationReport, series: Mapping[str, Any]) -> None:
    """report.json of one frame, as of one scan, with ``series``."""
    tree = asdict(of_frame) | {"series": series}
    path.write_text(json.dumps(tree, indent=1, ensure_ascii=False), encoding="utf-8")


def volumes_csv(report: SeriesReport) -> str:
    """A row for each frame that was followed: its number, its time (s) if known, and ml of each structure."""
    structures, table = report.frame.structures, io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = [entry.name for entry in structures]
    shown = [n.name if names.count(n.name) == 1 else f"{n.name} ({n.value})" for n in structures]
    timed = any(frame.time_s is not None for frame in report.series.frames)
    writer.writerow(["frame", *["time_s"] * timed, *(escaped(f"{name} (ml)") for name in shown)])
    for frame in report.series.frames:
        volumes = [f"{frame.volumes_ml.get(str(entry.value), 0.0):.4f}" for entry in structures]
        writer.writerow([frame.number, *[f"{frame.time_s or 0.0:.6g}"] * timed, *volumes])
    return table.getvalue()


def series_page(report: SeriesReport, pictures: Sequence[tuple[int, sitk.Image, sitk.Image]]) -> str:
    """HTML page; ``pictures`` are frames (from 0) with their image and their labels."""
    colors = {entry.value: drawing.rgb(entry.color) for entry in report.frame.structures}
    body = [
        summary.header(report.frame),
        summary.warnings(report.frame.warnings),
        _facts(report),
        _curves(report),
        _pictures(report, pictures, colors),
        _table(report),
        f"<p>Of frame {report.series.segmented}, which was segmented:</p>",
        summary.key_figures(report.frame),
        summary.structures(report.frame.structures),
        summary.details(report.frame),
    ]
    return page.page(f"Series of {summary.short_name(report.frame.image)}", "\n".join(body))


def _facts(report: SeriesReport) -> str:
    series = report.series
    entries = [("Frames", str(series.count), f"frame {series.segmented} was segmented, the others follow it")]
    for one in series.heart:
        entries.append(
            (
                f"Ejection fraction, {one.side}",
                "–" if one.ejection_fraction is None else f"{100 * one.ejection_fraction:.0f} %",
                f"{one.structure}: {one.edv_ml:.1f} ml in frame {one.end_diastole}, {one.esv_ml:.1f} ml in frame "
                f"{one.end_systole}",
            )
        )
    if series.closing_mean_mm is not None:
        figure = f"{series.closing_mean_mm:.2f} mm"
        entries.append(
            ("Closing error", figure, f"of the two ways round the cycle; at most {series.closing_max_mm:.1f}")
        )
    return page.facts(entries)


def _curves(report: SeriesReport) -> str:
    """Volumes over time as SVG, end-diastole and end-systole marked; nothing for fewer than two frames."""
    frames = report.series.frames
    if len(frames) < 2:
        return ""
    timed = all(frame.time_s is not None for frame in frames)
    x = np.array([frame.time_s if timed else frame.number for frame in frames], float)
    largest = sorted(report.frame.structures, key=lambda entry: -_series_of(report, entry).max())[:MAX_CURVES]
    high = max(float(_series_of(report, entry).max()) for entry in largest) or 1.0
    across = LEFT + (WIDTH - LEFT - RIGHT) * (x - x[0]) / (x[-1] - x[0])
    floor = HEIGHT - BOTTOM
    lines, legend = [], []
    for entry in largest:
        down = floor - (floor - TOP) * _series_of(report, entry) / high
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across.tolist(), down.tolist(), strict=True))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{escape(entry.color)}" stroke-width="2.5"/>')
        legend.append(
            f'<span><span class="swatch" style="background:{escape(entry.color)}"></span>{escape(entry.name)}</span> '
        )
    places = {frame.number: place for frame, place in zip(frames, across.tolist(), strict=True)}
    for one in report.series.heart[:1]:
        for number, name in ((one.end_diastole, "ED"), (one.end_systole, "ES")):
            right = places[number] > WIDTH / 2
            where = f'x="{places[number] + (-5 if right else 5):.1f}" text-anchor="{"end" if right else "start"}"'
            lines.append(
                f'<path d="M{places[number]:.1f} {TOP}V{floor}" stroke="currentColor" stroke-dasharray="4 4"/>'
                f'<text {where} y="{floor - 8}">{name}, frame {number}</text>'
            )
    unit = "s" if timed else "frame"
    axes = (
        f'<path d="M{LEFT} {TOP}V{floor}H{WIDTH - RIGHT}" fill="none" stroke="var(--line)"/>'
        f'<text x="{LEFT - 6}" y="{TOP + 8}" text-anchor="end">{page.volume(high, 1)}</text>'
        f'<text x="{LEFT - 6}" y="{floor}" text-anchor="end">0</text><text x="4" y="{HEIGHT - 6}">ml</text>'
        f'<text x="{LEFT}" y="{floor + 18}">{x[0]:.3g}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{floor + 18}" text-anchor="end">{x[-1]:.4g} {unit}</text>'
    )
    picture = (
        f'<figure><svg style="background:none" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-size="13" '
        f'fill="currentColor" aria-label="Volumes of {len(largest)} structures over {len(frames)} frames">{axes}'
        f'{"".join(lines)}</svg></figure><p class="soft">{" ".join(legend)}</p>'
    )
    return section("Volumes over time", "Labels of one frame, carried to the others by registration.", [picture])


def _series_of(report: SeriesReport, entry: StructureEntry) -> np.ndarray:
    return np.array([frame.volumes_ml.get(str(entry.value), 0.0) for frame in report.series.frames])


def _pictures(report: SeriesReport, pictures: Sequence[tuple[int, sitk.Image, sitk.Image]], colors: Colors) -> str:
    """Each frame in three planes with its labels; the same planes for all."""
    if not pictures:
        return ""
    bounds, points = drawing.bounds_mm(pictures[0][1]), drawing.labelled_points_mm(pictures[0][2])
    box, place = bounds, bounds.mean(axis=0)
    if len(points):
        low, high = points.min(axis=0), points.max(axis=0)
        margin = margin_mm(float((high - low).max()))
        box, place = np.clip([low - margin, high + margin], bounds[0], bounds[1]), points.mean(axis=0)
    pixel = float((box[1] - box[0]).max()) / drawing.MAX_SIDE_PIXELS
    x, y, z = place.tolist()
    planes = tuple(drawing.frame(view, box, (x, y, z), pixel) for view in VIEWS)
    limits = drawing.window(pictures[0][1])
    rows = [
        row(_title(report, number + 1), planes, lambda where, i=image, m=labels: _labelled(i, m, where, limits, colors))
        for number, image, labels in pictures
    ]
    return section("Frames", "Radiological view: the subject's left is on the right of the picture.", rows)


def _title(report: SeriesReport, number: int) -> str:
    told = [f"Frame {number}"]
    for one in report.series.heart[:1]:
        phases = (("end-diastole", one.end_diastole), ("end-systole", one.end_systole))
        told += [name for name, frame in phases if frame == number]
    return ", ".join([*told, *["segmented"] * (number == report.series.segmented)])


def _labelled(image: sitk.Image, labels: sitk.Image, where: Frame, limits: tuple[float, float], colors: Colors) -> str:
    values = drawing.sample(labels, where, nearest=True)
    return (
        drawing.svg_image(drawing.grey_png(drawing.sample(image, where), limits), where)
        + drawing.svg_image(drawing.areas_png(values, colors), where)
        + drawing.svg_image(drawing.outlines_png(values, colors), where)
    )


def _table(report: SeriesReport) -> str:
    structures = sorted(report.frame.structures, key=lambda entry: -_series_of(report, entry).max())[:MAX_CURVES]
    rows = [
        page.row(
            [
                str(frame.number),
                page.number(frame.time_s, 3),
                *(page.volume(frame.volumes_ml.get(str(entry.value), 0.0), 2) for entry in structures),
                page.number(frame.similarity),
                page.percent(frame.folding_fraction),
            ]
        )
        for frame in report.series.frames[:MAX_ROWS]
    ]
    heads = ["Frame", "Time (s)", *(f"{entry.name} (ml)" for entry in structures), "Similarity", "Folding"]
    text = "Similarity is the local correlation of the segmented frame, warped, with this one."
    return section("Volumes by frame", text, [page.scrolled(page.table(heads, rows))])
