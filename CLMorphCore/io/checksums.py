"""Checksums of a set of results in one of its files: what was changed since a run has written it is the user's."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..atomic import leftovers
from ..errors import OutputError
from .files import parse_json

KEY = "files"
MAX_DELAY_S = 60.0  # between the times of one run's files; who corrects a result by hand takes longer


def seal(made: Path, folder: Path, names: Collection[str], record: str) -> None:
    """Writes the SHA-256 of all files in ``made``, which are to become part of ``folder``, into its ``record``.

    ``names`` are the results of this kind of run; other results that ``folder`` has keep theirs. Where this run makes
    no record, that of ``folder`` is amended, if there is one. OutputError as ``check_unchanged``: a result may have
    been corrected while the run was at work.
    """
    check_unchanged(folder, names, record)
    before = _read(folder / record)
    tree = _read(made / record) if (made / record).exists() else before
    if tree is None:
        return
    tree.pop(KEY, None)
    files = {name: known for name, known in _sums(before).items() if name not in names}
    files |= {path.name: _sum(path) for path in sorted(made.iterdir()) if path.is_file() and path.name != record}
    text = json.dumps(tree | {KEY: {record: _sum_of(tree)} | files}, indent=1, ensure_ascii=False)
    (made / record).write_bytes(text.encode(errors="backslashreplace"))


def check_unchanged(folder: Path, names: Collection[str], record: str) -> None:
    """OutputError where one of the results ``names`` in ``folder`` is not as the run that wrote ``record`` left it.

    That is known by its checksum; of a result without one (of an older version, or where there is no record) by its
    time, which is at most a minute after that of the record, or of the oldest result.
    """
    there = [name for name in names if os.path.lexists(folder / name)]
    try:
        for name in there:
            if why := _why_changed(folder, name, there, record):
                raise OutputError(
                    f"{folder / name} was changed after an earlier run had written it: {why}; expected results as "
                    "that run has left them, or none",
                    "move or delete it, or choose another output folder",
                )
    except OSError as error:
        raise OutputError(
            f"{error.filename or folder} cannot be compared with what an earlier run has written: {error.strerror}; "
            "expected results that may be read",
            "move it, or choose another output folder",
        ) from None


def finish_killed(folder: Path, record: str) -> None:
    """Moves into ``folder`` the rest of the results that a run was moving there when it was killed, ``record`` last.

    Without that, those that it had moved would be nobody's, and in the way of every other run. Nothing is done where a
    file in the folder is neither of that run nor, as the record before says, of the one before it.
    """
    if not folder.is_dir() or os.path.lexists(folder / record):
        return
    with suppress(OSError):  # whoever needs the place says what is wrong with it
        for temporary in list(leftovers(folder / folder.name)):
            new, old = _sums(_read(temporary / record)), _sums(_read(temporary / f".old-{record}"))
            waiting = [name for name in new if (temporary / name).is_file()]
            moved = new.keys() - waiting
            ours = all(_has_sum(folder / name, new[name]) for name in moved) and all(
                _has_sum(folder / name, old.get(name)) for name in waiting if os.path.lexists(folder / name)
            )
            whole = record in waiting and not any(path.is_dir() for path in temporary.iterdir())
            if whole and ours and (moved or old):
                for name in sorted(waiting, key=lambda name: name == record):
                    os.replace(temporary / name, folder / name)
                return


def _has_sum(path: Path, known: str | None) -> bool:
    return known is not None and path.is_file() and _sum(path) == known


def is_unchanged(path: Path, record: str) -> bool:
    """Whether a file has the checksum that the ``record`` beside it has of it; False where that has none."""
    try:
        known = _sums(_read(path.with_name(record))).get(path.name)
        return _has_sum(path, known)
    except OSError:
        return False


def _why_changed(folder: Path, name: str, there: Collection[str], record: str) -> str:
    """How it is known that a result was changed, or nothing."""
    path = folder / name
    if not path.is_file():
        return "it is no file any more"
    tree = _read(folder / record)
    if record == name and tree is None:
        return "it cannot be read as JSON"
    if known := _sums(tree).get(name):
        now = _sum_of(tree or {}) if name == record else _sum(path)
        return f"its checksum is not the one in {record}" if now != known else ""
    times = {each: (folder / each).stat().st_mtime for each in (*there, record) if (folder / each).is_file()}
    oldest = record if record in times else min(times, key=lambda each: times[each])
    other_run = "" if oldest == record else f", and no {record} tells that one run has written both"
    return f"it is newer than {oldest}{other_run}" if times[name] - times[oldest] > MAX_DELAY_S else ""


def _read(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None where there is none."""
    try:
        tree = parse_json(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError:
        return None
    return tree if isinstance(tree, dict) else None


def _sums(tree: Mapping[str, Any] | None) -> dict[str, Any]:
    known = (tree or {}).get(KEY)
    return dict(known) if isinstance(known, dict) else {}


def _sum_of(tree: Mapping[str, Any]) -> str:
    """That of the record itself, whatever its checksums and its line ends."""
    rest = {key: value for key, value in tree.items() if key != KEY}
    return hashlib.sha256(json.dumps(rest).encode()).hexdigest()


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
