"""The models that ship with the extension, read from their cards; the engine itself is not imported."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class ModelCard:
    """What a person needs to know to choose a model; `folder` is its bundle."""

    name: str
    title: str
    purpose: str
    modality: str
    anatomy: str
    licence: str
    folder: Path

    @property
    def description(self) -> str:
        """One line for the panel: purpose, anatomy and modality, as far as the card tells them."""
        return " · ".join(part for part in (self.purpose, self.anatomy, self.modality) if part)


def engine_root() -> Path:
    """The folder that holds CLMorphCore: beside this library when installed, one above it in a source tree.

    Raises RuntimeError when there is none.
    """
    here = Path(__file__).resolve().parent
    for root in (here.parent, here.parent.parent):
        if (root / "CLMorphCore" / "__init__.py").is_file():
            return root
    raise RuntimeError(f"CLMorphCore was not found beside {here}; install the extension again")


def read_card(folder: Path) -> ModelCard:
    """The card of the bundle in `folder`. Raises ValueError when there is no readable one."""
    try:
        with open(folder / "card.toml", "rb") as file:
            model = tomllib.load(file)["model"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{folder} is not a model: it needs a card.toml with a [model] table ({error})") from error
    text = {key: str(model.get(key, "")) for key in ("title", "purpose", "modality", "anatomy", "licence")}
    name = str(model.get("name", folder.name))
    return ModelCard(**{**text, "title": text["title"] or name}, name=name, folder=folder)


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
        raise ValueError(f"the model {card.name} has no atlas in {card.folder / 'atlases'}")
    return images[0]
