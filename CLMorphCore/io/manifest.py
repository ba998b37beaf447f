"""Manifests of subjects, and their volumes: each one read, aligned and put on the network's grid once."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import SimpleITK as sitk

from ..atomic import atomic_write
from ..errors import FileError, did_you_mean, printable
from .files import check_file, read_text, short
from .images import read_image, read_labels_of
from .label_grid import covers_a_part
from .tables import doubled, more_cells, other_separator
from .volume import add_warning

EXPECTED = "a CSV manifest or a folder of images"
MAX_SHOWN = 80  # characters of what a cell holds
MAX_SUBJECT_BYTES = 255  # of a file's name, nearly everywhere
MAX_FAULT = 300  # characters of one, a path among them
SPLITS = ("train", "validation", "test")
COLUMNS = ("subject", "image", "labels", "split", "group")
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".mgz", ".mgh")


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


def read_manifest(path: str | Path, *, splits: bool = True, files: bool = True, others: bool = False) -> list[Subject]:
    """Subjects of a CSV file (columns subject, image, labels, split, group), or of a folder (all for training).

    Paths are relative to the manifest. Every fault of every row is listed in one InputError. Without ``splits`` the
    split may be missing, of all rows or of one; it is then empty. Without ``files`` they may be missing. With
    ``others`` there may be more columns, of whatever is known of subjects, and splits of any name.
    """
    path = Path(path)
    check_file(path, EXPECTED, folder=True)
    if path.is_dir():
        return _folder(path)
    text = read_text(path, EXPECTED, kind="CSV")
    try:
        reader = csv.DictReader(StringIO(text, newline=""))
        reader.fieldnames = [(name or "").strip() for name in reader.fieldnames or ()]
        _check_columns(path, reader.fieldnames, splits=splits, others=others)
        rows = list(reader)
    except csv.Error as error:
        raise FileError(f"{path} cannot be read as CSV: {short(error)}; expected {EXPECTED}") from None
    subjects = [_subject(row, path.parent) for row in rows]
    faults = (
        [*more_cells(rows), *_faults(subjects, path.parent, splits=splits, files=files, others=others)]
        if subjects
        else ["it has no rows; expected one for each subject"]
    )
    if faults:
        more = f"; and {len(faults) - 20} more" if len(faults) > 20 else ""
        raise FileError(f"{path}: " + "; ".join(fault[:MAX_FAULT] for fault in faults[:20]) + more)
    return subjects


def write_manifest(path: Path, subjects: Iterable[Subject]) -> None:
    """A manifest with absolute paths, as ``read_manifest`` reads it."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for s in subjects:
            labels = s.labels.absolute() if s.labels is not None else ""
            writer.writerow((s.name, s.image.absolute(), labels, s.split, s.group))


def choose(subjects: Iterable[Subject], split: str, *, labelled: bool = False) -> list[Subject]:
    """The subjects of a split; with ``labelled`` only those with labels."""
    return [s for s in subjects if s.split == split and (s.labels is not None or not labelled)]


def read_subject(subject: Subject) -> tuple[sitk.Image, sitk.Image | None]:
    """Image and labels of a subject, on the image's grid; InputError if the labels lie on another one.

    That labels have a part of the grid alone is what ``warnings_of`` them tells.
    """
    image = read_image(subject.image)
    if subject.labels is None:
        return image, None
    labels, share = read_labels_of(image, subject.labels, name=str(subject.image))
    if share < 1:
        add_warning(labels, covers_a_part(share))
    return image, labels


def _folder(folder: Path) -> list[Subject]:
    images = sorted(p for p in folder.iterdir() if p.name.lower().endswith(ENDINGS) and p.name[0] != ".")
    if not images:
        raise FileError(f"{folder} holds no images; expected files ending in {', '.join(ENDINGS)}, or a CSV manifest")
    return [Subject(p.name.split(".")[0], p, None, "train") for p in images]


def _check_columns(path: Path, given: Sequence[str], *, splits: bool, others: bool) -> None:
    for column in given:
        if column not in COLUMNS and not (others and {"subject", "image"} <= set(given)):
            near = did_you_mean((column or "")[:MAX_SHOWN], COLUMNS)
            hint = other_separator(given) or near
            raise FileError(f"{path} has an unknown column {short(column, MAX_SHOWN)}{hint}")
    if twice := doubled(given):
        raise FileError(f"{path} has the column {twice} twice; expected {', '.join(COLUMNS)}")
    missing = [c for c in ("subject", "image", *(["split"] if splits else [])) if c not in given]
    if missing:
        raise FileError(f"{path} lacks the column {', '.join(missing)}; expected {', '.join(COLUMNS)}")


def _subject(row: dict[str, str], folder: Path) -> Subject:
    labels = (row.get("labels") or "").strip()
    name, image, split = ((row.get(column) or "").strip() for column in ("subject", "image", "split"))
    return Subject(name, folder / image, folder / labels if labels else None, split, (row.get("group") or "").strip())


def _faults(subjects: Sequence[Subject], folder: Path, *, splits: bool, files: bool, others: bool) -> Iterable[str]:
    seen, counts = set(), Counter(s.name for s in subjects)
    for row, s in enumerate(subjects, start=1):
        name = short(s.name, MAX_SHOWN)
        if not s.name:
            yield f"row {row} has no subject"
        elif counts[s.name] > 1 and s.name not in seen:
            yield f"subject {name} appears {'twice' if counts[s.name] == 2 else f'{counts[s.name]} times'}"
        if fault := _fault_of_name(s.name):
            yield f"subject {name} {fault}, expected a name that a folder can have"
        seen.add(s.name)
        if s.split not in SPLITS and (s.split or splits) and not others:
            yield f"subject {name} has split {short(s.split, MAX_SHOWN)}, expected {', '.join(SPLITS)}"
        if s.image == folder:
            yield f"subject {name} has no image"
        for kind, file in (("image", s.image), ("labels", s.labels)):
            if files and file is not None and (fault := _fault(file)):
                yield f"{kind} of subject {name} {fault}"


def check_names(subjects: Iterable[Subject]) -> None:
    """InputError where no manifest could hold a subject that was found by its file: its name, or where it lies."""
    for s in subjects:
        if fault := _fault_of_name(s.name):
            raise FileError(
                f"{short(str(s.image))} makes a subject that {fault}; expected a name that a folder can have",
                "rename the file, or give a manifest",
            )
        for file in (s.image, s.labels):
            if file is not None and (not _is_printable(str(file)) or str(file) != str(file).strip()):
                raise FileError(
                    f"{short(str(file))} has a path with letters that cannot be printed, or with a space at its end; "
                    "expected one that a CSV can hold",
                    "rename it",
                )


def _fault_of_name(name: str) -> str:
    """What keeps a subject's name from being that of a folder, or nothing."""
    if name.startswith(".") or set(name) & set("/\\"):  # build-atlas --each calls folders so
        return "begins with a dot or holds / or \\"
    if len(name.encode(errors="surrogatepass")) > MAX_SUBJECT_BYTES or not _is_printable(name):
        return f"has more than {MAX_SUBJECT_BYTES} bytes or letters that cannot be printed"
    return ""


def _is_printable(name: str) -> bool:
    return printable(name) == name and not set(name) & set("\t\n\r")


def _fault(file: Path) -> str:
    """Why a file of a subject cannot be read, or nothing; a DICOM series is a folder."""
    try:
        check_file(file, "a file of a subject", folder=True, name="it")
    except FileError as error:
        reason = error.problem.partition(";")[0].removeprefix("it ")
        return f"not found: {file}" if reason == "does not exist" else f"{reason}: {file}"
    return ""
