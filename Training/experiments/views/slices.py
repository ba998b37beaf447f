"""Figures 4, 5 and 7: what the systems make of one test subject, in three planes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch, Rectangle
from scipy.ndimage import binary_dilation, uniform_filter

from ..catalogue import AS_PUBLISHED, SYSTEMS, WITH_CONTRAST, WITHOUT_CONTRAST, Variant, title_of
from ..examples import Example, Plane
from ..measures import DICE, Selection, comparison, deformation_mean, per_subject, select
from ..store import Results
from .figures import LIGHT, Palette, on

# Okabe and Ito's colours (2008) without black: neighbours in the list differ most.
LABEL_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2")
OPACITY = 0.55
ZOOMED_SHARE = 0.4  # of a picture's sides
NAMES_INCHES, TITLES_INCHES = 1.0, 0.9  # beside and above the panels
NEAR_PIXELS = 3  # of the labels
GRID_LINES = 28  # along the longer side of a deformation grid

Box = tuple[int, int, int, int]  # top, left, height, width in pixels


def labels(results: Results, dataset: str, palette: Palette = LIGHT) -> Figure | None:
    """Figure 4: labels by each system on one test subject beside the manual ones; None without an example."""
    return _systems(results, dataset, palette, warped=False)


def warped(results: Results, dataset: str, palette: Palette = LIGHT) -> Figure | None:
    """Figure 5: the atlas image as each system warps it onto one test subject; None without an example."""
    return _systems(results, dataset, palette, warped=True)


def grids(results: Results, dataset: str, palette: Palette = LIGHT) -> Figure | None:
    """Figure 7: deformation grids without and with the contrastive term; None where no run has one."""
    variants = (WITHOUT_CONTRAST, WITH_CONTRAST)
    selection = select(results, dataset, variants)
    shown = {
        variant: example
        for variant, example in _examples(results, selection, variants).items()
        if example.planes[0].displacement_mm is not None
    }
    if not shown:
        return None
    planes = next(iter(shown.values())).planes
    with on(palette):
        figure, panels = _panels([_aspect(plane) for plane in planes], len(variants), width=9.0)
        for line, variant in zip(panels, variants, strict=True):
            _name(line[0], _grid_title(selection, variant, variant in shown))
            for place, axes in enumerate(line):
                if variant in shown:
                    _grid(axes, shown[variant].planes[place], palette)
                    _frame(
                        axes,
                        planes[place],
                        _most_displaced([example.planes[place] for example in shown.values()]),
                        palette.ours,
                    )
                else:
                    _empty(axes, planes[place], palette)
        for axes, plane in zip(panels[0], planes, strict=True):
            axes.set_title(plane.name)
        figure.suptitle(
            f"{title_of(dataset)}: the grid that the deformation carries onto test subject "
            f"{next(iter(shown.values())).subject}\nfilled: folded within the plane; "
            "frame: where the displacement is largest",
            fontsize=11,
        )
    return figure


def _systems(results: Results, dataset: str, palette: Palette, *, warped: bool) -> Figure | None:
    selection = comparison(results, dataset)
    shown = {
        variant: example
        for variant, example in _examples(results, selection, AS_PUBLISHED).items()
        if not warped or example.planes[0].warped is not None
    }
    if not shown:
        return None
    first = next(iter(shown.values()))
    zooms = [
        _where_they_differ([example.planes[place] for example in shown.values()], warped=warped)
        for place in range(len(first.planes))
    ]
    aspects = [_aspect(plane) for plane in first.planes for _ in range(2)]  # the plane, and its enlarged part
    rows = [variant for variant in AS_PUBLISHED if variant in shown]
    absent = [SYSTEMS[variant.system].title for variant in AS_PUBLISHED if variant not in shown]
    values = sorted(
        {int(v) for example in shown.values() for plane in example.planes for v in np.unique(plane.expected) if v}
    )
    with on(palette):
        figure, panels = _panels(aspects, len(rows) + 1, width=11.0)
        _line(
            panels[0],
            first,
            "Subject" if warped else "Manual labels",
            zooms,
            values,
            palette,
            truth=True,
            warped=warped,
        )
        for line, variant in zip(panels[1:], rows, strict=True):
            _line(
                line,
                shown[variant],
                _score(selection, variant, shown[variant].subject),
                zooms,
                values,
                palette,
                truth=False,
                warped=warped,
            )
        for axes, plane in zip(panels[0][::2], first.planes, strict=True):
            axes.set_title(plane.name)
        _legend(figure, selection, values)
        what = "the atlas image warped onto it, with its manual outlines" if warped else "labels"
        note = f"\nno picture of: {', '.join(absent)}" if absent else ""
        figure.suptitle(
            f"{title_of(dataset)}, test subject {first.subject}: {what}; the frame is enlarged{note}", fontsize=11
        )
    return figure


def _examples(results: Results, selection: Selection, variants: Sequence[Variant]) -> dict[Variant, Example]:
    """The example of each variant's first seed that has one; all show the same subject, the first one's."""
    shown: dict[Variant, Example] = {}
    for variant in variants:
        examples = (results.example(run.name) for run in selection.of(*variant))
        example = next((example for example in examples if example is not None), None)
        if example is not None and example.subject == next(iter(shown.values()), example).subject:
            shown[variant] = example
    return shown


def _panels(aspects: Sequence[float], lines: int, *, width: float) -> tuple[Figure, np.ndarray]:
    """A figure of ``lines`` rows of equally high panels whose widths follow their aspects (width : height)."""
    height = (width - NAMES_INCHES) / sum(aspects) * lines
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(width, height + TITLES_INCHES), layout=layout)
    panels = figure.subplots(lines, len(aspects), width_ratios=list(aspects), squeeze=False)
    for axes in panels.ravel():
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    return figure, panels


def _line(
    line: Sequence[Axes],
    example: Example,
    title: str,
    zooms: Sequence[Box],
    values: Sequence[int],
    palette: Palette,
    *,
    truth: bool,
    warped: bool,
) -> None:
    """One system: every plane, and beside it the part that is enlarged."""
    _name(line[0], title)
    for place, (plane, box) in enumerate(zip(example.planes, zooms, strict=True)):
        whole, part = line[2 * place], line[2 * place + 1]
        for axes in (whole, part):
            _picture(axes, plane, values, truth=truth, warped=warped)
        _frame(whole, plane, box, "#ffffff")
        top, left, height, width = box
        part.set_xlim(left - 0.5, left + width - 0.5)
        part.set_ylim(top + height - 0.5, top - 0.5)


def _picture(axes: Axes, plane: Plane, values: Sequence[int], *, truth: bool, warped: bool) -> None:
    image = plane.warped if warped and not truth and plane.warped is not None else plane.image
    shown = plane.expected if truth or warped else plane.labels
    low, high = _window(image)
    axes.imshow(
        image, cmap="gray", vmin=low, vmax=high, aspect=plane.pixel_mm[0] / plane.pixel_mm[1], interpolation="nearest"
    )
    if warped:
        _outlines(axes, shown, values)
        return
    places = np.searchsorted(values, shown)
    known = np.isin(shown, values)
    colors = ListedColormap([_label_color(place) for place in range(len(values))])
    axes.imshow(
        np.ma.masked_array(places, ~known),
        cmap=colors,
        vmin=-0.5,
        vmax=len(values) - 0.5,
        alpha=OPACITY,
        aspect=plane.pixel_mm[0] / plane.pixel_mm[1],
        interpolation="nearest",
    )


def _outlines(axes: Axes, labels: np.ndarray, values: Sequence[int]) -> None:
    for place, value in enumerate(values):
        inside = labels == value
        if inside.any() and not inside.all():
            axes.contour(inside.astype(float), levels=[0.5], colors=[_label_color(place)], linewidths=0.9)


def _grid(axes: Axes, plane: Plane, palette: Palette) -> None:
    """Lines of p + u(p) = k · step in both directions: a regular grid of the atlas as the deformation carries it."""
    rows, columns = plane.image.shape
    down, right = (np.arange(rows) * plane.pixel_mm[0], np.arange(columns) * plane.pixel_mm[1])
    step = max(down[-1], right[-1]) / GRID_LINES
    assert plane.displacement_mm is not None
    mapped = plane.displacement_mm[0] + down[:, None], plane.displacement_mm[1] + right[None, :]
    for coordinate in mapped:
        levels = np.arange(np.floor(coordinate.min() / step), np.ceil(coordinate.max() / step) + 1) * step
        axes.contour(coordinate, levels=levels, colors=[palette.ink], linewidths=0.55)
    folded = _folded(*mapped)
    if folded.any():
        axes.contourf(folded.astype(float), levels=[0.5, 1.5], colors=[palette.supervised])
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_aspect(plane.pixel_mm[0] / plane.pixel_mm[1])


def _folded(down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Where the determinant of the in-plane map's derivative is not positive."""
    down_by_row, down_by_column = np.gradient(down)
    right_by_row, right_by_column = np.gradient(right)
    return down_by_row * right_by_column - down_by_column * right_by_row <= 0


