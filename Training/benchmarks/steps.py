"""``python -m Training.benchmarks.steps``: where the time of a training step goes, for the shipped models.

Of one pair of made-up images on the grid of the model's atlas: processor time on a CPU, which other programs do not
lengthen, and the clock on a GPU. Shares compare parts of one run; seconds are this machine's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from CLMorphCore.arguments import kinds
from CLMorphCore.atomic import atomic_write
from CLMorphCore.bundles.model import load_model
from CLMorphCore.devices import choose_device, use_threads
from CLMorphCore.errors import InputError
from CLMorphCore.network_input import network_grid
from CLMorphCore.networks import TrainingPrediction
from CLMorphCore.training.batches import Dataset, Volume, draw_batch
from CLMorphCore.training.learner import Learner, learner_of, mixed_precision, predicted
from CLMorphCore.training.objective import loss_terms, weighted
from Training import markdown
from Training.command_line import exit_code
from Training.provenance import provenance

from .speed import made_up, of_one_pair

T = TypeVar("T")
PARTS = ("drawing the pair", "network", "losses", "gradients of the losses", "gradients of the network", "weights")
HEAD = """# Where the time of a training step goes

Printed by `python -m Training.benchmarks.steps`: one pair on the grid of the model's atlas, by the model's own settings
but for the contrast of two pairs. Seconds are of processor time by thread on a CPU, by the clock on a GPU; here
{about}.
"""


def main(arguments: list[str] | None = None) -> int:
    """Prints the table and, with -o, writes it; returns 0, or 2 for bad input."""
    options = _parser().parse_args(arguments)
    return exit_code("steps", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    use_threads(options.threads)
    device, lines = choose_device(options.device), []
    for name in options.models:
        model = load_model(name, device)
        if model.folder is None or not model.atlases:
            raise InputError(f"{name} has no weights, or no atlas; expected a model that was trained")
        data, divisor = model.config.data, model.network.divisor
        grid = network_grid(model.atlases[0].image, data.spacing_mm, margin_voxels=data.margin_voxels, divisor=divisor)
        config = of_one_pair(model.config, grid.shape)
        images = [made_up(grid.shape[::-1], seed) for seed in range(2)]
        spent = step_seconds(learner_of(config, model.network.train(), device), images, options.repeats)
        lines.append(line_of(model.name, grid.shape, spent))
        print(f"{model.name}: {sum(spent.values()):.3g} s", flush=True)
    table = markdown.table(("model", "grid (x, y, z)", "seconds", *PARTS), lines)
    made = provenance()
    about = f"on {torch.cuda.get_device_name(device) if device.type == 'cuda' else made['machine']}"
    print(table)
    if options.output:
        with atomic_write(options.output) as temporary:
            temporary.write_text(f"{HEAD.format(about=about)}\n{table}\n", encoding="utf-8")


def step_seconds(learner: Learner, images: Sequence[Tensor], repeats: int) -> dict[str, float]:
    """Median seconds of each of PARTS over ``repeats`` steps, after one that chooses kernels and is not counted."""
    data = Dataset(None, [Volume(str(n), image, None) for n, image in enumerate(images)], [])
    every = [_step(learner, data, step) for step in range(1 + repeats)][1:]
    return {part: statistics.median(spent[part] for spent in every) for part in PARTS}


def _step(learner: Learner, data: Dataset, step: int) -> dict[str, float]:
    """What ``Learner.step`` does, in pieces: gradients first of what the losses read, then of the weights."""
    config, network, device, spent = learner.config, learner.network, learner.device, {}

    def timed(part: str, call: Callable[[], T]) -> T:
        began = _clock(device)
        found = call()
        spent[part] = _clock(device) - began
        return found

    def forward() -> TrainingPrediction:
        with mixed_precision(device):
            return predicted(network, batch)

    batch = timed(PARTS[0], lambda: draw_batch(data, config, network, step, device))
    whole = timed(PARTS[1], forward)
    # Cut off from the network, so that the gradients of the losses end there.
    maps = [whole.displacement] if whole.inverse is None else [whole.displacement, whole.inverse]
    ends = [one.detach().requires_grad_() for one in (*maps, *whole.coarse)]
    inverse = None if whole.inverse is None else ends[1]
    cut = replace(whole, displacement=ends[0], inverse=inverse, coarse=tuple(ends[len(maps) :]))
    total = timed(PARTS[2], lambda: weighted(config.loss, loss_terms(config.loss, batch, cut)))
    timed(PARTS[3], total.backward)
    pairs = [(map_, end.grad) for map_, end in zip((*maps, *whole.coarse), ends, strict=True) if end.grad is not None]
    learner.optimizer.zero_grad(set_to_none=True)
    timed(PARTS[4], lambda: torch.autograd.backward([m for m, _ in pairs], [slope for _, slope in pairs]))
    timed(PARTS[5], learner.optimizer.step)
    return spent


def _clock(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time() / torch.get_num_threads()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def line_of(name: str, shape: Sequence[int], spent: Mapping[str, float]) -> list[str]:
    """A line of the table: the step's seconds, and each part's share of them."""
    total = sum(spent.values())
    shares = [f"{100 * spent[part] / total:.0f} %" for part in PARTS]
    return [name, " × ".join(map(str, reversed(shape))), f"{total:.2g}", *shares]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m Training.benchmarks.steps", description="Where the time of a training step goes, as a table."
    )
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help="shipped models, or models' folders")
    add("--device", default="cpu", help="auto, cpu, cuda, cuda:N or mps (default: cpu)")
    add("--threads", type=kinds.threads, default=1, help="of the CPU (default: 1)")
    add("--repeats", type=kinds.above_zero, default=5, help="steps, of which the median counts (default: 5)")
    add("-o", "--output", type=Path, metavar="FILE.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
