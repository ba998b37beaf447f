"""Files of the user, opened or refused with the true reason: not there, no permission, no file at all."""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from ..errors import FileError

MAX_TEXT_BYTES = 1 << 26  # of a table or settings; beyond it a file is something else
MAX_NAME = 400  # characters of a path in a message
KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
LFS = b"version https://git-lfs"
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:[/\\]", re.IGNORECASE)  # pathlib leaves one slash; a drive has one letter


def check_file(path: Path, expected: str, *, folder: bool = False, name: str = "") -> None:
    """FileError unless ``path`` is a file that can be opened (or a folder that can be listed, with ``folder``).

    ``name`` is what the message calls it, where that is not its path.
    """
    name = name or str(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode) and folder:
            os.scandir(path).close()
            return
        for is_kind, kind in KINDS:
            if is_kind(mode):
                raise FileError(f"{name} is {kind}; expected {expected}; write its content to a file first")
        if stat.S_ISDIR(mode):
            raise FileError(f"{name} is a folder; expected {expected}")
        with open(path, "rb"):
            pass
    except (OSError, ValueError) as error:
        raise cannot_read(path, error, expected, name=name) from None


def cannot_read(path: Path, error: OSError | ValueError, expected: str, *, name: str = "") -> FileError:
    """The error of a failed reading as one line, with the place that is the reason where it is not the file itself."""
    if not name:
        name = str(path) if len(str(path)) <= MAX_NAME else f"{str(path)[:MAX_NAME]} …"
    if isinstance(error, FileNotFoundError):
        if dangling := _dangling_link(path):
            return FileError(f"{name} cannot be read: {dangling} points to what does not exist; expected {expected}")
        if ADDRESS.match(str(path)):
            return FileError(f"{name} is an address; expected {expected} on this computer; download it first")
        return FileError(f"{name} does not exist; expected {expected}")
    if isinstance(error, PermissionError):
        closed = _closed_folder(path)
        where = f" to enter {closed}" if closed is not None else ""
        return FileError(
            f"{name} cannot be read: no permission{where}; expected {expected} that you may read; "
            "change its permissions, or copy it"
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FileError(f"{name} cannot be read: {reason}; expected {expected}; check the path and the disk")


def folders_in(folder: Path, expected: str) -> list[Path]:
    """The folders in a folder but hidden ones, by name; FileError where they cannot be listed or entered."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    except (OSError, ValueError) as error:
        raise cannot_read(folder, error, expected) from None


def read_bytes(path: Path, expected: str, *, limit: int = MAX_TEXT_BYTES, name: str = "") -> bytes:
    """The whole content of a small file; FileError where it cannot be read or is larger than ``limit``."""
    check_file(path, expected, name=name)
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise cannot_read(path, error, expected, name=name) from None
    if len(content) > limit:
        raise FileError(f"{name or path} has more than {limit} bytes; expected {expected}; check the file")
    if content.startswith(LFS):
        raise pointer(path)
    return content


def read_text(path: Path, expected: str, *, kind: str = "text", name: str = "") -> str:
    """The text of a UTF-8 file, without its byte order mark; FileError where it is no such file."""
    try:
        return read_bytes(path, expected, name=name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(
            f"{name or path} cannot be read as {kind}: byte {error.start} is not UTF-8; expected {expected}; "
            "save it as UTF-8"
        ) from None


def read_toml(path: Path, expected: str, *, kind: str = "TOML") -> dict[str, Any]:
    """The tables of a TOML file; FileError where it is none, whatever is wrong with it."""
    text = read_text(path, expected, kind=kind)
    try:
        return tomllib.loads(text)
    except (ValueError, OverflowError, RecursionError) as error:  # numbers of 5,000 digits, brackets in brackets
        raise FileError(f"{path} cannot be read as {kind}: {short(error)}; expected {expected}; mend it") from None


def read_json(path: Path, expected: str) -> Any:
    """The value of a JSON file; FileError where it is none, whatever is wrong with it."""
    try:
        return parse_json(read_text(path, expected))
    except ValueError as error:
        raise FileError(f"{path} cannot be read as JSON: {short(error)}; expected {expected}; copy it again") from None


def parse_json(text: str) -> Any:
    """The value of a JSON text; ValueError where it is none, whatever is wrong with it."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("brackets in too many brackets") from None


def short(value: object, most: int = 120) -> str:
    """What a message shows of an error or a value: one line of at most so many characters."""
    if isinstance(value, RecursionError):
        return "brackets in too many brackets"
    try:
        text = str(value) if isinstance(value, Exception) else repr(value)
    except (ValueError, RecursionError):  # Python writes no numbers of more than 4,300 digits
        return "a value too long to be shown"
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 2]} …"


def pointer(path: Path) -> FileError:
    """The error of a file that Git LFS has not fetched."""
    return FileError(
        f"{path} is a pointer of Git LFS, not the file itself; expected its content; fetch it with git lfs pull"
    )


def _dangling_link(path: Path) -> str:
    """'the link X' for the first part of a path that is a link to nowhere, or nothing."""
    for part in (*reversed(path.absolute().parents), path.absolute()):
        if os.path.islink(part) and not os.path.exists(part):
            return f"the link {part}" if part != path.absolute() else "the link"
    return ""


def _closed_folder(path: Path) -> Path | None:
    """The first folder on the way to a file that may not be entered."""
    for folder in reversed(path.absolute().parents):
        if folder.is_dir() and not os.access(folder, os.X_OK):
            return folder
    return None
