"""A training that starts from a model that is there: what of it is kept, and whether scans and plan fit it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..bundles import checkpoint
from ..bundles.atlas import FILES
from ..bundles.config import Config, from_dict, to_dict
from ..bundles.model import BUNDLED, initial_weights, read_card
from ..errors import FileError, SettingError
from ..io.manifest import Subject
from .fingerprint import MAX_SIZE_RATIO
from .plan import Choice
from .scans import Scan, look_at

MIN_COARSEST = 3  # voxels along a side of the coarsest level: with fewer there is nothing to be found there
INHERITED = ("modality", "anatomy", "needs", "licence", "credit")  # of the card: what was made of a model has its terms
RATE, RATE_REASON = (
    3e-4,
    ("a third of what fresh weights learn with: Adam's first steps are as long as the rate, and these are near"),
)


@dataclass(frozen=True)
class Start:
    """The model that a training starts from.

    given    as a plan names it: a shipped model by its name, another by its folder
    name     as people are told, 'brain 1.4'
    config   that it was trained with
    card     its [model] table
    """

    given: str
    name: str
    config: Config
    card: Mapping[str, Any]
    weights: Path


def read_start(given: str | Path) -> Start:
    """The model with that name or in that folder, or with those weights; InputError for what cannot be started from."""
    weights = initial_weights(given)
    folder = weights.parent
    try:
        config = from_dict(checkpoint.load(weights)[1]["config"])
    except SettingError as error:
        raise FileError(f"the configuration in {weights}: {error.problem}", error.remedy) from None
    card = read_card(folder).get("model", {})
    name = " ".join(str(word) for word in (card.get("name", folder.resolve().name), card.get("version", "")) if word)
    shipped = folder.parent.resolve() == BUNDLED.resolve()
    return Start(folder.name if shipped else str(folder.resolve()), name, config, card, weights)


def kept(start: Start, *, labelled: bool) -> str:
    """What is kept of the start, and what is made anew."""
    spacing = " × ".join(f"{mm:.3g}" for mm in start.config.data.spacing_mm[::-1])
    size = f", its spacing of {spacing} mm" if max(start.config.data.spacing_mm) > 0 else ""
    new = "the average atlas, tissue model and quality" if labelled else "nothing"
    own = "" if labelled else ", and its atlas, for no scan is labelled"
    return f"kept its network{size} and its losses{own}; made anew: {new}"


def unlike(start: Start, scans: Sequence[Scan]) -> str:
    """How the scans' size differs from that of the start's atlas; empty where it does not, or there is no atlas."""
    images = sorted((start.weights.parent / "atlases").glob(f"*/{FILES[0]}"))
    atlas = look_at(Subject(start.name, images[0], None, ""))[0] if images else None
    if atlas is None or not scans:
        return ""
    extent = np.median([scan.extent_mm for scan in scans], axis=0)
    ratio = float(np.prod(extent / atlas.extent_mm)) ** (1 / 3)
    if max(ratio, 1 / ratio) <= MAX_SIZE_RATIO:
        return ""
    own, its = (" × ".join(f"{mm:.3g}" for mm in each[::-1]) for each in (extent.tolist(), atlas.extent_mm))
    return (
        f"its atlas is {its} mm large and the scans' foreground {own} mm, {ratio:.2g} times as long: another organ or "
        "species, or scans that are cut otherwise"
    )


def network_choices(start: Start) -> list[Choice]:
    """The network, whose weights these are."""
    tree = to_dict(start.config)["network"]
    return [Choice(f"network.{key}", value, f"the network of {start.name}") for key, value in tree.items()]


def data_choices(start: Start, shape: Sequence[int]) -> list[Choice]:
    """Spacing and margin, which its network knows; ``shape`` (z, y, x) of the grid that they make of the scans."""
    tree, grid = to_dict(start.config)["data"], " × ".join(map(str, shape[::-1]))
    return [
        Choice("data.spacing_mm", tree["spacing_mm"], f"{start.name} knows voxels of this size; a grid of {grid}"),
        Choice("data.margin_voxels", tree["margin_voxels"], f"as around the scans of {start.name}"),
    ]


def loss_choices(start: Start, pairs: int) -> list[Choice]:
    """What the start was trained for; no contrast between pairs where there is one."""
    loss = start.config.loss
    alone = pairs < 2 and loss.contrast > 0 and loss.contrastive == "nt-xent" and loss.contrasted == "pair"
    kept = dict(_differing(start.config, "loss"))
    choices = [
        Choice(f"loss.{key}", value, f"{start.name} was trained for this")
        for key, value in kept.items()
        if not (alone and key == "contrast")
    ]
    return [*choices, Choice("loss.contrast", 0.0, "one pair")] if alone else choices


def view_choices(start: Start) -> list[Choice]:
    """Views of other contrasts, where the start was trained with them."""
    views = start.config.augment.views
    return (
        [Choice("augment.views", views, f"{start.name} knows other contrasts, and is not to forget")] if views else []
    )


def refinement_choices(start: Start) -> list[Choice]:
    """How its answers are refined."""
    return [
        Choice(f"refinement.{key}", value, f"as for {start.name}")
        for key, value in _differing(start.config, "refinement")
    ]


def _differing(config: Config, section: str) -> list[tuple[str, Any]]:
    """The settings of a section that are not its network's defaults, and what a training of it cannot do without."""
    tree = to_dict(config)
    usual = to_dict(from_dict({"network": {"name": config.network.name}}))[section]
    return [(key, value) for key, value in tree[section].items() if value != usual[key]]


def check_grid(start: Start, shape: Sequence[int], divisor: Sequence[int]) -> None:
    """InputError where the start's grid over the scans has too few voxels for its coarsest level; sides (z, y, x)."""
    coarsest = [n // unit for n, unit in zip(shape, divisor, strict=True)]
    if min(coarsest) >= MIN_COARSEST:
        return
    grid, few = (" × ".join(map(str, sides[::-1])) for sides in (shape, coarsest))
    spacing = " × ".join(f"{mm:.3g}" for mm in start.config.data.spacing_mm[::-1])
    raise SettingError(
        f"the scans are too small for {start.name}: of its voxels, {spacing} mm, they have {grid}, its coarsest level "
        f"{few}; expected {MIN_COARSEST} or more along each side",
        "start from a model of scans of this size, or omit `initial`",
    )


def check_plan(start: Start, config: Config) -> None:
    """SettingError where a plan is of another network than the start's, whose weights then fit nothing."""
    own, planned = (to_dict(each)["network"] for each in (start.config, config))
    other = [key for key in {**own, **planned} if own.get(key, math.nan) != planned.get(key, math.nan)]
    if other:
        of_plan, of_start = (json.dumps(each.get(other[0], "none")) for each in (planned, own))
        raise SettingError(
            f"the plan has network.{other[0]} = {of_plan}, {start.name} {of_start}; expected one network in both",
            "make the plan with `initial` too, or omit it",
        )
