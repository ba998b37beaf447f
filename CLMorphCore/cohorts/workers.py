"""Worker processes on this machine: each loads the model once and takes one scan after the other.

One that dies, killed or out of memory, costs the scan that it was at, which another one tries once more.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ..atomic import remove_leftovers, remove_temporaries
from ..devices import is_out_of_memory, out_of_memory
from ..errors import CLMorphError, InputError
from .results import Made, save_failure
from .scans import Scan
from .work import Outcome, Settings, loaded, quiet, work

POLL_S = 0.2
MAX_TRIES = 2  # of a scan whose worker dies
MAX_STILLBORN = 3  # workers in a row that die before they are ready
ENDING_S = 3.0  # that a worker has to end in, before it is killed


@dataclass
class _Worker:
    process: BaseProcess
    link: Connection
    ready: bool = False
    scan: Scan | None = None


def work_here(
    scans: Sequence[Scan], settings: Settings, made: Made, count: int, check: Callable[[], None]
) -> Generator[Outcome]:
    """The outcomes of all scans as they come, of ``count`` workers; ``check`` is called often and may raise.

    CLMorphError where no worker can begin. However it ends, no worker is left, nor what it had begun to write.
    """
    waiting, tries, stillborn = deque(scans), dict.fromkeys((s.name for s in scans), 0), 0
    workers: list[_Worker] = []
    try:
        while waiting or any(w.scan for w in workers):
            busy = sum(w.scan is not None for w in workers)
            while len(workers) < min(count, busy + len(waiting)):
                workers.append(_start(settings))
            for worker in workers:
                if worker.ready and worker.scan is None and waiting:
                    _give(worker, waiting.popleft(), made)
            for link in wait([w.link for w in workers], timeout=POLL_S):
                worker = next(w for w in workers if w.link is link)
                alive, outcome = _heard(worker)
                if alive:
                    stillborn = 0
                    if outcome is not None:
                        yield outcome
                    continue
                workers.remove(worker)
                ended = _end(worker)
                stillborn += not worker.ready
                if stillborn >= MAX_STILLBORN:
                    raise InputError(
                        f"the last {stillborn} workers ended before they were ready ({ended}); expected a process that "
                        "holds the model in memory",
                        "start fewer workers, or look for what ends them",
                    )
                if worker.scan is not None:
                    tries[worker.scan.name] += 1
                    if tries[worker.scan.name] < MAX_TRIES:
                        waiting.append(worker.scan)
                    else:
                        yield _lost(worker.scan, settings, ended)
            check()
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            _end(worker)


def _start(settings: Settings) -> _Worker:
    context = get_context("spawn")  # a fork of threads and of CUDA is not safe
    link, others = context.Pipe()
    process = context.Process(target=_serve, args=(others, settings), name="clmorph-worker", daemon=True)
    with _threads_of_libraries(settings.threads):
        process.start()
    others.close()  # so that the end of the worker is the end of the link
    return _Worker(process, link)


@contextmanager
def _threads_of_libraries(count: int | None) -> Iterator[None]:
    """In the block, what a process that is started inherits: NumPy's library reads it once, when it is loaded."""
    before = os.environ.get("OMP_NUM_THREADS")
    if count is not None:
        os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        if count is not None:
            os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def _give(worker: _Worker, scan: Scan, made: Made) -> None:
    worker.scan = scan
    with suppress(OSError):  # it may have died: the link says so next
        worker.link.send((scan, made))


def _heard(worker: _Worker) -> tuple[bool, Outcome | None]:
    """(whether the worker lives, what became of its scan); raises what kept it from loading the model."""
    try:
        said = worker.link.recv()
    except (EOFError, OSError):
        return False, None
    if isinstance(said, CLMorphError):
        raise said
    if said is None:
        worker.ready = True
        return True, None
    worker.scan = None
    return True, said


def _end(worker: _Worker) -> str:
    """Waits for the end of a worker, which has died or was told to end, and says how that was."""
    worker.process.join(ENDING_S)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    worker.link.close()
    if worker.scan is not None and worker.scan.place.folder.parent.is_dir():
        _remove_begun(worker.scan)
    code = worker.process.exitcode or 0
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"


def _remove_begun(scan: Scan) -> None:
    """Removes the temporary files of a dead worker."""
    folder = scan.place.folder
    for path in (folder, folder / folder.name):
        if path.parent.is_dir():
            remove_leftovers(path)


def _lost(scan: Scan, settings: Settings, ended: str) -> Outcome:
    failure = (
        f"the worker at it ended {ended}, {MAX_TRIES} times; it may have run out of memory; start fewer workers, or "
        "give it more memory"
    )
    save_failure(scan.place, failure, settings.label)
    return Outcome(scan.name, failure)


def _serve(link: Connection, settings: Settings) -> None:
    """The life of a worker: says that it is ready, then answers each scan with its outcome."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the keyboard: whoever has started it ends it
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    quiet()
    try:
        loaded(settings)
    except CLMorphError as error:
        link.send(error)
        return
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        link.send(out_of_memory(error, settings.device))
        return
    link.send(None)
    while True:
        try:
            scan, made = link.recv()
        except EOFError:
            return
        link.send(work(scan, settings, made))


def _end_with_parent() -> None:
    """Ends this process when the one that started it has ended, however that was."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        remove_temporaries()
        os._exit(1)
