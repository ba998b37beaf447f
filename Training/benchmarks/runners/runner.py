"""What the runners share: the job they get, and what they report of time and memory."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NOT_INSTALLED = 3  # exit code
STATUS = Path("/proc/self/status")


class Job:
    """One registration: files fixed and moving on one grid, the folder for the output, settings; and the stopwatch.

    seconds         the registration alone, from images in memory to a field in memory, as far as the system lets one
    seconds_import  from the start of the process to the end of its imports
    """

    def __init__(self, path: Path) -> None:
        job = json.loads(path.read_text(encoding="utf-8"))
        self.fixed, self.moving, self.output = job["fixed"], job["moving"], Path(job["output"])
        self.threads: int = job["threads"]
        self.settings: dict[str, Any] = job["settings"]
        self.version = ""
        self.seconds = self.seconds_import = float("nan")
        self._started: float = job["started"]

    def imported(self, version: str) -> None:
        """Imports are done: what is missing from here on is a failure."""
        self.version = version
        self.seconds_import = time.time() - self._started

    @contextmanager
    def registering(self) -> Iterator[None]:
        """Times the registration."""
        began = time.perf_counter()
        yield
        self.seconds = time.perf_counter() - began

    def report(self) -> None:
        """Writes measured.json."""
        (self.output / "measured.json").write_text(
            json.dumps(
                {
                    "version": self.version,
                    "seconds": self.seconds,
                    "seconds_import": self.seconds_import,
                    "peak_mb": peak_mb(),
                }
            ),
            encoding="utf-8",
        )


def run(register: Callable[[Job], None]) -> None:
    """Runs one job; the exit code says whether the system is there at all."""
    job = Job(Path(sys.argv[1]))
    if hasattr(os, "sched_setaffinity"):  # some libraries heed no variable
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.threads])
    try:
        register(job)
    except ImportError as error:
        if job.version:
            raise
        print(error, file=sys.stderr)
        sys.exit(NOT_INSTALLED)
    job.report()


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB (10⁶ bytes).

    Linux hands the maximum of ``getrusage`` down from the parent's memory before exec, so there VmHWM is asked.
    """
    if STATUS.exists():
        line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
