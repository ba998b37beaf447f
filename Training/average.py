"""Averages the weights of two trainings: ``python -m Training.average FIRST SECOND --share S -o FILE``.

w = (1 − S) · first + S · second, for a network and what it became when it was trained on: between the two lies one that
has most of what either can do (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from torch import Tensor

from CLMorphCore.bundles import checkpoint
from CLMorphCore.errors import InputError
from Training.command_line import exit_code


def average(first: dict[str, Tensor], second: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 − share) · first + share · second; InputError where these are not weights of one network."""
    if {name: w.shape for name, w in first.items()} != {name: w.shape for name, w in second.items()}:
        raise InputError("the two files hold weights of different networks; expected two trainings of one network")
    if not 0 <= share <= 1:
        raise InputError(f"--share is {share:g}; expected a number from 0 to 1")
    return {name: (w + share * (second[name] - w)).to(w.dtype) for name, w in first.items()}


def main(arguments: list[str] | None = None) -> int:
    """Averages; returns 0, or 2 for bad input, which is told in one line."""
    options = _parser().parse_args(arguments)

    def run() -> None:
        (first, _), (second, header) = (checkpoint.load(path) for path in (options.first, options.second))
        checkpoint.save(options.output, average(first, second, options.share), header | {"share": options.share})

    return exit_code("average", run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m Training.average", description="Averages two files of weights.")
    add = parser.add_argument
    add("first", type=Path, metavar="FIRST", help="weights.safetensors of the first training")
    add("second", type=Path, metavar="SECOND", help="of the second one, whose settings the result carries")
    add("--share", type=float, required=True, metavar="S", help="of the second, 0 to 1")
    add("-o", "--output", type=Path, required=True, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
