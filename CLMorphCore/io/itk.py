"""How ITK reads: in a process of its own, where a damaged file can crash or hang it without harm, and in silence."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import itk_child, names

CHILD = Path(itk_child.__file__)
# By the clock, that a file may take to be read: long, as a busy machine or a slow disk is no fault of the file; the
# child ends itself by what it computes, but not on Windows.
MIN_SECONDS, SECONDS_PER_MB = (120.0 if os.name == "nt" else 300.0), 2.0
MIN_MEMORY, MEMORY_PER_BYTE = 4 << 30, 64  # that it may take: address space, of which libraries reserve a lot


class CannotRead(Exception):
    """Why ITK cannot read a file, as the end of a sentence."""


def read(what: str, path: Path) -> tuple[dict[str, Any], bytes]:
    """What ``itk_child`` finds of an "image", a "field", a "surface" or a "transform"; raises CannotRead, or OSError.

    Where no Python can be started, as in a program that has it built in, ITK reads in this process.
    """
    with names.to_read(path) as plain:
        return _read(what, plain)


def _read(what: str, path: Path) -> tuple[dict[str, Any], bytes]:
    python = interpreter()
    if python is None:
        try:
            return itk_child.READERS[what](str(path))
        except RuntimeError as error:
            raise CannotRead(reason(str(error))) from None
    size = path.stat().st_size
    seconds = MIN_SECONDS + SECONDS_PER_MB * size / 2**20
    command = [python, "-P", "-B", str(CHILD), what, str(path), str(MIN_MEMORY + MEMORY_PER_BYTE * size)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        ended = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            creationflags=hidden,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CannotRead(
            f"ITK does not come to an end with it in {seconds:.0f} s: it is damaged, or the machine too busy"
        ) from None
    line, _, rest = ended.stdout.partition(b"\n")
    try:
        about = json.loads(line)
    except ValueError:
        if ended.returncode == -getattr(signal, "SIGXCPU", 0) != 0:
            raise CannotRead("ITK does not come to an end with it, it is damaged") from None
        raise CannotRead("ITK breaks off while reading it, it is damaged") from None
    if "error" in about:
        raise CannotRead(reason(about["error"]))
    return about, rest


def interpreter() -> str | None:
    """The Python to start a process with; None where this one runs inside another program."""
    for candidate in (sys.executable, getattr(sys, "_base_executable", None)):
        if candidate and "python" in Path(candidate).name.lower() and os.access(candidate, os.X_OK):
            return candidate
    return None


def reason(message: str) -> str:
    """The line of ITK's message that holds the reason, without source file, address and errno of another call."""
    if "codec can't decode" in message:  # ITK quotes what it found
        return "it holds words that are none"
    if kind := re.search(r'Could not create an instance of "(\w+?)(_(double|float)_\d_\d)?"', message):
        return f"it holds a {kind[1]}, a kind that is not read here"  # and then ITK lists all that it knows
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.strip().startswith("Reason:")]
    telling = [line for line in lines if not re.match(r"(Exception thrown|Code/|/\S+:\d+:?$)", line)] or lines
    line = re.sub(
        r"(^|: )\w+ ERROR: |^sitk::ERROR: |\w+\(0x[0-9a-f]+\): |\(?0x[0-9a-f]+\)?", "", telling[-1] if telling else ""
    )
    return line.strip()[:200] or "ITK gives no reason"
