"""The results folder: one row a finished run, its measurements in detail, one example of its pictures.

A run is done when its row is in runs.csv, which is written last: what a killed process leaves in the other files
belongs to no run, is not read, and goes with the next run that is added.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from CLMorphCore.errors import FileError, InputError
from CLMorphCore.io.files import parse_json, short
from Training.csv_rows import read_rows, write_rows

from .catalogue import RunKey
from .examples import Example, Plane

try:
    import fcntl
except ImportError:  # Windows has none: there one process at a time may write to a folder
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "BY_PRODUCT",
    "SEGMENTATION",
    "DeformationRow",
    "Example",
    "Plane",
    "RegionRow",
    "Results",
    "Run",
    "add",
    "example_path",
    "load",
    "locked",
]

RUNS, REGIONS, DEFORMATIONS = "runs.csv", "regions.csv", "deformations.csv"
SEGMENTATION, BY_PRODUCT = "segmentation", "by-product"
RUN_NAME = {"run": "name"}  # the column of runs.csv that follows from others
DIRECTIONS = (SEGMENTATION, BY_PRODUCT)


@dataclass(frozen=True)
class Run(RunKey):
    """A finished run: one system, trained once, measured on all test subjects of a data set.

    ``settings`` is the full configuration as JSON, ``started`` an ISO time; ``budget_minutes`` is what the training was
    given and ``train_seconds`` what it took; ``seconds_per_pair`` is the mean time of one registration by the clock,
    with whatever else the machine did. ``losses`` is JSON: the mean of each term over the last tenth of the training.
    ``device`` is where it was trained, ``processes`` how many trainings shared that device at most, and
    ``peak_memory_mb`` what this one took of a GPU's memory; NaN on a CPU.
    """

    settings: str
    commit: str
    started: str
    device: str
    threads: int
    parameters: int
    train_steps: int
    train_seconds: float
    seconds_per_pair: float
    losses: str
    processes: int = 1
    peak_memory_mb: float = math.nan


@dataclass(frozen=True)
class RegionRow:
    """Agreement of one region of one subject with its manual labels; NaN where there is no figure, as ``status`` says.

    ``direction`` is SEGMENTATION (the atlas' labels on the subject) or BY_PRODUCT (the subject's labels on the atlas).
    """

    run: str
    direction: str
    subject: str
    region: int
    name: str
    status: str
    dice: float
    hd_mm: float
    hd95_mm: float
    assd_mm: float


@dataclass(frozen=True)
class DeformationRow:
    """The deformation of one subject in one direction; NaN where a system has none (or no inverse)."""

    run: str
    direction: str
    subject: str
    folding_fraction: float
    log_jacobian_sd: float
    inverse_consistency_mm: float
    seconds: float


@dataclass(frozen=True)
class Results:
    """What a results folder holds: finished runs, and the rows that belong to them."""

    folder: Path
    runs: tuple[Run, ...] = ()
    regions: tuple[RegionRow, ...] = ()
    deformations: tuple[DeformationRow, ...] = ()

    def has(self, run: str) -> bool:
        """Whether a run of that name is done."""
        return any(known.name == run for known in self.runs)

    def example(self, run: str) -> Example | None:
        """The pictures of a run, or None where it has none."""
        path = example_path(self.folder, run)
        return Example.load(path) if path.exists() else None


def example_path(folder: Path, run: str) -> Path:
    """Where a run's example lies: its name with what a file name cannot hold replaced."""
    return folder / "examples" / f"{run.replace('/', '__')}.npz"


def load(folder: Path) -> Results:
    """Reads a results folder; one that does not exist has no runs.

    InputError for files that are none of ours, for a row that is there twice, which would count as two, and for runs
    some of whose rows are gone, which would count as whole.
    """
    if not (folder / RUNS).exists():
        return Results(folder)
    runs = read_rows(folder / RUNS, Run, derived=RUN_NAME)
    done = {run.name for run in runs}
    regions = [row for row in read_rows(folder / REGIONS, RegionRow) if row.run in done]
    deformations = read_rows(folder / DEFORMATIONS, DeformationRow) if (folder / DEFORMATIONS).exists() else []
    deformations = [row for row in deformations if row.run in done]
    _check_once(folder / RUNS, ((run.name,) for run in runs))
    _check_once(folder / REGIONS, ((row.run, row.direction, row.subject, row.region) for row in regions))
    _check_once(folder / DEFORMATIONS, ((row.run, row.direction, row.subject) for row in deformations))
    for run in runs:
        _check_losses(folder / RUNS, run)
    _check_whole(folder, regions, deformations)
    return Results(folder, tuple(runs), tuple(regions), tuple(deformations))