def _where_they_differ(planes: Sequence[Plane], *, warped: bool) -> Box:
    """The part of a plane in which the systems disagree most; with the manual labels where they all agree."""
    if warped:
        scaled = [plane.warped / max(float(np.ptp(plane.warped)), 1e-6) for plane in planes if plane.warped is not None]
        # Far from the labels images differ most where the atlas ends: that is not what the figure is about.
        near = binary_dilation(planes[0].expected != 0, iterations=NEAR_PIXELS)
        disagreement = np.std(scaled, axis=0) * near
    else:
        right = np.mean([plane.labels == plane.expected for plane in planes], axis=0)
        disagreement = right * (1 - right)
    if not disagreement.any():
        disagreement = np.mean([plane.labels != plane.expected for plane in planes], axis=0)
    if not disagreement.any():
        disagreement = (planes[0].expected != 0).astype(float)
    return _fullest(disagreement)


def _most_displaced(planes: Sequence[Plane]) -> Box:
    fields = [plane.displacement_mm for plane in planes if plane.displacement_mm is not None]
    return _fullest(np.sum([np.hypot(*field) for field in fields], axis=0))


def _fullest(values: np.ndarray) -> Box:
    """The box of a fixed share of the picture, inside of it, whose sum is largest."""
    size = tuple(max(4, round(ZOOMED_SHARE * side)) for side in values.shape)
    sums = uniform_filter(values.astype(float), size, mode="constant")  # pyright: ignore[reportArgumentType]
    centre = np.unravel_index(int(np.argmax(sums)), sums.shape)
    top, left = (
        int(np.clip(at - extent // 2, 0, max(side - extent, 0)))
        for at, extent, side in zip(centre, size, values.shape, strict=True)
    )
    return top, left, size[0], size[1]


def _window(image: np.ndarray) -> tuple[float, float]:
    """The intensities that are drawn black and white: percentiles 1 and 99.5 of what is not the darkest value."""
    tissue = image[image > image.min()]
    low, high = np.percentile(tissue, (1, 99.5)) if tissue.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))


