"""Whether the files that a training began with still hold the same voxels when it goes on."""

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
from ..io.files import parse_json, read_text
from ..io.images import read_image, read_labels
from ..io.manifest import Subject
from .fingerprint import Scan

DIGESTS = "digests.json"
MAX_NAMED = 3


def write_digests(path: Path, scans: Iterable[Scan]) -> None:
    """Of each scan and its labels the voxels' digest, and the size and time by which an untouched file is known."""
    entries = {}
    for scan in scans:
        subject = scan.subject
        entries[subject.name] = {"image": [scan.digest, *_stamp(subject.image)]}
        if subject.labels is not None:
            entries[subject.name]["labels"] = [digest(read_labels(subject.labels)), *_stamp(subject.labels)]
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(entries, indent=1), encoding="utf-8")


def check_digests(path: Path, subjects: Sequence[Subject]) -> None:
    """InputError that names the files whose voxels are other ones; a training of an earlier version has no digests."""
    if not path.exists():
        return
    entries = parse_json(read_text(path, "the digests of a training's scans"))
    changed = []
    for subject in subjects:
        for kind, file, read in (("image", subject.image, read_image), ("labels", subject.labels, read_labels)):
            entry = entries.get(subject.name, {}).get(kind) if isinstance(entries, dict) else None
            if entry and file is not None and entry[1:] != _stamp(file) and entry[0] != digest(read(file)):
                changed.append(str(file))
    if changed:
        more = f" and {len(changed) - MAX_NAMED} more" if len(changed) > MAX_NAMED else ""
        raise InputError(
            f"the voxels of {', '.join(changed[:MAX_NAMED])}{more} are other ones than when {path.parent} began; "
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
