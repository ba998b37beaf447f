"""``clmorph cohort``: many scans, each with a result of its own, and what they tell together."""

from __future__ import annotations

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

from ..atomic import check_writable
from ..bundles.model import Model, bundled_models
from ..cohorts.bids import describe_derivatives
from ..cohorts.cluster import work_on
from ..cohorts.results import Made
from ..cohorts.scans import Cohort, Scan, find_cohort, shard_of
from ..cohorts.tables import RESULTS, check_summary, write_summary
from ..cohorts.work import Outcome, Settings, is_finished
from ..cohorts.workers import work_here
from ..console import say
from ..errors import InputError, SomeFailed, counted
from ..extraction.step import EXTRACTION
from ..instance_optimization import InstanceOptimization
from ..progress import Reporter
from ..reports.cohort import FAILED, WAITING, Row
from ..segmentation import prepare_atlases
from . import options as given

LOG = logging.getLogger(__name__)
MAX_LINES = 20  # of failures on stderr; the table has them all


def run(options: Namespace, reporter: Reporter) -> None:
    """Writes a result for each scan, then the table of volumes and the page; SomeFailed where scans failed."""
    given_output = options.output or options.bids_output
    options.output = output = _output(options)
    reporter("looking for scans", 0.0)
    cohort = find_cohort(
        options.data,
        output,
        suffix=options.suffix,
        participants=options.participant_label,
        sessions=options.session_label,
    )
    given.check_inputs(options, RESULTS, options.data if options.data.is_file() else None)
    check_summary(output)
    settings, model = _settings(options)
    made = settings.made()
    check_writable(output)
    output.mkdir(parents=True, exist_ok=True)
    if cohort.bids is not None:
        describe_derivatives(output, cohort.bids, options.suffix)
    share = shard_of(cohort, options.shard).scans
    left = []
    for scan in share:
        reporter.check_cancelled()
        left += [] if is_finished(scan, settings, made) else [scan]
    with closing(_outcomes(options, left, settings, made, reporter)) as outcomes:
        for number, outcome in enumerate(outcomes, start=len(share) - len(left) + 1):
            reporter(f"{outcome.name} ({number}/{len(share)})", 0.98 * number / len(share))
            reporter.event("scan", name=outcome.name, failure=outcome.failure)
    reporter("table and page", 0.98)
    rows = write_summary(
        cohort.scans,
        output,
        made.settings,
        {
            "source": str(options.data),
            "model": model.name,
            "licence": model.about("licence"),
            "version": settings.version,
            "notes": cohort.notes,
        },
    )
    _announce(given_output, reporter, cohort, share, rows)


def _output(options: Namespace) -> Path:
    """The folder for the results: -o, or the second word as BIDS Apps have it."""
    if (options.output is None) == (options.bids_output is None):
        raise InputError("expected one folder for the results", "give it with -o OUT, or as BIDS OUT participant")
    return Path(os.path.abspath(options.output or options.bids_output))


def _outcomes(
    options: Namespace, left: Sequence[Scan], settings: Settings, made: Made, reporter: Reporter
) -> Generator[Outcome]:
    if options.scheduler is not None and left:
        return work_on(options.scheduler, left, settings, made, reporter.check_cancelled)
    return work_here(left, settings, made, min(options.workers, len(left)), reporter.check_cancelled)


def _settings(options: Namespace) -> tuple[Settings, Model]:
    """What the options say of every scan, and the model, which is tried here before any worker needs it."""
    if options.brain_extraction not in EXTRACTION:
        raise InputError(
            f"`brain_extraction={options.brain_extraction}` is none of {', '.join(EXTRACTION)}, as it has to be for "
            "many scans"
        )
    model, own = given.model(Namespace(**(vars(options) | {"device": "cpu"}))), given.own_atlases(options)
    most_similar = given.atlas_count(options, model)
    optimization: InstanceOptimization | None = given.optimization(options)
    single = None
    if options.atlas is not None:
        names = None if options.label_names is None else options.label_names.absolute()
        single = (options.atlas.absolute(), options.atlas_labels.absolute(), names)
    settings = Settings(
        model=_everywhere(options.model, model),
        device=options.device,
        threads=_threads(options),
        atlas=single,
        atlas_dir=None if options.atlas_dir is None else options.atlas_dir.absolute(),
        fusion=options.fusion,
        most_similar=most_similar,
        optimization=optimization,
        tissue=given.tissue(options),
        brain_extraction=options.brain_extraction,
        keep=tuple(dict.fromkeys(options.keep)),
        colors=options.colors,
        words=options.words,
        effort=options.effort,
    )
    if own is not None or not model.atlases:
        prepare_atlases(model, own, most_similar)  # which refuses what does not fit
    return settings, model


def _everywhere(name: str | None, model: Model) -> str | None:
    """A model as a process in another folder would have to call it."""
    return name if model.folder is None or name in bundled_models() else str(model.folder.resolve())


def _threads(options: Namespace) -> int | None:
    """CPU threads of each worker: of all, its share; on a cluster as they are there, unless they are given."""
    if options.scheduler is not None:
        return options.threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, (options.threads or cores) // options.workers)


def _announce(output: Path, reporter: Reporter, cohort: Cohort, share: Sequence[Scan], rows: Sequence[Row]) -> None:
    """Says how many there are of each kind, and why the failed ones of this run have failed."""
    for note in cohort.notes:
        LOG.warning(note)
    mine = {scan.name for scan in share}
    failed = [row for row in rows if row.status == FAILED and row.name in mine]
    for row in failed[:MAX_LINES]:
        say(f"clmorph: {row.name}: {row.reason}", sys.stderr)
    kinds = dict.fromkeys(row.standing for row in rows)
    counts = ", ".join(f"{sum(row.standing == kind for row in rows)} {kind}" for kind in sorted(kinds))
    waiting = "; the other shards are to come" if any(row.status == WAITING for row in rows) else ""
    given.done(reporter, output, f"{counted(len(rows), 'scan')}: {counts}; volumes.csv and cohort.html{waiting}")
    if failed:
        raise SomeFailed(
            f"{len(failed)} of {len(mine)} scans failed; volumes.csv says why",
            "the same command tries them again and keeps the others",
        )
