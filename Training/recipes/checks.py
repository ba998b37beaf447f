"""What each ``prepare.py`` assures before it writes a manifest: every file is there, is sound and fits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CLMorphCore.errors import InputError
from CLMorphCore.geometry import check_same_grid
from CLMorphCore.io.images import read_image, read_labels
from CLMorphCore.io.manifest import Subject


def check_subjects(
    subjects: Sequence[Subject],
    *,
    expected: Collection[int],
    sometimes: Collection[int] = (),
    faults: Sequence[str] = (),
) -> None:
    """Ends with the list of everything that is wrong with the files of a data set, if anything is.

    Each labelled subject must have all the label values ``expected``, may have those of ``sometimes``, and no other.
    ``faults`` are those that turned up on the way to the subjects.
    """
    everything = [*faults, *(fault for s in subjects for fault in _faults(s, set(expected), set(sometimes)))]
    if everything:
        raise SystemExit(
            f"{len(everything)} things are wrong with the data set; no manifest was written:\n" + "\n".join(everything)
        )


def _faults(subject: Subject, expected: set[int], sometimes: set[int]) -> Iterable[str]:
    image, fault = _read(read_image, subject.image)
    yield from fault
    if subject.labels is None:
        return
    labels, fault = _read(read_labels, subject.labels)
    yield from fault
    if image is not None and labels is not None:
        try:
            check_same_grid(image, labels, names=(str(subject.image), f"labels {subject.labels}"))
        except InputError as error:
            yield str(error)
    if labels is not None:
        values = set(np.unique(sitk.GetArrayViewFromImage(labels)).tolist()) - {0}
        if expected - values:
            yield f"labels {subject.labels} lack {_listed(expected - values)}; expected every structure of the data set"
        if values - expected - sometimes:
            yield (
                f"labels {subject.labels} hold {_listed(values - expected - sometimes)}; expected no other than "
                f"{_listed(expected | sometimes)}"
            )


def _read(read: Callable[[Path], sitk.Image], path: Path) -> tuple[sitk.Image | None, list[str]]:
    try:
        return read(path), []
    except InputError as error:
        return None, [str(error)]


def _listed(values: Collection[int]) -> str:
    """1–4, 7: ranges of consecutive numbers."""
    ranges: list[list[int]] = []
    for value in sorted(values):
        if ranges and value == ranges[-1][-1] + 1:
            ranges[-1][1:] = [value]
        else:
            ranges.append([value])
    return ", ".join("–".join(map(str, r)) for r in ranges)
