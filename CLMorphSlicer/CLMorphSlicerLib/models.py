"""The models, shipped and of one's own, read from their cards; the engine itself is not imported."""

import math
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .words import _

PICTURE = "picture.png"
LEFT_VENTRICLE = "SCT^87878005^"  # of the heart; the engine finds end-diastole and end-systole by its volume
TEXTS = ("title", "purpose", "modality", "anatomy", "licence", "credit", "made")


@dataclass(frozen=True)
class ModelCard:
    """What a person needs to know to choose a model; `folder` is its bundle, `dice` its mean on unseen subjects.

    dice_spread: standard deviation over them; chosen_by: whether choices were made by them, for no others had labels;
    scans: how many it was made of, and voxel_mm and size_mm of theirs (x, y, z); made: the day; picture: of its atlas.
    What a card does not tell is empty or None.
    follows_tissue: whether its labels were found better where they follow the image's tissue; needs_brain: whether it
    knows brains without skull alone; locator: the model that finds its organ on both sides of a whole head, or empty;
    beats: whether its labels name a heart's left ventricle.
    """

    name: str
    title: str
    purpose: str
    modality: str
    anatomy: str
    licence: str
    folder: Path
    credit: str = ""
    dice: float | None = None
    dice_spread: float | None = None
    subjects: int = 0
    chosen_by: bool = False
    scans: int = 0
    voxel_mm: str = ""
    size_mm: str = ""
    made: str = ""
    picture: Path | None = None
    follows_tissue: bool = False
    needs_brain: bool = False
    locator: str = ""
    beats: bool = False

    @property
    def looks_for_brains(self) -> bool:
        """Whether the brain may have to be taken out of a head, for the model or for what finds its organ."""
        return self.needs_brain or bool(self.locator)

    @property
    def description(self) -> str:
        """Lines for the panel: what the model does, needs, may be used for, and how well it did; as far as known."""
        needs = ", ".join(part for part in (self.modality, self.anatomy) if part)
        lines = [self.purpose]
        if needs:
            lines.append(_("Needs: {needs}").format(needs=needs))
        if self.licence:
            free = _("; not for commercial use") if "NC" in re.split(r"[\s-]", self.licence) else ""
            lines.append(_("Licence: {licence}").format(licence=self.licence) + free)
        return "\n".join(line for line in (*lines, self._making, self._accuracy) if line)

    @property
    def _making(self) -> str:
        """When it was made, of how many scans of which size; as far as known."""
        parts = [_("Made {day}").format(day=self.made)] if self.made else []
        if self.scans:
            sizes = ((self.voxel_mm, _("voxels {size} mm")), (self.size_mm, _("size {size} mm")))
            of = [
                _("{count} scans").format(count=self.scans),
                *(text.format(size=size) for size, text in sizes if size),
            ]
            parts.append((_("of {scans}") if parts else _("Made of {scans}")).format(scans=", ".join(of)))
        return " ".join(parts)

    @property
    def _accuracy(self) -> str:
        if self.dice is None:
            return _("Its accuracy was not measured: no labelled scan was held out") if self.scans else ""
        within = f" ± {self.dice_spread:.2f}" if self.dice_spread is not None and self.subjects != 1 else ""
        chosen = _("; choices were made by them") if self.chosen_by else ""
        told = _("Mean Dice {dice} on {subjects} unseen subjects")
        return told.format(dice=f"{self.dice:.2f}{within}", subjects=self.subjects) + chosen


def engine_root() -> Path:
    """The folder that holds CLMorphCore: beside this library when installed, one above it in a source tree.

    Raises RuntimeError when there is none.
    """
    here = Path(__file__).resolve().parent
    for root in (here.parent, here.parent.parent):
        if (root / "CLMorphCore" / "__init__.py").is_file():
            return root
    raise RuntimeError(_("CLMorphCore was not found beside {folder}; install the extension again").format(folder=here))


def read_card(folder: Path) -> ModelCard:
    """The card of the bundle in `folder`, figures where they are numbers. ValueError when there is no readable one."""
    refused = _("{folder} is not a model: it needs a card.toml with a [model] table ({error})")
    try:
        with open(folder / "card.toml", "rb") as file:
            whole = tomllib.load(file)
        model = whole["model"]
    except (OSError, KeyError, ValueError, RecursionError) as error:  # also what is not UTF-8
        raise ValueError(refused.format(folder=folder, error=error)) from error
    if not isinstance(model, dict):
        raise ValueError(refused.format(folder=folder, error=model))
    text = {key: str(model.get(key, "")) for key in TEXTS}
    name = str(model.get("name", folder.name))
    picture = folder / PICTURE
    return ModelCard(
        **{**text, "title": text["title"] or name},
        **_measured(whole),
        name=name,
        folder=folder,
        follows_tissue=_follows(folder),
        needs_brain=model.get("needs") == "brain",
        locator=str(_table(whole, "locator").get("model", "")),
        beats=_beats(folder),
        picture=picture if picture.is_file() else None,
    )


def _measured(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a card tells of its scans, and of the accuracy on test scans, or on validation scans without them."""
    scans, accuracy = _table(card, "scans"), _table(card, "accuracy")
    tested = _number(_table(accuracy, "test").get("dice")) is not None
    figures = _table(accuracy, "test" if tested else "validation")
    dice = _number(figures.get("dice"))
    return {
        "dice": dice,
        "dice_spread": _number(figures.get("dice_sd_over_subjects")),
        "subjects": int(_number(figures.get("subjects")) or 0),
        "chosen_by": dice is not None and not tested,
        "scans": int(_number(scans.get("train")) or 0),
        "voxel_mm": _lengths(scans.get("voxel_mm")),
        "size_mm": _lengths(scans.get("size_mm")),
    }


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


def _follows(folder: Path) -> bool:
    """What the model's tissue.toml says; the engine refuses one that is damaged, in its own words."""
    try:
        with open(folder / "tissue.toml", "rb") as file:
            return tomllib.load(file).get("on") is True
    except (OSError, ValueError):
        return False


def _beats(folder: Path) -> bool:
    """What the labels of the model's atlases say; the engine refuses a table that is damaged, in its own words."""
    for path in sorted(folder.glob("atlases/*/labels.csv")):
        with suppress(OSError):
            return LEFT_VENTRICLE in path.read_text("utf-8", "replace")
    return False


def models_folder() -> Path:
    """The folder of the models that ship with the engine."""
    return engine_root() / "CLMorphCore" / "models"


def shipped_models() -> list[ModelCard]:
    """The cards of all shipped models, by title. A damaged one is left out. They are read once."""
    return list(_cards_in(models_folder()))


@cache
def _cards_in(folder: Path) -> tuple[ModelCard, ...]:
    cards = []
    for path in sorted(folder.glob("*/card.toml")):
        try:
            cards.append(read_card(path.parent))
        except ValueError:
            continue
    return tuple(sorted(cards, key=lambda card: card.title))


def atlas_images(card: ModelCard) -> list[Path]:
    """The images of a model's atlases, in the engine's order."""
    return sorted(card.folder.glob("atlases/*/image.nii.gz"))


def atlas_image(card: ModelCard) -> Path:
    """The image of the first atlas of a model. Raises ValueError when it has none."""
    images = atlas_images(card)
    if not images:
        refused = _("the model {model} has no atlas in {folder}")
        raise ValueError(refused.format(model=card.name, folder=card.folder / "atlases"))
    return images[0]
