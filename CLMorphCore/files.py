"""Writing so that a run that dies leaves nothing half-made: under a temporary name first, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``, with the same ending; renames it to ``path`` when the block succeeds.

    InputError when the place cannot be written or the disk is full; the temporary file goes in every case.
    """
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """Yields an empty temporary folder beside ``folder``; its files move into ``folder`` when the block succeeds.

    Files of the same names are replaced, other files in ``folder`` stay. After a failure nothing of it is left.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-{os.getpid()}-", dir=folder.parent))
    except OSError as error:
        raise cannot_write(folder, error) from None
    try:
        yield temporary
        folder.mkdir(exist_ok=True)
        for made in sorted(temporary.iterdir()):
            os.replace(made, folder / made.name)
    except OSError as error:
        raise cannot_write(folder, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary folders that killed runs with the same output have left beside it."""
    for old in folder.parent.glob(f".{folder.name}-*-*"):
        owner = old.name.removeprefix(f".{folder.name}-").split("-")[0]
        if owner.isdigit() and not _is_running(int(owner)):
            shutil.rmtree(old, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """InputError unless files can be made in ``folder`` (or in the nearest parent that exists): before the work."""
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise InputError(f"{existing} is a file; expected a folder for the output")
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".clmorph-"):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from None


def cannot_write(path: Path, error: Exception) -> InputError:
    """The error of a failed write as one line."""
    reason = getattr(error, "strerror", None) or str(error).splitlines()[-1]
    return InputError(f"cannot write {path}: {reason}; choose a place with write permission and enough space")


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
