"""Model bundles: a folder with weights, a card and one or more atlases."""

from __future__ import annotations

import colorsys
import csv
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import nn

from . import __version__, checkpoint
from .config import Config, DataConfig, from_dict
from .errors import InputError, did_you_mean
from .files import folder_written_whole, written_whole
from .geometry import check_same_grid
from .itk_files import write_image
from .networks import NETWORKS, Identity, build
from .preprocessing import read_image, read_labels

BUNDLED = Path(__file__).parent / "models"


@dataclass(frozen=True)
class Structure:
    """One label: its value, name, colour ``#rrggbb`` and terminology ``SCHEME^CODE^MEANING`` (may be empty)."""

    value: int
    name: str
    color: str
    terminology: str = ""


@dataclass(frozen=True)
class Atlas:
    """A moving image with labels on its grid and the structures that they mean."""

    name: str
    image: sitk.Image
    labels: sitk.Image
    structures: tuple[Structure, ...]


@dataclass(frozen=True)
class Model:
    """What a user picks: a network with its configuration, its card and its atlases.

    ``folder`` is None for a system without weights.
    """

    name: str
    folder: Path | None
    config: Config
    card: dict[str, Any]
    network: nn.Module
    atlases: tuple[Atlas, ...]
    device: str = "cpu"

    def about(self, key: str) -> str:
        """An entry of the card's [model] table, or an empty string."""
        return str(self.card.get("model", {}).get(key, ""))


def bundled_models() -> list[str]:
    """Names of the models that come with the project."""
    return sorted(p.parent.name for p in BUNDLED.glob("*/card.toml"))


def models_without_weights() -> dict[str, str]:
    """Systems that optimise on the pair, which are models by their name alone, each with a line about it."""
    return {name: (system.network.__doc__ or "").partition("\n")[0]
            for name, system in NETWORKS.items() if not system.trained}


def model_without_weights(name: str, device: torch.device | str = "cpu") -> Model:
    """A system that is not trained, with its default settings: no folder, no card's terms, no atlas."""
    config = from_dict({"network": {"name": name}})
    network = build(name, config.network.settings).to(device).eval()
    card = {"model": {"name": name, "title": models_without_weights()[name], "version": __version__}}
    return Model(name, None, config, card, network, (), str(device))


def affine_model(device: torch.device | str = "cpu") -> Model:
    """What leaves it at the affine alignment, on a grid of the moving image's spacing: a start for a refinement."""
    config = Config(data=DataConfig(spacing_mm=(0.0, 0.0, 0.0)))
    return Model("affine", None, config, {}, Identity().to(device).eval(), (), str(device))


def model_folder(name: str | Path) -> Path:
    """The folder of a model given by its name or by its folder; InputError if there is none."""
    for folder in (BUNDLED / str(name), Path(name)):
        if (folder / "weights.safetensors").is_file():
            return folder
    if Path(name).exists():
        raise InputError(f"--model {name} holds no weights.safetensors; expected the folder of a model, "
                         "for instance RUN/model of a training")
    raise InputError(f"unknown model {str(name)!r}; expected the name or the folder of a model"
                     f"{did_you_mean(str(name), [*bundled_models(), *models_without_weights()])}")


def load_model(name: str | Path, device: torch.device | str = "cpu") -> Model:
    """A bundled model or a system without weights by name, or any model by its folder, ready to predict."""
    if str(name) in models_without_weights():
        return model_without_weights(str(name), device)
    folder = model_folder(name)
    tensors, header = checkpoint.load(folder / "weights.safetensors")
    config = from_dict(header["config"])
    network = build(config.network.name, config.network.settings)
    checkpoint.load_into(network, tensors, source=folder / "weights.safetensors")
    atlases = tuple(read_atlas(p) for p in sorted((folder / "atlases").glob("[!.]*")) if p.is_dir())
    card = read_card(folder)
    name = str(card.get("model", {}).get("name", folder.resolve().name))
    return Model(name, folder, config, card, network.to(device).eval(), atlases, str(device))


def read_card(folder: Path) -> dict[str, Any]:
    """card.toml of a model, empty where there is none."""
    path = folder / "card.toml"
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as TOML: {error}") from None


