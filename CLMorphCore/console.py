"""stdout and stderr of the command: they may be full, closed or missing, and lines may hold what terminals obey."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from .errors import InputError, OutputError, printable


def open_standard_files() -> None:
    """Gives the process stdin, stdout and stderr where it was started without: to nowhere, for good.

    Otherwise the next file that is opened takes their number, and what a library prints goes into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # as under a Python without a console
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # a console that lacks a letter shows a question mark, not a traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def check_working_folder() -> None:
    """InputError where the folder that the command was called in is gone: libraries that lack it end the process."""
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(
            f"the current folder is not there any more ({error.strerror}); expected one that exists",
            "change to another folder, and call the command again",
        ) from None


def say(text: str, stream: TextIO) -> None:
    """Writes a line to stdout or stderr, at once: OutputError where stdout cannot take it; stderr's lines may be lost.

    BrokenPipeError where the reader of stdout has gone.
    """
    try:
        print(printable(text), file=stream, flush=True)
    except (OSError, ValueError) as error:
        if stream is sys.stderr:
            return
        if isinstance(error, BrokenPipeError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OutputError(
            f"cannot write to standard output: {reason}", "send it to a place with enough space"
        ) from None


def flush(stream: TextIO) -> None:
    """Has what was written to a stream at its end, or nowhere.

    Otherwise Python would try again as it exits, fail, and exit with a code of its own.
    """
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
