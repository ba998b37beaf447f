"""Whether the files that a training began with still hold the same voxels, in the same place, when it goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..atomic import atomic_write
from ..errors import InputError
from ..io.files import read_json
from ..io.images import read_image, read_labels
from ..io.manifest import Subject
from .scans import Scan, grid_of

DIGESTS = "digests.json"
MAX_NAMED = 3
MAX_DRIFT = 1e-4  # between two accounts of one grid, of lengths in mm and of directions' cosines


def write_digests(path: Path, scans: Iterable[Scan]) -> None:
    """Of each scan and its labels the voxels' digest, size and time, by which an untouched file is known, the grid."""
    entries = {}
    for scan in scans:
        subject = scan.subject
        entries[subject.name] = {"image": [scan.digest, *_stamp(subject.image), scan.grid]}
        if subject.labels is not None:
            entries[subject.name]["labels"] = [digest(read_labels(subject.labels)), *_stamp(subject.labels)]
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(entries, indent=1), encoding="utf-8")


def check_digests(path: Path, subjects: Sequence[Subject]) -> None:
    """InputError that names the files whose voxels are other ones; a training of an earlier version has no digests."""
    if not path.exists():
        return
    entries = read_json(path, "the digests of a training's scans")
    changed, moved = [], []
    for subject in subjects:
        for kind, file, read in (("image", subject.image, read_image), ("labels", subject.labels, read_labels)):
            entry = entries.get(subject.name, {}).get(kind) if isinstance(entries, dict) else None
            if not entry or file is None or entry[1:3] == _stamp(file):
                continue
            image = read(file)
            if entry[0] != digest(image):
                changed.append(str(file))
            elif len(entry) > 3 and not np.allclose(entry[3], grid_of(image), rtol=MAX_DRIFT, atol=MAX_DRIFT):
                moved.append(str(file))
    for files, what in ((changed, "voxels of"), (moved, "spacing, origin or axes in the header of")):
        if files:
            more = f" and {len(files) - MAX_NAMED} more" if len(files) > MAX_NAMED else ""
            raise InputError(
                f"the {what} {', '.join(files[:MAX_NAMED])}{more} are other ones than when {path.parent} began; "
                "expected the same scans",
                "put them back, or train in another folder",
            )


def digest(image: sitk.Image) -> str:
    """Of the voxels alone."""
    return hashlib.sha256(np.ascontiguousarray(sitk.GetArrayViewFromImage(image)).tobytes()).hexdigest()


def _stamp(path: Path) -> list[Any]:
    """Size and time of a file, or of all in the folder of a series."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    return [sum(one.st_size for one in stats), max((one.st_mtime_ns for one in stats), default=0)]
