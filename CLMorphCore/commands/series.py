"""``clmorph segment --frames``: labels for the frames of a series in time."""

from __future__ import annotations

import logging
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import SimpleITK as sitk

from ..errors import FileError, InputError
from ..extraction.sides import locator_of, shows_the_whole
from ..io.images import read_image
from ..io.series import ImageSeries, has_several_frames, read_series
from ..progress import Reporter, Stopwatch, part
from ..segmentation import REPORT
from ..series.choice import check_numbers, frame_choice
from ..series.following import FOLLOWING
from ..series.segmentation import OPTIONAL, RESULTS, VOLUMES, SeriesSegmentation, segment_series
from . import options as given

LOG = logging.getLogger(__name__)
OF_ONE_IMAGE = ("mask", "moving_mask", "landmarks", "initial", "dicom_seg", "dicom_sr")
REMEDY = "give `frames`: all, ed,es of a heart, or a frame's number"


def is_series(options: Namespace) -> bool:
    """Whether --frames asks for more than one frame, which is a scan by itself; InputError for what it does not.

    And for options that say something of one image alone.
    """
    if options.frames is None or frame_choice(options.frames).alone() is not None:
        return False
    for name in OF_ONE_IMAGE:
        if vars(options).get(name):
            raise InputError(
                f"--{name.replace('_', '-')} is for one image, and `frames={options.frames}` asks for several",
                "omit it, or give the number of one frame",
            )
    return True


def scan(options: Namespace) -> tuple[sitk.Image, str]:
    """The one scan of ``segment``, a file's or the frame's of it that --frames names, and what it is called."""
    return one_scan(options.image, options.frames)


def one_scan(path: Path, frames: str | None) -> tuple[sitk.Image, str]:
    """The scan in a file or folder, or the one frame of it that ``frames`` names; InputError where there are several.

    That of a series tells of ``frames``.
    """
    number = frame_choice(frames).alone() if frames is not None else None
    if number is not None:
        series = read_series(path)
        check_numbers(frame_choice(frames or ""), len(series))
        return series.frames[number], f"{path}, frame {number + 1}" if len(series) > 1 else str(path)
    try:
        return read_image(path), str(path)
    except FileError as error:
        if not has_several_frames(path):
            raise
        raise FileError(f"{error.problem}{f'; {error.remedy}' if error.remedy else ''}", f"or {REMEDY}") from None


def read(path: Path, reporter: Reporter, watch: Stopwatch) -> ImageSeries:
    """The frames of a file or folder."""
    with watch.step("reading"):
        reporter("reading", 0.0)
        return read_series(path)


def run(options: Namespace, reporter: Reporter) -> None:
    """Writes 4D labels, volumes over time and the report into the output folder."""
    optional = (*OPTIONAL, VOLUMES)
    with given.writing(
        options, RESULTS, options.image, given.brain_mask(options), certificate=REPORT, optional=optional
    ):
        _run(options, reporter)


def _run(options: Namespace, reporter: Reporter) -> None:
    model = given.model(options)
    atlases, affine, optimization = given.own_atlases(options), given.affine(options), given.optimization(options)
    watch = Stopwatch()
    series = read(options.image, reporter, watch)
    if atlases is None and affine is None and locator_of(model) is not None and shows_the_whole(series.frames[0]):
        raise InputError(
            f"`frames={options.frames}` is given, and model {model.name} is looked for on both sides of a whole head, "
            "which is done in one frame alone; expected a crop, or one frame",
            "give the number of a frame",
        )
    found = segment_series(
        series,
        model,
        frames=options.frames,
        following=optimization or FOLLOWING,
        progress=part(reporter, 0.05, 0.9),
        duration_s=watch.seconds,
        atlases=atlases,
        fusion=options.fusion,
        most_similar=given.atlas_count(options, model),
        affine=affine,
        optimization=optimization,
        tissue=given.tissue(options),
        brain_extraction=given.brain_extraction(options),
    )
    frame = replace(found.report.frame, effort=options.effort)
    found = replace(found, report=replace(found.report, frame=frame))
    found.save(options.output, part(reporter, 0.9, 0.98))
    announce(found, options.output, reporter)


def announce(found: SeriesSegmentation, output: Path, reporter: Reporter) -> None:
    """Says what was found, of a heart how much it ejects, and warns of what the report warns of."""
    text = f"labels of {len(found.labels)} of {len(found.series)} frames, after frame {found.key + 1}"
    for one in found.heart[:1]:
        text += (
            f"; ejection fraction {one.ejection_fraction:.0%}: {one.edv_ml:.1f} ml in frame {one.end_diastole + 1}, "
            f"{one.esv_ml:.1f} ml in frame {one.end_systole + 1}"
        )
    verdict = found.report.frame.quality.verdict
    given.done(
        reporter, output, f"{text}; volumes_over_time.csv and report.html{f'; verdict: {verdict}' if verdict else ''}"
    )
    for warning in found.report.frame.warnings:
        LOG.warning(warning)
