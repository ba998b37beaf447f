"""Each file in a process of its own, forked from one that has everything loaded: thousands take minutes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from CLMorphCore.errors import CLMorphError
from CLMorphCore.io import itk, itk_child

READ, REFUSED, TRACEBACK, CRASH, HANG = "read", "refused", "traceback", "crash", "hang"
SECONDS = 30
MEMORY = 6 << 30  # address space, of which the libraries themselves reserve 3


@dataclass(frozen=True)
class Outcome:
    """What became of a file: a word of the above, the line or the traceback, the peak of memory in bytes."""

    what: str
    text: str
    memory: int


def outcome(read: Callable[[Path], object], path: Path) -> Outcome:
    """What becomes of a file when ``read`` reads it in a process of its own."""
    receive, send = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(receive)
        _child(read, path, send)
    os.close(send)
    with os.fdopen(receive, "rb") as answers:
        text = answers.read().decode("utf-8", "replace")
    _, status, usage = os.wait4(process, 0)
    what = text.partition("\n")[0]
    if os.WIFSIGNALED(status):
        what = HANG if os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGXCPU) else CRASH
        text += f"\nsignal {os.WTERMSIG(status)}"
    return Outcome(what, text.partition("\n")[2], usage.ru_maxrss * 1024)


def _child(read: Callable[[Path], object], path: Path, send: int) -> None:
    """Reads, tells, and ends at once."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    itk.subprocess = _Forked  # type: ignore[assignment]
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 2)
    try:
        read(path)
        said = READ
    except CLMorphError as error:
        said = f"{REFUSED}\n{error}"
    except BaseException:
        said = f"{TRACEBACK}\n{traceback.format_exc()}"
    os.write(send, said[-60_000:].encode("utf-8", "replace") if said.startswith(TRACEBACK) else said[:60_000].encode())
    os._exit(0)


class _Forked:
    """Stands for ``subprocess`` in ``CLMorphCore.io.itk``: the child is forked, not started, which is far sooner."""

    PIPE, DEVNULL, TimeoutExpired = subprocess.PIPE, subprocess.DEVNULL, subprocess.TimeoutExpired

    @staticmethod
    def run(command: list[str], *, timeout: float, **_: object) -> subprocess.CompletedProcess[bytes]:
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
        _, status = os.waitpid(process, 0)
        return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status), content, b"")


def check_platform() -> None:
    """Ends the program where processes cannot be forked."""
    if not hasattr(os, "fork"):
        sys.exit("this command forks; run it on Linux or macOS")
