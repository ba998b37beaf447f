"""One self-contained HTML page about one segmentation: people look before they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import numpy as np
import SimpleITK as sitk

from . import drawing, page, summary
from .drawing import VIEWS, Colors, Frame
from .pictures import Draw, margin_mm
from .pictures import colorbar as _colorbar
from .pictures import row as _row
from .pictures import section as _section
from .report import Report

ENLARGED_BELOW = 0.7  # of the image's extent: a part smaller than this is shown within the whole image too
GRID_LINES = 22
BRAIN_COLOR = (0, 220, 255)


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
    ``brain_mask`` is where the image was looked at alone, None where it was everywhere.
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
    brain_mask: sitk.Image | None = None


def segmentation_page(pictured: Pictured, report: Report) -> str:
    """HTML page: result, volumes, before and after, deformation, details of the run."""
    image, labels = pictured.image, pictured.labels
    scene = scene_of(image, labels)
    colors = {entry.value: drawing.rgb(entry.color) for entry in report.structures}
    body = [
        summary.header(report),
        summary.warnings(report.warnings),
        summary.key_figures(report),
        _result(scene, image, labels, pictured.brain_mask, colors),
        _before_and_after(scene, pictured, colors),
        _uncertainty(scene, labels, pictured.uncertainty) if pictured.uncertainty is not None else "",
        _deformation(scene, labels, pictured.jacobian, pictured.transform, pictured.affine),
        summary.details(report),
    ]
    # A short table belongs beside the result; a long one would push the other pictures out of sight.
    if report.landmarks is not None:
        body.insert(-1, summary.landmarks(report.landmarks))
    if report.tissue.used:
        body.insert(-1, summary.tissues(report))
    body.insert(4 if len(colors) <= 2 * summary.ROWS_PER_TABLE else -1, summary.structures(report.structures))
    return page.page(f"Segmentation of {summary.short_name(report.image)}", "\n".join(body))


def sides_page(
    image: sitk.Image, labels: sitk.Image, brain_mask: sitk.Image | None, report: Report, pages: Mapping[str, str]
) -> str:
    """HTML page of labels of both sides, each registered by itself: ``pages`` are the sides' own pages."""
    colors = {entry.value: drawing.rgb(entry.color) for entry in report.structures}
    links = " and ".join(f'<a href="{escape(file)}">{escape(side)}</a>' for side, file in pages.items())
    body = [
        summary.header(report),
        summary.warnings(report.warnings),
        summary.key_figures(report),
        f"<p>The places were found by the model {escape(report.locator)}. Before and after, deformation and "
        f"uncertainty of each side: {links}.</p>",
        _result(scene_of(image, labels), image, labels, brain_mask, colors),
        summary.structures(report.structures),
        summary.details(report),
    ]
    return page.page(f"Segmentation of {summary.short_name(report.image)}", "\n".join(body))


def scene_of(image: sitk.Image, labels: sitk.Image) -> Scene:
    """What a page shows of an image: all of it, and the part around its labels."""
    bounds = drawing.bounds_mm(image)
    points = drawing.labelled_points_mm(labels)
    place, box = tuple(bounds.mean(axis=0).tolist()), bounds
    if len(points):
        place = drawing.fullest_position(points, min(image.GetSpacing()))
        box = np.stack([points.min(axis=0), points.max(axis=0)])
        margin = margin_mm(float((box[1] - box[0]).max()))
        box = np.clip(np.add(box, [[-margin], [margin]]), bounds[0], bounds[1])
    enlarged = bool(((box[1] - box[0]) < ENLARGED_BELOW * (bounds[1] - bounds[0])).any())
    extent, part_extent = (float((b[1] - b[0]).max()) for b in (bounds, box))
    pixels = drawing.MAX_SIDE_PIXELS
    return Scene(
        whole=tuple(drawing.frame(view, bounds, place, extent / pixels) for view in VIEWS),
        part=tuple(drawing.frame(view, box, place, part_extent / pixels) for view in VIEWS),
        enlarged=enlarged,
    )


def _result(scene: Scene, image: sitk.Image, labels: sitk.Image, brain: sitk.Image | None, colors: Colors) -> str:
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
        if brain is not None:
            inside = drawing.sample(brain, where, nearest=True)
            picture += drawing.svg_image(drawing.outlines_png(inside, {1: BRAIN_COLOR}), where)
        return picture + (drawing.svg_box(where, scene.part[VIEWS.index(where.view)]) if scene.enlarged else "")

    rows = [_row("Labels on the scan", scene.part, labelled)]
    if brain is not None:
        frame = "; the dashed frame is what the other pictures enlarge" if scene.enlarged else ""
        rows.append(_row(f"The whole image and the outline of its brain, the mask{frame}", scene.whole, whole))
    elif scene.enlarged:
        title = "The whole image; the dashed frame is what the other pictures enlarge"
        rows.append(_row(title, scene.whole, whole))
    else:
        rows.append(_row("The scan alone", scene.part, _patient))
    return _section("Segmentation", "Radiological view: the subject's left is on the right of the picture.", rows)


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
        _row("Atlas image after: warped onto the scan", scene.part, atlas(warped)),
    ]
    text = (
        "What the deformation adds. The nearer the warped atlas image comes to the scan, the more its "
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
        "scan, within the plane of the slice. The map gives atlas volume per volume of the scan, without the "
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
        "over yellow to red (all). The scan is below, the outlines are the labels of the result."
    )
    return _section("Uncertainty", text, [_row("Share of second alternatives that differ", scene.part, disagreements)])


def _patient(where: Frame) -> str:
    return drawing.svg_again(f"patient-{where.view.name}")


def _labels(where: Frame) -> str:
    return drawing.svg_again(f"labels-{where.view.name}") + drawing.svg_again(f"outlines-{where.view.name}")
