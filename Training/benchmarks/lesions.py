"""``python -m Training.benchmarks.lesions --data manifest.csv``: what a lesion does, with and without a mask.

A bright ball is put into the white matter of the first validation subject. Its segmentation is held against that of the
same scan without the ball: how far the map is off in the ball and around it, and the labels far away from it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CLMorphCore.arguments import kinds
from CLMorphCore.bundles.model import load_model
from CLMorphCore.devices import use_threads
from CLMorphCore.geometry import Grid, displacement_field, placed
from CLMorphCore.instance_optimization import InstanceOptimization
from CLMorphCore.io.images import read_image, read_labels
from CLMorphCore.io.manifest import read_manifest
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.segmentation import Segmentation, prepare_atlases, segment
from Training.command_line import exit_code, write_figures
from Training.provenance import provenance

BALL_ML = 20.0
AROUND_MM, FAR_MM = 10.0, 20.0  # of the ball's surface
MIN_VOXELS, MIN_DICE = 100, 0.97  # of a structure that is counted where it is below
STEPS = 20  # of the refinement


def distance_from_ball(image: sitk.Image, labels: sitk.Image) -> np.ndarray:
    """(D, H, W): mm from the surface of a ball of BALL_ML, negative in it, deepest in the brain that has no label."""
    within = sitk.Cast((image > 0) & (labels == 0), sitk.sitkUInt8)
    depth = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(within, insideIsPositive=True, useImageSpacing=True))
    grid = Grid.of(image)
    middle = grid.points_mm(np.argwhere(depth == depth.max())[:1])
    points = grid.points_mm(np.indices(grid.shape).reshape(3, -1).T)
    radius_mm = (3000 * BALL_ML / (4 * np.pi)) ** (1 / 3)
    return (np.linalg.norm(points - middle, axis=1) - radius_mm).reshape(grid.shape)


def differences(found: Segmentation, expected: Segmentation, distance_mm: np.ndarray) -> dict[str, float]:
    """How far the map is off in the ball and around it, and the labels of structures that lie far away."""
    grid = Grid.of(expected.image)
    maps = [sitk.GetArrayFromImage(displacement_field(each.registration.transform, grid)) for each in (found, expected)]
    off_mm = np.linalg.norm(maps[0] - maps[1], axis=-1)
    labels = sitk.GetArrayFromImage(expected.labels)
    near = set(np.unique(labels[distance_mm < FAR_MM]))
    far = [int(value) for value in np.unique(labels) if value not in near]
    dice = dice_per_label(found.labels, expected.labels, far)
    return {
        "ball_mm": round(float(off_mm[distance_mm < 0].mean()), 3),
        "around_mm": round(float(off_mm[(distance_mm >= 0) & (distance_mm < AROUND_MM)].mean()), 3),
        "far_dice": round(float(np.mean(list(dice.values()))), 4),
        "far_below": int(sum(dice[each] < MIN_DICE and (labels == each).sum() >= MIN_VOXELS for each in far)),
    }


def main(arguments: list[str] | None = None) -> int:
    """Prints the differences; returns 0, or 2 for bad input, which is told in one line."""
    parser = argparse.ArgumentParser(prog="python -m Training.benchmarks.lesions", description=__doc__)
    parser.add_argument("--data", required=True, type=Path, metavar="MANIFEST.csv")
    parser.add_argument("--model", default="brain", help="(default: brain)")
    parser.add_argument("--threads", type=kinds.threads)
    parser.add_argument("--figures", type=Path, metavar="JSON", help="file for what is found")
    options = parser.parse_args(arguments)
    return exit_code("lesions", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    use_threads(options.threads)
    subject = next(each for each in read_manifest(options.data) if each.split == "validation")
    image = sitk.Cast(read_image(subject.image), sitk.sitkFloat32)
    distance_mm = distance_from_ball(image, read_labels(str(subject.labels)))
    voxels = sitk.GetArrayFromImage(image)
    voxels[distance_mm < 0] = np.percentile(voxels, 99.9)
    mask = placed((distance_mm >= 0).astype(np.uint8), Grid.of(image))
    lesion = placed(voxels, Grid.of(image))
    model = load_model(options.model)
    atlases = prepare_atlases(model)
    found: dict[str, Mapping[str, float]] = {}
    for steps in (0, STEPS):
        how = {"atlases": atlases, "optimization": InstanceOptimization(steps)}
        expected = segment(image, model, **how)
        for name, known in (("without mask", None), ("with mask", mask)):
            key = name + (f", --refine {steps}" if steps else "")
            found[key] = differences(segment(lesion, model, mask=known, **how), expected, distance_mm)
            print(key, found[key], flush=True)
    figures = {"subject": subject.name, "size": list(image.GetSize()), "runs": found, **provenance()}
    if options.figures is not None:
        write_figures(options.figures, figures)
    else:
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    sys.exit(main())
