"""What the recipes' ``prepare.py`` share: splits in, manifests out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from CLMorphCore.errors import InputError
from CLMorphCore.io.manifest import COLUMNS, SPLITS, Subject, choose, read_subject
from Training.csv_rows import read_rows, write_lines

ATLAS_CANDIDATES = 40  # their average does not change with more


@dataclass(frozen=True)
class SplitRow:
    """A line of split.csv."""

    subject: str
    split: str


def folder_of(data: Path, name: str) -> Path:
    """DATA/NAME; ends where there is no such folder."""
    if not (data / name).is_dir():
        raise SystemExit(f"{data / name} does not exist; expected a data set there; check the first argument")
    return data / name


def read_split(folder: Path) -> dict[str, str]:
    """subject → split, from split.csv in a data set's folder; ends where it is not there or not so."""
    path = folder / "split.csv"
    if not path.exists():
        raise SystemExit(f"{path} does not exist; expected a data set with a CSV of the columns subject, split")
    wanted = f"expected the columns subject, split with one of {', '.join(SPLITS)}"
    try:
        rows = read_rows(path, SplitRow, others=True)
    except InputError as error:
        raise SystemExit(f"{error.problem}; {wanted}") from None
    wrong = [f"{row.subject}: {row.split}" for row in rows if not row.subject or row.split not in SPLITS]
    if wrong or not rows:
        raise SystemExit(
            f"{path} has rows that are no subject with a split ({', '.join(wrong) or 'none at all'}); {wanted}"
        )
    return {row.subject: row.split for row in rows}


def read_labelled(subject: Subject) -> tuple[sitk.Image, sitk.Image]:
    """(image, labels) of a subject; InputError for one that has no labels."""
    image, labels = read_subject(subject)
    if labels is None:
        raise InputError(f"subject {subject.name} has no labels", "expected a labelled subject")
    return image, labels


def write_manifest(path: Path, subjects: Sequence[Subject]) -> None:
    """Writes a manifest with absolute paths, whole or not at all."""
    write_lines(
        path,
        COLUMNS,
        ((s.name, s.image.resolve(), s.labels.resolve() if s.labels else "", s.split, s.group) for s in subjects),
    )


def atlas_candidates(subjects: Sequence[Subject]) -> list[Subject]:
    """The train subjects that the typical one is chosen among."""
    return choose(subjects, "train")[:ATLAS_CANDIDATES]


def command_line(main: Callable[[Path, Path], None]) -> None:
    """``prepare.py DATA manifest.csv``: calls ``main`` with both; what is wrong with them ends it in one line."""
    if len(sys.argv) != 3:
        raise SystemExit(f"{len(sys.argv) - 1} arguments given; expected the data's folder and the manifest to write")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        raise SystemExit(str(error)) from None
