"""``python -m Training.experiments table1 … --data DATA --out RESULTS``: the paper's tables and figures."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from CLMorphCore.arguments import kinds
from CLMorphCore.atomic import check_writable
from CLMorphCore.devices import choose_device, use_threads
from CLMorphCore.errors import Cancelled, CLMorphError, InputError
from CLMorphCore.progress import Reporter

from .catalogue import AFFINE, CPU, CUDA, STEPS, SYSTEMS, check_names
from .plan import EXPERIMENTS, Planned, plan
from .store import load


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
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder that holds the data sets' folders")
    source.add_argument(
        "--packed", type=Path, nargs="+", metavar="FILE", help="files of python -m Training.experiments.pack instead"
    )
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
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--budget",
        type=float,
        default=10.0,
        metavar="MINUTES",
        help="training time of every system: processor time per thread on a CPU, by the clock on a GPU (default: 10)",
    )
    length.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="so many steps of every system in place of minutes, whatever else the machine does meanwhile",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--threads", type=kinds.threads, help="CPU threads of each process (default: all)")
    parser.add_argument(
        "--processes",
        type=kinds.above_zero,
        default=1,
        metavar="N",
        help="trainings side by side on the device (default: 1)",
    )
    parser.add_argument(
        "--stop-after",
        type=float,
        metavar="MINUTES",
        help="end after that time by the clock; what is not done then goes on with the next call",
    )
    parser.add_argument("--no-report", action="store_true", help="leave the page, its tables and figures for later")
    return parser


def _run(options: argparse.Namespace, reporter: Reporter) -> None:
    from .datasets import datasets_in
    from .pack import unpack
    from .performing import DONE, LATER, Work, perform_all

    deadline = time.time() + 60 * options.stop_after if options.stop_after is not None else math.inf
    use_threads(options.threads)
    device = choose_device(options.device)
    check_names("system", options.systems, list(SYSTEMS))
    experiments = list(EXPERIMENTS) if "all" in options.experiments else options.experiments
    _check_numbers(options)
    check_writable(options.out)
    packs = [unpack(file, options.out / "work") for file in options.packed or ()]
    there = datasets_in(options.data) if options.data else sorted({name for of_one in packs for name in of_one})
    datasets = options.datasets or there
    check_names("data set", datasets, there)
    clock = {"cpu": CPU, "cuda": CUDA}.get(device.type, device.type)
    minutes, of = (options.budget, clock) if options.steps is None else (options.steps, STEPS)
    runs = plan(experiments, datasets, systems=options.systems, seeds=options.seeds, minutes=minutes, clock=of)
    if clock == CUDA:
        torch.backends.cudnn.benchmark = True  # every step has images of one size
    done, became = load(options.out), {}
    for dataset in datasets:
        of_dataset = [run for run in runs if run.dataset == dataset]
        missing = [run for run in of_dataset if not done.has(run.name)]
        say(f"{dataset}: {len(of_dataset)} runs, {len(missing)} to do")
        if missing:
            divisor = divisor_of(dataset)
            work = Work(
                dataset, options.data, options.out, divisor, device, options.processes, options.threads, deadline
            )
            became |= perform_all(missing, work, say, reporter)
        if "contrast" in experiments:
            _look_into_encoders(options, dataset, of_dataset, device)
    _report(options, datasets, experiments)
    later = [name for name, end in became.items() if end == LATER]
    if later:
        say(f"{len(later)} runs are not done, the time was over; the same command goes on: {', '.join(later)}")
    failed = [name for name, end in became.items() if end not in (DONE, LATER)]
    if failed:
        raise CLMorphError(f"{len(failed)} runs failed, see above: {', '.join(failed)}")


def _report(options: argparse.Namespace, datasets: Sequence[str], experiments: Sequence[str]) -> None:
    if options.no_report or not load(options.out).runs:
        return
    from .views.page import write_report

    write_report(options.out, options.out / "report", datasets)
    say(f"{options.out / 'report' / 'report.html'}")
    if "contrast" in experiments:
        from .views.encoders import write_encoders

        for path in write_encoders(options.out):
            say(str(path))


def _look_into_encoders(
    options: argparse.Namespace, dataset: str, runs: Sequence[Planned], device: torch.device
) -> None:
    """Measures the encoders of the finished runs whose weights are in the results folder, and an untrained one's."""
    from .datasets import prepare_protocol
    from .encoders import measure_missing
    from .performing import prepared_folder

    folder = prepared_folder(options.out, dataset)
    if (folder / "volumes.safetensors").exists():
        protocol = prepare_protocol(dataset, options.data, folder, divisor_of(dataset), say)
        measure_missing(runs, protocol, options.out, device, say)


def divisor_of(dataset: str) -> tuple[int, ...]:
    """What the sides of a data set's volumes are multiples of, so that every system can be trained on them."""
    from Training.recipes import RECIPES
    from Training.recipes.regions import read_regions

    from .datasets import common_divisor, shared_settings
    from .runs import configuration

    recipe = shared_settings(dataset)
    names = {region.number: region.name for region in read_regions(RECIPES / dataset / "regions.csv")}
    everything = plan(["table1", "table3"], [dataset], minutes=1.0)
    return common_divisor([configuration(recipe, names, run) for run in everything if run.system != AFFINE])


def prepared_in(results: Path, dataset: str, data: Path) -> None:
    """Prepares a data set in a results folder; InputError where it is not in ``data``."""
    from .datasets import datasets_in, prepare_protocol
    from .performing import prepared_folder

    check_names("data set", [dataset], datasets_in(data))
    prepare_protocol(dataset, data, prepared_folder(results, dataset), divisor_of(dataset), say)


def _check_numbers(options: argparse.Namespace) -> None:
    for name, value in (
        ("budget", options.budget),
        ("stop-after", options.stop_after),
        ("processes", options.processes),
        ("steps", options.steps),
    ):
        if value is not None and not 0 < value < math.inf:
            what = name if name in ("processes", "steps") else "minutes"
            raise InputError(f"--{name} {value:g}: expected {what} above zero{' and finite' if value > 0 else ''}")


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
