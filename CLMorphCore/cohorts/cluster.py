"""The scans of a cohort as tasks of a Dask scheduler, whose workers are processes on any machines."""

from __future__ import annotations

import logging
import queue
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from ..console import say
from ..errors import CLMorphError, InputError
from ..io.files import short
from .results import Made, save_failure
from .scans import Scan
from .work import Outcome, Settings, work

POLL_S = 0.2
CONNECTING_S = 15
EXPECTED = "the address of a Dask scheduler, tcp://HOST:PORT, or the file that it has written"


def work_on(
    address: str, scans: Sequence[Scan], settings: Settings, made: Made, check: Callable[[], None]
) -> Generator[Outcome]:
    """The outcomes of all scans as they come from the workers of a scheduler; ``check`` is called often and may raise.

    A scan whose worker dies goes to another one, by Dask's own rule (``distributed.scheduler.allowed-failures``).
    InputError where there is no scheduler, or Dask is not installed; CLMorphError where it goes away.
    """
    client = _connected(address)
    if not client.scheduler_info(n_workers=1)["workers"]:
        text = f"the scheduler {address} has no worker yet; the scans wait for one, started with dask worker"
        say(f"clmorph: warning: {text}", sys.stderr)  # at once: the end of the run is not in sight
    answers: queue.SimpleQueue[tuple[Scan, Any]] = queue.SimpleQueue()
    futures = {}
    try:
        for scan in scans:
            future = client.submit(
                work, scan, settings, made, key=f"clmorph-{made.settings[:8]}-{scan.name}", pure=False
            )
            futures[scan.name] = future
            future.add_done_callback(lambda done, scan=scan: answers.put((scan, done)))
        for _ in scans:
            scan, done = _next(answers, check)
            yield _outcome(scan, done, settings)
            futures.pop(scan.name).release()
    finally:
        if futures:
            client.cancel(list(futures.values()), force=True)
        client.close(timeout=2)


def _next(answers: queue.SimpleQueue[tuple[Scan, Any]], check: Callable[[], None]) -> tuple[Scan, Any]:
    while True:
        check()
        try:
            return answers.get(timeout=POLL_S)
        except queue.Empty:
            continue


def _outcome(scan: Scan, done: Any, settings: Settings) -> Outcome:
    """What a task has ended with."""
    if done.status == "finished":
        return done.result()
    if done.status in ("cancelled", "lost"):
        raise CLMorphError(
            "the scheduler has gone, or has given up the scans; the results so far are complete",
            "start it, and call the same command again: it goes on with what is left",
        )
    error = done.exception()
    failure = f"the workers at it ended ({short(error)}); they may have run out of memory; give them more"
    if type(error).__name__ != "KilledWorker":
        failure = f"the task failed, {type(error).__name__}: {short(error)}; expected the same CLMorph on every worker"
    save_failure(scan.place, failure, settings.label)
    return Outcome(scan.name, failure)


def _connected(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            "a scheduler is given and Dask is not installed; expected the extra `cluster`",
            "pip install distributed, on every machine that takes part",
        ) from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is said here, in one line
    file = address if Path(address).is_file() else None
    try:
        given = None if file else address
        return Client(given, scheduler_file=file, timeout=CONNECTING_S, name="clmorph", set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"--scheduler {address} cannot be reached ({type(error).__name__}: {short(error)}); expected {EXPECTED}",
            "start one with dask scheduler, and its workers with dask worker",
        ) from None
