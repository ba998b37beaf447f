"""Measuring a model on labelled subjects, each on its own grid."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .atomic import atomic_folder
from .bundles.atlas import Atlas, Structure
from .bundles.model import Model
from .errors import InputError
from .instance_optimization import InstanceOptimization
from .io.checksums import seal
from .io.images import warnings_of
from .io.manifest import Subject, choose, read_subject
from .io.outputs import check_results
from .io.tables import escaped
from .metrics import compare_labels, dice_per_label
from .progress import Progress, part, silent
from .reports.evaluation import Agreement, Summary, evaluation_page
from .segmentation import prepare_atlases, segment

SUMMARY = "summary.json"
RESULTS = ("results.csv", SUMMARY, "report.html")
MISSING_IN_ATLAS = "missing in the atlas"
MAX_NAMED = 10  # labels of a warning


@dataclass(frozen=True)
class Evaluation:
    """All rows, and the figures over them."""

    rows: tuple[Agreement, ...]
    summary: Summary

    def save(self, folder: Path) -> None:
        """Writes results.csv, summary.json and report.html, all or none.

        OutputError where that fails, or would replace what is not as an earlier run has written it.
        """
        check_results(folder, RESULTS, certificates=[SUMMARY], record=SUMMARY)
        rows = [asdict(row) for row in self.rows]
        with atomic_folder(folder, certificate=SUMMARY) as temporary:
            with (temporary / "results.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, rows[0].keys())
                writer.writeheader()
                writer.writerows(
                    {key: escaped(cell) if isinstance(cell, str) else cell for key, cell in row.items()} for row in rows
                )
            (temporary / SUMMARY).write_text(json.dumps(asdict(self.summary), indent=1), encoding="utf-8")
            (temporary / "report.html").write_text(evaluation_page(self.rows, self.summary), encoding="utf-8")
            seal(temporary, folder, RESULTS, SUMMARY)


def evaluate(
    model: Model,
    subjects: Sequence[Subject],
    *,
    split: str = "test",
    atlases: Sequence[Atlas] | None = None,
    fusion: str = "similarity",
    most_similar: int | None = None,
    optimization: InstanceOptimization | None = None,
    tissue: str = "auto",
    progress: Progress = silent,
) -> Evaluation:
    """Segments every labelled subject of a split and compares with its labels: Dice, surface distances, folding.

    The other parameters are those of ``segment``. Every structure of a subject is measured, one that the atlases lack
    as Dice 0, with a warning; InputError if there is no subject, or they share no label with it.
    """
    chosen = choose(subjects, split, labelled=True)
    if not chosen:
        raise InputError(f"the manifest has no labelled subject with split {split}; nothing to evaluate")
    prepared = prepare_atlases(model, atlases, most_similar)
    rows: list[Agreement] = []
    folds, seconds, warnings = [], [], []
    for index, subject in enumerate(chosen):
        at = part(progress, index / len(chosen), (index + 1) / len(chosen))
        at(f"{subject.name} ({index + 1}/{len(chosen)})", 0.0)
        image, labels = read_subject(subject)
        assert labels is not None  # only labelled subjects were chosen
        began = time.monotonic()
        warnings += _doubts(subject.name, image, labels, prepared.atlases)
        found = segment(
            image,
            model,
            atlases=prepared,
            fusion=fusion,
            most_similar=most_similar,
            optimization=optimization,
            tissue=tissue,
            progress=at,
        )
        seconds.append(time.monotonic() - began)
        folds.append(found.registration.folding_fraction)
        before = found.registration.warp(found.atlas.labels, labels=True, affine_only=True)
        of_subject = _rows(subject.name, found.structures, found.labels, before, labels)
        rows, warnings = rows + of_subject, warnings + _lacking(of_subject)
    summary = Summary(
        model=model.name,
        split=split,
        subjects=len(chosen),
        dice_affine=_mean(rows, "dice_affine"),
        dice=_mean(rows, "dice"),
        dice_sd_over_subjects=_spread(rows),
        hd95_mm=_mean(rows, "hd95_mm"),
        assd_mm=_mean(rows, "assd_mm"),
        folding_fraction_mean=float(np.mean(folds)),
        folding_fraction_max=float(np.max(folds)),
        seconds=float(np.mean(seconds)),
        warnings=tuple(warnings),
    )
    return Evaluation(tuple(rows), summary)


def _doubts(name: str, image: sitk.Image, labels: sitk.Image, atlases: Sequence[Atlas]) -> list[str]:
    """What was said when a subject was read; and whether it is an atlas, by its voxels."""
    said = [f"{name}: {text}" for each in (image, labels) for text in warnings_of(each)]
    values = sitk.GetArrayViewFromImage(image)
    if any(np.array_equal(values, sitk.GetArrayViewFromImage(atlas.image)) for atlas in atlases):
        said.append(f"{name} is an atlas here: what its own labels give it tells nothing of other scans")
    return said


def _rows(
    subject: str, structures: Sequence[Structure], found: sitk.Image, before: sitk.Image, expected: sitk.Image
) -> list[Agreement]:
    known = {s.value: s.name for s in structures}
    values = [v for v in np.unique(sitk.GetArrayViewFromImage(expected)).tolist() if v]
    if not known.keys() & set(values):
        raise InputError(
            f"the labels of subject {subject} share no value with the atlas' ({sorted(known)[:10]}); "
            "expected labels of the same protocol"
        )
    found, before, expected = (sitk.Cast(image, sitk.sitkInt64) for image in (found, before, expected))
    affine = dice_per_label(before, expected, values)
    return [
        Agreement(
            subject,
            value,
            known.get(value, f"Label {value}"),
            m.status if value in known else MISSING_IN_ATLAS,
            affine[value],
            m.dice,
            m.hd_mm,
            m.hd95_mm,
            m.assd_mm,
            m.volume_error_percent,
        )
        for value, m in compare_labels(found, expected, values).items()
    ]


def _lacking(rows: Sequence[Agreement]) -> list[str]:
    """A warning for a subject's structures that the atlas lacks, if there are any."""
    lacking = [str(row.value) for row in rows if row.status == MISSING_IN_ATLAS]
    if not lacking:
        return []
    more = f" and {len(lacking) - MAX_NAMED} more" if len(lacking) > MAX_NAMED else ""
    labels = f"label{'s' if len(lacking) > 1 else ''} {', '.join(lacking[:MAX_NAMED])}{more}"
    return [f"{rows[0].subject}: the atlas lacks the {labels}, which count{'' if len(lacking) > 1 else 's'} as Dice 0"]


def _mean(rows: Sequence[Agreement], figure: str) -> float:
    """Mean over all structures of all subjects; a structure that was not found counts as Dice 0."""
    return float(np.nanmean([getattr(row, figure) for row in rows]))


def _spread(rows: Sequence[Agreement]) -> float:
    """Standard deviation over subjects of the mean Dice of each."""
    names = sorted({row.subject for row in rows})
    return float(np.std([_mean([r for r in rows if r.subject == name], "dice") for name in names]))
