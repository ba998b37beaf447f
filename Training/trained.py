"""What trainings by ``clmorph train DATA -o RUN`` reached, side by side.

``python -m Training.trained "NAME=RUN" … -o Training/results/trained.md``: each RUN is a folder that such a call left;
nothing is trained or measured here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from CLMorphCore.atomic import atomic_write
from CLMorphCore.bundles.refinement import read_refinement
from CLMorphCore.errors import InputError
from CLMorphCore.evaluation import SUMMARY
from CLMorphCore.io.files import read_text
from CLMorphCore.training.plan import read_plan
from CLMorphCore.training.run import PLAN
from Training.command_line import exit_code
from Training.markdown import table

HEAD = """# What trainings reached

`clmorph train` on real scans, each line one folder that it left. *Minutes* are the network's, of processor time, as its
log has them, *pairs* the mean Dice of pairs of validation scans by the network alone: at its best, after what it began
with where it was trained on from another model; they are counted on the network's grid, which two plans may have
otherwise. *One scan* is on the scans' own grids: the network alone carries the labels of one training scan to those of
validation (`evaluate --effort fast --atlas … -o RUN/one-scan`). Validation and test are `evaluate` of the whole model
with its average atlas, refined where that is said. Made by `python -m Training.trained`; how each was called is in
`Training/README.md`.
"""
HEADS = (
    *("training", "minutes", "steps", "seed", "pairs", "one scan: affine", "Dice", "refined"),
    *("validation: affine", "Dice", "test: affine", "Dice"),
)
NONE = "–"


@dataclass(frozen=True)
class Trained:
    """The figures of one run; a Dice is None where there was nothing to measure it by.

    pairs   mean Dice of validation pairs by the network: of what it began with, if that was another model, and the best
    one     Dice (affine, of the network) of validation scans with the labels of one training scan
    splits  Dice (affine, of the model) of validation and test
    """

    minutes: float
    steps: int
    seed: int
    pairs: tuple[float, ...]
    one: tuple[float, float] | None
    refined: bool
    splits: tuple[tuple[float, float] | None, ...]


def read_trained(run: Path) -> Trained:
    """The figures in a run's folder; FileError where a part is missing or is none of a run."""
    log = [json.loads(line) for line in read_text(run / "log.jsonl", "the log of a training").splitlines()]
    steps = [line for line in log if "loss" in line]
    if not steps:
        raise InputError(f"{run / 'log.jsonl'} has no step of a training")
    pairs = {line["step"]: line["validation_dice"] for line in log if "validation_dice" in line}
    return Trained(
        steps[-1]["seconds"] / 60,
        steps[-1]["step"],
        read_plan(run / PLAN).config.training.seed,
        (*([pairs[0]] if 0 in pairs else []), *([max(pairs.values())] if pairs else [])),
        _measured(run / "one-scan" / SUMMARY),
        read_refinement(run / "model").on,
        tuple(_measured(run / split / SUMMARY) for split in ("validation", "test")),
    )


def _measured(path: Path) -> tuple[float, float] | None:
    if not path.exists():
        return None
    summary: dict[str, Any] = json.loads(read_text(path, "the figures of an evaluation"))
    return summary["dice_affine"], summary["dice"]


def line(name: str, one: Trained) -> tuple[str, ...]:
    """The cells of a run."""
    pairs = " → ".join(map(_dice, one.pairs)) or NONE
    steps = f"{one.minutes:.1f}", str(one.steps), str(one.seed)
    splits = [cell for split in one.splits for cell in _cells(split)]
    return (name, *steps, pairs, *_cells(one.one), "yes" if one.refined else "no", *splits)


def _cells(measured: tuple[float, float] | None) -> tuple[str, ...]:
    return (NONE, NONE) if measured is None else tuple(map(_dice, measured))


def _dice(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def main(arguments: list[str] | None = None) -> int:
    """Writes the table; returns 0, or 2 for bad input, which is told in one line."""
    options = _parser().parse_args(arguments)
    return exit_code("trained", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    lines = _lines_of(options.output)
    for given in options.runs:
        name, _, run = given.rpartition("=")
        if not name:
            raise InputError(f"{given}: expected NAME=RUN, a name for the table and the folder of a training")
        lines = _with(lines, line(name, read_trained(Path(run))))
    with atomic_write(options.output) as temporary:
        temporary.write_text(f"{HEAD}\n{table(HEADS, lines)}\n", encoding="utf-8")


def _lines_of(path: Path) -> list[tuple[str, ...]]:
    """The lines of a table that was made before; InputError where a file is none."""
    if not path.exists():
        return []
    rows = [
        tuple(cell.strip() for cell in text.strip("|").split("|"))
        for text in read_text(path, "a table of trainings").splitlines()
        if text.startswith("| ")
    ]
    if not rows or rows[0] != HEADS:
        raise InputError(f"{path} has other columns; expected a table of python -m Training.trained, or no such file")
    return rows[1:]


def _with(lines: Sequence[tuple[str, ...]], new: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The lines with a new one in place of that of its name, or below those of its data ("brain, …")."""
    data = new[0].partition(",")[0]
    same = [n for n, old in enumerate(lines) if old[0] == new[0]]
    related = [n + 1 for n, old in enumerate(lines) if old[0].partition(",")[0] == data]
    at = same[0] if same else max(related, default=len(lines))
    return [*lines[:at], new, *lines[at + len(same) :]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m Training.trained", description="Trainings side by side.")
    add = parser.add_argument
    add("runs", nargs="+", metavar="NAME=RUN", help="folder of clmorph train DATA -o RUN, and what to call it")
    add("-o", "--output", type=Path, required=True, metavar="FILE.md", help="lines of other trainings in it stay")
    return parser


if __name__ == "__main__":
    sys.exit(main())
