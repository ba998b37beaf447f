"""What a step of a training costs on the device at hand: seconds, measured by a training, and memory."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..bundles.config import Config
from ..devices import memory_gb
from ..networks import build
from .batches import Dataset, Volume
from .loop import fit

CPU_VOXELS = 150_000  # of the measured volume; a step's time grows with the voxels, so that the smaller one tells
GPU_VOXELS = 2_000_000  # there smaller ones leave it idle
STEPS = 3  # the first of which sets up what the others use again
KILOBYTES_PER_VOXEL = {"cuda": 1.1, "cpu": 2.0}  # of a pair, at 160 × 192 × 160; bfloat16 there, float32 here


@dataclass(frozen=True)
class StepCost:
    """Seconds and memory of a training step by the voxels of a batch's fixed images; the device's memory in all."""

    seconds_per_voxel: float
    kilobytes_per_voxel: float
    memory_gb: float

    def seconds(self, voxels: int) -> float:
        """Of one step."""
        return self.seconds_per_voxel * voxels

    def gigabytes(self, voxels: int) -> float:
        """At the height of one step."""
        return self.kilobytes_per_voxel * voxels / 1e6


def measure_step(config: Config, device: torch.device) -> StepCost:
    """Trains STEPS steps on noise and looks at the clock that trainings go by."""
    divisor = build(config.network.name, config.network.settings).divisor
    wanted = CPU_VOXELS if device.type == "cpu" else GPU_VOXELS
    length = round(wanted ** (1 / 3))
    z, y, x = (max(2 * unit, round(length / unit) * unit) for unit in divisor)
    rng = torch.Generator().manual_seed(0)
    volumes = [Volume(str(n), torch.randn((1, 1, z, y, x), generator=rng), None) for n in range(2)]
    short = replace(config.training, steps=STEPS, minutes=0.0, batch_size=1, moving="random")
    config = replace(config, training=short, loss=replace(config.loss, contrast=0.0))
    with tempfile.TemporaryDirectory(prefix="clmorph-step-") as folder:
        fit(config, Dataset(None, volumes, []), Path(folder), device=device)
        lines = (Path(folder) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    seconds = [json.loads(line)["seconds"] for line in lines]
    step = max((seconds[-1] - seconds[0]) / (STEPS - 1), 1e-3)
    kilobytes = KILOBYTES_PER_VOXEL.get(device.type, KILOBYTES_PER_VOXEL["cpu"])
    return StepCost(step / math.prod((z, y, x)), kilobytes, memory_gb(device))
