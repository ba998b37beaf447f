"""Which scans train, which ones choices are made by, and which ones are kept for the measuring."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, listed
from ..io.manifest import Subject

LOG = logging.getLogger(__name__)

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.15  # of the labelled subjects without a split
MIN_FOR_VALIDATION, MIN_FOR_TEST = 4, 5  # labelled subjects, below which all of them are needed elsewhere
MIN_FOR_A_PAIR = 8  # from which on two are validated with: a pair
MAX_HELD_OUT = 40  # of each split


def make_splits(subjects: Sequence[Subject], seed: int = 0) -> list[Subject]:
    """The subjects in their order, those without a split in one: of the labelled ones some are held out.

    A group, the scans of one person or animal, is never divided; where the validation or test split is given already,
    none is made. The same seed makes the same splits.
    """
    given = {s.split for s in subjects if s.split}
    labelled = sorted({_unit(s) for s in subjects if not s.split and s.labels is not None})
    random.Random(seed).shuffle(labelled)
    count = len(labelled)
    test = 0 if "test" in given or count < MIN_FOR_TEST else max(1, round(TEST_SHARE * count))
    validation = 0
    if "validation" not in given and count >= MIN_FOR_VALIDATION:
        validation = max(2 if count >= MIN_FOR_A_PAIR else 1, round(VALIDATION_SHARE * count))
    test, validation = min(test, MAX_HELD_OUT), min(validation, MAX_HELD_OUT)
    held_out = dict.fromkeys(labelled[:test], "test") | dict.fromkeys(labelled[test : test + validation], "validation")
    return [s if s.split else replace(s, split=held_out.get(_unit(s), "train")) for s in subjects]


def _unit(subject: Subject) -> str:
    """What is never divided: the group, or the subject alone."""
    return f"group {subject.group}" if subject.group else f"subject {subject.name}"


def check_same(subjects: Sequence[Subject], found: Sequence[Subject], left_out: Collection[str], output: Path) -> None:
    """InputError where the data hold more scans, other labels or other splits than a training has begun with."""
    began = {s.image.resolve(): s for s in subjects}
    changed = []
    for s in found:
        own = began.get(s.image.resolve())
        if own is None:
            changed += [] if s.name in left_out else [f"{s.name} is new"]
        elif own.labels is not None and (s.labels is None or s.labels.resolve() != own.labels.resolve()):
            changed.append(f"the labels of {s.name} are {s.labels or 'gone'}, not {own.labels}")
        elif s.split and s.split != own.split:
            changed.append(f"{s.name} is for {s.split}, not for {own.split}")
        elif own.labels is None and s.labels is not None:  # unfit ones were left when it began
            LOG.warning(f"{s.name} is trained on without its labels {s.labels}, as the training has begun")
    if changed:
        raise InputError(
            f"{output} holds a training of other scans ({listed(changed, between='; ')}); expected those it began "
            "with, or another folder"
        )
