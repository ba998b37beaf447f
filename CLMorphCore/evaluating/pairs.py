"""How good registrations are that are there already: landmarks, carried labels, Jacobians, inverses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..applying.description import jacobian_of
from ..atomic import atomic_folder
from ..errors import InputError
from ..geometry import Grid, displacement_field, resample_labels, to_image
from ..guidance.masks import checked_mask
from ..io.checksums import seal
from ..io.displacement_fields import read_any
from ..io.images import read_image, read_labels, read_labels_of
from ..io.label_grid import covers_a_part
from ..io.outputs import check_results
from ..io.pairs import PairFiles
from ..io.points import read_landmarks
from ..io.tables import escaped
from ..metrics import compare_labels, dice_per_label, folding_fraction, inverse_consistency, log_jacobian_std
from ..progress import Progress, silent
from ..reports.pairs import LandmarkRow, PairRow, PairsSummary, RegionRow, pairs_page

SUMMARY = "summary.json"
TABLES = ("results.csv", "structures.csv", "landmarks.csv")
RESULTS = (*TABLES, SUMMARY, "report.html")
OPTIONAL = TABLES[1:]
DIGITS = 6


@dataclass(frozen=True)
class PairsEvaluation:
    """A row for each pair, for each structure of each pair, for each landmark; and the figures over all pairs."""

    pairs: tuple[PairRow, ...]
    structures: tuple[RegionRow, ...]
    landmarks: tuple[LandmarkRow, ...]
    summary: PairsSummary

    def save(self, folder: Path) -> None:
        """Writes results.csv, structures.csv and landmarks.csv where there are some, summary.json and report.html.

        All or none; OutputError where that fails, or would replace what is not as an earlier run has written it.
        """
        check_results(folder, RESULTS, certificates=[SUMMARY], optional=OPTIONAL, record=SUMMARY)
        with atomic_folder(folder, optional=OPTIONAL, certificate=SUMMARY) as temporary:
            for name, rows in zip(TABLES, (self.pairs, self.structures, self.landmarks), strict=True):
                if rows:
                    _write(temporary / name, rows)
            (temporary / SUMMARY).write_text(json.dumps(asdict(self.summary), indent=1), encoding="utf-8")
            page = pairs_page(self.pairs, self.structures, self.landmarks, self.summary)
            (temporary / "report.html").write_text(page, encoding="utf-8")
            seal(temporary, folder, RESULTS, SUMMARY)


def _write(path: Path, rows: Sequence[PairRow | RegionRow | LandmarkRow]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([each.name for each in fields(rows[0])])
        for row in rows:
            writer.writerow([_cell(value) for value in asdict(row).values()])


def _cell(value: str | float | None) -> str | float:
    return "" if value is None else escaped(value) if isinstance(value, str) else value


def evaluate_pairs(pairs: Sequence[PairFiles], *, progress: Progress = silent) -> PairsEvaluation:
    """Measures registrations, each by what its files allow.

    Landmarks: |T(p) − q| in mm. Labels of the moving image, carried onto the fixed one: Dice and surface distances,
    within the mask. det ∂T/∂p, the affine part included, at the fixed image's voxels, within the mask, and within each
    of the fixed labels. |T⁻¹(T(p)) − p| with the inverse. InputError where files do not fit together.
    """
    found: list[PairRow] = []
    regions: list[RegionRow] = []
    points: list[LandmarkRow] = []
    warnings: list[str] = []
    for n, files in enumerate(pairs):
        progress(f"{files.pair} ({n + 1}/{len(pairs)})", n / len(pairs))
        try:
            row, of_structures, of_points, doubts = _measured(files)
        except InputError as error:
            raise type(error)(f"pair {files.pair}: {error.problem}", error.remedy) from None
        found, regions, points = [*found, row], regions + of_structures, points + of_points
        warnings += [f"pair {files.pair}: {doubt}" for doubt in doubts]
    progress("report", 1.0)
    return PairsEvaluation(tuple(found), tuple(regions), tuple(points), _summary(found, warnings))


def _measured(files: PairFiles) -> tuple[PairRow, list[RegionRow], list[LandmarkRow], list[str]]:
    fixed, moving, transform = read_image(files.fixed), read_image(files.moving), read_any(files.transform)
    mask = None
    if files.mask is not None:
        mask = checked_mask(read_labels(files.mask), fixed, f"mask {files.mask}")
    grid = Grid.of(fixed)
    jacobian = to_image(jacobian_of(displacement_field(transform, grid)), grid)
    inside = _where(jacobian, mask)
    landmarks, doubts = _landmark_rows(files, transform, grid, Grid.of(moving))
    regions, of_labels = _region_rows(files, fixed, moving, transform, jacobian, mask)
    errors = [row.error_mm for row in landmarks]
    inverse = None
    if files.inverse is not None:
        inverse = inverse_consistency(transform, read_any(files.inverse), fixed)
    row = PairRow(
        pair=files.pair,
        landmarks=len(landmarks),
        tre_before_mean_mm=_rounded(np.mean, [row.before_mm for row in landmarks]),
        tre_mean_mm=_rounded(np.mean, errors),
        tre_median_mm=_rounded(np.median, errors),
        tre_max_mm=_rounded(np.max, errors),
        structures=len(regions),
        dice_before=_rounded(np.mean, [r.dice_before for r in regions]),
        dice=_rounded(np.mean, [r.dice for r in regions]),
        hd95_mm=_rounded(np.mean, [r.hd95_mm for r in regions]),
        assd_mm=_rounded(np.mean, [r.assd_mm for r in regions]),
        folding_fraction=folding_fraction(jacobian, mask),
        jacobian_min=_rounded(np.min, inside),
        jacobian_mean=_rounded(np.mean, inside),
        jacobian_max=_rounded(np.max, inside),
        log_jacobian_sd=_number(log_jacobian_std(jacobian, mask)),
        inverse_mean_mm=None if inverse is None else _number(inverse.mean_mm),
        inverse_max_mm=None if inverse is None else _number(inverse.max_mm),
    )
    return row, regions, landmarks, doubts + of_labels


def _where(image: sitk.Image, mask: sitk.Image | None) -> np.ndarray:
    values = sitk.GetArrayFromImage(image)
    return values.ravel() if mask is None else values[sitk.GetArrayFromImage(mask) > 0]


def _number(value: float) -> float | None:
    return round(float(value), DIGITS) if np.isfinite(value) else None


def _rounded(take: Callable[[np.ndarray], Any], values: Sequence[float | None] | np.ndarray) -> float | None:
    """A figure over the values that are known, None where there are none."""
    known = values if isinstance(values, np.ndarray) else np.array([v for v in values if v is not None], float)
    return _number(take(known)) if known.size else None


def _landmark_rows(
    files: PairFiles, transform: sitk.Transform, fixed: Grid, moving: Grid
) -> tuple[list[LandmarkRow], list[str]]:
    """A row for each landmark, and what is doubtful about them."""
    if files.fixed_landmarks is None or files.moving_landmarks is None:
        return [], []
    landmarks = read_landmarks(files.fixed_landmarks, files.moving_landmarks)
    before, after = landmarks.errors_mm(lambda point: point), landmarks.errors_mm(transform.TransformPoint)
    rows = [
        LandmarkRow(files.pair, name, round(float(b), DIGITS), round(float(a), DIGITS))
        for name, b, a in zip(landmarks.names, before, after, strict=True)
    ]
    return rows, [*landmarks.notes(), *landmarks.doubts(fixed, moving, transform.TransformPoint)]


def _region_rows(
    files: PairFiles,
    fixed: sitk.Image,
    moving: sitk.Image,
    transform: sitk.Transform,
    jacobian: sitk.Image,
    mask: sitk.Image | None,
) -> tuple[list[RegionRow], list[str]]:
    """A row for each structure, and what is doubtful about the labels."""
    if files.fixed_labels is None or files.moving_labels is None:
        return [], []
    (expected, of_fixed), (own, of_moving) = (
        _labels(image, image_path, path)
        for image, image_path, path in (
            (fixed, files.fixed, files.fixed_labels),
            (moving, files.moving, files.moving_labels),
        )
    )
    grid = Grid.of(fixed)
    carried, before = (resample_labels(own, grid, each) for each in (transform, sitk.Transform(3, sitk.sitkIdentity)))
    expected, carried, before = (_within(each, mask, fixed) for each in (expected, carried, before))
    values = [value for value in np.unique(sitk.GetArrayFromImage(expected)).tolist() if value > 0]
    if not values:
        raise InputError(f"labels {files.fixed_labels} are empty; expected at least one label above zero")
    at_first = dice_per_label(before, expected, values)
    rows = [
        RegionRow(
            files.pair,
            value,
            found.status,
            _number(at_first[value]),
            _number(found.dice),
            _number(found.hd_mm),
            _number(found.hd95_mm),
            _number(found.assd_mm),
            _number(found.volume_error_percent),
            *_jacobian_in(jacobian, expected == value),
        )
        for value, found in compare_labels(carried, expected, values).items()
    ]
    return rows, of_fixed + of_moving


def _labels(image: sitk.Image, image_path: Path, path: Path) -> tuple[sitk.Image, list[str]]:
    """Labels on the image's grid, and that their file has a part of it."""
    labels, share = read_labels_of(image, path, name=str(image_path))
    return labels, [f"{path.name}: {covers_a_part(share)}"] if share < 1 else []


