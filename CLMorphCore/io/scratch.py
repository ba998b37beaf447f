"""Arrays too large for memory, in a file without a name that is gone when the process is."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import OutputError
from .compression import CHUNK_BYTES

SMALL_BYTES = 1 << 20  # for which no file is worth its while


@contextmanager
def scratch_array(shape: tuple[int, ...], kind: Any, less: str = "give fewer atlases") -> Iterator[np.ndarray]:
    """Zeros of a shape and type that lie on disk until the block ends; OutputError where there is no room for them.

    ``less`` is what else would help then.
    """
    with _mapped(tempfile.TemporaryFile, shape, kind, less) as (array, _):
        yield array


def lasting_array(shape: tuple[int, ...], kind: Any, less: str) -> np.ndarray:
    """The same, for as long as anything refers to it: what is mapped outlives the file that has no name."""
    with scratch_array(shape, kind, less) as array:
        return array


@contextmanager
def shared_array(shape: tuple[int, ...], kind: Any, less: str) -> Iterator[tuple[np.ndarray, Path]]:
    """As ``scratch_array``, in a file whose name other processes open until the block ends, with ``opened_array``."""
    with _mapped(tempfile.NamedTemporaryFile, shape, kind, less) as (array, file):
        yield array, Path(file.name)


def opened_array(path: Path, shape: tuple[int, ...], kind: Any) -> np.ndarray | None:
    """A ``shared_array`` of another process, for as long as anything refers to it; None where it cannot be opened here.

    That is on another machine, and on systems where one process alone opens a temporary file.
    """
    try:
        return np.memmap(path, kind, mode="r+", shape=shape)
    except OSError:
        return None


@contextmanager
def _mapped(
    make: Callable[..., Any], shape: tuple[int, ...], kind: Any, less: str
) -> Iterator[tuple[np.ndarray, BinaryIO]]:
    """The array, and the file that ``make`` has made for it.

    The room is taken at the start: a file that grows as it is written to through memory kills the process by a signal
    when the disk is full.
    """
    size = math.prod(shape) * np.dtype(kind).itemsize
    with ExitStack() as stack:
        try:
            file = stack.enter_context(make(prefix="clmorph-"))
            _reserve(file, max(size, 1))
            array = np.memmap(file, kind, mode="r+", shape=shape)
        except OSError as error:
            raise _no_room(size, less, error) from None
        yield array, file


class ScratchRows:
    """``count`` arrays of a shape and type in a file without a name, zeros at first: memory has only those in use.

    Few and small ones stay in memory. OutputError where there is no room for them; ``less`` is what else would help.
    """

    def __init__(self, count: int, shape: tuple[int, ...], kind: Any, less: str) -> None:
        self._count, self._shape, self._kind = count, shape, np.dtype(kind)
        self._size = math.prod(shape) * self._kind.itemsize
        size = count * self._size
        if size <= SMALL_BYTES:
            self._file: BinaryIO = BytesIO(bytes(size))
            return
        try:
            self._file = tempfile.TemporaryFile(prefix="clmorph-")  # noqa: SIM115, closed when nothing refers to it
            _reserve(self._file, size)
        except OSError as error:
            raise _no_room(size, less, error) from None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[n] for n in range(self._count))

    def __getitem__(self, index: int) -> np.ndarray:
        self._seek(index)
        return np.frombuffer(self._file.read(self._size), self._kind).reshape(self._shape)

    def __setitem__(self, index: int, row: np.ndarray) -> None:
        self._seek(index)
        self._file.write(np.ascontiguousarray(np.broadcast_to(row, self._shape), self._kind).tobytes())

    def _seek(self, index: int) -> None:
        if not 0 <= index < self._count:
            raise IndexError(index)
        self._file.seek(index * self._size)


def _no_room(size: int, less: str, error: OSError) -> OutputError:
    return OutputError(
        f"cannot reserve {size / 1e9:.3g} GB for intermediate results in {_folder()}: {error.strerror or error}",
        f"name a folder with more room in the environment variable TMPDIR, or {less}",
    )


def _reserve(file: BinaryIO, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, CHUNK_BYTES):
        file.write(bytes(min(CHUNK_BYTES, size - start)))
    file.flush()


def _folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        return "any folder for temporary files"
