"""``python -m Training.benchmarks.speed``: seconds and memory of a model's network, refinement and training step.

On made-up images of one size, each in a process of its own; the first call, which chooses kernels, is told apart.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from CLMorphCore.arguments import kinds
from CLMorphCore.atomic import check_writable
from CLMorphCore.bundles.config import Config
from CLMorphCore.bundles.model import Model, load_model
from CLMorphCore.devices import choose_device, use_threads
from CLMorphCore.errors import InputError
from CLMorphCore.instance_optimization import InstanceOptimization, optimize
from CLMorphCore.spatial import gaussian
from CLMorphCore.training.batches import Dataset, Volume
from CLMorphCore.training.loop import fit
from Training.command_line import exit_code, write_figures
from Training.provenance import provenance

from .runners.runner import peak_mb

Measured = dict[str, float]


def main(arguments: list[str] | None = None) -> int:
    """Prints what was measured and, with --out, writes it as JSON; returns 0, or 2 for bad input."""
    options = _parser().parse_args(arguments)
    return exit_code("speed", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    device, model = choose_device(options.device), load_model(options.model)
    if model.folder is None:
        raise InputError(f"{options.model} has no weights to train; expected a model with weights")
    divisor = model.network.divisor[::-1]
    if any(side % unit for side, unit in zip(options.size, divisor, strict=True)):
        raise InputError(
            f"--size {' '.join(map(str, options.size))}: expected multiples of "
            f"{' '.join(map(str, divisor))}, which the network of {options.model} halves"
        )
    if options.out:
        check_writable(options.out.parent)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    figures: dict[str, Any] = {
        **provenance(),
        "device": name,
        "torch": torch.__version__,
        "model": options.model,
        "size": options.size,
        "threads": options.threads,
    }
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as alone:
        for what in MEASUREMENTS:
            figures[what] = alone.submit(_measured, what, options, str(device)).result()
            print(f"{what}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures[what].items()), flush=True)
    if options.out:
        write_figures(options.out, figures)


def network(model: Model, images: Sequence[Tensor], repeats: int) -> Measured:
    """Both directions of a pair, from two images on the device to two fields there."""
    fixed, moving = (image.to(model.device) for image in images)

    @torch.inference_mode()
    def call() -> None:
        model.network(fixed, moving)

    first, *others = [_seconds(call, model.device) for _ in range(1 + repeats)]
    return {"first_s": first, "seconds": statistics.median(others)}


def refinement(model: Model, images: Sequence[Tensor], repeats: int) -> Measured:
    """As many steps as ``--refine 50`` takes at most, on images of this size, from zero."""
    fixed, moving = (image.to(model.device) for image in images)
    still = fixed.new_zeros(1, 3, *fixed.shape[2:])
    steps = []

    @torch.inference_mode()
    def call() -> None:
        steps.append(optimize(fixed, moving, still, InstanceOptimization(50)).steps)

    first, second = (_seconds(call, model.device) for _ in range(2))
    return {"first_s": first, "seconds": second, "steps": steps[-1]}


def training(model: Model, images: Sequence[Tensor], repeats: int) -> Measured:
    """A step of one pair, both directions, whole images: drawing, network, loss, gradients, weights.

    With the model's own losses, but for the contrast of two pairs.
    """
    config, steps = of_one_pair(model.config, images[0].shape[2:]), 5 + repeats
    config = replace(config, training=replace(config.training, steps=steps, minutes=0.0, checkpoint_every=steps))
    volumes = [Volume(f"made up {n}", image, None) for n, image in enumerate(images)]
    with tempfile.TemporaryDirectory() as folder:
        fit(config, Dataset(None, volumes, []), Path(folder), device=torch.device(model.device))
        lines = (Path(folder) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    spent = [json.loads(line)["seconds"] for line in lines]
    return {"first_s": spent[0], "seconds": (spent[-1] - spent[4]) / repeats}


def of_one_pair(config: Config, shape: Sequence[int]) -> Config:
    """Steps of one pair of whole images (z, y, x), without what contrasts two."""
    return replace(
        config,
        loss=replace(config.loss, contrast=0.0),
        augment=replace(config.augment, crop=tuple(shape)),
        training=replace(config.training, batch_size=1, moving="random"),
    )


MEASUREMENTS: dict[str, Callable[[Model, Sequence[Tensor], int], Measured]] = {
    "network": network,
    "refinement": refinement,
    "training": training,
}


def made_up(size: Sequence[int], seed: int) -> Tensor:
    """A smooth random image (1, 1, z, y, x) from 0 to 1."""
    noise = torch.rand(1, 1, *reversed(size), generator=torch.Generator().manual_seed(seed))
    smooth = gaussian(noise, (3.0, 3.0, 3.0))
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def _measured(what: str, options: argparse.Namespace, device: str) -> Measured:
    use_threads(options.threads)
    model = load_model(options.model, device=device)
    images = [made_up(options.size, seed) for seed in range(2)]
    measured = MEASUREMENTS[what](model, images, options.repeats)
    on_gpu = device.startswith("cuda")
    return measured | {"peak_mb": torch.cuda.max_memory_reserved(device) / 1e6 if on_gpu else peak_mb()}


def _seconds(call: Callable[[], None], device: str) -> float:
    began = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m Training.benchmarks.speed",
        description="Seconds and peak memory of a model's network, refinement and training step.",
    )
    add = parser.add_argument
    add("--model", default="brain", help="a shipped model, or a model's folder (default: brain)")
    add(
        "--size",
        type=kinds.above_zero,
        nargs=3,
        default=(160, 192, 160),
        metavar=("X", "Y", "Z"),
        help="voxels; the network's divisor must divide them (default: 160 192 160, a brain at 1 mm)",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    add("--threads", type=kinds.threads, help="of the CPU (default: all)")
    add("--repeats", type=kinds.above_zero, default=10, help="calls or steps that are averaged (default: 10)")
    add("--out", type=Path, metavar="JSON", help="file for the figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