def _within(labels: sitk.Image, mask: sitk.Image | None, grid: sitk.Image) -> sitk.Image:
    whole = sitk.Cast(labels, sitk.sitkInt64)
    whole.CopyInformation(grid)
    return whole if mask is None else sitk.Mask(whole, mask)


def _jacobian_in(jacobian: sitk.Image, region: sitk.Image) -> tuple[float | None, float | None, float | None]:
    """Mean, standard deviation of the logarithm, share that folds."""
    mean = _rounded(np.mean, _where(jacobian, region))
    return mean, _number(log_jacobian_std(jacobian, region)), _number(folding_fraction(jacobian, region))


def _summary(rows: Sequence[PairRow], warnings: Sequence[str]) -> PairsSummary:
    """Means over the pairs that have a figure, and the worst of them."""
    figures = [each.name for each in fields(PairRow) if each.name not in ("pair", "landmarks", "structures")]
    known = {name: [value for row in rows if (value := getattr(row, name)) is not None] for name in figures}
    means = {name: round(float(np.mean(values)), DIGITS) for name, values in known.items() if values}
    worst = {}
    for name, take in (("tre_mean_mm", max), ("dice", min), ("folding_fraction", max), ("inverse_max_mm", max)):
        if known[name]:
            extreme = take(known[name])
            worst[name] = next(row.pair for row in rows if getattr(row, name) == extreme)
    return PairsSummary(len(rows), sum(row.landmarks for row in rows), means, worst, warnings=tuple(warnings))
