"""``clmorph evaluate``: accuracy on labelled subjects."""

from __future__ import annotations

import logging
from argparse import Namespace

from ..atomic import check_writable
from ..evaluation import RESULTS, SUMMARY, evaluate
from ..io.manifest import read_manifest
from ..progress import Reporter
from . import options as given

LOG = logging.getLogger(__name__)


def run(options: Namespace, reporter: Reporter) -> None:
    """Writes results.csv, summary.json and report.html into the output folder."""
    check_writable(options.output)
    subjects = read_manifest(options.data)
    with given.writing(options, RESULTS, options.data, *given.files_of(subjects), certificate=SUMMARY):
        model = given.model(options)
        evaluation = evaluate(
            model,
            subjects,
            split=options.split,
            atlases=given.own_atlases(options),
            fusion=options.fusion,
            most_similar=given.atlas_count(options, model),
            optimization=given.optimization(options),
            tissue=given.tissue(options),
            progress=reporter,
        )
        evaluation.save(options.output)
    summary = evaluation.summary
    for text in summary.warnings:
        LOG.warning(text)
    given.done(
        reporter,
        options.output,
        f"Dice {summary.dice:.3f} (affine {summary.dice_affine:.3f}), HD95 {summary.hd95_mm:.2f} mm "
        f"over {summary.subjects} subjects, folding {summary.folding_fraction_mean:.5%}",
    )
