"""The quality score fitted to observations, and fitted again without each subject in turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from CLMorphCore.quality import score
from CLMorphCore.quality.score import Quality

from .observations import GENUINE, Observation


def fit(atlas: str, observations: Iterable[Observation]) -> Quality:
    """The score that fits the genuine observations, with their Dice, and the corrupted ones."""
    known = [(o, o.evidence) for o in observations if o.evidence is not None]
    return score.fit(
        atlas,
        [(evidence, o.dice) for o, evidence in known if o.kind == GENUINE],
        [evidence for o, evidence in known if o.kind != GENUINE],
    )


def leave_one_out(atlas: str, observations: Sequence[Observation]) -> list[tuple[Quality, Observation]]:
    """Each observation with the score that fits those of all other subjects."""
    subjects = {o.subject for o in observations}
    fits = {name: fit(atlas, (o for o in observations if o.subject != name)) for name in subjects}
    return [(fits[o.subject], o) for o in observations]
