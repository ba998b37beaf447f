"""What a model tells about itself: its card, with what it was made of and how good it is, and its atlas' picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import atomic_write
from ..bundles.atlas import Atlas
from ..bundles.model import read_card, write_card
from ..errors import printable
from ..evaluation import SUMMARY
from ..geometry import Grid
from ..io.files import read_json
from ..io.images import read_image
from ..io.manifest import SPLITS, Subject, choose
from ..reports.atlas_picture import atlas_picture
from ..reports.drawing import rgb
from .run import Run
from .starting import INHERITED

PICTURE = "picture.png"
SPLITS_MEASURED = ("validation", "test")
MAX_MEASURED = 9  # training scans whose voxels and size are looked at
MAX_NAMED = 5  # structures of a purpose


def describe(run: Run, reference: Path) -> None:
    """card.toml with all that is known at a training's end, and picture.png of its average, or of ``reference``.

    What a card says already of its title and purpose, of the day it was made and of its scans stays.
    """
    atlas = next(iter(run.load().atlases), None)
    card = read_card(run.model)
    model = dict(card.get("model", {}))
    if run.start is not None:
        model |= {key: run.start.card[key] for key in INHERITED if key in run.start.card}
        model["start"] = run.start.name
    weights = run.model / "weights.safetensors"
    made = datetime.fromtimestamp(weights.stat().st_mtime).astimezone()
    name = model.get("name", run.output.resolve().name)
    own = {"name": name, "title": run.name or name, "purpose": purpose(atlas), "made": f"{made:%Y-%m-%d}"}
    tables: dict[str, Mapping[str, Any]] = {"model": {k: _plain(v) for k, v in (own | model).items()}}
    tables["scans"] = card["scans"] if isinstance(card.get("scans"), dict) else scans_of(run.subjects)
    for split in SPLITS_MEASURED:
        path = run.output / split / SUMMARY
        if path.exists():
            tables[f"accuracy.{split}"] = _figures(read_json(path, "a summary of an evaluation"))
    write_card(run.model, tables)
    if not (run.model / PICTURE).exists():
        image, labels = (atlas.image, atlas.labels) if atlas is not None else (read_image(reference), None)
        colors = {s.value: rgb(s.color) for s in atlas.structures} if atlas is not None else {}
        with atomic_write(run.model / PICTURE) as temporary:
            temporary.write_bytes(atlas_picture(image, labels, colors))


def purpose(atlas: Atlas | None) -> str:
    """What a model with this atlas is for, in a sentence or two."""
    if atlas is None:
        return "Registers scans like those it was made from; labels with an atlas that is given. For research only."
    names = [s.name for s in atlas.structures]
    what = f"{len(names)} structures" if len(names) > MAX_NAMED else ", ".join(names)
    return f"Labels {what} in scans like those it was made from, and registers them. For research only."


def scans_of(subjects: Sequence[Subject]) -> dict[str, Any]:
    """How many scans each split has, and how many have labels; medians of voxels and extent (x, y, z; mm)."""
    counts: dict[str, Any] = {split: len(choose(subjects, split)) for split in SPLITS}
    counts["labelled"] = sum(subject.labels is not None for subject in subjects)
    train = choose(subjects, "train")
    grids = [Grid.of(read_image(s.image)) for s in train[:: 1 + (len(train) - 1) // MAX_MEASURED]]
    voxels = np.median([grid.anatomical_voxel_mm()[::-1] for grid in grids], axis=0)
    sizes = np.median([grid.anatomical_extent_mm()[::-1] for grid in grids], axis=0)
    return counts | {"voxel_mm": _rounded(voxels), "size_mm": _rounded(sizes)}


def _figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of an evaluation that are numbers: TOML has no word of JSON's for what could not be measured."""
    return {
        key: round(value, 6)
        for key, value in summary.items()
        if isinstance(value, int | float) and key != "seconds" and math.isfinite(value)
    }


def _rounded(numbers: np.ndarray) -> list[float]:
    return [float(f"{number:.3g}") for number in numbers.tolist()]


def _plain(value: Any) -> Any:
    """Text that TOML can hold: a folder's name may have bytes that are no letters."""
    return printable(value.encode("utf-8", "replace").decode()) if isinstance(value, str) else value
