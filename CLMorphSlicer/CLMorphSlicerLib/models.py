"""The models that ship with the extension, read from their cards; the engine itself is not imported."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .words import _


@dataclass(frozen=True)
class ModelCard:
    """What a person needs to know to choose a model; `folder` is its bundle, `dice` its mean on unseen subjects.

    follows_tissue: whether its labels were found better where they follow the image's tissue; needs_brain: whether it
    knows brains without skull alone; locator: the model that finds its organ on both sides of a whole head, or empty.
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
    subjects: int = 0
    follows_tissue: bool = False
    needs_brain: bool = False
    locator: str = ""

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
        if self.dice is not None:
            lines.append(
                _("Mean Dice {dice:.2f} on {subjects} unseen subjects").format(dice=self.dice, subjects=self.subjects)
            )
        return "\n".join(line for line in lines if line)


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
    """The card of the bundle in `folder`. Raises ValueError when there is no readable one."""
    try:
        with open(folder / "card.toml", "rb") as file:
            whole = tomllib.load(file)
        model, test = whole["model"], whole.get("accuracy", {}).get("test", {})
        locator = str(whole.get("locator", {}).get("model", ""))
    except (OSError, KeyError, TypeError, AttributeError, tomllib.TOMLDecodeError) as error:
        refused = _("{folder} is not a model: it needs a card.toml with a [model] table ({error})")
        raise ValueError(refused.format(folder=folder, error=error)) from error
    text = {key: str(model.get(key, "")) for key in ("title", "purpose", "modality", "anatomy", "licence", "credit")}
    name = str(model.get("name", folder.name))
    figures = {"dice": test.get("dice"), "subjects": int(test.get("subjects", 0)), "follows_tissue": _follows(folder)}
    figures |= {"needs_brain": model.get("needs") == "brain", "locator": locator}
    return ModelCard(**{**text, "title": text["title"] or name}, name=name, folder=folder, **figures)


def _follows(folder: Path) -> bool:
    """What the model's tissue.toml says; the engine refuses one that is damaged, in its own words."""
    try:
        with open(folder / "tissue.toml", "rb") as file:
            return tomllib.load(file).get("on") is True
    except (OSError, ValueError):
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