def write_card(folder: Path, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """card.toml from tables of strings and numbers; JSON's strings and numbers are TOML's."""
    text = "\n".join(f"[{name}]\n" + "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
                                             for key, value in table.items()) for name, table in tables.items())
    with written_whole(folder / "card.toml") as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_atlases(folder: Path) -> tuple[Atlas, ...]:
    """The atlases in the folders below ``folder``, by name; InputError where there is none."""
    found = tuple(read_atlas(path) for path in sorted(folder.glob("[!.]*")) if path.is_dir())
    if not found:
        raise InputError(f"{folder} holds no atlas; expected folders with image.nii.gz, labels.nii.gz and labels.csv, "
                         "as clmorph build-atlas --each writes them")
    return found


def read_atlas(folder: Path) -> Atlas:
    """The atlas in a folder: image.nii.gz, labels.nii.gz, labels.csv."""
    return make_atlas(folder.name, folder / "image.nii.gz", folder / "labels.nii.gz", folder / "labels.csv")


def make_atlas(name: str, image_path: Path, labels_path: Path, names_path: Path | None) -> Atlas:
    """An atlas from files; without a table of names the structures are called by their values."""
    image, labels = read_image(image_path), read_labels(labels_path)
    check_same_grid(image, labels, names=("the atlas image", "atlas labels"))
    values = label_values(labels)
    if not values:
        raise InputError(f"atlas labels {labels_path} are empty; expected at least one label above zero")
    structures = read_structures(names_path) if names_path is not None else default_structures(values)
    unnamed = set(values) - {s.value for s in structures}
    if unnamed:
        raise InputError(f"{names_path} does not name the labels {sorted(unnamed)[:10]}; expected a row for each label")
    return Atlas(name, image, labels, tuple(s for s in structures if s.value in values))


def label_values(labels: sitk.Image) -> list[int]:
    """The values above zero, ascending; InputError for negative ones."""
    values = np.unique(sitk.GetArrayViewFromImage(labels)).tolist()
    if values and values[0] < 0:
        raise InputError(f"labels hold the negative value {values[0]}; expected 0 for background and values above it")
    return [v for v in values if v]


def read_structures(path: Path) -> tuple[Structure, ...]:
    """Structures from a CSV with the columns value, name, color, terminology (the last two may be missing)."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        values = [int(row["value"]) for row in rows]
        names = [row["name"] for row in rows]
    except (OSError, UnicodeDecodeError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table of labels ({type(error).__name__}: {error}); "
                         "expected a CSV with the columns value,name,color,terminology") from None
    defaults = {s.value: s.color for s in default_structures(values)}
    structures = tuple(Structure(value, name, row.get("color") or defaults[value], row.get("terminology") or "")
                       for value, name, row in zip(values, names, rows, strict=True))
    for s in structures:
        if values.count(s.value) > 1:
            raise InputError(f"{path} names the label {s.value} twice; expected one row for each label")
        if not s.name:
            raise InputError(f"{path}: label {s.value} has no name; expected value,name,color,terminology")
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", s.color):
            raise InputError(f"{path}: label {s.value} has colour {s.color!r}; expected #rrggbb")
    return structures


def default_structures(values: Sequence[int]) -> tuple[Structure, ...]:
    """'Label N' for each value, in colours whose hues are spread by the golden ratio."""
    def color(index: int) -> str:
        rgb = colorsys.hsv_to_rgb(index * 0.61803398875 % 1.0, 0.55 + 0.2 * (index % 2), 0.85)
        return "#" + "".join(f"{round(255 * c):02x}" for c in rgb)

    return tuple(Structure(value, f"Label {value}", color(n)) for n, value in enumerate(values))


def save_atlas(folder: Path, atlas: Atlas) -> None:
    """Writes an atlas as ``read_atlas`` reads it, whole or not at all."""
    with folder_written_whole(folder) as temporary:
        write_image(atlas.image, temporary / "image.nii.gz")
        write_image(atlas.labels, temporary / "labels.nii.gz")
        with (temporary / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("value", "name", "color", "terminology"))
            writer.writerows((s.value, s.name, s.color, s.terminology) for s in atlas.structures)
