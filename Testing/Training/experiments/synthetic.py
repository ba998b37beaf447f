"""Results folders made of known numbers, for the tests of the views."""

import json
import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from Training.experiments.catalogue import ABLATION, AS_PUBLISHED, WEIGHT_GRID
from Training.experiments.store import BY_PRODUCT, SEGMENTATION, DeformationRow, Example, RegionRow, Results, Run, add

UNTRAINED = ("affine", "syn", "lddmm")


def run_of(system, variant="paper", *, dataset="hippocampus", seed=0, budget=5.0, train_steps=100):
    steps = 0 if system in UNTRAINED else train_steps
    minutes = budget if steps else 0.0
    return Run(
        dataset,
        system,
        variant,
        seed,
        minutes,
        "{}",
        "abc1234",
        "2025-01-02T03:04:05",
        "cpu",
        1,
        1000,
        steps,
        60 * minutes,
        0.5,
        json.dumps({"contrast": 1.0986}) if steps else "{}",
    )


def rows_of(run, dice, *, direction=SEGMENTATION, names=("Anterior", "Posterior"), hd=4.0):
    """Rows of dice[subject][region]; distances grow as Dice falls."""
    return [
        RegionRow(
            run.name,
            direction,
            f"subject{s}",
            r + 1,
            names[r],
            "ok",
            float(value),
            hd + 10 * (1 - value),
            3 + 5 * (1 - value),
            2 * (1 - value),
        )
        for s, values in enumerate(dice)
        for r, value in enumerate(values)
    ]


def deformations_of(run, subjects, direction=SEGMENTATION):
    return [DeformationRow(run.name, direction, f"subject{s}", 0.001 * s, 0.1, math.nan, 0.5) for s in range(subjects)]


def results_of(*parts):
    """Results in memory of (run, region rows, deformation rows)."""
    runs, regions, deformations = zip(*parts, strict=True)
    return Results(
        Path("nowhere"),
        runs,
        tuple(row for rows in regions for row in rows),
        tuple(row for rows in deformations for row in rows),
    )


def measured(system, dice, variant="paper", **where):
    run = run_of(system, variant, **where)
    return run, rows_of(run, dice), deformations_of(run, len(dice))


def add_run(folder, system, dice, variant="paper", example=None, **where):
    """One run with these Dice values in the segmentation direction, lower ones in the other."""
    run = run_of(system, variant, **where)
    rows = rows_of(run, dice)
    if system != "unet":
        rows += rows_of(run, np.array(dice) - 0.02, direction=BY_PRODUCT)
    return add(folder, run, rows, [] if system == "unet" else deformations_of(run, len(dice)), example)


def whole(folder, dataset="hippocampus", *, subjects=12, names=("Anterior", "Posterior"), pictures=True, size=48):
    """Every system, every part of the ablation over three seeds and every weight, with noise around known means."""
    random = np.random.default_rng(0)
    hard = random.normal(0, 0.03, (subjects, 1))

    def put(system, variant, level, seed=0, picture=False):
        run = run_of(system, variant, dataset=dataset, seed=seed)
        dice = np.clip(level + hard + random.normal(0, 0.012, (subjects, len(names))), 0, 1)
        rows = rows_of(run, dice, names=names)
        rows += [] if system == "unet" else rows_of(run, dice - 0.02, direction=BY_PRODUCT, names=names)
        found = None
        if picture:
            found = example(
                size, regions=len(names), error=(0.95 - level) * 20, deforms=system != "unet", seed=len(system)
            )
        add(folder, run, rows, [] if system == "unet" else deformations_of(run, subjects), found)

    for place, (system, variant) in enumerate(AS_PUBLISHED):
        put(system, variant, 0.55 + 0.025 * place, picture=pictures)
    for place, (system, variant) in enumerate(ABLATION):
        for seed in range(3):
            put(system, variant, 0.74 + 0.01 * place + 0.004 * seed, seed, picture=pictures and seed == 0)
    for (alpha, beta), (system, variant) in WEIGHT_GRID.items():
        put(system, variant, 0.7 - 0.02 * abs(math.log10(alpha)) - 0.01 * abs(math.log10(beta) + 2))


def example(size=48, *, regions=2, error=2.0, deforms=True, seed=0):
    """An egg in a textured box with regions along its length; what is found is shifted by `error` voxels."""
    random = np.random.default_rng(1)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in (size * 3 // 4, size, size * 5 // 6)], indexing="ij")
    inside = (z / 0.6) ** 2 + (y / 0.8) ** 2 + (x / 0.5) ** 2 < 1
    expected = np.where(inside, 1 + np.clip(((y + 0.8) / 1.6 * regions).astype(int), 0, regions - 1), 0)
    values = 100 * inside + 30 * np.sin(6 * y + 4 * z) + random.normal(0, 8, z.shape)
    shift = tuple(np.random.default_rng(seed).permutation([round(error), round(error / 2), 0]).tolist())
    image, labels, found, warped = (
        sitk.GetImageFromArray(volume)
        for volume in (
            values.astype(np.float32),
            expected.astype(np.uint8),
            np.roll(expected, shift, (0, 1, 2)).astype(np.uint8),
            np.roll(values, shift, (0, 1, 2)).astype(np.float32),
        )
    )
    if not deforms:
        return Example.cut("subject0", image, labels, found)
    waves = np.stack([error * np.sin(3 * y + seed) * (1 - x**2), error * np.cos(4 * x) * (1 - y**2), 0 * z], axis=-1)
    field = sitk.GetImageFromArray(waves * (1 - z**2)[..., None])
    transform = sitk.DisplacementFieldTransform(field)
    return Example.cut("subject0", image, labels, found, warped=warped, transform=transform)
