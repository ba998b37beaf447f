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
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .errors import Cancelled

EXIT_CANCELLED = 130
GRACE_S = 1.0  # that a computation of a library has to come back to Python after a signal
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


@contextmanager
def stoppable(before_exit: Callable[[], None]) -> Iterator[threading.Event]:
    """SIGINT and SIGTERM raise KeyboardInterrupt in the block, or end the process with EXIT_CANCELLED.

    The event that it yields is set when a signal was heard: an interrupt that is raised in a library's callback may be
    lost there.

    Python hears a signal when a library's computation comes back, which may take minutes. So a thread is woken by it as
    well: after GRACE_S, or at a second signal, it calls ``before_exit`` and ends the process. Does nothing outside of
    the main thread, which alone may listen to signals.
    """
    heard = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return

    def raise_interrupt(number: int, frame: object) -> None:
        heard.set()
        raise KeyboardInterrupt

    def watch() -> None:
        signals = {int(number) for number in numbers}
        while received := woken.recv(1):
            if received[0] not in signals:
                continue
            if again.is_set() or not heard.wait(GRACE_S):
                before_exit()
                os._exit(EXIT_CANCELLED)
            again.set()

    again = threading.Event()
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    woken, waking = socket.socketpair()
    waking.setblocking(False)
    before = {number: signal.signal(number, raise_interrupt) for number in numbers}
    previous = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="signals", daemon=True)
    thread.start()
    try:
        yield heard
    except Exception:
        if heard.is_set():  # raised within a library's callback, of which the library made an error of its own
            raise KeyboardInterrupt from None
        raise
    finally:
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
        self.stopped: threading.Event | None = None
        self.started = time.monotonic()
        self.bar: tqdm[Any] | None = None
        self.last = ("", -1.0)

    def __call__(self, step: str, fraction: float) -> None:
        self.check_cancelled()
        # A program wants every new step at once, but not a line for each iteration of an optimiser.
        if step == self.last[0] and fraction < self.last[1] + 0.005:
            return
        self.last = (step, fraction)
        if self.kind == "json":
            self.event("progress", step=step, fraction=round(fraction, 4), seconds_left=self._seconds_left(fraction))
        elif self.kind == "bar":
            self._draw(step, fraction)

    def check_cancelled(self) -> None:
        """Raises Cancelled when the cancel file is there, KeyboardInterrupt when a signal was heard and lost."""
        if self.stopped is not None and self.stopped.is_set():
            raise KeyboardInterrupt
        if self.cancel_file is not None and self.cancel_file.exists():
            raise Cancelled

    def event(self, event: str, **values: Any) -> None:
        """One JSON object on a line of stdout, in JSON mode only."""
        if self.kind == "json":
            print(json.dumps({"event": event, **values}), flush=True)

    def close(self) -> None:
        """Ends the bar."""
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
