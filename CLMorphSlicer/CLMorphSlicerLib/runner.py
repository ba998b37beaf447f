"""Starts runs and looks after them: by a timer while the window lives, or until they have ended."""

import logging
import time
from contextlib import nullcontext
from typing import Any

import qt
import slicer

from . import dependencies
from .following import Following
from .outputs import Undo
from .panel import wait_cursor
from .run import Run
from .series import SequenceFrames, Series, Volumes
from .tasks import Registration, Segmentation
from .words import _

POLL_MS = 100
WAIT_S = 0.02
Work = Segmentation | Registration | Following | Volumes | SequenceFrames


class Runner:
    """One run at a time for the window (`start`), any number for scripts (`wait`).

    start_process(command, folder) -> process starts the engine.
    """

    def __init__(self, start_process) -> None:
        self.start_process = start_process
        self.run: Run | Series | None = None
        self.timer: Any = None  # a qt.QTimer once a run was started
        self._earlier = Undo()  # of the run before, until the last one has changed the scene

    @property
    def running(self) -> bool:
        return self.run is not None and self.run.active

    @property
    def undo(self) -> Undo:
        """Takes the last run back that changed the scene: one that failed does not cost that of the run before."""
        return self.run.undo if self.run is not None and self.run.undo else self._earlier

    def start(self, work: Work, changed) -> Run | Series:
        """Start a run and return at once; changed(run) is called while it lasts and when it has ended.

        Raises ValueError when the input cannot be used, RuntimeError while another run lasts.
        """
        if self.running:
            raise RuntimeError(_("A run is running already; cancel it or wait for its end."))
        begun = self._begin(work)
        self._earlier, self.run = self.undo, begun
        self.timer = qt.QTimer()
        self.timer.setInterval(POLL_MS)
        run = self.run
        self.timer.connect("timeout()", lambda: self._look(run, changed))
        self.timer.start()
        return run

    def stop(self, reason: str) -> None:
        """End the run at once."""
        if self.timer is not None:
            self.timer.stop()
        if self.run is not None:
            self.run.abort(reason)

    def wait(self, work: Work) -> Run | Series:
        """Start a run and come back when it is done; the window stays alive meanwhile. Raises what ended it early."""
        if not dependencies.ensure(heads=may_extract(work)):
            raise RuntimeError(_("The packages that CLMorph needs are not installed."))
        run = self._begin(work)
        try:
            while run.active:
                slicer.app.processEvents()
                time.sleep(WAIT_S)
                _poll(run)
        finally:
            run.abort(_("The run was interrupted."))
        if run.error is not None:
            raise run.error
        return run

    def _begin(self, work: Work) -> Run | Series:
        reason = work.why_not()
        if reason:
            raise ValueError(reason)
        if isinstance(work, (Volumes, SequenceFrames)):
            return Series(work, start=self.start_process)
        return Run(work, start=self.start_process)

    def _look(self, run: Run | Series, changed) -> None:
        self.timer.stop()  # an error must not come back ten times a second
        try:
            _poll(run)
        except Exception as error:
            logging.exception("CLMorph: a run could not be looked after")
            run.fail(error)
        if run.active:
            self.timer.start()
        elif run.undo:
            self._earlier = Undo()
        changed(run)


def may_extract(work: Work) -> bool:
    """Whether the engine may take the brain out of an image; what cannot be used is refused when it is begun."""
    return any(not task.why_not() and task.may_extract for task in _tasks(work))


def _tasks(work: Work) -> list[Segmentation | Registration | Following]:
    return [item.task for item in work.items] if isinstance(work, (Volumes, SequenceFrames)) else [work]


def _poll(run: Run | Series) -> None:
    with wait_cursor() if run.about_to_load else nullcontext():
        run.poll()
