"""One task on its way through the engine: nodes become files, a child process works on them, its files become nodes.

A run watches what it depends on. When the scene is closed or one of its nodes is deleted it ends by itself; whatever
happens, its folder goes and nothing half-made is left in the scene.
"""

import logging
import shutil
import tempfile
import time
from pathlib import Path

import slicer
import vtk

from . import job, models
from .following import Following
from .job import EngineCancelled, EngineError, Progress, State
from .outputs import Undo
from .results import Results
from .tasks import Registration, Segmentation, both_sides, extracted, follows_tissue, read_report, told_verdict
from .words import _

REMOVAL_ATTEMPTS = 10  # Windows keeps the files of a process that has just ended for a moment


class Run:
    """A run in progress. Call `poll` now and then until `active` is false; then `results` or `error` is there.

    start(command, folder) -> process starts the engine. Raises ValueError when the input cannot be used.
    """

    def __init__(self, task: Segmentation | Registration | Following, *, start=job.start_process) -> None:
        self.task, self.undo = task, Undo()
        self.results: Results | None = None
        self.report: dict = {}
        self.error: Exception | None = None
        self.warnings: list[str] = []  # of the engine, about a run that was done
        self._observers: list[int] = []
        self.folder = Path(tempfile.mkdtemp(prefix="CLMorph-", dir=slicer.app.temporaryPath))
        try:
            self.arguments = task.write(self.folder)
            command = job.prepare_engine(models.engine_root(), self.arguments, self.folder, task.options.keep_files)
            self.job = job.Job(command, self.folder, start=start)
        except BaseException:
            self._remove_folder()
            raise
        self._watch()

    @property
    def state(self) -> State:
        """State of the run: done once the results are in the scene."""
        if self.error is not None:
            return State.CANCELLED if isinstance(self.error, EngineCancelled) else State.FAILED
        if self.results is None and self.job.state is State.DONE:
            return State.RUNNING
        return self.job.state

    @property
    def active(self) -> bool:
        return self.error is None and self.results is None

    @property
    def reports(self) -> list[dict]:
        """What the engine reported of each image that is done."""
        return [self.report] if self.results is not None else []

    @property
    def about_to_load(self) -> bool:
        """Whether the next `poll` puts the results into the scene: known one look earlier, so that it can be told."""
        return self.active and self.job.state is State.DONE

    @property
    def progress(self) -> Progress:
        return self.job.progress

    @property
    def summary(self) -> str:
        """What is told of a run that is done: what it gave and how, the verdict, and the engine's warnings."""
        if self.results is None:
            return ""
        taken = [_("The brain was taken out of the head.")] if extracted(self.report) else []
        found = [_("Both sides were found in the whole.")] if both_sides(self.report) else []
        followed = [_("The labels follow the scan's tissue.")] if follows_tissue(self.report) else []
        judged = [said] if (said := told_verdict(self.report)) else []
        return " ".join((self.task.done(self.results, self.report), *taken, *found, *judged, *followed, *self.warnings))

    def poll(self) -> State:
        """Look after the engine; when it has finished, put its results into the scene."""
        if not self.active:
            return self.state
        about_to_load = self.about_to_load
        state = self.job.poll()
        if about_to_load:
            self._load()
        elif state is State.FAILED:
            self._close(EngineError(self.job.message, self.job.log_tail))
        elif state is State.CANCELLED:
            self._close(EngineCancelled(_("The run was cancelled.")))
        return self.state

    def cancel(self) -> None:
        """Ask the engine to stop; `poll` on until it has."""
        self.job.cancel()

    def abort(self, reason: str) -> None:
        """End the engine at once, because of what `reason` says."""
        self.fail(EngineCancelled(reason))

    def fail(self, error: Exception) -> None:
        """End the engine at once, because of an error."""
        if self.active:
            self.job.stop()
            self._close(error)

    def _load(self) -> None:
        try:
            self.report = read_report(self.folder)
            self.warnings = [str(warning) for warning in self.report.get("warnings", ())]
            self.results = self.task.load(self.folder, self.undo)
            self.warnings += self.task.moved()
        except (ValueError, LookupError, TypeError, OSError, RuntimeError) as error:
            logging.debug("CLMorph: results could not be read", exc_info=True)
            said = _("The results could not be read: {error}").format(error=error)
            self._close(EngineError(said, self.job.log_tail))
        else:
            self._close(None)

    def _close(self, error: Exception | None) -> None:
        self.error = error
        for tag in self._observers:
            slicer.mrmlScene.RemoveObserver(tag)
        self._observers.clear()
        if not self.task.options.keep_files:
            self._remove_folder()

    def _remove_folder(self) -> None:
        for _attempt in range(REMOVAL_ATTEMPTS):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                return
            time.sleep(0.1)

    def _watch(self) -> None:
        used = [*self.task.used, *self.task.options.outputs.chosen]
        ids = {node.GetID(): node.GetName() for node in used if hasattr(node, "GetID") and node.GetScene()}

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def removed(_scene, _event, node) -> None:
            if node.GetID() in ids:
                self.abort(_("The run was stopped: {name} was deleted.").format(name=ids[node.GetID()]))

        def closed(_scene, _event) -> None:
            self.abort(_("The run was stopped: the scene was closed."))

        scene = slicer.mrmlScene
        self._observers = [
            scene.AddObserver(scene.NodeAboutToBeRemovedEvent, removed),
            scene.AddObserver(scene.StartCloseEvent, closed),
        ]
