"""What the page about one segmentation says in words and numbers: the report as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import PurePath

from ..errors import counted
from . import page
from .report import BrainEntry, LandmarksEntry, Report, StructureEntry

ROWS_PER_TABLE = 14
NAMES_IN_A_CELL = 4
VERDICTS = {"pass": "nothing unusual was found", "review": "look before use", "reject": "do not use the labels"}


def header(report: Report) -> str:
    """Of what, when and by which model, and its licence."""
    model = report.model
    when = page.when(datetime.fromisoformat(report.created))
    licence = f"Licence of the model: {escape(model.licence)}. " if model.licence else ""
    return (
        f"<header><h1>Segmentation of {escape(short_name(report.image))}</h1>"
        f'<p class="soft">{when} · model <strong>{escape(model.name)}</strong> '
        f"{escape(model.version)} · atlas {escape(report.atlas.name)} · "
        f"CLMorph {escape(report.version)} on {escape(report.device)}<br>"
        f"{licence}For research; not a medical device.</p></header>"
    )


def warnings(warnings: Sequence[str]) -> str:
    """What has to be looked at first, or nothing."""
    return page.notice("Look here first", warnings)


def key_figures(report: Report) -> str:
    """Verdict, what was found, how alike, how good, how long."""
    structures, similarity, quality = report.structures, report.similarity, report.quality
    found = sum(entry.volume_ml > 0 for entry in structures)
    seconds = report.duration_s
    return page.facts(
        [
            *(
                [("Verdict", quality.verdict, quality.reason or VERDICTS.get(quality.verdict, ""))]
                if quality.verdict
                else []
            ),
            (
                "Structures found",
                f"{found} of {len(structures)}",
                f"{page.volume(sum(entry.volume_ml for entry in structures), 2)} ml together",
            ),
            (
                "Similarity to the atlas",
                f"{page.number(similarity.affine)} → {page.number(similarity.warped)}",
                f"{similarity.measure}, before → after warping",
            ),
            ("Expected Dice", page.number(quality.expected_dice), quality.note or _expected(report)),
            *([("Contrast", "unlike the atlas", f"the model's network {report.network}")] if report.network else []),
            *([("Brain", f"{report.brain.volume_ml:.0f} ml", _brain(report.brain))] if report.brain else []),
            ("Folding", page.percent(report.folding_fraction), "of the voxels; 0 is best"),
            ("Time", _duration(seconds["total"]), f"on {report.device}, {_threads(report)}{_unfinished(seconds)}"),
        ]
    )


def _brain(brain: BrainEntry) -> str:
    return f"{brain.method}{f' by the networks of {brain.source}' if brain.source else ''}"


def _expected(report: Report) -> str:
    score, refined = report.quality.outlier_score, report.refinement_steps > 0
    if score is None:
        return ""
    digits = 3 if round(score, 2) == 1 else 2  # so that 1.003 is not shown as the 1 that is usual
    return (
        f"mean over structures, without labels{' and before the refinement' if refined else ''}; "
        f"outlier score of the scan {page.number(score, digits)}, "
        f"{'above 1: look first' if score > 1 else 'usual up to 1'}"
    )


def structures(structures: Sequence[StructureEntry]) -> str:
    """The table of volumes and expected Dice."""
    followed = any(entry.volume_expected_ml is not None for entry in structures)
    intervals = any(entry.quality_interval is not None for entry in structures)
    rows = [
        page.row(
            [
                f'<span class="swatch" style="background:{escape(entry.color)}"></span>{escape(entry.name)}',
                str(entry.value),
                page.volume(entry.volume_ml) if entry.volume_ml > 0 else "not found",
                *([page.volume(entry.volume_expected_ml)] if followed else []),
                page.number(entry.quality),
                *([page.interval(entry.quality_interval)] if intervals else []),
                page.number(entry.uncertainty),
            ],
            missing=not entry.volume_ml > 0,
        )
        for entry in structures
    ]
    size = len(rows) if len(rows) <= ROWS_PER_TABLE else -(-len(rows) // 2)
    parts = [rows[start : start + size] for start in range(0, len(rows), size or 1)]
    alone = ["By the atlas alone"] if followed else []
    within = ["90 % interval"] if intervals else []
    heads = ["Structure", "Label", "Volume (ml)", *alone, "Expected Dice", *within, "Uncertainty"]
    tables = "".join(page.table(heads, part) for part in parts)
    return f'<section><h2>Volumes</h2><div class="columns">{tables}</div></section>'


def tissues(report: Report) -> str:
    """What the scan was found to consist of, from dark to bright."""
    rows = [
        page.row([escape(_named(entry.structures)), f"{entry.mean:.4g}", f"{entry.sd:.3g}"])
        for entry in sorted(report.tissue.classes, key=lambda entry: entry.mean)
    ]
    text = (
        "The labels follow these tissues of the scan itself: at each voxel the atlas says how likely each label is, "
        "the voxel's grey value how well it fits the label's tissue."
    )
    table = page.table(["Tissue", "Mean grey value", "Standard deviation"], rows)
    return f'<section><h2>Tissues</h2><p class="soft">{escape(text)}</p>{table}</section>'


def _named(structures: Sequence[str]) -> str:
    if not structures:
        return "Surroundings of the structures"
    more = f" and {len(structures) - NAMES_IN_A_CELL} more" if len(structures) > NAMES_IN_A_CELL else ""
    return ", ".join(structures[:NAMES_IN_A_CELL]) + more


def landmarks(entry: LandmarksEntry) -> str:
    """How far the landmarks were apart, and are."""
    columns = (entry.before_mm, entry.affine_mm, entry.warped_mm)
    rows = [
        page.row([escape(name), *(page.number(mm, 2) for mm in errors)])
        for name, *errors in zip(entry.names, *columns, strict=True)
    ]
    for title, figures in (("Mean", entry.mean_mm), ("Largest", entry.max_mm)):
        rows.append(page.row([title, *(page.number(figures[step], 2) for step in ("before", "affine", "warped"))]))
    alone = f" Without a partner: {', '.join(entry.alone)}." if entry.alone else ""
    text = f"Distance of the two landmarks of each pair, matched by {entry.matched_by}.{alone}"
    heads = ["Landmark", "Before (mm)", "After the affine (mm)", "After warping (mm)"]
    return f'<section><h2>Landmarks</h2><p class="soft">{escape(text)}</p>{page.table(heads, rows)}</section>'


def details(report: Report) -> str:
    """What ran, on what, and the time of each step."""
    model = report.model
    entries = [
        ("Image", report.image),
        ("Model", f"{model.name} {model.version}, commit {model.commit}"),
        *([("Network", report.network)] if report.network else []),
        ("Licence of the model", model.licence),
        ("Atlas", report.atlas.name),
        *([("Place found by", report.locator)] if report.locator else []),
        ("Computed on", f"{report.device}, {_threads(report)}"),
        *([("Effort", report.effort)] if report.effort else []),
        ("Refinement steps", report.refinement_steps),
        *(
            (f"Time for {step}" if step != "total" else "Time in all", _duration(seconds))
            for step, seconds in report.duration_s.items()
        ),
    ]
    rows = [page.row([escape(name), escape(str(value))], numbers_from=2) for name, value in entries]
    return f"<section><h2>Run</h2>{page.table(['Item', 'Value'], rows, numbers_from=2)}</section>"


def _unfinished(seconds: Mapping[str, float]) -> str:
    """What a page that is one of the files cannot know."""
    return "" if "writing" in seconds else "; files are written after it, report.json has the whole"


def _threads(report: Report) -> str:
    return counted(report.threads, "thread")


def _duration(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60} s" if seconds >= 90 else f"{seconds:.1f} s"


def short_name(path: str) -> str:
    return PurePath(path).name or str(path)
