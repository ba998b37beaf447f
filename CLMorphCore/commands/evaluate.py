"""``clmorph evaluate``: accuracy on labelled subjects."""

from __future__ import annotations

import logging
from argparse import Namespace

from ..atomic import check_writable
from ..errors import InputError, counted
from ..evaluating.pairs import OPTIONAL as OF_PAIRS_OPTIONAL
from ..evaluating.pairs import RESULTS as OF_PAIRS
from ..evaluating.pairs import evaluate_pairs
from ..evaluation import RESULTS, SUMMARY, evaluate
from ..io.manifest import read_manifest
from ..io.pairs import read_pairs
from ..progress import Reporter
from . import options as given

LOG = logging.getLogger(__name__)


NOT_OF_PAIRS = ("model", "atlas", "atlas_labels", "atlas_dir", "atlases", "refine", "tissue")


def _pairs(options: Namespace, reporter: Reporter) -> None:
    """Writes the tables, summary.json and report.html about registrations."""
    for name in NOT_OF_PAIRS:
        if getattr(options, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} is given with --pairs, whose registrations are there already; omit one of them")
    pairs = read_pairs(options.pairs)
    files = [file for pair in pairs for file in pair.files()]
    kept = {"certificate": SUMMARY, "optional": OF_PAIRS_OPTIONAL}
    with given.writing(options, OF_PAIRS, options.pairs, *files, **kept):
        found = evaluate_pairs(pairs, progress=reporter)
        found.save(options.output)
    for warning in found.summary.warnings:
        LOG.warning(warning)
    mean = found.summary.mean
    figures = [
        f"{title} {mean[name]:.{digits}f}{unit}"
        for title, name, digits, unit in (
            ("TRE", "tre_mean_mm", 2, " mm"),
            ("Dice", "dice", 3, ""),
            ("HD95", "hd95_mm", 2, " mm"),
            ("inverse consistency", "inverse_mean_mm", 3, " mm"),
        )
        if name in mean
    ]
    figures.append(f"folding {mean['folding_fraction']:.5%}")
    given.done(reporter, options.output, f"{', '.join(figures)} over {counted(len(pairs), 'pair')}")


def run(options: Namespace, reporter: Reporter) -> None:
    """Writes results.csv, summary.json and report.html into the output folder."""
    check_writable(options.output)
    if options.pairs is not None:
        _pairs(options, reporter)
        return
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
        f"over {counted(summary.subjects, 'subject')}, folding {summary.folding_fraction_mean:.5%}",
    )
