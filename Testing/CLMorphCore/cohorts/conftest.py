"""A tiny model and tiny scans: a segmentation takes half a second."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import SimpleITK as sitk
from made_up import ellipsoid_atlas, fresh_model

from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.cohorts.scans import find_cohort
from CLMorphCore.cohorts.work import Settings, work

NAMES = ("a", "b", "c", "d")


@pytest.fixture(scope="session")
def small_model(tmp_path_factory) -> Path:
    """Folder of a model with an atlas of two ellipsoids on 20×22×18 voxels."""
    folder = fresh_model(tmp_path_factory.mktemp("small") / "small", ellipsoid_atlas((20, 22, 18), 2.0))
    (folder / "card.toml").write_text('[model]\nname = "small"\nlicence = "Apache-2.0"\n', encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def made_scans(tmp_path_factory) -> Path:
    """A folder with a scan for each of NAMES."""
    folder, atlas = tmp_path_factory.mktemp("made"), ellipsoid_atlas((20, 22, 18), 2.0)
    for seed, name in enumerate(NAMES):
        sitk.WriteImage(make_phantom(atlas, seed=seed, deformation_mm=1.0).image, str(folder / f"{name}.nii.gz"))
    return folder


@pytest.fixture
def scans(made_scans, tmp_path) -> Path:
    """The scans in a folder of the test's own."""
    return Path(shutil.copytree(made_scans, tmp_path / "scans"))


@pytest.fixture
def settings(small_model) -> Settings:
    """Of a cohort with the small model, on one thread."""
    return Settings(str(small_model), device="cpu", threads=1)


@pytest.fixture(scope="session")
def expected(made_scans, small_model, tmp_path_factory) -> dict[str, str]:
    """The labels' digests of an undisturbed run."""
    settings, out = Settings(str(small_model), device="cpu", threads=1), tmp_path_factory.mktemp("expected")
    for scan in find_cohort(made_scans, out).scans:
        assert work(scan, settings, settings.made()).failure == ""
    return digests(out)


def digests(folder: Path, ending: str = "labels.nii.gz") -> dict[str, str]:
    """The SHA-256 of each file of an ending below a folder."""
    paths = sorted(folder.rglob(f"*{ending}"))
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def check_whole(folder: Path) -> None:
    """Every report's files are there, with the checksums that it has of them, and nothing is left over."""
    reports = sorted(folder.glob("*/report.json"))
    for report in reports:
        files = json.loads(report.read_text(encoding="utf-8"))["files"]
        for name, known in files.items():
            if name != report.name:
                assert hashlib.sha256((report.parent / name).read_bytes()).hexdigest() == known
    assert [p for p in folder.rglob(".clmorph-*") if "-run-" not in p.name] == []
