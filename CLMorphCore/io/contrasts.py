"""Of scans that lie beside one another in several contrasts, those of one: a model is of one contrast."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from .label_files import OF_LABELS, SEPARATORS, bases, stem

CONTRAST = re.compile(
    rf"(?:(?P<base>.*)[{SEPARATORS}])?(?P<contrast>t1|t1w|t1c|t1ce|t1gd|t1n|t2|t2w|t2f|t2star|flair|pd|pdw|dwi|adc|swi)",
    re.IGNORECASE,
)
MIN_SHARE = 0.5  # of the subjects with the commonest contrast, that have a second one, for these to be told apart


def one_contrast(in_folder: Mapping[Path, Sequence[Path]]) -> tuple[dict[Path, list[Path]], list[Path], str]:
    """(the files of each folder without other contrasts, those that are left, the contrast that is kept).

    Contrasts are told by the end of a name, p1_t1 and p1_t2, and left only where most subjects have several: the one
    with labels of its own is kept, then the commonest, then the first by its name. Labels of the others go with them,
    and a subject that lacks it stays as it is.
    """
    own = {path: _contrast(path) for files in in_folder.values() for path in files}
    of_subject: dict[tuple[Path, str], set[str]] = defaultdict(set)
    for path, (base, contrast) in own.items():
        if contrast and not OF_LABELS.fullmatch(stem(path)):
            of_subject[path.parent, base].add(contrast)
    counts = Counter(contrast for several in of_subject.values() for contrast in several)
    several = sum(len(contrasts) > 1 for contrasts in of_subject.values())
    if len(counts) < 2 or several < MIN_SHARE * max(counts.values()):
        return {place: list(files) for place, files in in_folder.items()}, [], ""
    labelled = Counter(contrast for path, (_, contrast) in own.items() if OF_LABELS.fullmatch(stem(path)))
    kept = max(sorted(counts), key=lambda each: (labelled[each], counts[each]))
    left = [
        path
        for path, (base, contrast) in own.items()
        if contrast not in ("", kept) and kept in of_subject.get((path.parent, base), ())
    ]
    gone = set(left)
    return {place: [p for p in files if p not in gone] for place, files in in_folder.items()}, left, kept


def _contrast(path: Path) -> tuple[str, str]:
    """(subject, contrast) in the name of a scan or its labels, small letters; the contrast is empty where none is."""
    for name in (stem(path), *bases(stem(path))):
        if found := CONTRAST.fullmatch(name):
            return (found["base"] or "").lower(), found["contrast"].lower()
    return "", ""
