"""``python -m Training.experiments.report RESULTS``: tables and figures of what is there, without running anything."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from CLMorphCore.errors import CLMorphError

from .catalogue import DATASETS, check_names
from .store import load


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes RESULTS/report and, where encoders were measured, RESULTS/contrast; exit code 0 or 2 (bad input)."""
    from .views.encoders import write_encoders
    from .views.page import write_report

    parser = argparse.ArgumentParser(prog="python -m Training.experiments.report", description=__doc__)
    parser.add_argument("results", type=Path, metavar="RESULTS", help="results folder of the experiments")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="only these (default: all that have runs)")
    parser.add_argument(
        "--pictures-of", nargs="*", metavar="NAME", help="data sets whose subjects may be shown (default: all)"
    )
    options = parser.parse_args(arguments)
    try:
        run_on = {run.dataset for run in load(options.results).runs}
        for given in (options.datasets, options.pictures_of):
            check_names("data set", given or (), {*DATASETS, *run_on})
        datasets = options.datasets or [name for name in DATASETS if name in run_on]
        write_report(options.results, options.results / "report", datasets, slices_of=options.pictures_of)
        for path in (options.results / "report" / "report.html", *write_encoders(options.results)):
            print(path)
        return 0
    except CLMorphError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
