"""The networks of deepbet (Fisch et al. 2024, MIT), taken from its installed distribution without importing it.

Its own import brings a window toolkit and pandas along; its two TorchScript files need torch alone.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch

from ..errors import InputError

DISTRIBUTION, VERSION = "deepbet", "1.0.2"
FINDER, EXTRACTOR = "data/models/bbox_model.pt", "data/models/model.pt"


def installed() -> bool:
    """Whether the networks are there."""
    try:
        weights_path(FINDER), weights_path(EXTRACTOR)
    except InputError:
        return False
    return True


def weights_path(name: str) -> Path:
    """Where a file of the distribution lies; InputError with what installs it where it does not."""
    try:
        known = files(DISTRIBUTION) or []
    except PackageNotFoundError:
        known = []
    for entry in known:
        if entry.as_posix() == name and (path := Path(str(entry.locate()))).is_file():
            return path
    raise InputError(
        "brain extraction needs the networks of the package deepbet, which is not installed in full",
        f"install it: pip install --no-deps {DISTRIBUTION}=={VERSION}; or give a skull-stripped scan with "
        "`brain_extraction=off`",
    )


def load(name: str, device: torch.device | str = "cpu") -> torch.jit.ScriptModule:
    """A network of the distribution, ready to predict; it stays loaded for the next scan."""
    return _loaded(weights_path(name), str(device))


@cache
def _loaded(path: Path, device: str) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript itself: the files are nothing else
        return torch.jit.load(str(path), map_location=device).eval()
