"""One self-contained HTML page about one segmentation: people look before they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import PurePath

import numpy as np
import SimpleITK as sitk

from . import drawing, page
from .drawing import VIEWS, Colors, Frame
from .pictures import Draw
from .pictures import colorbar as _colorbar
from .pictures import row as _row
from .pictures import section as _section
from .report import Report, StructureEntry

MIN_MARGIN_MM = 12.0
RELATIVE_MARGIN, MAX_RELATIVE_MARGIN = 0.1, 0.3  # of the structures' longest side: a mouse's are small
ENLARGED_BELOW = 0.7  # of the image's extent: a part smaller than this is shown within the whole image too
GRID_LINES = 22
ROWS_PER_TABLE = 14
NAMES_IN_A_CELL = 4
VERDICTS = {"pass": "nothing unusual was found", "review": "look before use", "reject": "do not use the labels"}


@dataclass(frozen=True)
class Scene:
    """What is looked at: the whole image and the part around the structures, each as a rectangle per view."""

    whole: tuple[Frame, ...]
    part: tuple[Frame, ...]
    enlarged: bool


@dataclass(frozen=True)
class Pictured:
    """What the page draws: images on the grid of ``image``, transforms from patient to atlas points (LPS, mm).

    ``labels_expected`` are what the atlas alone says, where ``labels`` follow the scan's tissue.
    ``affine`` is the linear part of ``transform``; ``labels_affine`` and ``warped_affine`` are what it alone makes.
    """

    image: sitk.Image
    labels: sitk.Image
    labels_affine: sitk.Image
    warped: sitk.Image
    warped_affine: sitk.Image
    jacobian: sitk.Image
    uncertainty: sitk.Image | None
    transform: sitk.Transform
    affine: sitk.Transform
    labels_expected: sitk.Image | None = None


def segmentation_page(pictured: Pictured, report: Report) -> str:
    """HTML page: result, volumes, before and after, deformation, details of the run."""
    image, labels = pictured.image, pictured.labels
    scene = _scene(image, labels)
    colors = {entry.value: _rgb(entry.color) for entry in report.structures}
    body = [
        _header(report),
        _warnings(report.warnings),
        _key_figures(report),
        _result(scene, image, labels, colors),
        _before_and_after(scene, pictured, colors),
        _uncertainty(scene, labels, pictured.uncertainty) if pictured.uncertainty is not None else "",
        _deformation(scene, labels, pictured.jacobian, pictured.transform, pictured.affine),
        _run(report),
    ]
    # A short table belongs beside the result; a long one would push the other pictures out of sight.
    if report.tissue.used:
        body.insert(-1, _tissues(report))
    body.insert(4 if len(colors) <= 2 * ROWS_PER_TABLE else -1, _structures(report.structures))
    return page.page(f"Segmentation of {_short_name(report.image)}", "\n".join(body))


def _scene(image: sitk.Image, labels: sitk.Image) -> Scene:
    bounds = drawing.bounds_mm(image)
    points = drawing.labelled_points_mm(labels)
    place, box = tuple(bounds.mean(axis=0).tolist()), bounds
    if len(points):
        place = drawing.fullest_position(points, min(image.GetSpacing()))
        box = np.stack([points.min(axis=0), points.max(axis=0)])
        longest = float((box[1] - box[0]).max())
        margin = max(min(MIN_MARGIN_MM, MAX_RELATIVE_MARGIN * longest), RELATIVE_MARGIN * longest)
        box = np.clip(np.add(box, [[-margin], [margin]]), bounds[0], bounds[1])
    enlarged = bool(((box[1] - box[0]) < ENLARGED_BELOW * (bounds[1] - bounds[0])).any())
    extent, part_extent = (float((b[1] - b[0]).max()) for b in (bounds, box))
    pixels = drawing.MAX_SIDE_PIXELS
    return Scene(
        whole=tuple(drawing.frame(view, bounds, place, extent / pixels) for view in VIEWS),
        part=tuple(drawing.frame(view, box, place, part_extent / pixels) for view in VIEWS),
        enlarged=enlarged,
    )


def _result(scene: Scene, image: sitk.Image, labels: sitk.Image, colors: Colors) -> str:
    limits = drawing.window(image)

    def labelled(where: Frame) -> str:
        patient = drawing.grey_png(drawing.sample(image, where), limits)
        values = drawing.sample(labels, where, nearest=True)
        return (
            drawing.svg_image(patient, where, f"patient-{where.view.name}")
            + drawing.svg_image(drawing.areas_png(values, colors), where, f"labels-{where.view.name}")
            + drawing.svg_image(drawing.outlines_png(values, colors), where, f"outlines-{where.view.name}")
            + drawing.svg_scale_bar(where)
        )

    def whole(where: Frame) -> str:
        picture = drawing.svg_image(drawing.grey_png(drawing.sample(image, where), limits), where)
        return picture + drawing.svg_box(where, scene.part[VIEWS.index(where.view)])

    rows = [_row("Labels on the patient's image", scene.part, labelled)]
    if scene.enlarged:
        title = "The whole image; the dashed frame is what the other pictures enlarge"
        rows.append(_row(title, scene.whole, whole))
    else:
        rows.append(_row("The patient's image alone", scene.part, _patient))
    return _section("Segmentation", "Radiological view: the patient's left is on the right of the picture.", rows)


def _before_and_after(scene: Scene, pictured: Pictured, colors: Colors) -> str:
    warped, expected = pictured.warped, pictured.labels_expected
    limits = drawing.window(warped)

    def labelled(labels: sitk.Image) -> Draw:
        def draw(where: Frame) -> str:
            values = drawing.sample(labels, where, nearest=True)
            return (
                _patient(where)
                + drawing.svg_image(drawing.areas_png(values, colors), where)
                + drawing.svg_image(drawing.outlines_png(values, colors), where)
            )

        return draw

    def atlas(image: sitk.Image) -> Draw:
        return lambda where: (
            drawing.svg_image(drawing.grey_png(drawing.sample(image, where), limits), where)
            + drawing.svg_again(f"outlines-{where.view.name}")
        )

    rows = [
        _row("Before: labels after affine alignment only", scene.part, labelled(pictured.labels_affine)),
        *([_row("After warping: what the atlas alone says", scene.part, labelled(expected))] if expected else []),
        _row(
            "Result: where the scan shows the tissue" if expected else "After: labels after warping",
            scene.part,
            lambda where: _patient(where) + _labels(where),
        ),
        _row("Atlas image before: affine alignment only", scene.part, atlas(pictured.warped_affine)),
        _row("Atlas image after: warped onto the patient", scene.part, atlas(warped)),
    ]
    text = (
        "What the deformation adds. The nearer the warped atlas image comes to the patient's image, the more its "
        "labels can be trusted. The outlines on the atlas are the labels of the result."
    )
    return _section("Before and after", text, rows)


def _deformation(
    scene: Scene, labels: sitk.Image, jacobian: sitk.Image, transform: sitk.Transform, affine: sitk.Transform
) -> str:
    step = drawing.round_length(max(scene.part[0].width_mm, scene.part[0].height_mm) / GRID_LINES * 1.5)

    def grid(where: Frame) -> str:
        patient = drawing.svg_again(f"patient-{where.view.name}", dimmed=True)
        return patient + drawing.svg_grid(where, transform, affine, step)

    def map_of_volume(where: Frame) -> str:
        folds = drawing.sample(jacobian, where, nearest=True, outside=1.0) <= 0
        determinants = drawing.sample(jacobian, where, outside=1.0)
        outlines = drawing.sample(labels, where, nearest=True)
        return drawing.svg_image(drawing.jacobian_png(determinants, folds, outlines), where)

    def folded(where: Frame) -> str:
        folds = drawing.sample(jacobian, where, nearest=True, outside=1.0) <= 0
        area = float(folds.sum()) * where.pixel_mm**2
        return f"{area:.3g} mm² folded" if area else "no fold"

    rows = [
        _row(f"Grid of {step:g} mm", scene.part, grid),
        _row("Change of volume (Jacobian determinant)", scene.part, map_of_volume, folded),
        _colorbar(),
    ]
    text = (
        "The grid was regular on the atlas after affine alignment and is drawn as warping carries it onto the "
        "patient, within the plane of the slice. The map gives atlas volume per patient volume, without the "
        "affine part; a fold is a place where the deformation turns inside out."
    )
    return _section("Deformation", text, rows)


def _uncertainty(scene: Scene, labels: sitk.Image, uncertainty: sitk.Image) -> str:
    def disagreements(where: Frame) -> str:
        outlines = drawing.sample(labels, where, nearest=True)
        picture = drawing.uncertainty_png(drawing.sample(uncertainty, where, outside=0.0), outlines)
        return _patient(where) + drawing.svg_image(picture, where)

    text = (
        "Where other maps that are as likely, or other atlases, say another label: from nothing (none of them) "
        "over yellow to red (all). The patient's image is below, the outlines are the labels of the result."
    )
    return _section("Uncertainty", text, [_row("Share of second alternatives that differ", scene.part, disagreements)])


def _patient(where: Frame) -> str:
    return drawing.svg_again(f"patient-{where.view.name}")


def _labels(where: Frame) -> str:
    return drawing.svg_again(f"labels-{where.view.name}") + drawing.svg_again(f"outlines-{where.view.name}")


def _header(report: Report) -> str:
    model = report.model
    made = datetime.fromisoformat(report.created)
    when = f"{made.day} {made:%B %Y, %H:%M}"
    licence = f"Licence of the model: {escape(model.licence)}. " if model.licence else ""
    return (
        f"<header><h1>Segmentation of {escape(_short_name(report.image))}</h1>"
        f'<p class="soft">{escape(when)} · model <strong>{escape(model.name)}</strong> '
        f"{escape(model.version)} · atlas {escape(report.atlas.name)} · "
        f"CLMorph {escape(report.version)} on {escape(report.device)}<br>"
        f"{licence}For research; not a medical device.</p></header>"
    )


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    return f'<div class="warning"><strong>Look here first</strong><ul>{items}</ul></div>'


def _key_figures(report: Report) -> str:
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
            ("Folding", page.percent(report.folding_fraction), "of the voxels; 0 is best"),
            ("Time", _duration(seconds["total"]), f"on {report.device}, {report.threads} threads"),
        ]
    )


def _expected(report: Report) -> str:
    score, refined = report.quality.outlier_score, report.refinement_steps > 0
    if score is None:
        return ""
    return (
        f"mean over structures, without labels{' and before the refinement' if refined else ''}; "
        f"outlier score of the scan {score:.2f}, "
        f"{'above 1: look first' if score > 1 else 'usual up to 1'}"
    )


def _structures(structures: Sequence[StructureEntry]) -> str:
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


def _tissues(report: Report) -> str:
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


def _run(report: Report) -> str:
    model = report.model
    entries = [
        ("Image", report.image),
        ("Model", f"{model.name} {model.version}, commit {model.commit}"),
        ("Licence of the model", model.licence),
        ("Atlas", report.atlas.name),
        ("Computed on", f"{report.device}, {report.threads} threads"),
        ("Refinement steps", report.refinement_steps),
        *(
            (f"Time for {step}" if step != "total" else "Time in all", _duration(seconds))
            for step, seconds in report.duration_s.items()
        ),
    ]
    rows = [page.row([escape(name), escape(str(value))], numbers_from=2) for name, value in entries]
    return f"<section><h2>Run</h2>{page.table(['Item', 'Value'], rows, numbers_from=2)}</section>"


def _duration(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60} s" if seconds >= 90 else f"{seconds:.1f} s"


def _short_name(path: str) -> str:
    return PurePath(path).name or str(path)


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
