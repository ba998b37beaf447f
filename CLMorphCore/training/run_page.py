"""What the page of a training shows, gathered from the folder of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from ..atomic import atomic_write
from ..bundles.model import Model
from ..evaluation import SUMMARY
from ..io.files import parse_json, read_json, read_text
from ..io.images import read_image
from ..io.manifest import SPLITS, Subject, choose, read_subject
from ..matching import prepare, prepare_image
from ..progress import Progress, silent
from ..registration import register
from ..reports.drawing import rgb
from ..reports.evaluation import Summary
from ..reports.training import HeldOut, Point, TrainingRun, training_page

MAX_SHOWN = 3  # scans beside the average


def write_page(
    path: Path,
    model: Model,
    subjects: Sequence[Subject],
    *,
    reference: Path,
    plan: str,
    left_out: Mapping[str, str],
    start: str = "",
    progress: Progress = silent,
) -> None:
    """report.html of the training in whose folder ``path`` lies; ``reference`` is the average without an atlas.

    ``start`` says what was kept of the model that it started from.
    """
    run = path.parent
    atlas = model.atlases[0] if model.atlases else None
    average = atlas.image if atlas is not None else read_image(reference)
    prepared = prepare(model, model.atlases[:1]) if atlas is not None else prepare_image(model, average)
    shown = []
    chosen = _chosen(subjects)
    for n, subject in enumerate(chosen):
        progress(f"page: {subject.name}", n / len(chosen))
        image, truth = read_subject(subject)
        found = register(image, prepared, model)
        shown.append(
            HeldOut(
                subject.name,
                subject.split != "train",
                image,
                found.warp(average, affine_only=True),
                found.warp(average),
                found.jacobian_on_fixed(),
                found.transform,
                found.affine,
                found.folding_fraction,
                found.similarity,
                found.warp(atlas.labels, labels=True) if atlas is not None else None,
                truth,
            )
        )
    made = TrainingRun(
        name=model.name,
        about=plan.splitlines()[1].lstrip("# ") if plan.startswith("#") and plan.count("\n") > 1 else "",
        counts={split: len(choose(subjects, split)) for split in SPLITS},
        left_out=left_out,
        log=read_log(run / "log.jsonl"),
        average=average,
        average_labels=atlas.labels if atlas is not None else None,
        colors={s.value: rgb(s.color) for s in atlas.structures} if atlas is not None else {},
        held_out=shown,
        accuracy=measured(run),
        plan=plan,
        start=start,
        habits=habits(model),
    )
    with atomic_write(path) as temporary:
        temporary.write_text(training_page(made), encoding="utf-8")


def habits(model: Model) -> list[str]:
    """What a segmentation with the model does unasked, and how its structures get names; nothing without an atlas."""
    if not model.atlases:
        return []
    labels = "Labels follow the scan's own tissue" if model.tissue.on else "Labels are the atlas' as they are warped"
    said = [f"{labels}, with this model, unless --tissue says otherwise."]
    if model.refinement.on:
        gain = "" if model.refinement.gain is None else f": {model.refinement.gain:+.3f} of Dice on validation scans"
        said.append(f"Each answer of the network is refined by up to {model.refinement.steps} steps{gain}.")
    else:
        said.append("Answers are not refined unless --refine asks for it.")
    if all(s.name == f"Label {s.value}" for s in model.atlases[0].structures):
        said.append(
            "Structures are called by their values, for no names were given: write them into labels.csv of "
            "model/atlases/average."
        )
    return said


def measured(run: Path) -> dict[str, Summary]:
    """The figures of the evaluations in a training's folder, by their splits."""
    return {split: _summary(run / split / SUMMARY) for split in SPLITS if (run / split / SUMMARY).exists()}


def read_log(path: Path) -> list[Point]:
    """The steps of a log.jsonl, with the last minutes known; lines that are cut off are passed over."""
    points, minutes = [], 0.0
    for line in read_text(path, "the log of a training").splitlines():
        try:
            values = parse_json(line)
            step = int(values.pop("step"))
            minutes = values.pop("seconds", 60 * minutes) / 60
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        points.append(Point(step, minutes, values))
    return points


def _chosen(subjects: Sequence[Subject]) -> list[Subject]:
    """Held-out scans where there are any, test before validation, else training scans."""
    held_out = [s for split in ("test", "validation") for s in choose(subjects, split)]
    return (held_out or choose(subjects, "train"))[:MAX_SHOWN]


def _summary(path: Path) -> Summary:
    known = {field.name for field in fields(Summary)}
    return Summary(**{k: v for k, v in read_json(path, "a summary of an evaluation").items() if k in known})
