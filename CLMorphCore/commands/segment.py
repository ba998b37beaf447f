"""``clmorph segment``: labels for a scan."""

from __future__ import annotations

import logging
from argparse import Namespace
from functools import partial
from pathlib import Path

from ..errors import InputError
from ..extraction.sides import Sides, locator_of, segment_sides, shows_the_whole
from ..io.images import read_image
from ..progress import Reporter, Stopwatch, part
from ..segmentation import OPTIONAL, REPORT, RESULTS, Segmentation, segment
from . import options as given

LOG = logging.getLogger(__name__)


def run(options: Namespace, reporter: Reporter) -> None:
    """Writes labels, transforms, images and the report into the output folder."""
    inputs = options.image, given.brain_mask(options), *given.guiding_files(options)
    with given.writing(options, RESULTS, *inputs, certificate=REPORT, optional=OPTIONAL):
        _run(options, reporter)


def _run(options: Namespace, reporter: Reporter) -> None:
    model = given.model(options)
    atlases, affine, optimization = given.own_atlases(options), given.affine(options), given.optimization(options)
    brain_extraction = given.brain_extraction(options)
    landmarks, initial, mask = given.landmarks(options), given.initial(options), given.mask(options.mask)
    watch = Stopwatch()
    with watch.step("reading"):
        reporter("reading", 0.0)
        image = read_image(options.image)
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
        source=str(options.image),
        duration_s=watch.seconds,
    )
    save(segmentation, options.output, reporter)
    announce(segmentation, options.output, reporter)


def save(segmentation: Segmentation | Sides, folder: Path, reporter: Reporter) -> None:
    """Writes a segmentation; InputError if it has no label at all."""
    if not segmentation.volumes_ml:
        raise InputError(
            "no voxel of the scan got a label, the atlas' structures lie outside of it; expected a scan of the organ, "
            "in its place and orientation",
            "check its header, `model` and `affine`",
        )
    segmentation.save(folder, part(reporter, 0.6, 0.98))


def announce(segmentation: Segmentation | Sides, output: Path, reporter: Reporter) -> None:
    """Says what was found, and warns of what the report warns of."""
    known, labelled = {s.value for s in segmentation.structures}, set(segmentation.volumes_ml)
    there = f"{len(known)}" if known <= labelled else f"{len(known & labelled)} of {len(known)}"
    verdict = segmentation.report.quality.verdict
    judged = f"; verdict: {verdict}" if verdict else ""
    brain = segmentation.report.brain
    taken = f"; brain of {brain.volume_ml:.0f} ml, {brain.method}" if brain else ""
    given.done(reporter, output, f"labels of {there} structures and report.html{taken}{judged}")
    for warning in segmentation.report.warnings:
        LOG.warning(warning)
