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
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CLMorphCore.arguments import kinds
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
from Training.command_line import exit_code, write_figures
from Training.markdown import table
from Training.provenance import provenance
from Training.recipes.acdc.prepare import main as write_acdc

LEFT, VALUES = 3, (1, 2, 3)
CONTRACTION, TWIST, SYSTOLE, NOISE = 0.45, 0.13, 0.35, 0.04  # noise in shares of the 99th percentile
FRAMES = 12


def main(arguments: list[str] | None = None) -> int:
    """Prints two tables in Markdown; returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", choices=("cine", "pairs"))
    parser.add_argument("--steps", type=kinds.above_zero, default=FOLLOWING.steps, help="of each frame's optimization")
    parser.add_argument("--patients", type=kinds.above_zero, default=6, help="the first so many of the split")
    parser.add_argument("--figures", type=Path, metavar="JSON", help="file for what is found")
    options = parser.parse_args(arguments)
    return exit_code("series", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    model, patients = load_model("heart"), _patients(options.data)
    chosen = dict(list(patients.items())[: options.patients])
    found: dict[str, dict[str, dict[str, float]]] = {"cine": {}, "pairs": {}}
    for patient, frames in chosen.items():
        if options.only != "pairs":
            found["cine"][patient] = _cine(*frames["ED"], model, options.steps)
            print(patient, found["cine"][patient], flush=True)
        if options.only != "cine":
            found["pairs"][patient] = _pair(frames, model)
            print(patient, found["pairs"][patient], flush=True)
    print(f"\n{cine_table(found['cine'])}\n\n{pairs_table(found['pairs'])}")
    if options.figures is not None:
        write_figures(options.figures, found | provenance())


def cine_table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Beats that are known: a row for each patient."""
    heads = ("patient", "Dice, mean of frames", "worst frame", "ejection fraction, error (%)", "jump, ml (true)")
    rows = [
        [
            name,
            f"{each['dice']:.3f}",
            f"{each['worst']:.3f}",
            f"{100 * each['ef_error']:+.1f} of {100 * each['ef_true']:.1f}",
            f"{each['jump_ml']:.2f} ({each['jump_true_ml']:.2f})",
            f"{each['closing_mm']:.2f} ({each['closing_max_mm']:.1f})",
        ]
        for name, each in found.items()
    ]
    return table((*heads, "closing error, mm (greatest)"), rows)


def pairs_table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Real ends of systole: a row for each patient, and means."""
    heads = ("patient", "Dice, end-diastole", "end-systole, carried", "end-systole, by itself")
    dice, fractions = ("diastole", "carried", "alone"), ("ef_true", "ef_carried", "ef_alone")
    rows = [
        [name, *(f"{each[key]:.3f}" for key in dice), *(f"{each[key]:.2f}" for key in fractions)]
        for name, each in found.items()
    ]
    means = [f"{np.mean([each[key] for each in found.values()]):.3f}" for key in dice] if found else []
    return table((*heads, "ejection fraction, true", "carried", "by itself"), [*rows, ["mean", *means, "", "", ""]])


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


def _cine(image: sitk.Image, labels: sitk.Image, model: Model, steps: int) -> dict[str, float]:
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
    scores = [_dice(found[n], truth) for n, (_, truth) in enumerate(frames)]
    ours, true = [_left(found[n]) for n in range(len(frames))], [_left(truth) for _, truth in frames]
    return {
        "dice": float(np.mean(scores)),
        "worst": min(scores),
        "ef_error": _ef(ours) - _ef(true),
        "ef_true": _ef(true),
        "jump_ml": _jump(ours),
        "jump_true_ml": _jump(true),
        "closing_mm": closing.mean_mm,
        "closing_max_mm": closing.max_mm,
        "seconds_a_frame": (time.monotonic() - began) / len(frames),
    }


def _pair(frames: dict[str, tuple[sitk.Image, sitk.Image]], model: Model) -> dict[str, float]:
    (diastole, true_ed), (systole, true_es) = frames["ED"], frames["ES"]
    found = segment_series(ImageSeries((diastole, systole)), model, frames="1,2")
    alone = segment(systole, model).labels
    carried_ed, carried_es = found.labels
    return {
        "diastole": _dice(carried_ed, true_ed),
        "carried": _dice(carried_es, true_es),
        "alone": _dice(alone, true_es),
        "ef_true": _ef([_left(true_ed), _left(true_es)]),
        "ef_carried": _ef([_left(carried_ed), _left(carried_es)]),
        "ef_alone": _ef([_left(carried_ed), _left(alone)]),
    }


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
