"""What the scans of a cohort tell together: one row each, outliers among their volumes, a table and a page."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from .. import __version__
from ..atomic import atomic_folder
from ..io.checksums import seal
from ..io.outputs import check_results
from ..io.tables import escaped
from ..reports.cohort import DONE, FAILED, WAITING, Row, Summary, cohort_page
from ..reports.report import Report
from .places import Place
from .results import held, own_of, read_failure, read_record
from .scans import Scan

TABLE, PAGE, RECORD = "volumes.csv", "cohort.html", "cohort.json"
RESULTS = (TABLE, PAGE, RECORD)
MAX_ROBUST_Z = 3.5  # of Iglewicz and Hoaglin (1993): beyond, a value is an outlier
MIN_SCANS = 8  # with a structure, below which nothing is an outlier


def row_of(scan: Scan, output: Path, settings: str) -> Row:
    """What is on the disk of a scan: a result of these settings, why there is none, or nothing yet."""
    if failure := scan.missing or read_failure(scan.place):
        return Row(scan.name, FAILED, reason=failure)
    tree = read_record(scan.place) or {}
    own = own_of(tree)
    if own.get("settings") != settings:
        return Row(scan.name, WAITING)
    try:
        report = Report.from_dict(tree)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Row(scan.name, WAITING)
    quality = report.quality
    return Row(
        scan.name,
        DONE,
        verdict=quality.verdict,
        reason=quality.reason,
        quality=quality.expected_dice,
        warnings=report.warnings,
        seconds=report.duration_s.get("total", 0.0),
        volumes_ml={s.name: s.volume_ml for s in report.structures},
        colors={s.name: s.color for s in report.structures},
        thumbnail=own.get("thumbnail", ""),
        links=_links(scan.place, output),
    )


def _links(place: Place, output: Path) -> dict[str, str]:
    """Where the page of a scan, if it was kept, its labels and its report lie, from the output folder on."""
    named = {"page": place.name("page"), "labels": place.labels, "report": place.record}
    return {
        what: quote(Path(os.path.relpath(place.folder / name, output)).as_posix())
        for what, name in named.items()
        if (place.folder / name).is_file()
    }


def with_outliers(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with its structures of unusual volume and their robust z, the farthest first.

    z = (log v − median) / (1.4826 MAD) over the cohort; a structure that is missing where others have it is at −∞.
    """
    names = dict.fromkeys(name for row in rows for name in row.volumes_ml)
    found: list[dict[str, float]] = [{} for _ in rows]
    for name in names:
        volumes = np.array([row.volumes_ml.get(name, np.nan) for row in rows], float)
        for place, z in enumerate(robust_z(volumes)):
            if abs(z) > MAX_ROBUST_Z:
                found[place][name] = float(z)
    return [
        replace(row, outliers=dict(sorted(each.items(), key=lambda item: -abs(item[1]))))
        for row, each in zip(rows, found, strict=True)
    ]


def robust_z(volumes: np.ndarray) -> np.ndarray:
    """Robust z of the logarithm of volumes (N,): NaN where there is none, −∞ of 0 where most have the structure."""
    known, there = ~np.isnan(volumes), volumes > 0
    z = np.where(known, 0.0, np.nan)
    if there.sum() < MIN_SCANS:
        return z
    z[known & ~there] = -np.inf if 2 * there.sum() > known.sum() else 0.0
    logs = np.log(volumes[there])
    middle = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - middle))
    if spread > 0:
        z[there] = (logs - middle) / spread
    return z


def write_summary(scans: Sequence[Scan], output: Path, settings: str, about: Mapping[str, Any]) -> list[Row]:
    """Writes table, page and their record, all or none, and returns the rows; another that writes them is awaited."""
    with held(output / f"{RECORD}.run"):
        return _write_summary(scans, output, settings, about)


def _write_summary(scans: Sequence[Scan], output: Path, settings: str, about: Mapping[str, Any]) -> list[Row]:
    rows = with_outliers([row_of(scan, output, settings) for scan in scans])
    check_results(output, RESULTS, certificates=[RECORD], record=RECORD)
    with atomic_folder(output, certificate=RECORD) as temporary:
        _write_table(temporary / TABLE, rows)
        summary = Summary(**about)
        (temporary / PAGE).write_text(cohort_page(rows, summary), encoding="utf-8")
        counts = {kind: sum(row.standing == kind for row in rows) for kind in dict.fromkeys(r.standing for r in rows)}
        record = {"version": __version__, "model": summary.model, "settings": settings, "scans": len(rows), **counts}
        (temporary / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
        seal(temporary, output, RESULTS, RECORD)
    return rows


def _write_table(path: Path, rows: Sequence[Row]) -> None:
    """One row a scan, failures too; of a structure that a scan was not asked for the cell is empty."""
    structures = list(dict.fromkeys(name for row in rows for name in row.volumes_ml))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        heads = ("scan", "verdict", "expected_dice", "warnings", "seconds", "outliers", "reason")
        writer.writerow((*heads, *(escaped(f"{name} (ml)") for name in structures)))
        for row in rows:
            quality = "" if row.quality is None else row.quality
            volumes = [f"{row.volumes_ml[name]:.6g}" if name in row.volumes_ml else "" for name in structures]
            seconds = f"{row.seconds:.2f}" if row.status == DONE else ""
            warnings = len(row.warnings) if row.status == DONE else ""
            cells = (row.standing, quality, warnings, seconds, len(row.outliers), escaped(row.reason), *volumes)
            writer.writerow((escaped(row.name), *cells))


def check_summary(output: Path) -> None:
    """OutputError where table or page are not as an earlier run has left them."""
    with held(output / f"{RECORD}.run"):
        check_results(output, RESULTS, certificates=[RECORD], record=RECORD)
