"""The results file: one row for each pair and system, read back, so that nothing is run twice."""

from __future__ import annotations

import csv
import platform
import subprocess
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

from CLMorphCore.atomic import atomic_write
from CLMorphCore.errors import InputError

PLANNED, OK, NOT_INSTALLED, FAILED, TIME = "planned", "ok", "not installed", "failed", "over the time limit"
NAN = float("nan")
Key = tuple[str, str, str, str, str, int]


@dataclass(frozen=True)
class Row:
    """One system on one pair; NaN where there is no figure, as ``status`` and ``reason`` say."""

    dataset: str
    fixed: str
    moving: str
    system: str
    settings: str
    threads: int
    status: str
    reason: str = ""
    structures: int = 0
    dice_affine: float = NAN
    dice: float = NAN
    hd95_mm: float = NAN
    folding_fraction: float = NAN
    log_jacobian_sd: float = NAN
    inverse_error_mm: float = NAN
    seconds: float = NAN
    seconds_import: float = NAN
    seconds_total: float = NAN
    peak_mb: float = NAN
    version: str = ""
    commit: str = ""
    machine: str = ""

    @property
    def key(self) -> Key:
        """What makes two rows the same run."""
        return self.dataset, self.fixed, self.moving, self.system, self.settings, self.threads


class Results:
    """Rows by their key, kept in a CSV file that is rewritten, whole, with each new one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = {row.key: row for row in read_rows(path)} if path.exists() else {}

    def done(self, key: Key) -> bool:
        """Whether that run has its row; one that lacked its system is tried again, it may be there by now."""
        return key in self.rows and self.rows[key].status != NOT_INSTALLED

    def add(self, row: Row) -> None:
        """Keeps a row, and the file with it."""
        self.rows[row.key] = row
        with atomic_write(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(Row)])
            writer.writeheader()
            writer.writerows(asdict(r) for r in self.rows.values())


def read_rows(path: Path) -> list[Row]:
    """The rows of a results file; InputError if it is none."""
    kinds = {"str": str, "int": int, "float": float}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                Row(**{f.name: kinds[str(f.type)](row[f.name]) for f in fields(Row)}) for row in csv.DictReader(file)
            ]
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no results file of this version ({error}); choose another --out") from None


@cache
def commit() -> str:
    """The commit of this folder's repository, with a + where files differ from it; empty outside of one."""
    try:
        found = subprocess.run(
            ("git", "describe", "--always", "--dirty=+", "--exclude=*"),
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()


@cache
def machine() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
