"""Arguments of the command line as values, each refused in words."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

MAX_THREADS = 1024
MAX_SMOOTHING = 50.0  # voxels
MIN_WINDOW, MAX_WINDOW = 3, 49  # voxels
MAX_LENGTH_MM = 1e4  # what is too long for a grid is said when that is known
MAX_MINUTES = 525_600.0  # a year


def text_of(text: str) -> str:
    """Text that is not empty."""
    if not text:  # as of a shell's variable that is not set: it would mean the current folder
        raise argparse.ArgumentTypeError("nothing given, expected a path or a name")
    return text


def path(text: str) -> Path:
    """A path."""
    return Path(text_of(text))


def above_zero(text: str) -> int:
    """A whole number from 1 on."""
    if not (text.isascii() and text.isdecimal()) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} given, expected a whole number above zero")
    return int(text)


def threads(text: str) -> int:
    """A number of threads."""
    if (count := above_zero(text)) > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{text} given, expected at most {MAX_THREADS}")
    return count


def minutes(text: str) -> float:
    """A number of minutes above zero."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes <= MAX_MINUTES:
        raise argparse.ArgumentTypeError(f"{text} given, expected a number of minutes above zero")
    return minutes


def smoothing(text: str) -> float | str:
    """A standard deviation in voxels, or the text of one in mm."""
    if _is_in_mm(text):
        return text
    with suppress(ValueError):
        if 0 <= (voxels := float(text)) <= MAX_SMOOTHING:
            return voxels
    raise argparse.ArgumentTypeError(
        f"{text} given, expected a number from 0 to {MAX_SMOOTHING:g}, of voxels, or a length like 1.5mm"
    )


def window(text: str) -> int | str:
    """The side of a window in voxels, or the text of one in mm."""
    if _is_in_mm(text):
        return text
    with suppress(ValueError):
        if (voxels := int(text)) in range(MIN_WINDOW, MAX_WINDOW + 1, 2):
            return voxels
    raise argparse.ArgumentTypeError(
        f"{text} given, expected an odd whole number from {MIN_WINDOW} to {MAX_WINDOW}, of voxels, or a length like 7mm"
    )


def _is_in_mm(text: str) -> bool:
    with suppress(ValueError):
        return text.endswith("mm") and 0 <= float(text.removesuffix("mm")) < MAX_LENGTH_MM
    return False


def pair_of_paths(text: str) -> tuple[Path, Path]:
    """IMAGE=LABELS, two paths."""
    image, equals, labels = text.partition("=")
    if not (image and equals and labels):
        raise argparse.ArgumentTypeError(f"{text} given, expected IMAGE=LABELS, two files")
    return Path(image), Path(labels)


def shard(text: str) -> tuple[int, int]:
    """I/N, the I-th of N shares."""
    number, slash, count = text.partition("/")
    if not slash or (share := (above_zero(number), above_zero(count)))[0] > share[1]:
        raise argparse.ArgumentTypeError(f"{text} given, expected I/N with I from 1 to N, for instance 3/20")
    return share


def transform_file(text: str) -> tuple[Path, bool]:
    """FILE, or [FILE,0] and [FILE,1] as in ANTs: a file, and whether its inverse is meant."""
    if text.startswith("[") and text.endswith((",0]", ",1]")):
        return path(text[1:-3]), text.endswith(",1]")
    return path(text), False
