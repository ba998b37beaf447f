"""``python -m Training.tissue --model M --data manifest.csv``: whether, and how, a model's labels follow the scan.

What is best on the labelled validation subjects is written to MODEL/tissue.toml (``CLMorphCore.tissue.choosing``).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from CLMorphCore.arguments import kinds
from CLMorphCore.bundles.model import load_model
from CLMorphCore.devices import use_threads
from CLMorphCore.errors import InputError
from CLMorphCore.io.manifest import choose, read_manifest
from CLMorphCore.tissue.choosing import Tried, choose_tissue, reached, register_labelled
from CLMorphCore.tissue.settings import write_settings
from Training.command_line import exit_code, write_figures
from Training.provenance import provenance


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
    chosen, (without, *tried) = choose_tissue(register_labelled(model, subjects), tell=_say)
    write_settings(options.output or model.folder, chosen)
    rows = [
        {
            "smoothing_mm": one.settings.smoothing_mm,
            "exponent": one.settings.exponent,
            "background": one.settings.background,
            "dark_background": one.settings.dark_background,
            "dice": round(one.dice, 5),
            "log_volume_ratio": round(one.volume, 4),
        }
        for one in tried
        if one.settings is not None
    ]
    figures = {
        "split": options.split,
        "subjects": len(subjects),
        "dice_without": round(without.dice, 5),
        "log_volume_ratio_without": round(without.volume, 4),
        "tried": rows,
    }
    if options.figures is not None:
        write_figures(options.figures, figures | provenance())
    print(f"{'on' if chosen.on else 'off'}: {chosen}, gain {reached(chosen, [without, *tried]) - without.dice:+.4f}")


def _say(tried: Tried) -> None:
    how = tried.settings
    what = "without"
    if how is not None:
        what = (
            f"smoothing {how.smoothing_mm:g} mm, exponent {how.exponent:g}, background {how.background:g}, "
            f"dark {how.dark_background:g}"
        )
    print(f"{what}: Dice {tried.dice:.4f}, volume {np.expm1(tried.volume):+.1%}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m Training.tissue", description="Chooses how a model's labels follow the scan's own tissue."
    )
    add = parser.add_argument
    add("--model", required=True, help="name or folder of a model")
    add("--data", required=True, type=Path, metavar="MANIFEST.csv")
    add("--split", default="validation", help="to choose by (default: validation)")
    add("--threads", type=kinds.threads)
    add("-o", "--output", type=Path, help="folder of tissue.toml (default: MODEL)")
    add("--figures", type=Path, metavar="JSON", help="file for what was tried")
    return parser


if __name__ == "__main__":
    sys.exit(main())
