"""Names that ITK can open: on Windows it opens files by the letters of the system's code page; people use others."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NARROW = os.name == "nt"  # whether ITK opens only what is named in the system's code page, of which ASCII is a part
PLACES = ("PUBLIC", "ProgramData", "SystemRoot")  # variables of Windows: folders that are not below a user's name


@contextmanager
def to_read(path: Path) -> Iterator[Path]:
    """Yields the path, or that of a copy of the file which has a name that ITK can open; the copy goes afterwards."""
    if not NARROW or str(path.absolute()).isascii():
        yield path
        return
    with _plain_folder() as folder:
        ending = path.suffix if path.suffix.isascii() else ""
        yield Path(shutil.copyfile(path, folder / f"file{ending}"))


@contextmanager
def _plain_folder() -> Iterator[Path]:
    """A temporary folder of an ASCII name; OSError where there is no place for one: the usual may be below a user's."""
    known = [tempfile.gettempdir(), *(os.environ[name] for name in PLACES if name in os.environ)]
    for place in known:
        if not place.isascii():
            continue
        with suppress(OSError):
            made = Path(tempfile.mkdtemp(prefix="clmorph-", dir=place))
            break
    else:
        raise OSError(f"no folder with a name of ASCII letters can be written to, among {', '.join(known)}")
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
