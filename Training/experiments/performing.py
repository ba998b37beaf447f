"""Runs one after another, or several side by side on one device, until they are done or the time is over."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from CLMorphCore.bundles import checkpoint
from CLMorphCore.devices import use_threads
from CLMorphCore.errors import Cancelled, CLMorphError, FileError
from CLMorphCore.progress import Progress

from . import runs as running
from .datasets import Protocol, prepare_protocol
from .plan import Planned
from .store import load

DONE, LATER = "", "later"  # what became of a run, beside the words of an error


@dataclass(frozen=True)
class Work:
    """Where and how runs of one data set are performed.

    data       the folder of the data sets, or None for one that is unpacked in ``out``
    divisor    of the prepared volumes
    processes  trainings side by side on ``device``, each in a process of its own
    threads    of each process; None: torch's default
    deadline   in seconds of ``time.time``, at which trainings stop, to go on another time
    """

    dataset: str
    data: Path | None
    out: Path
    divisor: tuple[int, ...]
    device: torch.device
    processes: int = 1
    threads: int | None = None
    deadline: float = float("inf")

    def protocol(self, say: Callable[[str], None]) -> Protocol:
        """The prepared data set, made where it is not there."""
        return prepare_protocol(self.dataset, self.data, prepared_folder(self.out, self.dataset), self.divisor, say)


def prepared_folder(out: Path, dataset: str) -> Path:
    """Where a results folder keeps what is prepared of a data set."""
    return out / "work" / dataset / "prepared"


def perform_all(runs: Sequence[Planned], work: Work, say: Callable[[str], None], progress: Progress) -> dict[str, str]:
    """run → DONE, LATER (the time was over first), or what failed, in words. What is done already is passed over."""
    protocol = work.protocol(say)
    until = _until(work.deadline, progress)
    if work.processes == 1:
        became = {}
        for n, run in enumerate(runs, start=1):
            say(f"{n}/{len(runs)} {run.name}")
            became[run.name] = _tell(run.name, _performed(run, protocol, work, until), say)
        return became
    del protocol  # each process reads its own
    return {run: _tell(run, end, say) for run, end in _side_by_side(runs, work)}


def _tell(run: str, end: str, say: Callable[[str], None]) -> str:
    if end not in (DONE, LATER):
        say(f"{run} failed: {end}")
    return end


def _side_by_side(runs: Sequence[Planned], work: Work) -> Iterator[tuple[str, str]]:
    """(run, what became of it) as each ends; a process that dies takes the runs with it that were not done."""
    ended = set()
    with ProcessPoolExecutor(work.processes, get_context("spawn"), _begin, (work,)) as pool:
        futures = {pool.submit(_perform_here, run): run.name for run in runs}
        try:
            for future in as_completed(futures):
                name, end = futures[future], future.result()
                ended.add(name)
                yield name, end
        except BrokenProcessPool:
            reason = "a process ended without a word; with fewer --processes each has more memory"
            yield from ((name, reason) for name in futures.values() if name not in ended)


_here: tuple[Protocol, Work] | None = None  # of a process beside others


def _begin(work: Work) -> None:
    global _here
    use_threads(work.threads)
    _here = work.protocol(lambda text: None), work


def _perform_here(run: Planned) -> str:
    assert _here is not None, "see _begin"
    protocol, work = _here
    return _performed(run, protocol, work, _until(work.deadline, lambda step, fraction: None))


def _performed(run: Planned, protocol: Protocol, work: Work, progress: Progress) -> str:
    if load(work.out).has(run.name):  # another process beside this one has done it meanwhile
        return DONE
    if time.time() >= work.deadline:
        return LATER
    try:
        running.perform(replace(run, processes=work.processes), protocol, work.out, work.device, progress)
    except Cancelled:
        if time.time() < work.deadline:
            raise
        return LATER
    except CLMorphError as error:  # the others can still be compared
        return str(error)
    return DONE


def _until(deadline: float, progress: Progress) -> Progress:
    """The same, ended by Cancelled at the deadline."""

    def report(step: str, fraction: float) -> None:
        progress(step, fraction)
        if time.time() >= deadline:
            raise Cancelled

    return report


def unfinished(out: Path) -> list[str]:
    """Names of the trainings in a results folder that have a checkpoint but no row yet, the longest first.

    One whose checkpoint is damaged cannot go on, and is none.
    """
    done, found = load(out), []
    for state in (out / "work").glob("*/*/*/*/*/checkpoint.safetensors"):
        name = state.parent.relative_to(out / "work").as_posix()
        if not done.has(name):
            with contextlib.suppress(FileError):
                found.append((-float(checkpoint.load(state)[1].get("seconds", 0.0)), name))
    return [name for _, name in sorted(found)]


if __name__ == "__main__":
    for name in unfinished(Path(sys.argv[1])):
        print(name)
