"""``clmorph plan``: what a model of one's own scans will be made with, and why."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from ..atomic import check_writable
from ..console import say
from ..devices import choose_device
from ..errors import OutputError, counted
from ..io.layouts import find_scans
from ..progress import Reporter
from ..training.plan import write_plan
from ..training.run import plan_scans
from ..training.scans import Finding
from ..training.starting import read_start
from . import options as given

DEFAULT_MINUTES = 60.0


def run(options: Namespace, reporter: Reporter) -> None:
    """Looks at the scans and writes the plan; a file of that name stays, somebody may have changed it."""
    output = options.output
    if os.path.lexists(output):
        raise OutputError(f"{output} is there already, perhaps changed by hand", "delete it, or choose another name")
    check_writable(output.parent)
    collection = find_scans(options.data, dict(options.labels_for))
    teller = Teller(reporter)
    for note in collection.notes:
        teller.note(note)
    plan, _ = plan_scans(
        collection,
        minutes=options.minutes or DEFAULT_MINUTES,
        device=choose_device(options.device),
        name=name_of(options.data),
        start=read_start(options.initial) if options.initial else None,
        tell=teller.finding,
        progress=reporter,
    )
    write_plan(output, plan)
    count = len(plan.left_out or {})
    left = f"; {counted(count, 'scan is', 'scans are')} left out" if count else ""
    given.done(
        reporter, output, f"the plan for {plan.about}{left}; train by it: clmorph train … --plan {given.quoted(output)}"
    )


def name_of(data: Path) -> str:
    """What the plan and the card call the data."""
    return data.resolve().name


class Teller:
    """Says what is found about the scans, as soon as it is found."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter

    def finding(self, finding: Finding) -> None:
        """One finding, with what becomes of the scan; the warnings that it stands for are not said again."""
        self.reporter.told.update(finding.warnings)
        self.note(f"{finding} (left out)" if finding.left_out else str(finding))

    def note(self, text: str) -> None:
        """A line, and an event for programs."""
        self.reporter.event("finding", text=text)
        if self.reporter.kind != "json":
            say(text, given.console(self.reporter))
