"""How long work tells where it stands, and how it is stopped.

Everything in the engine that takes long receives a ``Progress``: a function of (step, fraction of the whole) that may
raise ``Cancelled``. The command line hands in a bar or JSON lines; a library user may hand in nothing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .console import say
from .errors import Cancelled

EXIT_CANCELLED = 130
GRACE_S = 0.7  # that a computation of a library has to come back to Python after a signal
Progress = Callable[[str, float], None]


def silent(step: str, fraction: float) -> None:
    """No report."""


def part(progress: Progress, start: float, end: float) -> Progress:
    """A progress whose 0…1 is the piece start…end of the whole."""
    return lambda step, fraction: progress(step, start + (end - start) * fraction)


@dataclass
class Stopwatch:
    """Seconds spent in named steps."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Adds the time that the block takes to the step called ``name``."""
        began = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 2)


_deferring: list[None] = []  # one for each block that is being run


@contextmanager
def deferred() -> Iterator[None]:
    """In the block, of a library that calls back, a signal raises nothing: between its calls an exception is lost."""
    _deferring.append(None)
    try:
        yield
    finally:
        _deferring.pop()


class Stop:
    """Whether the process was asked to stop, by a signal; ``check`` raises Cancelled then."""

    def __init__(self) -> None:
        self.heard, self.noticed = threading.Event(), threading.Event()

    def check(self) -> None:
        """Raises Cancelled when a signal was heard."""
        if self.heard.is_set():
            self.noticed.set()
            raise Cancelled


@contextmanager
def stoppable(before_exit: Callable[[], None]) -> Iterator[Stop]:
    """SIGINT and SIGTERM raise KeyboardInterrupt in the block, or end the process with EXIT_CANCELLED.

    In a ``deferred`` block nothing is raised but by ``check``. Where Python does not come to hear a signal for GRACE_S,
    as in a long computation of a library, or at a second signal, a thread calls ``before_exit`` and ends the process.
    Does nothing outside of the main thread, which alone may listen to signals.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def hear(number: int, frame: object) -> None:
        stop.heard.set()
        if not _deferring:
            stop.noticed.set()
            raise KeyboardInterrupt

    def watch() -> None:
        signals, asked = {int(number) for number in numbers}, 0
        while received := woken.recv(1):
            if received[0] in signals:
                asked += 1
                if asked > 1 or not stop.noticed.wait(GRACE_S):
                    before_exit()
                    os._exit(EXIT_CANCELLED)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    woken, waking = socket.socketpair()
    waking.setblocking(False)
    before = {number: signal.signal(number, hear) for number in numbers}
    previous = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="signals", daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.noticed.set()
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        waking.close()  # the thread reads the end of it
        thread.join()
        woken.close()


class Reporter:
    """Progress as a bar on stderr, as JSON lines on stdout, or not at all; stops when the cancel file appears."""

    def __init__(self, kind: str, cancel_file: Path | None = None) -> None:
        self.kind, self.cancel_file = kind, cancel_file
        self.stop = Stop()
        self.started = time.monotonic()
        self.bar: tqdm[Any] | None = None
        self.last = ("", -1.0)
        self.follows = False  # another process of the same training speaks for it
        self.told: set[str] = set()  # warnings that were said in other words: they are not said again
        self.finished = False  # the results are in their place: nothing stops the run any more

    def __call__(self, step: str, fraction: float) -> None:
        self.check_cancelled()
        # A program wants every new step at once, but not a line for each iteration of an optimiser.
        if step == self.last[0] and fraction < self.last[1] + 0.005:
            return
        self.last = (step, fraction)
        if self.kind == "json":
            self.event("progress", step=step, fraction=round(fraction, 4), seconds_left=self._seconds_left(fraction))
        elif self.kind == "bar":
            with suppress(OSError, ValueError):
                self._draw(step, fraction)

    def check_cancelled(self) -> None:
        """Raises Cancelled when the cancel file is there, or a signal was heard."""
        if self.finished:
            return
        self.stop.check()
        if self.cancel_file is not None and self.cancel_file.exists():
            raise Cancelled

    def event(self, event: str, **values: Any) -> None:
        """One JSON object on a line of stdout, in JSON mode only."""
        if self.kind == "json":
            say(json.dumps({"event": event, **values}), sys.stdout)

    def close(self) -> None:
        """Ends the bar."""
        with suppress(OSError, ValueError):  # stderr may be full, or closed
            if self.bar is not None:
                self.bar.close()

    def _seconds_left(self, fraction: float) -> float | None:
        spent = time.monotonic() - self.started
        return round(spent * (1 - fraction) / fraction, 1) if fraction > 0.05 else None

    def _draw(self, step: str, fraction: float) -> None:
        if self.bar is None:
            self.bar = tqdm(
                total=100, file=sys.stderr, bar_format="{desc:<24} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}"
            )
        self.bar.set_description_str(step, refresh=self.bar.desc != step)  # every step is seen, however short
        self.bar.update(round(100 * fraction, 1) - self.bar.n)
