"""Where a result comes from: which commit made it, when, on what."""

from __future__ import annotations

import platform
import subprocess
from datetime import datetime
from functools import cache
from pathlib import Path

UNKNOWN = "unknown"


@cache
def commit(folder: Path = Path(__file__).parent) -> str:
    """The short commit of a folder's repository, with a + where tracked files differ from it; UNKNOWN outside one."""
    words = ("git", "describe", "--always", "--dirty=+", "--exclude=*")
    try:
        told = subprocess.run(words, capture_output=True, text=True, cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return told.stdout.strip()


def now() -> str:
    """The time with its zone, ISO 8601, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


@cache
def machine() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine() or UNKNOWN


def provenance() -> dict[str, str]:
    """Commit, time and machine by name, for a file of figures."""
    return {"commit": commit(), "made": now(), "machine": machine()}
