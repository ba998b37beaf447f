"""The documentation's own modules can be imported; a small model and scan for the code on its pages."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "docs"))

from made_up import PAIR, ellipsoid_atlas, fresh_model

from CLMorphCore.bundles.phantom import make_phantom


@pytest.fixture(scope="session")
def small_atlas():
    return ellipsoid_atlas((20, 24, 18), 2.0, ellipsoids=PAIR)


@pytest.fixture(scope="session")
def small_model(small_atlas, tmp_path_factory) -> Path:
    """Folder of a model with fresh weights."""
    folder = fresh_model(tmp_path_factory.mktemp("models") / "small", small_atlas)
    (folder / "card.toml").write_text('[model]\nname = "small"\npurpose = "tests"\n', encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def small_scan(small_atlas):
    return make_phantom(small_atlas, seed=3, deformation_mm=1.5).image
