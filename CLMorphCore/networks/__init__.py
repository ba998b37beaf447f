"""Networks, one file each, with one contract: ``forward(fixed, moving) -> Prediction`` and ``embed(image)``."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import InputError, did_you_mean
from .clmorph import CLMorph, CLMorphConfig
from .prediction import Prediction
from .pyramid import Pyramid, PyramidConfig

# name in the configuration → (dataclass of its settings, the network)
NETWORKS: dict[str, tuple[type, type[nn.Module]]] = {
    "clmorph": (CLMorphConfig, CLMorph),
    "clmorph-pyramid": (PyramidConfig, Pyramid),
}


def settings_of(name: str) -> type:
    """The dataclass of the settings of the network called ``name``; InputError for an unknown one."""
    if name not in NETWORKS:
        raise InputError(f"unknown network.name {name!r}{did_you_mean(name, NETWORKS)}")
    return NETWORKS[name][0]


def build(name: str, settings: Any) -> nn.Module:
    """A network with fresh weights."""
    settings_of(name)
    return NETWORKS[name][1](settings)


__all__ = ["NETWORKS", "Prediction", "build", "settings_of"]
