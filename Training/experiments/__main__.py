"""``python -m Training.experiments table1 … --data DATA --out RESULTS``: the paper's tables and figures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from CLMorphCore.bundles.config import Config
from CLMorphCore.devices import choose_device, use_threads
from CLMorphCore.errors import Cancelled, CLMorphError, InputError, did_you_mean
from CLMorphCore.progress import Reporter

from .catalogue import AFFINE, SYSTEMS
from .plan import EXPERIMENTS, Planned, plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is missing, then writes the report; exit code as ``clmorph``: 0, 2 (bad input), 130 (cancelled)."""
    options = _parser().parse_args(arguments)
    reporter = Reporter("bar" if sys.stderr.isatty() else "none")
    try:
        _run(options, reporter)
        return 0
    except (Cancelled, KeyboardInterrupt):
        print("experiments: cancelled; the same command goes on from here", file=sys.stderr)
        return 130
    except CLMorphError as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 2
    finally:
        reporter.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m Training.experiments",
        description="Tables and figures of the "
        "paper, on your own copy of the data sets. Runs that are done are not run again.",
    )
    parser.add_argument("experiments", nargs="+", metavar="EXPERIMENT", help=f"{', '.join(EXPERIMENTS)} or all")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the data sets' folders")
    parser.add_argument("--out", type=Path, required=True, help="results folder: goes on with what is there")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="only these (default: all that are in --data)")
    parser.add_argument(
        "--systems", nargs="+", metavar="NAME", default=list(SYSTEMS), help=f"only these of {', '.join(SYSTEMS)}"
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[0, 1, 2],
        metavar="N",
        help="seeds of the ablation; the first one is the comparison's (default: 0 1 2)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=10.0,
        metavar="MINUTES",
        help="training time of every system, of processor time per thread on a CPU (default: 10)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    return parser


def _run(options: argparse.Namespace, reporter: Reporter) -> None:
    from Training.recipes import RECIPES
    from Training.recipes.regions import read_regions

    from .datasets import common_divisor, datasets_in, prepare_protocol, shared_settings
    from .runs import configuration, perform
    from .store import load
    from .views.page import write_report

    def configurations(runs: Sequence[Planned]) -> list[Config]:
        recipe = shared_settings(runs[0].dataset)
        names = {r.number: r.name for r in read_regions(RECIPES / runs[0].dataset / "regions.csv")}
        return [configuration(recipe, names, run) for run in runs if run.system != AFFINE]

    use_threads(options.threads)
    device = choose_device(options.device)
    _check_names("system", options.systems, list(SYSTEMS))
    there = datasets_in(options.data)
    datasets = options.datasets or there
    _check_names("data set", datasets, there)
    experiments = list(EXPERIMENTS) if "all" in options.experiments else options.experiments
    if options.budget <= 0:
        raise InputError(f"--budget {options.budget:g}: expected minutes above zero")
    runs = plan(experiments, datasets, systems=options.systems, seeds=options.seeds, minutes=options.budget)
    done = load(options.out)
    failed = []
    for dataset in datasets:
        of_dataset = [run for run in runs if run.dataset == dataset]
        missing = [run for run in of_dataset if not done.has(run.name)]
        _say(f"{dataset}: {len(of_dataset)} runs, {len(missing)} to do")
        if not missing:
            continue
        everything = plan(["table1", "table3"], [dataset], minutes=options.budget)
        protocol = prepare_protocol(
            dataset,
            options.data,
            options.out / "work" / dataset / "prepared",
            common_divisor(configurations(everything)),
            _say,
        )
        for n, run in enumerate(missing, start=1):
            if load(options.out).has(run.name):  # another process beside this one has done it meanwhile
                continue
            _say(f"{n}/{len(missing)} {run.name}")
            try:
                perform(run, protocol, options.out, device, reporter)
            except Cancelled:
                raise
            except CLMorphError as error:  # the others can still be compared
                failed.append(run.name)
                _say(f"{run.name} failed: {error}")
    write_report(options.out, options.out / "report", datasets)
    _say(f"{options.out / 'report' / 'report.html'}")
    if failed:
        raise CLMorphError(f"{len(failed)} runs failed, see above: {', '.join(failed)}")


def _check_names(kind: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise InputError(f"unknown {kind} {name!r}{did_you_mean(name, known)}")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
