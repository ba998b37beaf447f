"""Writing so that a run that dies leaves nothing half-made: under a temporary name first, then renamed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError, OutputError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``, with the same ending; renames it to ``path`` when the block succeeds.

    InputError when the place cannot be written or the disk is full; the temporary file goes in every case.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
    except OSError as error:
        raise cannot_write(path, error) from None
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path, *, optional: Iterable[str] = ()) -> Iterator[Path]:
    """Yields an empty temporary folder, which becomes ``folder`` when the block succeeds; after a failure it is gone.

    It lies beside ``folder``, or in it where that exists: its parent may be another's, or another disk. The new files
    and folders then replace those of the same names; of the ``optional`` names those go that were not made this time,
    as they tell of an earlier run; all others stay.
    """
    folder = folder.absolute()  # "." has no name
    place = folder / folder.name if folder.is_dir() else folder
    temporary = _temporary(place)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(place)
        temporary.mkdir()
    except OSError as error:
        raise cannot_write(folder, error) from None
    try:
        yield temporary
        if place == folder:
            os.replace(temporary, folder)
        else:
            _move_into(folder, temporary, optional)
    except OSError as error:
        raise cannot_write(folder, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_into(folder: Path, temporary: Path, optional: Iterable[str]) -> None:
    """Everything in ``temporary`` replaces what ``folder`` has of that name; ``optional`` names without new ones go."""
    made = sorted(temporary.iterdir())
    for new in made:
        old = folder / new.name
        if old.is_dir():  # a folder with files in it cannot be replaced, only moved away
            os.replace(old, temporary / f".old-{new.name}")
        os.replace(new, old)
    for name in set(optional) - {new.name for new in made}:
        (folder / name).unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Removes the temporary files and folders beside ``path`` that killed runs with the same output have left."""
    pattern = re.compile(rf"\.clmorph-(\d+)-{re.escape(path.name)}")
    for old in path.parent.iterdir():
        owner = pattern.fullmatch(old.name)
        if owner is None or _is_running_elsewhere(int(owner[1])):
            continue
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """InputError unless files can be made in ``folder`` (or in the nearest parent that exists): before the work."""
    try:
        existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        if not existing.is_dir():
            raise InputError(f"{existing} is a file; expected a folder for the output; choose another place")
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".clmorph-"):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from None


def check_utf8(path: object) -> None:
    """InputError for bytes that are no UTF-8: ITK ends the process where it is given such a path."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{path} holds bytes that are not UTF-8; expected a name in UTF-8; rename it") from None


def cannot_write(path: Path, error: OSError | str) -> OutputError:
    """The error of a failed write as one line."""
    reason = error if isinstance(error, str) else error.strerror or str(error)
    return OutputError(f"cannot write {path}: {reason}; choose a place with write permission and enough space")


def _temporary(path: Path) -> Path:
    return path.with_name(f".clmorph-{os.getpid()}-{path.name}")


def _is_running_elsewhere(process: int) -> bool:
    """Whether another process has that number; this one's number on an old file means one of an earlier process."""
    if process == os.getpid():
        return False
    if os.name == "nt":  # os.kill would end it there, so what it may still write to stays
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
