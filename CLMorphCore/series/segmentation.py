"""Segmenting a series: one frame is segmented, its labels are carried to the others, each by one interpolation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ..atomic import atomic_folder
from ..bundles.model import Model, affine_model
from ..errors import InputError
from ..geometry import foreground_box
from ..instance_optimization import InstanceOptimization
from ..io.checksums import seal
from ..io.images import check_sources
from ..io.outputs import check_results
from ..io.series import ImageSeries, write_series
from ..metrics import volumes_ml
from ..progress import Progress, Stopwatch, part, silent
from ..registration import Registration
from ..reports.series import Entry, FrameEntry, HeartEntry, SeriesReport, series_page, volumes_csv
from ..segmentation import REPORT, RESULTS, VOLUMES, Segmentation, no_labels, segment
from .choice import FrameChoice, check_numbers, frame_choice
from .following import FOLLOWING, Closing, follow
from .volumes import HeartFunction, check_heart, end_diastole_of, function_of, ventricles

MAX_CLOSING_MM = 2.0  # of the two ways round a cycle; made-up hearts have 0.3 to 0.8; and, for small animals,
MAX_CLOSING_SHARE = 0.04  # of the labels' longest side, the lesser of the two
MADE = ("labels.nii.gz", "report.html", REPORT, VOLUMES)
OPTIONAL = tuple(name for name in RESULTS if name not in MADE)  # of an earlier run on one scan


@dataclass(frozen=True)
class SeriesSegmentation:
    """Labels of the frames that were asked for, and what was found on the way.

    numbers       of those frames in ``series``, from 0, in the order of time, and
    labels        of each, on its own grid
    key           the frame that was segmented, and ``segmentation``, of it alone
    volumes_ml    of every frame that was followed: number → label → ml
    heart         what each ventricle pumps; empty for other organs
    transforms    frame → frame ``key``, LPS, mm, of each frame that was followed, where they were to be kept
    """

    series: ImageSeries
    numbers: tuple[int, ...]
    labels: tuple[sitk.Image, ...]
    key: int
    segmentation: Segmentation
    volumes_ml: dict[int, dict[int, float]]
    heart: tuple[HeartFunction, ...]
    transforms: dict[int, sitk.CompositeTransform]
    report: SeriesReport

    def save(self, folder: Path, progress: Progress = silent) -> None:
        """Writes labels.nii.gz (4D), volumes_over_time.csv, report.json and report.html into ``folder``, all or none.

        OutputError where that fails, or would replace what is read, or what is not as an earlier run has written it.
        """
        check_sources(folder, RESULTS, [self.series.frames[0]])
        check_results(folder, RESULTS, certificates=[REPORT], optional=(*OPTIONAL, VOLUMES), record=REPORT)
        watch = Stopwatch()
        with atomic_folder(folder, optional=OPTIONAL, certificate=REPORT) as temporary:
            with watch.step("writing"):
                progress("writing", 0.0)
                write_series(self.labels, temporary / "labels.nii.gz", self.series.only(self.numbers))
                (temporary / VOLUMES).write_text(volumes_csv(self.report), encoding="utf-8", newline="")
            with watch.step("report"):
                progress("report", 0.5)
                pictures = {
                    n: (self.series.frames[n], labels) for n, labels in zip(self.numbers, self.labels, strict=True)
                }
                shown = [n for n in self._shown() if n in pictures]
                page = series_page(self.report, [(n, *pictures[n]) for n in shown])
                (temporary / "report.html").write_text(page, encoding="utf-8")
            self.report.with_durations(watch.seconds).save(temporary / REPORT)
            seal(temporary, folder, RESULTS, REPORT)
            progress("report", 1.0)

    def _shown(self) -> list[int]:
        """Frames for the page: the one that was segmented and the extremes of the heart, or the middle one."""
        middle = self.numbers[len(self.numbers) // 2]
        phases = [n for one in self.heart[:1] for n in (one.end_diastole, one.end_systole)]
        return sorted({self.key, *(phases or [middle])})


def segment_series(
    series: ImageSeries | Sequence[sitk.Image],
    model: Model | None = None,
    *,
    frames: str | Sequence[int] | FrameChoice = "all",
    following: InstanceOptimization | None = FOLLOWING,
    keep_transforms: bool = False,
    progress: Progress = silent,
    duration_s: Mapping[str, float] | None = None,
    **options: Any,
) -> SeriesSegmentation:
    """Segments one frame of a series; the others follow by registration to it, so that labels do not jump.

    ``frames`` are those that get labels: ``all``, ``ed`` and ``es``, numbers from 1, with commas between them. A number
    that comes first is the frame that is segmented; otherwise it is a heart's end-diastole, found by the volume of its
    left ventricle, and of other organs the first frame. ``following`` is the optimization of each frame's map; None
    leaves it at the network's answer. ``options`` are those of ``segment``. Raises InputError for frames that are not
    there, for ed and es of what is no heart, for labels that are empty, and whatever ``progress`` raises, as Cancelled.
    """
    if not isinstance(series, ImageSeries):
        series = ImageSeries(tuple(series))
    choice, watch = frame_choice(frames), Stopwatch(dict(duration_s or {}))
    check_numbers(choice, len(series))
    run = _Run(series, model, choice, following, keep_transforms, options, watch)
    key = choice.first or 0
    found = run.with_key(key, part(progress, 0.0, 0.5 if choice.first is None else 1.0))
    if choice.first is None and found.diastole != key:
        found = run.with_key(found.diastole, part(progress, 0.5, 1.0))
    return _result(series, choice, found, watch)


@dataclass(frozen=True)
class _Found:
    """What came of one frame as the key: the labels of those that follow it, their volumes, and how well it went."""

    key: int
    segmentation: Segmentation
    labels: dict[int, sitk.Image]
    volumes_ml: dict[int, dict[int, float]]
    registrations: dict[int, tuple[float, float]]
    transforms: dict[int, sitk.CompositeTransform]
    closing: Closing | None

    @property
    def diastole(self) -> int:
        """The frame of end-diastole; for what is no heart the key."""
        return end_diastole_of(self.volumes_ml, self.segmentation.structures, self.key)


@dataclass(frozen=True)
class _Run:
    series: ImageSeries
    model: Model | None
    choice: FrameChoice
    following: InstanceOptimization | None
    keep_transforms: bool
    options: Mapping[str, Any]
    watch: Stopwatch

    def with_key(self, key: int, progress: Progress) -> _Found:
        """Frame ``key`` segmented, and its labels on those that have to follow."""
        choice, frames = self.choice, self.series.frames
        source = f"{self.series.source}, frame {key + 1}" if len(frames) > 1 else self.series.source
        segmentation = segment(
            frames[key], self.model, progress=part(progress, 0.0, 0.3), source=source, **self.options
        )
        if not segmentation.volumes_ml:
            raise InputError(
                no_labels(f"frame {key + 1}", segmentation.unlike),
                "check its header, `model` and `affine`, or start `frames` with another frame",
            )
        if choice.phases:
            check_heart(segmentation.structures)
        numbers = range(len(frames)) if choice.needs_all else choice.numbers
        found = _Found(key, segmentation, {key: segmentation.labels}, {}, {}, {}, None)
        model = self.model or affine_model()
        following = self.following or (InstanceOptimization() if self.model is None else None)
        for one in follow(
            frames,
            key,
            list(numbers),
            model,
            labels=segmentation.labels,
            cyclic="left" in ventricles(segmentation.structures),
            optimization=following,
            watch=self.watch,
            progress=part(progress, 0.3, 0.95),
        ):
            if isinstance(one, Closing):
                found = replace(found, closing=one)
                continue
            self._carry(found, one.frame, one.registration)
        found.volumes_ml.update({n: volumes_ml(found.labels[n]) for n in sorted(found.labels)})
        return found

    def _carry(self, found: _Found, frame: int, registration: Registration) -> None:
        with self.watch.step("labels"):
            found.labels[frame] = registration.warp(found.segmentation.labels, labels=True)
        found.registrations[frame] = (registration.similarity[1], registration.folding_fraction)
        if self.keep_transforms:
            found.transforms[frame] = registration.transform


def _result(series: ImageSeries, choice: FrameChoice, found: _Found, watch: Stopwatch) -> SeriesSegmentation:
    in_full = len(found.volumes_ml) == len(series)
    heart = tuple(function_of(found.volumes_ml, found.segmentation.structures, found.key)) if in_full else ()
    asked = set(choice.numbers) | (set(range(len(series))) if choice.everything else set())
    for one in heart[:1]:
        asked |= {n for phase, n in (("ed", one.end_diastole), ("es", one.end_systole)) if phase in choice.phases}
    numbers = tuple(sorted(asked))
    return SeriesSegmentation(
        series=series,
        numbers=numbers,
        labels=tuple(found.labels[n] for n in numbers),
        key=found.key,
        segmentation=found.segmentation,
        volumes_ml=found.volumes_ml,
        heart=heart,
        transforms=found.transforms,
        report=_report(series, numbers, found, heart, watch),
    )


def _report(
    series: ImageSeries, numbers: Sequence[int], found: _Found, heart: Sequence[HeartFunction], watch: Stopwatch
) -> SeriesReport:
    frames = tuple(
        FrameEntry(
            number=n + 1,
            time_s=None if series.times_s is None else series.times_s[n],
            volumes_ml={str(value): round(volume, 4) for value, volume in volumes.items()},
            similarity=found.registrations[n][0] if n in found.registrations else None,
            folding_fraction=found.registrations[n][1] if n in found.registrations else None,
        )
        for n, volumes in found.volumes_ml.items()
    )
    names = {structure.value: structure.name for structure in found.segmentation.structures}
    entry = Entry(
        count=len(series),
        segmented=found.key + 1,
        labelled=tuple(n + 1 for n in numbers),
        frames=frames,
        closing_mean_mm=found.closing.mean_mm if found.closing else None,
        closing_max_mm=found.closing.max_mm if found.closing else None,
        heart=tuple(
            HeartEntry(
                one.side,
                names[one.structure],
                one.end_diastole + 1,
                one.end_systole + 1,
                round(one.edv_ml, 4),
                round(one.esv_ml, 4),
                round(one.ejection_fraction, 4) if one.edv_ml > 0 else None,
            )
            for one in heart
        ),
    )
    report = found.segmentation.report
    report = replace(
        report.with_durations(watch.seconds),
        warnings=(*report.warnings, *_warnings(found)),
        image=series.source,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
    )
    return SeriesReport(report, entry)


def max_closing_mm(labels: sitk.Image) -> float:
    """How far apart the two ways round a beat may end, for labels of this size."""
    lower, upper = foreground_box(labels > 0)
    return min(MAX_CLOSING_MM, MAX_CLOSING_SHARE * float((upper - lower).max()))


def _warnings(found: _Found) -> list[str]:
    """What is doubtful about how the frames followed."""
    if found.closing is None or found.closing.mean_mm <= max_closing_mm(found.segmentation.labels):
        return []
    return [
        f"the two ways round the beat end {found.closing.mean_mm:.2g} mm apart in frame {found.closing.frame + 1}: the "
        "series may not be one whole beat, or frames are unlike each other; look at the labels there"
    ]
