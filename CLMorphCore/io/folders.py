"""What lies below a folder: files, series of DICOM, and no results of earlier runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from .checksums import KEY
from .dicom import is_dicom
from .files import cannot_read, parse_json


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, by name, but hidden ones and results of earlier runs; FileError for a closed folder.

    Folders that are links are entered, each once: they may lead in a circle.
    """

    def closed(error: OSError) -> None:
        raise cannot_read(Path(error.filename), error, "a folder of scans") from None

    seen = {folder.resolve()}
    for place, folders, files in os.walk(folder, onerror=closed, followlinks=True):
        new = {name: (Path(place) / name).resolve() for name in sorted(folders) if not name.startswith(".")}
        folders[:] = [name for name, there in new.items() if there not in seen and not is_result(there)]
        seen |= set(new.values())
        made = _made_in(Path(place)) if "report.json" in files else set()
        yield from (Path(place) / name for name in sorted(files) if not name.startswith(".") and name not in made)


def series_below(folder: Path, with_images: Iterable[Path]) -> Iterator[Path]:
    """Folders of which one file is of DICOM, but those that hold images; the index of a disk of them is none."""
    seen = set(with_images)
    for path in files_below(folder):
        if path.parent in seen or path.name.upper() == "DICOMDIR":
            continue
        try:
            with path.open("rb") as file:
                if is_dicom(file.read(132)):
                    seen.add(path.parent)
                    yield path.parent
        except OSError:
            continue


def is_result(folder: Path) -> bool:
    """Whether a training, a model or a run of an older version has written what lies in a folder: that are no scans."""
    made = ({"plan.toml", "scans.csv"}, {"report.json", "report.html"}, {"card.toml", "weights.safetensors"})
    return not _made_in(folder) and any(all((folder / name).is_file() for name in names) for names in made)


def _made_in(folder: Path) -> set[str]:
    """The results that a run has written into a folder, by its report; a scan may lie beside them."""
    try:
        tree = parse_json((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    files = tree.get(KEY) if isinstance(tree, dict) and "model" in tree else None
    return set(files) if isinstance(files, dict) else set()


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
