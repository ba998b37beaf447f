"""Whether the project can be released: make release-check.

The sdist is built into dist/, the wheel from it, and installed in a fresh environment in an empty folder, where
``clmorph demo`` runs from it. Every file of every model has to be in both, and the version the same everywhere.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"


def main() -> int:
    """Builds, installs and checks; 1 with a line for each thing that is wrong."""
    version = version_of((ROOT / "CLMorphCore" / "__init__.py").read_text(encoding="utf-8"))
    for old in DIST.glob("clmorph-*"):
        old.unlink()
    _run(sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT))  # the wheel is built from the sdist
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    wrong = [
        *missing(_tracked("CLMorphCore"), zipfile.ZipFile(wheel).namelist(), wheel.name),
        *missing(_tracked("CLMorphCore"), _in_sdist(sdist), sdist.name),
        *other_versions(version, _versions(wheel, sdist)),
    ]
    if not wrong:
        wrong = _installed(wheel, version)
    for line in wrong:
        print(f"release-check: {line}", file=sys.stderr)
    if not wrong:
        print(f"release-check: {wheel.name} and {sdist.name} can be released")
    return bool(wrong)


def version_of(text: str) -> str:
    """The version that a file of Python states."""
    found = re.search(r'^__version__ = "([^"]+)"', text, re.M)
    assert found, "CLMorphCore/__init__.py has no __version__"
    return found[1]


def missing(expected: Iterable[str], there: Iterable[str], where: str) -> list[str]:
    """A line for each file that is expected and not there."""
    return [f"{where} lacks {name}" for name in sorted(set(expected) - set(there))]


def other_versions(version: str, found: dict[str, str]) -> list[str]:
    """A line for each place that has another version."""
    return [
        f"{where} has version {own or 'none'}, the package {version}" for where, own in found.items() if own != version
    ]


def _tracked(folder: str) -> list[str]:
    """The files of the repository below a folder that are to be in a distribution."""
    listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if not name.endswith("CMakeLists.txt")]


def _in_sdist(path: Path) -> list[str]:
    with tarfile.open(path) as file:
        return [name.partition("/")[2] for name in file.getnames()]


def _versions(wheel: Path, sdist: Path) -> dict[str, str]:
    def found(pattern: str, text: str) -> str:
        match = re.search(pattern, text, re.M)
        return match[1] if match else ""

    return {
        wheel.name: wheel.name.split("-")[1],
        sdist.name: sdist.name.removesuffix(".tar.gz").split("-")[1],
        "CITATION.cff": found(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(encoding="utf-8")),
        "CHANGELOG.md": found(r"^## ([0-9.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")),
    }


def _installed(wheel: Path, version: str) -> list[str]:
    """What is wrong with the wheel in a fresh environment, away from the repository."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        binaries = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
        torch = re.search(r"^torch==.*$", pins, re.M)
        assert torch
        pip = (str(binaries / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*pip, torch[0])
        _run(*pip, "-c", str(ROOT / "constraints.txt"), str(wheel))
        clmorph = str(binaries / "clmorph")
        said = _run(clmorph, "--version", cwd=folder).split()[-1]
        _run(clmorph, "models", cwd=folder)
        _run(clmorph, "demo", "-o", "demo", "--progress", "none", cwd=folder)
        results = [path.name for path in (folder / "demo").iterdir()]
        return [
            *other_versions(version, {"clmorph --version": said}),
            *missing(["labels.nii.gz", "transform.h5", "report.html", "report.json"], results, "the demo"),
        ]


def _run(*command: str, cwd: Path | None = None) -> str:
    """What a command prints; CalledProcessError where it fails. The repository is on no path of it."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ran = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=True, encoding="utf-8"
    )
    return ran.stdout


if __name__ == "__main__":
    raise SystemExit(main())
