"""The results file: one row for each pair and system, read back, so that nothing is run twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from CLMorphCore.errors import InputError
from Training.csv_rows import read_rows, write_rows

PLANNED, OK, NOT_INSTALLED, FAILED, TIME = "planned", "ok", "not installed", "failed", "over the time limit"
NAN = float("nan")
Key = tuple[str, str, str, str, str, int]


@dataclass(frozen=True)
class BenchmarkRow:
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


class ResultsFile:
    """Rows by their key, kept in a CSV file that is rewritten, whole, with each new one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = {row.key: row for row in read_results(path)} if path.exists() else {}

    def done(self, key: Key) -> bool:
        """Whether that run has its row; one that lacked its system is tried again, it may be there by now."""
        return key in self.rows and self.rows[key].status != NOT_INSTALLED

    def add(self, row: BenchmarkRow) -> None:
        """Keeps a row, and the file with it."""
        self.rows[row.key] = row
        write_rows(self.path, BenchmarkRow, self.rows.values(), nan="nan")


def read_results(path: Path) -> list[BenchmarkRow]:
    """The rows of a results file; InputError if it is none."""
    try:
        return read_rows(path, BenchmarkRow)
    except InputError as error:
        raise InputError(
            f"{path} is no results file of this version ({error.problem})", "choose another --out"
        ) from None
