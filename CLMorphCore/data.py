"""Manifests of subjects, and their volumes: each one read, aligned and put on the network's grid once."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from torch import Tensor

from .alignment import align
from .errors import InputError, did_you_mean
from .geometry import Grid, check_same_grid, foreground_box, grid_over, resample, to_tensor, without_frame
from .preprocessing import normalise, read_image, read_labels

SPLITS = ("train", "validation", "test")
COLUMNS = ("subject", "image", "labels", "split", "group")
MOST_VOXELS = 160 * 192 * 160  # of a grid whose spacing follows an image: a brain at 1 mm
LARGEST_GRID_VOXELS = 512**3  # beyond it no network fits anywhere: a header's units are wrong
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".hdr")


@dataclass(frozen=True)
class Subject:
    """One row of a manifest; ``labels`` is None where there are none, ``group`` empty where it belongs to none.

    A group is the scans of one patient, as they were made: pairs of them need no affine alignment.
    """

    name: str
    image: Path
    labels: Path | None
    split: str
    group: str = ""


@dataclass(frozen=True)
class Volume:
    """A subject on the network's grid: image (1, 1, D, H, W) normalised, labels of the same shape or None."""

    name: str
    image: Tensor
    labels: Tensor | None
    group: str = ""


def read_manifest(path: str | Path) -> list[Subject]:
    """Subjects of a CSV file (columns subject, image, labels, split, group), or of a folder (all for training).

    Paths are relative to the manifest. Every fault of every row is listed in one InputError.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a CSV manifest or a folder of images")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or ())
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from None
    subjects = [_subject(row, path.parent) for row in rows]
    faults = list(_faults(subjects, path.parent)) if subjects else ["it has no rows; expected one for each subject"]
    if faults:
        raise InputError(f"{path}: " + "; ".join(faults[:20]) + (f"; and {len(faults) - 20} more" * (len(faults) > 20)))
    return subjects


def choose(subjects: Iterable[Subject], split: str, *, labelled: bool = False) -> list[Subject]:
    """The subjects of a split; with ``labelled`` only those with labels."""
    return [s for s in subjects if s.split == split and (s.labels is not None or not labelled)]


def network_grid(reference: sitk.Image, spacing_mm: Sequence[float], *, margin_voxels: Sequence[int],
                 divisor: Sequence[int]) -> Grid:
    """The network's grid: over the reference's foreground, anatomically aligned.

    ``spacing_mm`` and ``margin_voxels`` are (x, y, z), ``divisor`` is the network's, (D, H, W). A spacing of 0 is the
    reference's own along that axis, and coarser where the box would have more voxels than ``MOST_VOXELS``. InputError
    for more than ``LARGEST_GRID_VOXELS``.
    """
    lower, upper = foreground_box(reference)
    if min(spacing_mm) == 0:
        spacing_mm = _fitting(spacing_mm, Grid.of(reference).anatomical_spacing_mm(), upper - lower)
    grid = grid_over(lower, upper, spacing_mm, margin_voxels=margin_voxels, divisor=tuple(reversed(divisor)))
    if math.prod(grid.size) > LARGEST_GRID_VOXELS:
        extent, spacing = (" × ".join(f"{n:.4g}" for n in numbers) for numbers in (upper - lower, grid.spacing_mm))
        raise InputError(f"the image to be warped is {extent} mm large, which is {math.prod(grid.size):.2g} voxels of "
                         f"{spacing} mm for the network; expected at most {LARGEST_GRID_VOXELS:.2g}; check the units "
                         "in its header, or crop it to the organ")
    return grid


def _fitting(spacing_mm: Sequence[float], finest_mm: Sequence[float], extent_mm: np.ndarray) -> tuple[float, ...]:
    """The spacing with zeros filled from ``finest_mm``, those coarsened by one factor until the box fits."""
    free = np.array(spacing_mm) == 0
    spacing = np.where(free, finest_mm, spacing_mm)
    voxels = float(np.prod(extent_mm / spacing))
    spacing[free] *= max(1.0, voxels / MOST_VOXELS) ** (1.0 / free.sum())
    return tuple(spacing.tolist())


def network_input(image: sitk.Image, grid: Grid, transform: sitk.Transform | None = None) -> Tensor:
    """An image as a network sees it, normalised: (1, 1, D, H, W); ``transform`` maps the grid to the image."""
    return normalise(to_tensor(resample(without_frame(image), grid, transform)))


def read_subject(subject: Subject) -> tuple[sitk.Image, sitk.Image | None]:
    """Image and labels of a subject; InputError if they lie on different grids."""
    image = read_image(subject.image)
    if subject.labels is None:
        return image, None
    labels = read_labels(subject.labels)
    check_same_grid(image, labels, names=(str(subject.image), f"labels {subject.labels}"))
    return image, labels


def prepare(subject: Subject, reference: sitk.Image, grid: Grid, *, affine: bool,
            step: Callable[[], None] = lambda: None) -> Volume:
    """Reads a subject, aligns it with the reference (unless ``affine`` is false) and puts it on the network's grid."""
    image, labels = read_subject(subject)
    # The map from the reference to the subject is what resampling onto the reference's grid needs.
    to_subject = align(reference, image, step=step) if affine else None
    on_grid = to_tensor(resample(labels, grid, to_subject, labels=True)) if labels is not None else None
    return Volume(subject.name, network_input(image, grid, to_subject), on_grid, subject.group)


def _folder(folder: Path) -> list[Subject]:
    images = sorted(p for p in folder.iterdir() if p.name.lower().endswith(ENDINGS))
    if not images:
        raise InputError(f"{folder} holds no images; expected files ending in {', '.join(ENDINGS)}")
    return [Subject(p.name.split(".")[0], p, None, "train") for p in images]


def _check_columns(path: Path, given: Sequence[str]) -> None:
    for column in given:
        if column not in COLUMNS:
            raise InputError(f"{path} has an unknown column {column!r}{did_you_mean(column or '', COLUMNS)}")
    missing = [c for c in ("subject", "image", "split") if c not in given]
    if missing:
        raise InputError(f"{path} lacks the column {', '.join(missing)}; expected {', '.join(COLUMNS)}")


def _subject(row: dict[str, str], folder: Path) -> Subject:
    labels = (row.get("labels") or "").strip()
    name, image, split = ((row[column] or "").strip() for column in ("subject", "image", "split"))
    return Subject(name, folder / image, folder / labels if labels else None, split, (row.get("group") or "").strip())


def _faults(subjects: Sequence[Subject], folder: Path) -> Iterable[str]:
    seen = set()
    for row, s in enumerate(subjects, start=1):
        if not s.name:
            yield f"row {row} has no subject"
        elif s.name in seen:
            yield f"subject {s.name!r} appears twice"
        if s.name.startswith(".") or set(s.name) & set("/\\"):  # build-atlas --each calls folders so
            yield f"subject {s.name!r} begins with a dot or holds / or \\, expected a name that a folder can have"
        seen.add(s.name)
        if s.split not in SPLITS:
            yield f"subject {s.name!r} has split {s.split!r}, expected {', '.join(SPLITS)}"
        if s.image == folder:
            yield f"subject {s.name!r} has no image"
        for kind, file in (("image", s.image), ("labels", s.labels)):
            if file is not None and not file.exists():
                yield f"{kind} of subject {s.name!r} not found: {file}"
