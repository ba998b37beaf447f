"""Model bundles: a folder with weights, a card and one or more atlases."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..atomic import atomic_write
from ..errors import FileError, InputError, SettingError, did_you_mean
from ..io.files import folders_in, read_toml, short
from ..networks import NETWORKS, Identity, RegistrationNetwork, build
from ..tissue.settings import OFF, TissueSettings, read_settings
from . import checkpoint
from .atlas import Atlas, read_atlas
from .config import Config, DataConfig, from_dict
from .refinement import UNKNOWN, Refinement, read_refinement

BUNDLED = Path(__file__).parents[1] / "models"
OTHER_CONTRASTS = "other_contrasts.safetensors"  # weights of the same network, trained on random views of the scans
AFFINE = "affine"  # the model that ``affine_model`` is, by its name


@dataclass(frozen=True)
class Model:
    """What a user picks: a network with its configuration, its card and its atlases.

    ``folder`` is None for a system without weights. ``tissue`` says whether its labels follow the scan's tissue,
    ``refinement`` whether its answers are refined unasked.
    ``other_contrasts`` takes the network's place for scans that are not of the atlas' contrast; None: it serves all.
    """

    name: str
    folder: Path | None
    config: Config
    card: dict[str, Any]
    network: RegistrationNetwork
    atlases: tuple[Atlas, ...]
    device: str = "cpu"
    tissue: TissueSettings = OFF
    other_contrasts: RegistrationNetwork | None = None
    refinement: Refinement = UNKNOWN

    @property
    def any_contrast(self) -> bool:
        """Whether it has seen other contrasts than its scans' own, or has a network that has."""
        return self.config.augment.views > 0 or self.other_contrasts is not None

    def about(self, key: str) -> str:
        """An entry of the card's [model] table, or an empty string."""
        return str(self.card.get("model", {}).get(key, ""))


def bundled_models() -> list[str]:
    """Names of the models that come with the project."""
    return sorted(p.parent.name for p in BUNDLED.glob("*/card.toml"))


def models_without_weights() -> dict[str, str]:
    """Systems that optimise on the pair, which are models by their name alone, each with a line about it."""
    systems = {
        name: (system.network.__doc__ or "").partition("\n")[0]
        for name, system in NETWORKS.items()
        if not system.trained
    }
    return {AFFINE: "Affine alignment alone: a start for a refinement, for any organ and modality.", **systems}


def model_without_weights(name: str, device: torch.device | str = "cpu") -> Model:
    """A system that is not trained, with its default settings: no folder, no card's terms, no atlas."""
    if name == AFFINE:
        return affine_model(device)
    config = from_dict({"network": {"name": name}})
    network = build(name, config.network.settings).to(device).eval()
    card = {"model": {"name": name, "title": models_without_weights()[name], "version": __version__}}
    return Model(name, None, config, card, network, (), str(device))


def affine_model(device: torch.device | str = "cpu") -> Model:
    """What leaves it at the affine alignment, on a grid of the moving image's spacing: a start for a refinement."""
    config = Config(data=DataConfig(spacing_mm=(0.0, 0.0, 0.0)))
    return Model(AFFINE, None, config, {}, Identity().to(device).eval(), (), str(device))


def model_folder(name: str | Path) -> Path:
    """The folder of a model given by its name or by its folder; InputError if there is none."""
    for folder in (BUNDLED / str(name), Path(name)):
        if (folder / "weights.safetensors").is_file():
            return folder
    if Path(name).exists():
        raise InputError(
            f"`model={name}` holds no weights.safetensors; expected the folder of a model, "
            "for instance RUN/model of a training"
        )
    raise InputError(
        f"unknown model {str(name)!r}; expected the name or the folder of a model"
        f"{did_you_mean(str(name), [*bundled_models(), *models_without_weights()])}"
    )


def initial_weights(given: str | Path) -> Path:
    """The weights of a model by its name or its folder, or the file of weights itself; InputError if there are none."""
    if Path(given).is_file():
        return Path(given)
    if str(given) in models_without_weights():
        raise InputError(
            f"`initial={given}` has no weights to start from",
            f"choose among {', '.join(bundled_models())}, or a folder",
        )
    try:
        return model_folder(given) / "weights.safetensors"
    except InputError as error:
        raise InputError(error.problem.replace("`model=", "`initial="), error.remedy) from None


def load_model(name: str | Path, device: torch.device | str = "cpu") -> Model:
    """A bundled model or a system without weights by name, or any model by its folder, ready to predict."""
    if str(name) in models_without_weights():
        return model_without_weights(str(name), device)
    folder = model_folder(name)
    network, config = _read_network(folder / "weights.safetensors")
    other, other_path = None, folder / OTHER_CONTRASTS
    if other_path.is_file():
        other, expected = _read_network(other_path)
        if (expected.data, expected.network) != (config.data, config.network):
            raise FileError(
                f"{other_path} is of another network or grid than weights.safetensors beside it; expected the "
                "same settings of [data] and [network]"
            )
    own = folder / "atlases"
    atlases = tuple(read_atlas(p) for p in folders_in(own, "a folder of atlases")) if os.path.isdir(own) else ()
    card = read_card(folder)
    return Model(
        name=str(card.get("model", {}).get("name", folder.resolve().name)),
        folder=folder,
        config=config,
        card=card,
        network=network.to(device).eval(),
        atlases=atlases,
        device=str(device),
        tissue=read_settings(folder),
        other_contrasts=other.to(device).eval() if other is not None else None,
        refinement=read_refinement(folder),
    )


def _read_network(path: Path) -> tuple[RegistrationNetwork, Config]:
    """A network with its weights, and the configuration that they were trained with."""
    tensors, header = checkpoint.load(path)
    try:
        config = from_dict(header["config"])
    except SettingError as error:
        raise FileError(f"the configuration in {path}: {error.problem}", error.remedy) from None
    network = build(config.network.name, config.network.settings)
    checkpoint.load_into(network, tensors, source=path)
    return network, config


def read_card(folder: Path) -> dict[str, Any]:
    """card.toml of a model, empty where there is none."""
    path = folder / "card.toml"
    if not path.exists():
        return {}
    card = read_toml(path, "the card of a model")
    about = card.get("model", {})
    if not isinstance(about, dict):
        raise InputError(f"{path} has a [model] that is {short(about)}; expected a table; mend it")
    plain = (str, int, float, bool)
    return card | {"model": {k: v if isinstance(v, plain) else str(v) for k, v in about.items() if k != "event"}}


def write_card(folder: Path, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """card.toml from tables of strings and numbers; JSON's strings and numbers are TOML's."""
    text = "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in table.items())
        for name, table in tables.items()
    )
    with atomic_write(folder / "card.toml") as temporary:
        temporary.write_text(text, encoding="utf-8")
