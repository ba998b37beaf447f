"""``clmorph segment``: labels for a scan."""

from __future__ import annotations

import logging
from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..errors import InputError
from ..extraction.sides import Sides, locator_of, segment_sides, shows_the_whole
from ..io.dicom_seg import check_place, check_tags, read_source
from ..progress import Reporter, Stopwatch, part
from ..segmentation import OPTIONAL, REPORT, RESULTS, Segmentation, no_labels, segment
from . import options as given
from . import series

LOG = logging.getLogger(__name__)


def run(options: Namespace, reporter: Reporter) -> None:
    """Writes labels, transforms, images and the report into the output folder."""
    if series.is_series(options):
        series.run(options, reporter)
        return
    inputs = options.image, given.brain_mask(options), *given.guiding_files(options)
    with given.writing(options, RESULTS, *inputs, certificate=REPORT, optional=OPTIONAL):
        _run(options, reporter)


def _run(options: Namespace, reporter: Reporter) -> None:
    model = given.model(options)
    atlases, affine, optimization = given.own_atlases(options), given.affine(options), given.optimization(options)
    brain_extraction = given.brain_extraction(options)
    landmarks, initial, mask = given.landmarks(options), given.initial(options), given.mask(options.mask)
    if options.dicom_seg or options.dicom_sr:  # before the work
        scan = read_source(options.image)
        check_place(scan, options.output)
        check_tags(scan)
    watch = Stopwatch()
    with watch.step("reading"):
        reporter("reading", 0.0)
        image, source = series.scan(options)
    started = any(start is not None for start in (affine, landmarks, initial))
    located = atlases is None and not started and locator_of(model) is not None and shows_the_whole(image)
    segmented = (
        segment_sides
        if located
        else partial(segment, atlases=atlases, affine=affine, landmarks=landmarks, initial=initial)
    )
    segmentation = segmented(
        image,
        model,
        fusion=options.fusion,
        most_similar=given.atlas_count(options, model),
        optimization=optimization,
        tissue=given.tissue(options),
        brain_extraction=brain_extraction,
        mask=mask,
        progress=part(reporter, 0.05, 0.6),
        source=source,
        duration_s=watch.seconds,
    )
    segmentation = replace(segmentation, report=replace(segmentation.report, effort=options.effort))
    save(segmentation, options.output, reporter, dicom_seg=options.dicom_seg, dicom_sr=options.dicom_sr)
    announce(segmentation, options.output, reporter)


def save(segmentation: Segmentation | Sides, folder: Path, reporter: Reporter, **files: bool) -> None:
    """Writes a segmentation, ``files`` as its ``save`` knows them; InputError if it has no label at all."""
    if not segmentation.volumes_ml:
        raise InputError(no_labels("the scan", segmentation.unlike), "check its header, `model` and `affine`")
    segmentation.save(folder, part(reporter, 0.6, 0.98), **files)


def announce(segmentation: Segmentation | Sides, output: Path, reporter: Reporter) -> None:
    """Says what was found, and warns of what the report warns of."""
    known, labelled = {s.value for s in segmentation.structures}, set(segmentation.volumes_ml)
    there = f"{len(known)}" if known <= labelled else f"{len(known & labelled)} of {len(known)}"
    structures = f"{there} structure{'s' if len(known) != 1 else ''}"
    verdict = segmentation.report.quality.verdict
    judged = f"; verdict: {verdict}" if verdict else ""
    brain = segmentation.report.brain
    taken = f"; brain of {brain.volume_ml:.0f} ml, {brain.method}" if brain else ""
    given.done(reporter, output, f"labels of {structures} and report.html{taken}{judged}")
    for warning in segmentation.report.warnings:
        LOG.warning(warning)
