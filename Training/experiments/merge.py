"""``python -m Training.experiments.merge FROM INTO``: the runs of one results folder added to another's, each once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from CLMorphCore.atomic import check_writable
from CLMorphCore.errors import CLMorphError, InputError

from . import encoders
from .store import add, load


@dataclass(frozen=True)
class Merged:
    """Names of the runs that were added, that were there already, and that were there as another training."""

    added: tuple[str, ...]
    known: tuple[str, ...]
    differing: tuple[str, ...]


def merge(source: Path, target: Path) -> Merged:
    """Adds the runs of ``source`` that ``target`` lacks, with their rows and examples; InputError where there are none.

    A run is known by its name: data set, system, variant, seed, budget. One that is there already stays as it is, also
    where it is another training by the same name.
    """
    found = load(source)
    if not found.runs:
        raise InputError(f"{source} holds no finished run; expected a results folder with runs.csv")
    check_writable(target)
    there = {run.name: run for run in load(target).runs}
    added, known, differing = [], [], []
    for run in found.runs:
        if run.name in there:
            (known if repr(run) == repr(there[run.name]) else differing).append(run.name)
            continue
        rows = [row for row in found.regions if row.run == run.name]
        add(target, run, rows, [row for row in found.deformations if row.run == run.name], found.example(run.name))
        added.append(run.name)
    kept = {run.name for run in load(target).runs} - set(differing)
    encoders.merge(source, target, kept)
    return Merged(tuple(added), tuple(known), tuple(differing))


def main(arguments: Sequence[str] | None = None) -> int:
    """Merges and says what was added; exit code 0 or 2 (bad input)."""
    parser = argparse.ArgumentParser(prog="python -m Training.experiments.merge", description=__doc__)
    parser.add_argument("source", type=Path, metavar="FROM", help="results folder to read")
    parser.add_argument("target", type=Path, metavar="INTO", help="results folder to add to")
    options = parser.parse_args(arguments)
    try:
        merged = merge(options.source, options.target)
    except CLMorphError as error:
        print(f"merge: {error}", file=sys.stderr)
        return 2
    print(f"{len(merged.added)} runs added to {options.target}, {len(merged.known)} were there already")
    for name in merged.differing:
        print(f"not added: {options.target} has another training of {name}, which stays")
    return 0


if __name__ == "__main__":
    sys.exit(main())
