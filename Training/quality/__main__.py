"""``python -m Training.quality fit|calibrate|measure --model M --data manifest.csv``: the score of a model's answers.

``fit`` writes MODEL/quality.toml from the subjects of the splits train and validation, each as it is and as it might
have been scanned, and prints how the fit does on each of them left out. ``calibrate`` keeps the fit that is there and
finds anew, from the labelled subjects of a split, by how much its expectation is off and how wide its intervals have to
be: for other scans than it was fitted to, too. ``measure`` prints how the fit that is there
does on a split: Spearman's correlation of expected and true Dice over structures and subjects, and how many of
deliberately corrupted scans are flagged (``CLMorphCore.quality.corruptions``).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from CLMorphCore.arguments import kinds
from CLMorphCore.bundles.model import Model, load_model
from CLMorphCore.devices import use_threads
from CLMorphCore.errors import InputError
from CLMorphCore.io.manifest import Subject, read_manifest
from CLMorphCore.matching import prepare
from CLMorphCore.quality.fitting import calibrated, fit, leave_one_out
from CLMorphCore.quality.observations import Observation, genuine_and_corrupted
from CLMorphCore.quality.score import read_quality, write_quality
from Training.command_line import exit_code, write_figures
from Training.provenance import provenance

from .measure import figures

USUAL = {"calibrate": "validation", "measure": "test"}  # splits


def main(arguments: list[str] | None = None) -> int:
    """Fits, calibrates or measures; returns 0, or 2 for bad input, which is told in one line."""
    options = _parser().parse_args(arguments)
    return exit_code("quality", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    use_threads(options.threads)
    model = load_model(options.model)
    if model.folder is None or not model.atlases:
        raise InputError(f"model {model.name} has no atlas of its own; expected one whose answers can be judged")
    quality, output = read_quality(model.folder), options.output or model.folder / "quality.toml"
    if quality is None and options.verb != "fit":
        raise InputError(f"model {model.name} has no quality.toml; make it with python -m Training.quality fit")
    observations = list(_observations(model, options))
    atlas = model.atlases[0].name
    if quality is None or options.verb == "fit":
        scored = leave_one_out(atlas, observations)
        write_quality(output, fit(atlas, observations))
    else:
        if options.verb == "calibrate":
            quality = calibrated(quality, observations)
            write_quality(output, quality)
        scored = [(quality, one) for one in observations]
    found = figures(scored) | provenance()
    print(json.dumps(found, indent=1))
    if options.figures is not None:
        write_figures(options.figures, found)


def _observations(model: Model, options: argparse.Namespace) -> Iterator[Observation]:
    """Of every chosen subject, each named once it is done."""
    usual = ("train", "validation") if options.verb == "fit" else (USUAL[options.verb],)
    splits = (options.split,) if options.split and options.verb != "fit" else usual
    subjects = _chosen([s for s in read_manifest(options.data) if s.split in splits], options.most)
    if not subjects:
        raise InputError(f"{options.data} has no subject with the split {' or '.join(splits)}; choose another --split")
    others = [s.image for s in read_manifest(options.others) if s.split in splits] if options.others else []
    prepared = prepare(model, model.atlases[:1])
    for n, subject in enumerate(subjects):
        corrupt = options.verb != "calibrate" and n % options.corrupt_every == 0
        yield from genuine_and_corrupted(model, prepared, subject, others, n, corrupt=corrupt)
        print(f"{n + 1}/{len(subjects)} {subject.name}", flush=True)


def _chosen(subjects: Sequence[Subject], most: int | None) -> list[Subject]:
    """About ``most`` subjects, evenly spaced, but every labelled one of validation: on those the intervals rest."""
    if not most:
        return list(subjects)
    held_out = [s for s in subjects if s.split == "validation" and s.labels is not None]
    others = [s for s in subjects if s not in held_out]
    return others[:: max(1, math.ceil(len(others) / max(1, most - len(held_out))))] + held_out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m Training.quality", description="Fits, calibrates or measures the quality score of a model."
    )
    add = parser.add_argument
    add("verb", choices=("fit", "calibrate", "measure"))
    add("--model", required=True, help="name or folder of a model")
    add("--data", required=True, type=Path, metavar="MANIFEST.csv")
    add("--others", type=Path, metavar="MANIFEST.csv", help="images of another organ, same splits")
    add("--split", help="of calibrate (default: validation) and measure (default: test)")
    add(
        "--most",
        type=kinds.above_zero,
        metavar="N",
        help="about so many subjects, evenly spaced; of fit with all of validation (default: all)",
    )
    add(
        "--corrupt-every",
        "--spoil-every",  # its former name
        type=kinds.above_zero,
        default=1,
        metavar="N",
        help="corrupt the scans of every Nth subject (default: 1)",
    )
    add("--threads", type=kinds.threads)
    add("-o", "--output", type=Path, help="of fit and calibrate (default: MODEL/quality.toml)")
    add("--figures", type=Path, metavar="JSON", help="file for what is printed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
