"""Damaged files in processes forked from one that has everything loaded, so that thousands take minutes."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import SimpleITK as sitk

from CLMorphCore.errors import CLMorphError
from CLMorphCore.io import itk, itk_child

READ, REFUSED, TRACEBACK, CRASH, HANG = "read", "refused", "traceback", "crash", "hang"
SECONDS = 30
MEMORY = 5 << 30  # address space beside what is reserved already: threads reserve much that they never use


@dataclass(frozen=True)
class Outcome:
    """What became of a file: a word of the above, the line or the traceback, the peak of memory in bytes."""

    what: str
    text: str
    memory: int


def outcomes(read: Callable[[Path], object], path: Path, contents: Iterable[bytes]) -> Iterator[Outcome]:
    """What becomes of each content when ``read`` reads it at ``path``, each in a process of its own."""
    for content in contents:
        path.write_bytes(content)
        receive, send = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(receive)
            _child(read, path, send)
        os.close(send)
        with os.fdopen(receive, "rb") as answers:
            told = answers.read()
        _, status, usage = os.wait4(process, 0)
        memory = usage.ru_maxrss * 1024
        if told:
            what, text = json.loads(told)
            yield Outcome(what, text, memory)
        else:
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            what = HANG if number in (signal.SIGALRM, signal.SIGXCPU) else CRASH
            yield Outcome(what, f"status {status}, signal {number}", memory)


def _reserved() -> int:
    """Bytes of address space of this process; where no file tells, what the libraries reserve."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 3 << 30


def _child(read: Callable[[Path], object], path: Path, send: int) -> None:
    """Reads the file, tells, and ends at once."""
    faulthandler.disable()  # a crash is told by the signal: no report of it on someone's screen
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = _reserved() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    itk.subprocess = _Forked  # type: ignore[assignment]
    sitk.ProcessObject.SetGlobalDefaultThreader("Platform")  # the pool's threads are the parent's
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    os.dup2(os.open(os.devnull, os.O_RDWR), 2)
    signal.alarm(SECONDS)
    try:
        read(path)
        told = (READ, "")
    except CLMorphError as error:
        told = (REFUSED, str(error)[:3000])
    except BaseException:
        told = (TRACEBACK, traceback.format_exc()[-3000:])
    with os.fdopen(send, "wb") as answers:
        answers.write(json.dumps(told).encode())
    os._exit(0)


class _Forked:
    """Stands for ``subprocess`` in ``CLMorphCore.io.itk``: the child is forked, not started, which is far sooner."""

    PIPE, DEVNULL, TimeoutExpired = subprocess.PIPE, subprocess.DEVNULL, subprocess.TimeoutExpired

    @staticmethod
    def run(command: list[str], *, timeout: float, **_: Any) -> subprocess.CompletedProcess[bytes]:
        what, path, limit = command[-3:]
        receive, send = os.pipe()
        process = os.fork()
        if process == 0:
            os.dup2(send, 1)
            try:
                itk_child.main(what, path, int(limit))
            finally:
                os._exit(0)
        os.close(send)

        def late(number: int, frame: FrameType | None) -> None:
            os.kill(process, signal.SIGKILL)

        before = signal.signal(signal.SIGALRM, late)
        left = signal.alarm(min(int(timeout), SECONDS // 2))
        with os.fdopen(receive, "rb") as answers:
            content = answers.read()
        signal.signal(signal.SIGALRM, before)
        signal.alarm(left)
        status = os.waitpid(process, 0)[1]
        return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status), content, b"")


def check_platform() -> None:
    """Ends the program where processes cannot be forked."""
    if not hasattr(os, "fork"):
        sys.exit("this command forks; run it on Linux or macOS")
