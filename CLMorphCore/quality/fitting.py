"""The quality score fitted to observations, and fitted again without each subject in turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from . import score
from .observations import GENUINE, Observation
from .score import Quality


def fit(atlas: str, observations: Iterable[Observation]) -> Quality:
    """The score that fits the genuine observations, with their Dice, and the corrupted ones.

    Subjects of the validation split, which the atlas is not made from, tell shift and intervals.
    """
    known = [(o, o.evidence) for o in observations if o.evidence is not None]
    genuine = [(o.split == "validation", (evidence, o.dice)) for o, evidence in known if o.kind == GENUINE]
    corrupted = [evidence for o, evidence in known if o.kind != GENUINE]
    seen, unseen = ([case for held_out, case in genuine if held_out is wanted] for wanted in (False, True))
    if not any(dice is not None for _, dice in seen):
        seen, unseen = unseen, []
    return score.fit(atlas, seen, corrupted, unseen)


def leave_one_out(atlas: str, observations: Sequence[Observation]) -> list[tuple[Quality, Observation]]:
    """Each observation with the score that fits those of all other subjects."""
    subjects = {o.subject for o in observations}
    fits = {name: fit(atlas, (o for o in observations if o.subject != name)) for name in subjects}
    return [(fits[o.subject], o) for o in observations]
