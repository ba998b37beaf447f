"""Fixtures of series: the made-up heart as frames, as a file, and a model whose atlas it is."""

from dataclasses import dataclass

import pytest
import SimpleITK as sitk
from made_up import fresh_model
from made_up_heart import COUNT, FIRST, STEP_S, beating, noisy

from CLMorphCore.bundles.model import load_model
from CLMorphCore.io.series import ImageSeries, write_series


@dataclass(frozen=True)
class Cine:
    series: ImageSeries
    truth: tuple[sitk.Image, ...]


@pytest.fixture(scope="session")
def cine() -> Cine:
    atlases = [beating(n) for n in range(COUNT)]
    frames = tuple(noisy(atlas.image, n) for n, atlas in enumerate(atlases))
    times = tuple(STEP_S * n for n in range(COUNT))
    return Cine(ImageSeries(frames, times), tuple(atlas.labels for atlas in atlases))


@pytest.fixture(scope="session")
def cine_file(cine, tmp_path_factory):
    path = tmp_path_factory.mktemp("cine") / "cine.nii.gz"
    write_series(cine.series.frames, path, cine.series)
    return path


@pytest.fixture(scope="session")
def heart_folder(tmp_path_factory):
    """A model with fresh weights, almost the identity, and the made-up heart at end-diastole as its atlas."""
    folder = fresh_model(tmp_path_factory.mktemp("models") / "tiny-heart", beating(FIRST))
    (folder / "card.toml").write_text('[model]\nname = "tiny-heart"\npurpose = "tests"\n', encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def heart(heart_folder):
    return load_model(heart_folder)
