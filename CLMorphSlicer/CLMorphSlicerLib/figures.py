"""Tables of a run's figures: one of each result, and one over the frames or volumes of a series."""

from __future__ import annotations

from collections.abc import Sequence

import slicer
import vtk

from .words import _


def fill_table(node: slicer.vtkMRMLTableNode, report: dict) -> None:
    """Write the figures of one report: the structures' volumes, similarity, folds and time."""
    rows = [
        (
            *(structure["name"], round(structure["volume_ml"], 3), "ml"),
            *(_two_digits(structure["quality"]), _interval(structure), _two_digits(structure["uncertainty"])),
        )
        for structure in report.get("structures", ())
    ]
    rows += [(*row, "", "", "") for row in _figures(report)]
    quality = report.get("quality", {})
    outlier_score = quality.get("outlier_score", quality.get("oddness"))  # its name in reports of version 0.1
    if outlier_score is not None:
        title = _("outlier score of the image, usual up to 1")
        rows.append((title, outlier_score, "", _two_digits(quality["expected_dice"]), "", ""))
    _empty(node)
    titles = (_("Name"), _("Value"), _("Unit"), _("Expected Dice"), _("90 % interval"), _("Uncertainty"))
    for index, title in enumerate(titles):
        values = [row[index] for row in rows]
        # As text where not every row has a figure: an empty cell says more than "nan".
        if any(value != "" for value in values) or index < 3:  # else the model has no figures of that kind
            _add_column(node, title, values)


def _two_digits(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _interval(structure: dict) -> str:
    """Where nine of ten true Dice values lie; older engines tell nothing of it."""
    ends = structure.get("quality_interval")
    return "" if ends is None else f"{ends[0]:.2f} – {ends[1]:.2f}"


def _figures(report: dict) -> list[tuple[str, float, str]]:
    """(name, value, unit) of what is told of every run."""
    similarity, found = report.get("similarity") or {}, []
    measure = similarity.get("measure", _("local normalised cross-correlation"))  # of a registration
    if similarity.get("affine") is not None:
        found.append((_("{measure} after the affine").format(measure=measure), round(similarity["affine"], 4), ""))
    if similarity.get("warped") is not None:
        found.append((_("{measure} after the deformation").format(measure=measure), round(similarity["warped"], 4), ""))
    if report.get("folding_fraction") is not None:
        found.append((_("folding fraction"), report["folding_fraction"], ""))
    mean_mm = (report.get("landmarks") or {}).get("mean_mm", {})
    titles = {"before": _("landmarks apart before"), "affine": _("landmarks apart after the affine"),
              "warped": _("landmarks apart after the deformation")}  # fmt: skip
    found += [(title, mean_mm[step], "mm") for step, title in titles.items() if step in mean_mm]
    brain = report.get("brain") or {}
    if brain.get("volume_ml") is not None:
        found.append((_("whole brain"), round(brain["volume_ml"], 1), "ml"))
    seconds = report.get("duration_s") or {}
    total = seconds.get("total", sum(seconds.values()))
    return found + ([(_("duration"), round(total, 1), "s")] if seconds else [])


def fill_landmarks(node: slicer.vtkMRMLTableNode, landmarks: dict) -> None:
    """Write how far apart each pair of landmarks lies, mm: one row for each, as a report tells it."""
    _empty(node)
    _add_column(node, _("Landmark"), list(landmarks["names"]))
    titles = {"before_mm": _("Before (mm)"), "affine_mm": _("Aligned (mm)"), "warped_mm": _("Warped (mm)")}
    for key, title in titles.items():
        _add_column(node, title, [float(value) for value in landmarks[key]])


def volume_titles(structures: Sequence[dict]) -> dict[str, dict]:
    """Column of a series' table -> the structure whose volumes stand there."""
    called = _told_apart([structure["name"] for structure in structures])
    return {_("{structure} (ml)").format(structure=name): each for name, each in zip(called, structures, strict=True)}


def fill_series(node: slicer.vtkMRMLTableNode, title: str, reports: Sequence[tuple[str | float, dict]]) -> None:
    """Write one row for each (label, report): the label under `title`, volumes of the structures, and figures."""
    names: dict[str, None] = {}
    rows = []
    for label, report in reports:
        titles = volume_titles(report.get("structures", ()))
        values: dict[str, float] = {name: round(structure["volume_ml"], 3) for name, structure in titles.items()}
        values |= {f"{name} ({unit})" if unit else name: value for name, value, unit in _figures(report)}
        names |= dict.fromkeys(values)
        rows.append((label, values))
    _empty(node)
    _add_column(node, title, [label for label, values in rows])
    for name in names:
        _add_column(node, name, [values.get(name, float("nan")) for label, values in rows])


def _told_apart(names: list[str]) -> list[str]:
    """Each name, with a number where it came before: "Ventricle", "Ventricle (2)"."""
    seen = [names[: place + 1].count(name) for place, name in enumerate(names)]
    return [name if count == 1 else f"{name} ({count})" for name, count in zip(names, seen, strict=True)]


def _empty(node: slicer.vtkMRMLTableNode) -> None:
    node.RemoveAllColumns()
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)  # figures of a run are not for typing over


def _add_column(node: slicer.vtkMRMLTableNode, title: str, values: list) -> None:
    numbers = bool(values) and all(isinstance(value, (int, float)) for value in values)
    column = vtk.vtkDoubleArray() if numbers else vtk.vtkStringArray()
    column.SetName(title)
    for value in values:
        column.InsertNextValue(value)
    node.AddColumn(column)
