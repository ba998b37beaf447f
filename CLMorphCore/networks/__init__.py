"""Networks, one file each, with one contract: ``contract.RegistrationNetwork``."""

from __future__ import annotations

from typing import Any

from ..errors import InputError, did_you_mean
from . import clmorph, clmorph_byol, pyramid
from .baselines import faim, lapirn, lddmm, lvm, pdd_net, syn, voxelmorph, vtn
from .contract import Capabilities, Identity, Prediction, RegistrationNetwork, System, TrainingPrediction

NETWORKS: dict[str, System] = {
    "clmorph": clmorph.SYSTEM,
    "clmorph-byol": clmorph_byol.SYSTEM,
    "clmorph-pyramid": pyramid.SYSTEM,
    "faim": faim.SYSTEM,
    "lapirn": lapirn.SYSTEM,
    "lddmm": lddmm.SYSTEM,
    "lvm-s3": lvm.SYSTEM,
    "pdd-net": pdd_net.SYSTEM,
    "syn": syn.SYSTEM,
    "voxelmorph": voxelmorph.SYSTEM,
    "vtn": vtn.SYSTEM,
}


def system(name: str) -> System:
    """The system called ``name``; InputError for an unknown one."""
    if name not in NETWORKS:
        raise InputError(f"unknown network.name {name!r}{did_you_mean(name, NETWORKS)}")
    return NETWORKS[name]


def build(name: str, settings: Any) -> RegistrationNetwork:
    """A network with fresh weights."""
    return system(name).network(settings)


__all__ = [
    "NETWORKS",
    "Capabilities",
    "Identity",
    "Prediction",
    "RegistrationNetwork",
    "System",
    "TrainingPrediction",
    "build",
    "system",
]
