"""The part of the window that starts and stops a run, and tells how far it is and how it ended."""

from collections.abc import Iterator
from contextlib import contextmanager

import qt
import slicer

from .job import Progress, State
from .words import _, step_name

LONG_SILENCE_S = 60
ICON_PIXELS = 16


@contextmanager
def wait_cursor() -> Iterator[None]:
    """The pointer tells that Slicer is busy."""
    slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
    try:
        yield
    finally:
        slicer.app.restoreOverrideCursor()


def time_left(seconds: float | None) -> str:
    """What people say for a number of seconds: "about 12 s left"; empty for None."""
    if seconds is None:
        return ""
    if seconds < 1:
        return _("almost done")
    if seconds < 90:
        return _("about {seconds:.0f} s left").format(seconds=seconds)
    return _("about {minutes:.0f} min left").format(minutes=seconds / 60)


def progress_text(progress: Progress, state: State, silence_s: float = 0.0) -> str:
    """One line for a run in progress: the step and the time left, or that nothing was heard for long."""
    if state is State.CANCELLING:
        return _("Cancelling …")
    step = step_name(progress.step) or _("starting")
    step = step[0].upper() + step[1:]
    if silence_s > LONG_SILENCE_S:
        silent = _("{step} · no word from the engine for {seconds:.0f} s; wait, or cancel")
        return silent.format(step=step, seconds=silence_s)
    left = time_left(progress.seconds_left)
    return f"{step} · {left}" if left else step


class ProgressPanel:
    """The button that starts, Cancel, Undo, the bar, the line below it and the log."""

    def __init__(self, ui) -> None:
        self.ui = ui
        self._job, self._lines = None, 0
        self._said = False  # whether the line tells how the last run ended
        self.ui.progressBar.setVisible(False)

    def start(self, keeps_files: bool) -> None:
        """Make ready for a new run."""
        self._job, self._lines, self._said = None, 0, False
        self.ui.logText.setPlainText(_("The working files are kept.") if keeps_files else "")
        self.ui.progressBar.setVisible(True)
        self.ui.progressBar.setValue(0)
        self._say(_("Starting"), State.RUNNING)

    def show(self, run) -> None:
        """Show how far a run, or a series of them, is, or how it ended."""
        self._show_log(run.job)
        progress = run.progress
        self.ui.progressBar.setValue(round(100 * progress.fraction))
        if run.active:
            self._say(progress_text(progress, run.state, run.job.silence_s), run.state)
            self.ui.cancelButton.setEnabled(run.state is State.RUNNING)
        elif run.error is not None:
            self.fail(run.error, run.state)
        else:
            self._end(run.summary, State.DONE)
        if not run.active and run.task.options.keep_files:
            self.ui.logText.appendPlainText(_("The working files are in {folder}").format(folder=run.folder))

    def fail(self, error: Exception, state: State = State.FAILED) -> None:
        """Say what went wrong, with the log unfolded."""
        self._end(str(error) or type(error).__name__, state)
        if state is State.FAILED:
            self.ui.logSection.collapsed = False

    def tell(self, text: str) -> None:
        """Say something that stays until the next run."""
        self._end(text, State.RUNNING)

    def allow(self, reason: str, running: bool, installing: bool = False, undoable: bool = False) -> None:
        """Enable the buttons; a reason against a run is told, in its button's tip too."""
        if installing:
            reason = _("Installing packages; this takes minutes. The log is in the Python console.")
        self.ui.runButton.setEnabled(not reason and not running)
        self.ui.runButton.toolTip = reason or _("Start; you can go on working meanwhile.")
        self.ui.cancelButton.setEnabled(running)
        self.ui.undoButton.setEnabled(undoable and not running and not installing)
        if reason and not running:
            self._say(reason, State.RUNNING)
            self._said = False
        elif not running and not self._said:
            self._say(_("Ready."), State.RUNNING)

    def _end(self, text: str, state: State) -> None:
        self.ui.progressBar.setVisible(False)
        self._say(text, state)
        self._said = True

    def _say(self, text: str, state: State) -> None:
        self.ui.statusLabel.text = text
        icons = {State.FAILED: qt.QStyle.SP_MessageBoxCritical, State.DONE: qt.QStyle.SP_DialogApplyButton}
        self.ui.statusIcon.setVisible(state in icons)
        if state in icons:  # the style's own signs, which suit a light and a dark theme
            icon = self.ui.statusIcon.style().standardIcon(icons[state])
            self.ui.statusIcon.setPixmap(icon.pixmap(ICON_PIXELS, ICON_PIXELS))

    def _show_log(self, job) -> None:
        if job is not self._job:  # the next of a series
            self._job, self._lines = job, 0
        new = min(job.lines_logged - self._lines, len(job.log))
        if new:
            self.ui.logText.appendPlainText("\n".join(list(job.log)[-new:]))
        self._lines = job.lines_logged