def _check_once(path: Path, keys: Iterable[tuple[str | int, ...]]) -> None:
    """FileError where what tells the rows of a file apart is that of several rows."""
    twice = next((key for key, count in Counter(keys).items() if count > 1), None)
    if twice is not None:
        raise FileError(
            f"{path} has two rows of {', '.join(map(str, twice))}; expected one, or it would count as two",
            "delete one of the rows",
        )


def _check_whole(folder: Path, regions: Iterable[RegionRow], deformations: Iterable[DeformationRow]) -> None:
    """FileError where a run lacks a region of a subject that it has otherwise, or a subject in one of two files."""
    measured: dict[tuple[str, str], dict[str, set[int]]] = {}
    for row in regions:
        measured.setdefault((row.run, row.direction), {}).setdefault(row.subject, set()).add(row.region)
    deformed: dict[tuple[str, str], set[str]] = {}
    for moved in deformations:
        deformed.setdefault((moved.run, moved.direction), set()).add(moved.subject)
    for run, direction in sorted({*measured, *deformed}):
        found = measured.get((run, direction), {})
        moved_ones = deformed.get((run, direction), found.keys())  # a system without a deformation has no rows there
        every = set().union(*found.values())
        short_of = next((subject for subject, its in found.items() if its != every), None)
        if short_of is not None:
            lacks = f"{REGIONS} lacks the region {min(every - found[short_of])} of {short_of}"
        elif found.keys() != moved_ones:
            in_one = min(found.keys() ^ moved_ones)
            lacks = f"{DEFORMATIONS if in_one in found else REGIONS} lacks {in_one}"
        else:
            continue
        raise FileError(
            f"{folder / lacks} in the run {run} ({direction}); expected all rows of a run, was the file cut short?",
            f"copy the folder again, or delete the run's row in {RUNS} to have it made anew",
        )


def _check_losses(path: Path, run: Run) -> None:
    """FileError where a run's losses are no numbers by the names of their terms."""
    try:
        losses = parse_json(run.losses)
    except ValueError:
        losses = None
    if not isinstance(losses, dict) or not all(isinstance(value, int | float) for value in losses.values()):
        raise FileError(
            f"{path} has the losses {short(run.losses)} of the run {run.name}; expected JSON, each term's number",
            "write {} where they are not known",
        )


def add(
    folder: Path,
    run: Run,
    regions: Sequence[RegionRow],
    deformations: Sequence[DeformationRow],
    example: Example | None = None,
) -> Results:
    """Adds a finished run, its row last, and returns all results; several processes may add to one folder.

    InputError when the run is there already, when a row names another run, or when there is no row of a region.
    """
    _check(run, regions, deformations)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        known = load(folder)
        if known.has(run.name):
            raise InputError(f"{folder} has the run {run.name} already; delete its row in runs.csv to replace it")
        results = Results(folder, (*known.runs, run), (*known.regions, *regions), (*known.deformations, *deformations))
        if example is not None:
            example.save(example_path(folder, run.name))
        write_rows(folder / REGIONS, RegionRow, results.regions)
        write_rows(folder / DEFORMATIONS, DeformationRow, results.deformations)
        write_rows(folder / RUNS, Run, results.runs, derived=RUN_NAME)
    return results


def _check(run: Run, regions: Sequence[RegionRow], deformations: Sequence[DeformationRow]) -> None:
    if not regions:
        raise InputError(
            f"the run {run.name} has no row of a region; expected one for each region of each test subject"
        )
    for row in (*regions, *deformations):
        if row.run != run.name or row.direction not in DIRECTIONS:
            raise InputError(
                f"a row of {row.run} ({row.direction}) came with the run {run.name}; "
                f"expected its own rows, each {SEGMENTATION} or {BY_PRODUCT}"
            )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder against other processes that add to it; the lock goes with the process."""
    with (folder / ".lock").open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
