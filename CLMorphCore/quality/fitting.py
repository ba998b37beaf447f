"""The quality score fitted to observations, and fitted again without each subject in turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import InputError, listed
from . import score
from .observations import GENUINE, Observation
from .score import Quality


def fit(atlas: str, observations: Iterable[Observation]) -> Quality:
    """The score that fits the genuine observations, with their Dice, and the corrupted ones.

    Subjects of the validation split, which the atlas is not made from, tell the shift, and with all others the
    intervals. Raises InputError where no scan shows any structure, or one scan alone could be registered.
    """
    known = [(o, o.evidence) for o in observations if o.evidence is not None]
    genuine = [(o, (evidence, o.dice)) for o, evidence in known if o.kind == GENUINE]
    corrupted = [evidence for o, evidence in known if o.kind != GENUINE]
    held_out = [(o.subject, case) for o, case in genuine if o.split == "validation"]
    seen = [(o.subject, case) for o, case in genuine if o.split != "validation"]
    if not any(score.shows_structures(dice) for _, (_, dice) in seen):
        seen, held_out = [*seen, *held_out], []  # what has no labels serves for the checks
    _check_labelled(seen)
    if len(genuine) == 1:
        raise InputError("one scan alone could be registered; expected two or more, which tell how scans differ")
    names, cases = [name for name, _ in seen], [case for _, case in seen]
    return score.fit(atlas, cases, corrupted, [case for _, case in held_out], [name for name, _ in held_out], names)


def calibrated(quality: Quality, observations: Iterable[Observation]) -> Quality:
    """The score with shift and intervals by labelled subjects that the atlas is not made from.

    Raises InputError where there is none, or where a structure of the score has no deviation.
    """
    if unknown := [str(value) for value in quality.usual if value not in quality.deviation]:
        raise InputError(
            f"the fit tells no deviation of structure {listed(unknown, 8)}; expected one of every structure",
            "make it again with python -m Training.quality fit",
        )
    known = [(o, o.evidence) for o in observations if o.evidence is not None and score.shows_structures(o.dice)]
    cases = [(o.subject, (evidence, o.dice)) for o, evidence in known if o.kind == GENUINE]
    _check_labelled(cases)
    return score.calibrated(quality, cases)


def _check_labelled(cases: Iterable[score.Named]) -> None:
    if not any(score.shows_structures(dice) for _, (_, dice) in cases):
        raise InputError(
            "none of the scans shows any of the structures and could be registered; expected labelled ones that do"
        )


def leave_one_out(atlas: str, observations: Sequence[Observation]) -> list[tuple[Quality, Observation]]:
    """Each observation with the score that fits those of all other subjects.

    Raises InputError for one labelled subject, and for two scans.
    """
    labelled = {o.subject for o in observations if o.evidence is not None and score.shows_structures(o.dice)}
    if len(labelled) == 1:
        raise InputError(f"{labelled.pop()} is the only subject with labels; expected two or more, to leave each out")
    if sum(o.kind == GENUINE and o.evidence is not None for o in observations) == 2:
        raise InputError("two scans could be registered; expected three or more, to leave each out")
    subjects = {o.subject for o in observations}
    fits = {name: fit(atlas, (o for o in observations if o.subject != name)) for name in subjects}
    return [(fits[o.subject], o) for o in observations]
