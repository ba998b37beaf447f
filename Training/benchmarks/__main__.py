"""``python -m Training.benchmarks --data DATA --out OUT``: every pair, every system in turn; the table and its picture.

OUT/results.csv has a row for each pair and system. What is there is not run again, so that an interrupted benchmark
goes on when it is called again. DATA is laid out as ``Training/README.md`` says.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from CLMorphCore.arguments import kinds
from CLMorphCore.devices import use_threads
from CLMorphCore.errors import InputError
from Training.command_line import exit_code

from .pairs import ATLASES, RECIPE_OF, Pair, pairs_of, prepare
from .results import OK, PLANNED, BenchmarkRow, ResultsFile
from .running import RunSettings, planned_row, run
from .summary import save_summary
from .tools import TOOLS, Tool, chosen_tools


def main(arguments: list[str] | None = None) -> int:
    """Runs what is missing and writes OUT/summary.md and OUT/DATASET.png; returns 0, or 2 for bad input."""
    options = _parser().parse_args(arguments)
    return exit_code("benchmarks", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    datasets = options.dataset or list(RECIPE_OF)
    if options.model and len(datasets) != 1:
        raise InputError("--model goes with one data set; add --dataset NAME")
    words = {name: shlex.split(text) for name, text in _named(options.arguments, "--arguments").items()}
    tools = chosen_tools(options.system, _named(options.model, "--model"), words)
    run_settings = RunSettings(
        {tool.package: sys.executable for tool in TOOLS.values()} | _pythons(options.python),
        options.threads,
        options.limit_s,
    )
    use_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    results = ResultsFile(options.out / "results.csv")
    planned: list[BenchmarkRow] = []
    for dataset in datasets:
        for pair in pairs_of(dataset, options.data, options.split, options.atlas, options.out)[: options.pairs]:
            planned += run_pair(pair, tools, results, run_settings, options.out)
    wanted = {row.key for row in planned}
    print(save_summary([row for key, row in results.rows.items() if key in wanted], options.out))


def run_pair(
    pair: Pair, tools: Mapping[str, Tool], results: ResultsFile, run_settings: RunSettings, out: Path
) -> list[BenchmarkRow]:
    """Runs each tool that has no row on the pair yet; returns the planned rows of all."""
    planned = [planned_row(name, tool, pair, run_settings.threads) for name, tool in tools.items()]
    missing = [row for row in planned if not results.done(row.key)]
    if not missing:
        return planned
    with tempfile.TemporaryDirectory(dir=out, prefix=".pair-") as folder:
        prepared = prepare(pair, Path(folder))
        for row in missing:
            if row.status == PLANNED:
                with tempfile.TemporaryDirectory(dir=folder) as own:
                    row = run(row, tools[row.system], prepared, Path(own), run_settings)
            results.add(row)
            print(_line(row), file=sys.stderr, flush=True)
    return planned


def _line(row: BenchmarkRow) -> str:
    said = (
        f"Dice {row.dice:.3f} (affine {row.dice_affine:.3f}), {row.seconds:.1f} s"
        if row.status == OK
        else f"{row.status}: {row.reason}"
    )
    return f"{row.dataset} {row.fixed} <- {row.moving}  {row.system}: {said}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m Training.benchmarks", description="CLMorph and its peers on the same pairs, files and threads."
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DATA", help="folder of the data sets, see Training/README.md")
    add("--out", type=Path, required=True, metavar="OUT", help="folder of results.csv, summary.md and the pictures")
    add("--dataset", action="append", choices=tuple(RECIPE_OF), help="may be repeated (default: all)")
    add("--split", choices=("validation", "test", "train"), default="test", help="(default: test)")
    add(
        "--atlas",
        default="typical",
        metavar="|".join(ATLASES) + "|FOLDER",
        help="the moving image where a patient "
        "has only one: the most typical training subject, the shipped average, a random training subject for each, "
        "or an atlas' folder (default: typical)",
    )
    add("--pairs", type=kinds.above_zero, metavar="N", help="only the first N pairs of each data set")
    add("--system", action="append", default=[], help=f"may be repeated (default: all of {', '.join(TOOLS)})")
    add("--threads", type=kinds.threads, default=2, help="of every system (default: 2)")
    add("--limit-s", type=float, default=3600.0, metavar="S", help="a run that takes longer is ended (default: 3600)")
    add(
        "--python",
        action="append",
        default=[],
        metavar="PACKAGE=PATH",
        help="the Python that has a peer "
        f"({', '.join(sorted({tool.package for tool in TOOLS.values()}))}); default: this one",
    )
    add("--model", action="append", default=[], metavar="SYSTEM=FOLDER", help="the model of a system of CLMorph's")
    add(
        "--arguments",
        action="append",
        default=[],
        metavar="SYSTEM=WORDS",
        help="options of clmorph register, for instance clmorph+refine='--refine 100'",
    )
    return parser


def _named(pairs: list[str], option: str) -> dict[str, str]:
    """NAME=VALUE as a dictionary."""
    for text in pairs:
        if "=" not in text:
            raise InputError(f"{option} {text}: expected NAME=VALUE")
    return dict(text.split("=", 1) for text in pairs)


def _pythons(pairs: list[str]) -> dict[str, str]:
    given = _named(pairs, "--python")
    known = {tool.package for tool in TOOLS.values()}
    if unknown := given.keys() - known:
        raise InputError(f"--python {sorted(unknown)[0]}: expected one of {', '.join(sorted(known))}")
    return given


if __name__ == "__main__":
    sys.exit(main())
