"""Whether results have a place under their names: found before any work, since what is the user's is never replaced."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from ..errors import InputError, OutputError
from .checksums import check_unchanged, finish_killed
from .files import parse_json


def check_results(
    output: Path,
    names: Collection[str],
    *,
    certificates: Collection[str],
    optional: Collection[str] = (),
    record: str = "",
) -> None:
    """InputError where a result's name in ``output`` is a folder's, or that of a file which no earlier run has written.

    Of an earlier run is a folder with one of the ``certificates``, or with all other results but the ``optional`` ones:
    a run of an older version, or one that was killed before its certificate came. ``record`` names the result that has
    the checksums of all, where there is one: InputError, too, where one was changed since. What a killed run
    was moving there is moved first.
    """
    if record:
        finish_killed(output, record)
    for name in names:
        _check_kind(output, Path(name))
    there = [name for name in names if os.path.lexists(output / name)]
    needed = [name for name in names if name not in certificates and name not in optional]
    ours = any(_is_ours(output / name) for name in certificates)
    foreign = [] if ours else [name for name in there if name in certificates]
    if there and not ours and (foreign or not set(needed) <= set(there)):
        raise OutputError(
            f"{output / [*foreign, *there][0]} is there already, and {_lacking(certificates, needed)} tells that an "
            "earlier run has written it; expected an output folder without it",
            "move it, or choose another output folder",
        )
    if record:
        check_unchanged(output, names, record)


def _lacking(certificates: Collection[str], needed: Sequence[str]) -> str:
    """'no report.json', or what else would tell of an earlier run."""
    return f"no {' or '.join(certificates)}" if certificates else f"no set of {' and '.join(needed)}"


def _check_kind(output: Path, name: Path) -> None:
    """InputError where a folder has the name of a result, or a file that of a folder for results."""
    if os.path.isdir(output / name):
        raise OutputError(
            f"{output / name} is a folder, where a result has that name; expected a file, or nothing",
            "move it, or choose another output folder",
        )
    for above in [output, *(output / parent for parent in name.parents if parent.name)]:
        if os.path.lexists(above) and not os.path.isdir(above):
            kind = "a file" if os.path.exists(above) else "a link to what does not exist"
            raise OutputError(
                f"{above} is {kind}, where results need a folder of that name; expected a folder, or nothing",
                "move it, or choose another output folder",
            )


def _is_ours(certificate: Path) -> bool:
    """Whether it is the file that a run writes; of JSON, each has the model's name."""
    if certificate.suffix != ".json":
        return certificate.is_file()
    try:
        content = parse_json(certificate.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "model" in content


def check_distinct(names: Iterable[str]) -> None:
    """InputError where two names are one folder's on some file system: by case, by accents, by dots at the end."""
    seen: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).rstrip(" .")
        if seen.setdefault(key, name) != name:
            raise InputError(
                f"subjects {seen[key]} and {name} would have one folder where a file system does not tell such names "
                "apart; expected names that differ in more than case, accents or dots at the end",
                "rename one of them in the manifest",
            )
