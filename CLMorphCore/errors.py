"""What can go wrong for a user: one line each, what was given, what was expected, what to do.

    CLMorphError          base of everything that is shown without a traceback
    ├── InputError        a file, setting or argument that cannot be used as given
    │   ├── FileError       a file that cannot be read, or does not hold what it should
    │   ├── OutputError     a place that cannot be written to
    │   │   └── InUse         … because another run is at it
    │   ├── SettingError    a setting of a configuration
    │   ├── AlignmentError  images that do not overlap, or an affine that does not fit them
    │   └── DeviceError     a device that is not there
    ├── OutOfMemory       too little memory, on the machine or on its GPU
    ├── SomeFailed        scans of a cohort without a result; the others have theirs
    ├── Diverged          a training whose loss or gradient is no number
    ├── OthersEnded       a training of several processes, one of which is gone
    └── Cancelled         the user asked to stop

Texts speak of the library's parameters, in backticks: `affine`, or `device=cpu` with a value. ``str`` shows them as a
Python user writes them; the command line and Slicer say them in their own words (``CLMorphError.text``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

PARAMETERS = {
    "affine",
    "atlas",
    "atlas_labels",
    "atlases",
    "brain_extraction",
    "config",
    "design",
    "device",
    "dicom_seg",
    "frames",
    "fusion",
    "initial",
    "label_names",
    "labels_for",
    "landmarks",
    "manifest",
    "margin_mm",
    "mask",
    "minutes",
    "model",
    "moving_labels",
    "moving_mask",
    "most_similar",
    "optimization",
    "output",
    "overrides",
    "plan",
    "resume",
    "rounds",
    "similarity",
    "split",
    "tensorboard",
    "threads",
    "typical",
}
_MENTION = re.compile(r"`(\w+)(?:=([^`]*))?`")


class CLMorphError(Exception):
    """Base of every error that is shown to the user without a traceback: a problem, and perhaps a remedy."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem, self.remedy = printable(problem), printable(remedy)

    def text(self, words: Mapping[str, str] | None = None) -> str:
        """'problem; remedy' on one line, with ``words[parameter]`` and a space before its value, where it has one.

        Parameters that ``words`` lacks are written as in Python.
        """

        def said(mention: re.Match[str]) -> str:
            name, value = mention.groups()
            if name not in PARAMETERS:  # not ours: a file may be called so
                return mention[0]
            word, link = (words[name], " ") if words and name in words else (name, "=")
            return word if value is None else f"{word}{link}{value}"

        whole = "; ".join(part for part in (self.problem, self.remedy) if part)
        return _MENTION.sub(said, " ".join(whole.split()))

    def __str__(self) -> str:
        return self.text()


class InputError(CLMorphError):
    """A file, setting or argument that cannot be used as given."""


class FileError(InputError):
    """A file that cannot be read, or does not hold what it should."""


class OutputError(InputError):
    """A place that cannot be written to."""


class InUse(OutputError):
    """A place that another run holds."""


class SettingError(InputError):
    """A setting of a configuration that does not fit."""


class AlignmentError(InputError):
    """Images that do not overlap, or an affine that does not fit them."""


class DeviceError(InputError):
    """A device that is not there."""


class OutOfMemory(CLMorphError):
    """Too little memory, on the machine or on its GPU."""


class SomeFailed(CLMorphError):
    """Scans of a cohort have no result; the others have theirs."""


class Diverged(CLMorphError):
    """A training whose loss or gradient is no number."""


class OthersEnded(CLMorphError):
    """A training of several processes, one of which is gone."""


class Cancelled(CLMorphError):
    """The user asked to stop."""

    def __init__(self) -> None:
        super().__init__("cancelled")


def counted(number: int, one: str, several: str | None = None) -> str:
    """``1 scan``, ``2 scans``; of what is no plain plural both words are given."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def listed(words: Sequence[str], most: int = 3, *, between: str = ", ") -> str:
    """'a, b, c …': the first words, and a sign where there are more."""
    return between.join(words[:most]) + (" …" if len(words) > most else "")


def printable(text: str) -> str:
    """The text with control characters and their like as escapes: a header may hold commands to a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _KEPT or "\ud800" <= c <= "\udfff" else _escaped(c) for c in text)


_KEPT = "\t\n\r\xa0\u2009\u202f\u3000"  # which ``text`` makes spaces; bytes that are no UTF-8 (surrogates) stay too


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the nearest of the known words, otherwise their list."""
    known = sorted(known)
    near = difflib.get_close_matches(given, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
