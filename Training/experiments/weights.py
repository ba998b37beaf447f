"""``python -m Training.experiments.weights RUN=FILE …``: what the encoders of trainings from elsewhere have learned.

The measures and losses of weights that no run of the experiments has made, a recipe's for instance, are added to a
results folder under the name RUN, DATASET/SYSTEM/VARIANT/seedN/BUDGET; ``Training.experiments.report`` draws them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from CLMorphCore.bundles import checkpoint
from CLMorphCore.bundles.config import from_dict
from CLMorphCore.errors import CLMorphError, InputError
from CLMorphCore.io.manifest import read_manifest
from CLMorphCore.networks import build
from CLMorphCore.networks.blocks import Siamese
from CLMorphCore.training.batches import Dataset, load_dataset

from .encoders import ReadOut, add_measures, curves, measures, of_training, read, ready, shown_of

PARTS = 5  # of a run's name


def look(run: str, weights: Path, log: Path | None, data: Dataset, results: Path, *, initial: bool = False) -> None:
    """Measures one file of weights on volumes of its own grid; ``initial``: its network with fresh weights instead."""
    config = from_dict(checkpoint.load(weights)[1]["config"])
    torch.manual_seed(config.training.seed)
    network = build(config.network.name, config.network.settings)
    if not isinstance(network, Siamese):
        raise InputError(f"{weights} is of a {config.network.name}, which embeds no image", "give weights of CLMorph")
    device, voxels = torch.device("cpu"), ReadOut.of(data.validation)
    network = ready(network, None if initial else weights, data.train, device)
    found = measures(network, shown_of(data), config.data.spacing_mm, voxels, device)
    if log is not None and not initial:
        found |= of_training(config, log)
    add_measures(results, run, found, curves(run, log) if log and not initial else [])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what is not measured yet; exit code 0 or 2 (bad input)."""
    parser = argparse.ArgumentParser(prog="python -m Training.experiments.weights", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN=FILE[,LOG]", help="RUN of variant untrained: fresh weights")
    parser.add_argument("--data", type=Path, required=True, metavar="MANIFEST", help="as the training's")
    parser.add_argument("--results", type=Path, required=True, help="results folder to add to")
    options = parser.parse_args(arguments)
    try:
        data: Dataset | None = None
        done = {row.run for row in read(options.results)[0]}
        for text in options.runs:
            run, weights, log = _parsed(text)
            if run not in done:
                data = data or _volumes(weights, options.data)
                look(run, weights, log, data, options.results, initial="/untrained/" in run)
                print(run, flush=True)
        return 0
    except CLMorphError as error:
        print(f"weights: {error}", file=sys.stderr)
        return 2


def _parsed(text: str) -> tuple[str, Path, Path | None]:
    """RUN, FILE and LOG of an argument; the variant may have an equals sign itself."""
    run, _, files = text.rpartition("=")
    weights, _, log = files.partition(",")
    if run.count("/") != PARTS - 1 or not weights:
        raise InputError(f"{text!r} is no RUN=FILE", "expected DATASET/SYSTEM/VARIANT/seedN/BUDGET=weights.safetensors")
    return run, Path(weights), Path(log) if log else None


def _volumes(weights: Path, manifest: Path) -> Dataset:
    """The manifest's train and validation subjects on the grid that the weights were trained on."""
    config = from_dict(checkpoint.load(weights)[1]["config"])
    divisor = build(config.network.name, config.network.settings).divisor
    return load_dataset(config, read_manifest(manifest), divisor=divisor)


if __name__ == "__main__":
    sys.exit(main())
