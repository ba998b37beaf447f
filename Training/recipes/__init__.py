"""What makes a model or a comparison: a folder for each, and what their ``prepare.py`` share."""

import importlib
from pathlib import Path
from types import ModuleType

RECIPES = Path(__file__).parent


def prepare_of(recipe: str) -> ModuleType:
    """The module that makes a recipe's manifest, ``main(data, manifest)``."""
    return importlib.import_module(f"{__name__}.{recipe}.prepare")
