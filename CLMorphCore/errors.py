"""What can go wrong for a user, as exceptions whose text is one line: what was given, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CLMorphError(Exception):
    """Base of every error that is shown to the user without a traceback."""


class InputError(CLMorphError):
    """A file, setting or argument that cannot be used as given."""


class Cancelled(CLMorphError):
    """The user asked to stop."""

    def __init__(self) -> None:
        super().__init__("cancelled")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the nearest of the known words, otherwise their list."""
    known = sorted(known)
    near = difflib.get_close_matches(given, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