def _frame(axes: Axes, plane: Plane, box: Box, color: str) -> None:
    top, left, height, width = box
    axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=color, lw=1.1))
    axes.set_xlim(-0.5, plane.image.shape[1] - 0.5)
    axes.set_ylim(plane.image.shape[0] - 0.5, -0.5)


def _empty(axes: Axes, plane: Plane, palette: Palette) -> None:
    axes.set_facecolor(palette.neutral)
    axes.text(0.5, 0.5, "not run", ha="center", va="center", color=palette.soft, transform=axes.transAxes)


def _name(axes: Axes, title: str) -> None:
    axes.set_ylabel(title, rotation=0, ha="right", va="center", labelpad=6, fontsize=8.5)


def _score(selection: Selection, variant: Variant, subject: str) -> str:
    """The system's name and its mean Dice on the subject that is shown."""
    dice = per_subject(selection, selection.of(*variant), DICE).get(subject, float("nan"))
    name = SYSTEMS[variant.system].title.replace(" (", "\n(")
    return f"{name}\nDice {dice:.3f}"


def _grid_title(selection: Selection, variant: Variant, drawn: bool) -> str:
    title = "with contrast" if variant == WITH_CONTRAST else "without contrast"
    if not drawn:
        return title
    runs = selection.of(*variant)
    if not any(selection.deformations.get(run.name) for run in runs):
        return title
    folding, spread = (deformation_mean(selection, runs, key) for key in ("folding_fraction", "log_jacobian_sd"))
    return f"{title}\nall subjects:\n{100 * folding:.2g} % folded\nSD log J {spread:.3f}"


def _legend(figure: Figure, selection: Selection, values: Sequence[int]) -> None:
    names: Mapping[int, str] = {row.region: row.name for rows in selection.regions.values() for row in rows}
    handles = [
        Patch(color=_label_color(place), label=names.get(value, str(value))) for place, value in enumerate(values)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, min(len(handles), 7)), frameon=False)


def _label_color(place: int) -> str:
    return LABEL_COLORS[place % len(LABEL_COLORS)]


def _aspect(plane: Plane) -> float:
    """Width : height in mm."""
    rows, columns = plane.image.shape
    return columns * plane.pixel_mm[1] / (rows * plane.pixel_mm[0])
