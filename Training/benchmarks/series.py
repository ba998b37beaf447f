"""``python -m Training.benchmarks.series DATA``: hearts over time, made up of real ones and real end-systoles.

DATA holds ACDC (see ``Training.recipes.acdc.prepare``); patients of its validation split. Two questions:

cine   end-diastole of a patient is beaten by a known periodic contraction and twist, with noise: a cine whose labels
       are known in every frame. The true labels of its first frame follow it: Dice over frames, the worst frame, the
       error of the ejection fraction, the jumps of the volume curve (mean |second difference|, ml) against the true
       ones, and the closing error of the two ways round the cycle.
pairs  the two real frames: end-diastole segmented by the model and carried to end-systole, against the manual labels,
       beside end-systole segmented by itself; and the ejection fraction of both against that of the manual labels.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CLMorphCore.bundles.model import Model, load_model
from CLMorphCore.geometry import Grid, placed, resample, resample_labels
from CLMorphCore.instance_optimization import InstanceOptimization
from CLMorphCore.io.images import read_image, read_labels
from CLMorphCore.io.manifest import read_manifest
from CLMorphCore.io.series import ImageSeries
from CLMorphCore.metrics import dice_per_label, volumes_ml
from CLMorphCore.progress import Stopwatch, silent
from CLMorphCore.segmentation import segment
from CLMorphCore.series.following import FOLLOWING, Closing, follow
from CLMorphCore.series.segmentation import segment_series
from Training.command_line import exit_code
from Training.recipes.acdc.prepare import main as write_acdc

LEFT, VALUES = 3, (1, 2, 3)
CONTRACTION, TWIST, SYSTOLE, NOISE = 0.45, 0.13, 0.35, 0.04  # noise in shares of the 99th percentile
FRAMES = 12


def main(arguments: list[str] | None = None) -> int:
    """Prints two tables in Markdown; returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", choices=("cine", "pairs"))
    parser.add_argument("--steps", type=int, default=FOLLOWING.steps, help="of each frame's optimization")
    parser.add_argument("--patients", type=int, default=6, help="the first so many of the split")
    options = parser.parse_args(arguments)
    return exit_code("series", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    model, patients = load_model("heart"), _patients(options.data)
    chosen = dict(list(patients.items())[: options.patients])
    if options.only != "pairs":
        print("| patient | Dice | worst frame | EF, error | jump, ml (true) | closing, mm (max) | s a frame |")
        print("|---|---|---|---|---|---|---|")
        for patient, frames in chosen.items():
            print(_cine_row(patient, *frames["ED"], model, options.steps), flush=True)
    if options.only != "cine":
        print("\n| patient | Dice ED | Dice ES carried | Dice ES alone | EF true | carried | alone |")
        print("|---|---|---|---|---|---|---|")
        for patient, frames in chosen.items():
            print(_pair_row(patient, frames, model), flush=True)


def _patients(data: Path) -> dict[str, dict[str, tuple[sitk.Image, sitk.Image]]]:
    """Patient → phase → image and labels, of the validation split."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest.csv"
        write_acdc(data, manifest)
        found: dict[str, dict[str, tuple[sitk.Image, sitk.Image]]] = {}
        for subject in read_manifest(manifest):
            if subject.split == "validation":
                patient, phase = subject.name.rsplit("-", 1)
                found.setdefault(patient, {})[phase] = (read_image(subject.image), read_labels(str(subject.labels)))
        return found


def contraction(labels: sitk.Image, amount: float) -> sitk.DisplacementFieldTransform:
    """T(p) = c + (1 + a w) R(twist · a w / 0.45) (p − c) in the plane, w = exp(−|p − c|² / r²): frame → end-diastole.

    About the middle c of the left ventricle, r 1.6 times its radius.
    """
    grid, inside = Grid.of(labels), sitk.GetArrayFromImage(labels) == LEFT
    voxels = np.argwhere(inside)
    area = len(voxels) / max(1, len(np.unique(voxels[:, 0]))) * float(np.prod(grid.spacing_mm[:2]))
    points = grid.points_mm(np.indices(grid.shape).reshape(3, -1).T) - grid.points_mm(voxels).mean(axis=0)
    share = amount * np.exp(-np.square(points[:, :2]).sum(axis=1) / (2.56 * area / np.pi))
    angle, (x, y, _) = TWIST / CONTRACTION * share, points.T
    moved = (1 + share) * np.stack([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y])
    vectors = np.zeros((len(points), 3))
    vectors[:, :2] = moved.T - points[:, :2]
    return sitk.DisplacementFieldTransform(placed(vectors.reshape(*grid.shape, 3), grid, vectors=True))


def cine(
    image: sitk.Image, labels: sitk.Image, count: int = FRAMES, seed: int = 0
) -> list[tuple[sitk.Image, sitk.Image]]:
    """Frames and their labels over one beat, from end-diastole on."""
    rng, grid = np.random.default_rng(seed), Grid.of(image)
    noise = NOISE * float(np.percentile(sitk.GetArrayFromImage(image), 99))
    made = []
    for n in range(count):
        phase = n / count
        part = phase / SYSTOLE if phase < SYSTOLE else (1 - phase) / (1 - SYSTOLE)
        transform = contraction(labels, CONTRACTION * np.sin(np.pi / 2 * part) ** 2)
        values = sitk.GetArrayFromImage(resample(image, grid, transform)) + rng.normal(0, noise, grid.shape)
        made.append((placed(values.astype(np.float32), grid), resample_labels(labels, grid, transform)))
    return made


def _cine_row(patient: str, image: sitk.Image, labels: sitk.Image, model: Model, steps: int) -> str:
    frames = cine(image, labels)
    found, closing, began = {0: frames[0][1]}, Closing(0, np.nan, np.nan), time.monotonic()
    for one in follow(
        [frame for frame, _ in frames],
        0,
        range(len(frames)),
        model,
        labels=labels,
        cyclic=True,
        optimization=InstanceOptimization(steps),
        watch=Stopwatch(),
        progress=silent,
    ):
        if isinstance(one, Closing):
            closing = one
        else:
            found[one.frame] = one.registration.warp(labels, labels=True)
    seconds = (time.monotonic() - began) / len(frames)
    scores = [_dice(found[n], truth) for n, (_, truth) in enumerate(frames)]
    ours, true = [_left(found[n]) for n in range(len(frames))], [_left(truth) for _, truth in frames]
    return (
        f"| {patient} | {np.mean(scores):.3f} | {min(scores):.3f} | {100 * (_ef(ours) - _ef(true)):+.1f} of "
        f"{100 * _ef(true):.1f} % | {_jump(ours):.2f} ({_jump(true):.2f}) | {closing.mean_mm:.2f} "
        f"({closing.max_mm:.1f}) | {seconds:.1f} |"
    )


def _pair_row(patient: str, frames: dict[str, tuple[sitk.Image, sitk.Image]], model: Model) -> str:
    (diastole, true_ed), (systole, true_es) = frames["ED"], frames["ES"]
    found = segment_series(ImageSeries((diastole, systole)), model, frames="1,2")
    alone = segment(systole, model).labels
    carried_ed, carried_es = found.labels
    fractions = [
        _ef([_left(a), _left(b)]) for a, b in ((true_ed, true_es), (carried_ed, carried_es), (carried_ed, alone))
    ]
    scores = [_dice(*pair) for pair in ((carried_ed, true_ed), (carried_es, true_es), (alone, true_es))]
    return f"| {patient} | {' | '.join(f'{s:.3f}' for s in scores)} | {' | '.join(f'{f:.2f}' for f in fractions)} |"


def _dice(labels: sitk.Image, truth: sitk.Image) -> float:
    scores = dice_per_label(labels, truth)
    return float(np.mean([scores.get(value, 0.0) for value in VALUES]))


def _left(labels: sitk.Image) -> float:
    return volumes_ml(labels).get(LEFT, 0.0)


def _ef(volumes: Sequence[float]) -> float:
    return (max(volumes) - min(volumes)) / max(volumes)


def _jump(volumes: Sequence[float]) -> float:
    return float(np.abs(np.diff(volumes, 2)).mean())


if __name__ == "__main__":
    raise SystemExit(main())
