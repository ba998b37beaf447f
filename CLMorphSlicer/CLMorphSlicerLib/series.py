"""Several volumes, or all frames of a sequence, one run after the other, with one progress and one table over all.

A series looks like a run (run.py). What is done stays when a later one fails or is cancelled.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import slicer

from . import job
from .figures import fill_series
from .following import Following
from .frames import Frames
from .job import EngineCancelled, EngineError, Progress, State
from .nodes import SEGMENT
from .options import Options, follows, why_not_of_several
from .outputs import Outputs, Undo
from .results import Results, link
from .run import Run
from .tasks import Registration, Segmentation, extracted, follows_tissue, verdict
from .words import _, step_name


@dataclass(frozen=True)
class Item:
    """One of a series: what it is called, and what is to be done."""

    label: str
    task: Segmentation


class Collection(Protocol):
    """Where the results of a series go."""

    items: list[Item]
    title: str  # of the column of labels
    name: str  # of the table

    def keep(self, number: int, results: Results, undo: Undo) -> Results: ...


def _why_not(items: list[Item]) -> str:
    """Why the first of a series that cannot be segmented cannot be; empty when all can."""
    if not items:
        return _("Choose the images to segment.")
    return next((reason for reason in (item.task.why_not() for item in items) if reason), "")


class Volumes:
    """Volumes of the scene; each has results of its own."""

    def __init__(self, volumes: list, options: Options) -> None:
        self.options = options
        alone = replace(options, outputs=Outputs())  # an existing output would be overwritten by each
        self.items = [Item(volume.GetName(), Segmentation(volume, alone)) for volume in volumes]
        self.title, self.name = _("Image"), _("CLMorph figures")

    def why_not(self) -> str:
        """Why they cannot be segmented, as a sentence for the user; empty when they can."""
        return (why_not_of_several(self.options) if len(self.items) > 1 else "") or _why_not(self.items)

    def keep(self, number: int, results: Results, undo: Undo) -> Results:
        return results


class SequenceFrames:
    """The frames of a sequence; their results are frames of sequences that the same browser plays."""

    def __init__(self, frames: Frames, options: Options) -> None:
        self.frames, self.options = frames, options
        alone, played = replace(options, outputs=Outputs()), (frames.sequence, frames.browser)
        self.items = [
            Item(label, Segmentation(volume, alone, frames.proxy, played))
            for label, volume in frames.labelled_volumes()
        ]
        self.title = frames.index_title
        self.name = _("{sequence} figures").format(sequence=frames.sequence.GetName())

    def why_not(self) -> str:
        """Why they cannot be segmented, as a sentence for the user; empty when they can."""
        return why_not_of_several(self.options) or _why_not(self.items)

    def keep(self, number: int, results: Results, undo: Undo) -> Results:
        return self.frames.keep(number, results, undo)


def work_on(frames: Frames, options: Options) -> Following | SequenceFrames:
    """What is to be done with the frames of a sequence: one run for all, or one after the other."""
    return Following(frames, options) if follows(options) else SequenceFrames(frames, options)


class Series:
    """Runs one after the other. Call `poll` as for a Run.

    Raises ValueError when the first cannot be started; when a later one cannot, the series ends there with `error`.
    """

    def __init__(self, collection: Collection, *, start=job.start_process, clock=time.monotonic) -> None:
        self.collection, self.undo = collection, Undo()
        self.done: list[Results] = []
        self.results: Results | None = None  # what the window shows: the first, or the frames
        self.error: Exception | None = None
        self.warnings: list[str] = []
        self._table: slicer.vtkMRMLTableNode | None = None
        self._reports: list[tuple[str, dict]] = []
        self._start, self._clock, self._began = start, clock, clock()
        self._cancelled = False
        self.run = Run(self._item.task, start=start)

    @property
    def _item(self) -> Item:
        return self.collection.items[len(self.done)]

    @property
    def task(self) -> Segmentation | Registration | Following:
        return self.run.task

    @property
    def job(self) -> job.Job:
        return self.run.job

    @property
    def folder(self) -> Path:
        return self.run.folder

    @property
    def reports(self) -> list[dict]:
        return [report for _label, report in self._reports]

    @property
    def about_to_load(self) -> bool:
        return self.run.about_to_load

    @property
    def active(self) -> bool:
        return self.error is None and len(self.done) < len(self.collection.items)

    @property
    def state(self) -> State:
        if self.error is not None:
            return State.CANCELLED if isinstance(self.error, EngineCancelled) else State.FAILED
        if not self.active:
            return State.DONE
        return State.CANCELLING if self._cancelled else State.RUNNING

    @property
    def progress(self) -> Progress:
        """Over all: which one, its step, and the time left for it and those to come."""
        number, count, own = len(self.done), len(self.collection.items), self.run.progress
        if number == count:
            return Progress(own.step, 1.0)
        words = _("{label} ({number} of {count}) · {step}")
        step = words.format(
            label=self._item.label, number=number + 1, count=count, step=step_name(own.step) or _("starting")
        )
        left = own.seconds_left
        if number:
            each = (self._clock() - self._began) / (number + own.fraction)
            left = each * (count - number - own.fraction)
        elif count > 1:
            left = None
        return Progress(step, (number + own.fraction) / count, left)

    @property
    def summary(self) -> str:
        done = _("Done: {count} images.").format(count=len(self.done))
        number = sum(map(follows_tissue, self.reports))
        followed = [_("The labels of {number} follow the scan's tissue.").format(number=number)] if number else []
        number = sum(map(extracted, self.reports))
        taken = [_("The brain of {number} was taken out of the head.").format(number=number)] if number else []
        verdicts = [verdict(report) for report in self.reports]
        counts = {name: verdicts.count(name) for name in ("pass", "review", "reject")}
        judged = (
            [_("Verdicts: {pass} pass, {review} to review, {reject} rejected.").format(**counts)]
            if any(verdicts)
            else []
        )
        return " ".join((done, *taken, *judged, *followed, *self.warnings))

    def poll(self) -> State:
        """Look after the current run; when it is done, keep its results and start the next."""
        if not self.active:
            return self.state
        self.run.poll()
        if self.run.active:
            return self.state
        if self.run.error is not None:
            self._end(self.run.error)
            return self.state
        self._keep()
        if self.active:
            self._next()
        return self.state

    def cancel(self) -> None:
        self._cancelled = True
        self.run.cancel()

    def abort(self, reason: str) -> None:
        self.fail(EngineCancelled(reason))

    def fail(self, error: Exception) -> None:
        if self.active:
            self.run.fail(error)
            self._end(error)

    def _keep(self) -> None:
        item, run, results = self._item, self.run, self.run.results
        assert results is not None
        self._reports.append((item.label, run.report))
        self.warnings += [f"{item.label}: {warning}" for warning in run.warnings]
        shown = self.collection.keep(len(self.done), results, self.undo)
        self.undo.join(run.undo)
        self._fill_table(shown)
        self.results = self.results or shown
        self.done.append(results)

    def _fill_table(self, shown: Results) -> None:
        if self._table is None:
            name = slicer.mrmlScene.GenerateUniqueName(self.collection.name)
            self._table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
            self.undo.added.append(self._table)
        fill_series(self._table, self.collection.title, self._reports)
        link(replace(shown, table=self._table), SEGMENT)

    def _next(self) -> None:
        if self._cancelled:  # pressed in the moment between two
            self._end(EngineCancelled(_("The run was cancelled.")))
            return
        try:
            reason = self._item.task.why_not()
            if reason:
                raise ValueError(reason)
            self.run = Run(self._item.task, start=self._start)
        except (ValueError, OSError, RuntimeError) as error:
            self._end(error)

    def _end(self, error: Exception) -> None:
        label, number, count = self._item.label, len(self.done), len(self.collection.items)
        kept = _("; the results of the {number} before it are kept").format(number=number) if number else ""
        where = _("{label} ({number} of {count}): {error}")
        said = where.format(label=label, number=number + 1, count=count, error=error) + kept
        kind = EngineCancelled if isinstance(error, EngineCancelled) else EngineError
        self.error = kind(said) if kind is EngineCancelled else EngineError(said, getattr(error, "log", ""))
