"""``clmorph models``: what ships, or what one model is."""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..bundles.model import bundled_models, model_folder, models_without_weights, read_card
from ..console import say
from ..errors import InputError
from ..progress import Reporter

INDENT = 14
SPLITS = ("train", "validation", "test")
WORDS = ("modality", "anatomy", "training_data", "made", "start")  # of [model]
PICTURE = "picture.png"


def run(options: Namespace, reporter: Reporter) -> None:
    """Tells of the given model, or lists the bundled ones and the systems that need no weights."""
    if options.name is not None and options.name not in models_without_weights():
        _tell(reporter, options.name, _folder(options.name), whole=True)
        return
    for name in bundled_models() if options.name is None else ():
        _tell(reporter, name, model_folder(name), whole=False)
    for name, title in models_without_weights().items():
        if options.name in (None, name):
            reporter.event("model", name=name, title=title)
            if reporter.kind != "json":
                say(f"{name:<{INDENT}} {title}", sys.stdout)


def _folder(name: str) -> Path:
    try:
        return model_folder(name)
    except InputError as error:  # MODEL stands alone here, not after a flag
        raise InputError(error.problem.replace(f"`model={name}`", name), error.remedy) from None


def _tell(reporter: Reporter, given: str, folder: Path, *, whole: bool) -> None:
    """A model's card, as far as it says anything; the ``whole`` also of how it was made and how good it is."""
    card = read_card(folder)
    about = card.get("model", {})
    bundled = given in bundled_models()
    name = given if bundled else str(about.get("name", folder.resolve().name))
    picture = folder / PICTURE
    more = {key: card[key] for key in ("scans", "accuracy") if whole and key in card}
    shown = {"picture": str(picture)} if whole and picture.is_file() else {}
    reporter.event("model", **_told(about | more) | shown | {"name": name})
    if reporter.kind == "json":
        return
    lines = [str(about.get("title", "")), str(about.get("purpose", "")), f"licence: {about.get('licence', '')}"]
    if whole:
        lines = [line for line in lines if line not in ("", "licence: ")]
        lines += facts(card) + [f"{key}: {path}" for key, path in shown.items()]
    heads = [name, *[""] * (len(lines) - 1)]
    say("\n".join(f"{head:<{INDENT}} {line}" for head, line in zip(heads, lines or [""], strict=False)), sys.stdout)


def facts(card: Mapping[str, Any]) -> list[str]:
    """Lines on the images a model is for, the scans it was made of, its Dice on held-out scans, and its making.

    What a card lacks, or has in another form than numbers and words, is left out.
    """
    about, scans, accuracy = (_table(card, key) for key in ("model", "scans", "accuracy"))
    lines = [
        f"{key}: {about[key]}" for key in ("modality", "anatomy", "training_data", "made", "start") if key in about
    ]
    counts = [f"{n:g} for {split.replace('train', 'training')}" for split in SPLITS if (n := _number(scans.get(split)))]
    labelled = _number(scans.get("labelled"))
    if counts:
        words = f"{labelled:g} of them labelled" if labelled else "none of them labelled" if labelled == 0 else ""
        lines.append(f"scans: {', '.join([*counts, *([words] if words else [])])}")
    sizes = [(what, _lengths(scans.get(key))) for key, what in (("voxel_mm", "voxels"), ("size_mm", "size"))]
    if any(text for _, text in sizes):
        lines.append(f"made for scans with {', '.join(f'{what} {text} mm' for what, text in sizes if text)} (x, y, z)")
    for split in SPLITS[1:]:
        figures = _table(accuracy, split)
        dice, spread, affine, subjects = (
            _number(figures.get(key)) for key in ("dice", "dice_sd_over_subjects", "dice_affine", "subjects")
        )
        if dice is not None:
            within = f" ± {spread:.3f}" if spread is not None and subjects != 1 else ""
            held_out = "scan that was" if subjects == 1 else "scans that were"
            of = f" on {subjects:g} {held_out} held out" if subjects else ""
            before = f" (affine only: {affine:.3f})" if affine is not None else ""
            lines.append(f"Dice, {split}: {dice:.3f}{within}{of}{before}")
    return lines


def _table(card: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = card.get(key)
    return table if isinstance(table, dict) else {}


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
    return float(value) if good and math.isfinite(value) else None


def _lengths(values: Any) -> str:
    """'0.15 × 0.15 × 0.15', or nothing for what is no such list."""
    numbers = [_number(value) for value in values] if isinstance(values, list) else []
    given = [f"{number:g}" for number in numbers if number is not None]
    return " × ".join(given) if len(given) == len(numbers) == 3 else ""


def _told(value: Any) -> Any:
    """What JSON can hold: TOML's dates become text, what is no number nothing."""
    if isinstance(value, dict):
        return {key: _told(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_told(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float) else str(value)
