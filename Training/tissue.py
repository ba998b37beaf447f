"""``python -m Training.tissue --model M --data manifest.csv``: whether, and how, a model's labels follow the scan.

Every labelled validation subject is registered once; then its labels are made with each setting, and without. What is
best on average is written to MODEL/tissue.toml; off where that gains less than MIN_GAIN.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CLMorphCore.bundles.model import Model, load_model
from CLMorphCore.devices import use_threads
from CLMorphCore.errors import InputError
from CLMorphCore.geometry import Grid
from CLMorphCore.io.manifest import Subject, choose, read_manifest, read_subject
from CLMorphCore.matching import Match, PreparedAtlas, align_scan, match, prepare
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.tissue.labels import Unfit
from CLMorphCore.tissue.prepared import prepare_tissue
from CLMorphCore.tissue.settings import TissueSettings, write_settings
from Training.command_line import exit_code, write_figures
from Training.labelling import followed_labels, warped_labels
from Training.provenance import provenance

SMOOTHING_VOXELS = (0.3, 0.5, 0.8, 1.2, 2.0)  # of the atlas, along its finest axis
EXPONENTS = (0.2, 0.35, 0.5, 0.75, 1.0)
FIRST_EXPONENT = 0.35  # at which the smoothing is chosen
MIN_GAIN = 0.002  # mean Dice


@dataclass(frozen=True)
class Case:
    """A labelled scan, registered."""

    name: str
    truth: sitk.Image
    found: Match


def main(arguments: list[str] | None = None) -> int:
    """Chooses and writes; returns 0, or 2 for bad input, which is told in one line."""
    options = _parser().parse_args(arguments)
    return exit_code("tissue", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    use_threads(options.threads)
    model = load_model(options.model)
    if model.folder is None or not model.atlases:
        raise InputError(f"model {model.name} has no atlas of its own; expected one whose labels can follow a scan")
    subjects = choose(read_manifest(options.data), options.split, labelled=True)
    if not subjects:
        raise InputError(f"{options.data} has no labelled subject with the split {options.split}")
    prepared = prepare(model, model.atlases[:1])
    cases = [_case(subject, model, prepared) for subject in subjects]
    without, rows = _mean([_warped(case, prepared) for case in cases]), []

    def measured(settings: TissueSettings) -> float:
        dice = _mean(_followed(cases, prepared, settings))
        rows.append({"smoothing_mm": settings.smoothing_mm, "exponent": settings.exponent, "dice": round(dice, 5)})
        print(f"smoothing {settings.smoothing_mm:g} mm, exponent {settings.exponent:g}: Dice {dice:.4f}", flush=True)
        return dice

    print(f"without: Dice {without:.4f}", flush=True)
    finest = min(Grid.of(model.atlases[0].labels).voxel_mm)
    first = [TissueSettings(True, round(n * finest, 3), FIRST_EXPONENT) for n in SMOOTHING_VOXELS]
    best = max(first, key=measured)
    best = max((replace(best, exponent=exponent) for exponent in EXPONENTS), key=measured)
    gain = max(row["dice"] for row in rows) - without
    chosen = replace(best, on=gain >= MIN_GAIN)
    write_settings(options.output or model.folder, chosen)
    figures = {"split": options.split, "subjects": len(cases), "dice_without": round(without, 5), "tried": rows}
    if options.figures is not None:
        write_figures(options.figures, figures | provenance())
    print(f"{'on' if chosen.on else 'off'}: {chosen}, gain {gain:+.4f}")


def _case(subject: Subject, model: Model, prepared: PreparedAtlas) -> Case:
    image, truth = read_subject(subject)
    assert truth is not None  # only labelled subjects were chosen
    return Case(subject.name, truth, match(align_scan(image, prepared, model), prepared, model))


def _warped(case: Case, prepared: PreparedAtlas) -> float:
    return _dice(warped_labels(case.found, prepared), case, prepared)


def _followed(cases: Sequence[Case], prepared: PreparedAtlas, settings: TissueSettings) -> list[float]:
    try:
        tissue = prepare_tissue(prepared.atlases, settings, prepared.device)
    except Unfit as reason:
        raise InputError(f"labels of this atlas cannot follow a scan: {reason}") from None
    return [_dice(followed_labels(case.found, prepared, tissue, settings.exponent), case, prepared) for case in cases]


def _dice(labels: sitk.Image, case: Case, prepared: PreparedAtlas) -> float:
    """Mean over the structures that the subject has."""
    there = set(np.unique(sitk.GetArrayViewFromImage(case.truth)).tolist())
    values = [s.value for s in prepared.atlases[0].structures if s.value in there]
    whole = [sitk.Cast(image, sitk.sitkInt32) for image in (labels, case.truth)]
    return _mean(list(dice_per_label(whole[0], whole[1], values).values()))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m Training.tissue", description="Chooses how a model's labels follow the scan's own tissue."
    )
    add = parser.add_argument
    add("--model", required=True, help="name or folder of a model")
    add("--data", required=True, type=Path, metavar="MANIFEST.csv")
    add("--split", default="validation", help="to choose by (default: validation)")
    add("--threads", type=int)
    add("-o", "--output", type=Path, help="folder of tissue.toml (default: MODEL)")
    add("--figures", type=Path, metavar="JSON", help="file for what was tried")
    return parser


if __name__ == "__main__":
    sys.exit(main())
