"""``python -m Training.benchmarks.sides --data MANIFEST.csv``: are both hippocampi found in whole brains?

The union of a side's parts is held against the manual hippocampus (labels 17 and 53 of FreeSurfer),
which another protocol drew: it goes farther back and includes the white matter around it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CLMorphCore.arguments import kinds
from CLMorphCore.bundles.model import load_model
from CLMorphCore.devices import use_threads
from CLMorphCore.errors import InputError
from CLMorphCore.extraction.sides import Sides, locator_of, segment_sides
from CLMorphCore.io.images import read_image, read_labels
from CLMorphCore.io.manifest import read_manifest
from CLMorphCore.metrics import dice_per_label
from Training.command_line import exit_code, write_figures
from Training.provenance import provenance


def overlaps(found: Sides, manual: sitk.Image, wanted: tuple[int, int]) -> list[float]:
    """Dice of the union of each side's labels with the manual structure."""
    labels = sitk.GetArrayFromImage(found.labels)
    half = len(found.structures) // 2
    united = np.zeros(labels.shape, np.int32)
    for n, value in enumerate(wanted):
        united[np.isin(labels, [s.value for s in found.structures[n * half : (n + 1) * half]])] = value
    image = sitk.GetImageFromArray(united)
    image.CopyInformation(manual)
    dice = dice_per_label(image, sitk.Cast(manual, sitk.sitkInt32), wanted)
    return [dice[value] for value in wanted]


def main(arguments: list[str] | None = None) -> int:
    """Prints the overlaps; returns 0, or 2 for bad input, which is told in one line."""
    options = _parser().parse_args(arguments)
    return exit_code("sides", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    use_threads(options.threads)
    model = load_model(options.model)
    locator = locator_of(model)
    if locator is None:
        raise InputError(f"model {model.name} has no locator; expected a model of both sides")
    found: dict[str, object] = {}
    every: list[float] = []
    subjects = [s for s in read_manifest(options.data) if s.split == options.split and s.labels is not None]
    for subject in subjects:
        assert subject.labels is not None
        both = segment_sides(read_image(subject.image), model, source=str(subject.image))
        dice = overlaps(both, read_labels(subject.labels), locator.structures)
        every += dice
        found[subject.name] = {"left": round(dice[0], 4), "right": round(dice[1], 4)}
        print(subject.name, found[subject.name], both.report.quality.verdict, flush=True)
    if not every:
        raise InputError(f"{options.data} has no labelled subject with the split {options.split}")
    found["mean"], found["least"] = round(float(np.mean(every)), 4), round(min(every), 4)
    print(json.dumps({"mean": found["mean"], "least": found["least"]}))
    if options.figures is not None:
        write_figures(options.figures, found | provenance())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m Training.benchmarks.sides", description="Both hippocampi in whole brains against manual ones."
    )
    add = parser.add_argument
    add("--data", required=True, type=Path, metavar="MANIFEST.csv", help="whole brains with FreeSurfer's labels")
    add("--model", default="hippocampus")
    add("--split", default="test")
    add("--threads", type=kinds.threads)
    add("--figures", type=Path, metavar="JSON", help="file for what is found")
    return parser


if __name__ == "__main__":
    sys.exit(main())
