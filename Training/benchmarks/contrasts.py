"""``python -m Training.benchmarks.contrasts --data HEADS/ms3d``: do labels agree between the contrasts of one session?

Of each patient the T2 and the FLAIR are segmented and held against the labels of the same patient's T1 by the first
model. The layout is that of the MS data of Lesjak et al. (Neuroinformatics 2018): PATIENT/study1_{T1W,T2W,FLAIR}.nii.gz
with _brainmask, and study1_{T1W,T2W}_intrastudy_to_FLAIR.txt, ITK transforms that map the FLAIR's points.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CLMorphCore.arguments import kinds
from CLMorphCore.bundles.model import Model, load_model
from CLMorphCore.devices import use_threads
from CLMorphCore.errors import InputError
from CLMorphCore.io.images import read_image, read_labels
from CLMorphCore.metrics import dice_per_label, volumes_ml
from CLMorphCore.segmentation import prepare_atlases, segment
from Training.command_line import exit_code, write_figures
from Training.provenance import provenance

REFERENCE, TARGET = "T1W", "FLAIR"
MIN_ML = 2.0  # of a structure: smaller ones are a slice or two of such scans


def stripped(folder: Path, contrast: str) -> sitk.Image:
    """A scan within its brain mask, 0 around it; the mask's header is the scan's."""
    image = sitk.Cast(read_image(folder / f"study1_{contrast}.nii.gz"), sitk.sitkFloat32)
    mask = sitk.Cast(read_labels(folder / f"study1_{contrast}_brainmask.nii.gz"), sitk.sitkUInt8)
    mask.CopyInformation(image)
    lowest = float(sitk.GetArrayViewFromImage(image).min())
    return sitk.Mask(image - lowest, mask)


def labels_on_target(folder: Path, contrast: str, model: Model) -> sitk.Image:
    """The labels of a contrast on the grid of the FLAIR."""
    target = stripped(folder, TARGET)
    labels = segment(stripped(folder, contrast), model, atlases=prepare_atlases(model)).labels
    to_contrast = sitk.Transform(3, sitk.sitkIdentity)
    if contrast != TARGET:
        to_contrast = sitk.ReadTransform(str(folder / f"study1_{contrast}_intrastudy_to_FLAIR.txt"))
    return sitk.Cast(sitk.Resample(labels, target, to_contrast, sitk.sitkNearestNeighbor, 0), sitk.sitkInt32)


def agreement(reference: sitk.Image, labels: sitk.Image) -> tuple[float, int]:
    """Mean Dice over the reference's structures of at least MIN_ML, and their number."""
    values = [value for value, volume in volumes_ml(reference).items() if volume >= MIN_ML]
    return float(np.mean(list(dice_per_label(labels, reference, values).values()))), len(values)


def main(arguments: list[str] | None = None) -> int:
    """Prints the agreements; returns 0, or 2 for bad input, which is told in one line."""
    options = _parser().parse_args(arguments)
    return exit_code("contrasts", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    use_threads(options.threads)
    patients = sorted(path.parent for path in options.data.glob(f"*/study1_{REFERENCE}.nii.gz"))
    if not patients:
        raise InputError(
            f"{options.data} has no PATIENT/study1_{REFERENCE}.nii.gz; expected the folder of the patients"
        )
    models = {name: load_model(name) for name in options.model}
    found: dict[str, object] = {}
    for folder in patients:
        reference = labels_on_target(folder, REFERENCE, next(iter(models.values())))
        for name, model in models.items():
            for contrast in ("T2W", TARGET):
                dice, count = agreement(reference, labels_on_target(folder, contrast, model))
                found[f"{folder.name} {contrast} {name}"] = {"dice": round(dice, 4), "structures": count}
                print(folder.name, contrast, name, f"{dice:.4f} over {count} structures", flush=True)
    figures = found | provenance()
    if options.figures is not None:
        write_figures(options.figures, figures)
    else:
        print(json.dumps(figures, indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m Training.benchmarks.contrasts",
        description="Agreement of labels between the contrasts of one session.",
    )
    add = parser.add_argument
    add("--data", required=True, type=Path, metavar="FOLDER", help="folder of the patients")
    add("--model", nargs="+", default=["brain"], help="the first one's T1 labels are the reference (default: brain)")
    add("--threads", type=kinds.threads)
    add("--figures", type=Path, metavar="JSON", help="file for what is found")
    return parser


if __name__ == "__main__":
    sys.exit(main())
