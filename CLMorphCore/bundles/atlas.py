"""Atlases: a moving image, its labels and what they mean, from files and into files."""

from __future__ import annotations

import colorsys
import csv
import itertools
import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..atomic import atomic_folder
from ..errors import InputError, printable
from ..geometry import Grid
from ..io.checksums import seal
from ..io.files import folders_in, parse_json, read_text, short
from ..io.images import MAX_LABEL, check_sources, read_image, read_labels, write_image
from ..io.label_grid import on_grid_of
from ..io.outputs import check_results
from ..io.tables import doubled, escaped, more_cells, other_separator, unescaped, whole_number
from ..tissue.shares import LabelShares, read_shares, write_shares

LOG = logging.getLogger(__name__)
NAMES = "labels.csv"
SHARES = "shares.npz"  # of the voters, where there are several
CHECKSUMS = "checksums.json"  # which tells later whether an atlas was corrected by hand; nothing else reads it
FILES = ("image.nii.gz", "labels.nii.gz", NAMES, SHARES, CHECKSUMS)
EXPECTED_NAMES = "a CSV with the columns value,name,color,terminology"
# What other programs call the two columns that are needed, in small letters.
VALUE_COLUMNS = ("value", "index", "id", "label")
NAME_COLUMNS = ("name", "structure", "region", "label name", "label")
RANGE = re.compile(r"\d+\s*[~:–-]\s*\d+")  # of labels, in a row that names a group of them


@dataclass(frozen=True)
class Structure:
    """One label: its value, name, colour ``#rrggbb`` and terminology ``SCHEME^CODE^MEANING`` (may be empty)."""

    value: int
    name: str
    color: str
    terminology: str = ""


@dataclass(frozen=True)
class Atlas:
    """A moving image with labels on its grid, the structures that they mean and, of several voters, their shares."""

    name: str
    image: sitk.Image
    labels: sitk.Image
    structures: tuple[Structure, ...]
    shares: LabelShares | None = None


def read_atlases(folder: Path) -> tuple[Atlas, ...]:
    """The atlases in the folders below ``folder``, by name, or the one that it is; InputError where there is none."""
    if (folder / FILES[0]).is_file() and (folder / FILES[1]).is_file():
        return (read_atlas(folder),)
    found = tuple(read_atlas(path) for path in folders_in(folder, "a folder of atlases"))
    if not found:
        raise InputError(
            f"{folder} holds no atlas; expected folders with image.nii.gz, labels.nii.gz and labels.csv, "
            "as clmorph build-atlas --each writes them"
        )
    return found


def read_atlas(folder: Path) -> Atlas:
    """The atlas in a folder: image.nii.gz, labels.nii.gz, labels.csv and, where there are any, shares.npz."""
    atlas = make_atlas(folder.name, folder / "image.nii.gz", folder / "labels.nii.gz", folder / "labels.csv")
    if not (path := folder / SHARES).exists():
        return atlas
    shares = read_shares(path)
    if shares.shape != Grid.of(atlas.labels).shape:
        raise InputError(
            f"{path} is of a grid of {shares.shape} voxels, the atlas' labels of one of {Grid.of(atlas.labels).shape} "
            "(z, y, x); copy the atlas again, or delete the file: the atlas works without it"
        )
    return replace(atlas, shares=shares)


def make_atlas(name: str, image_path: Path, labels_path: Path, names_path: Path | None) -> Atlas:
    """An atlas from files; without a table of names the structures are called by their values."""
    image = read_image(image_path)
    labels = on_grid_of(image, read_labels(labels_path), names=("the atlas image", "atlas labels"))
    values = label_values(labels)
    if not values:
        raise InputError(f"atlas labels {labels_path} are empty; expected at least one label above zero")
    structures = read_structures(names_path) if names_path is not None else default_structures(values)
    unnamed = set(values) - {s.value for s in structures}
    if unnamed:
        raise InputError(f"{names_path} does not name the labels {sorted(unnamed)[:10]}; expected a row for each label")
    return Atlas(name, image, labels, tuple(s for s in structures if s.value in values))


def label_values(labels: sitk.Image) -> list[int]:
    """The values above zero, ascending; InputError for negative ones."""
    values = np.unique(sitk.GetArrayViewFromImage(labels)).tolist()
    if values and values[0] < 0:
        raise InputError(f"labels hold the negative value {values[0]}; expected 0 for background and values above it")
    return [v for v in values if v]


def read_structures(path: Path) -> tuple[Structure, ...]:
    """Structures from a CSV with the columns value, name, color, terminology (the last two may be missing)."""
    text = read_text(path, EXPECTED_NAMES, kind="a table of labels")
    try:
        reader = csv.DictReader(StringIO(text, newline=""))
        reader.fieldnames = _named_as_here(reader.fieldnames or ())
        if missing := [column for column in ("value", "name") if column not in reader.fieldnames]:
            raise InputError(
                f"{path} cannot be read as a table of labels (it lacks the column {' and '.join(missing)}); expected "
                f"{EXPECTED_NAMES}{other_separator(reader.fieldnames or ())}"
            )
        if twice := doubled(reader.fieldnames or ()):
            raise InputError(f"{path} has the column {short(twice)} twice; expected {EXPECTED_NAMES}")
        rows = [row for row in reader if not _is_remark(row)]
        if faults := more_cells(rows):
            raise InputError(f"{path}: {faults[0]}; expected {EXPECTED_NAMES}")
        values = [whole_number(row["value"]) for row in rows]
        names = [unescaped(row["name"] or "") for row in rows]
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read as a table of labels ({type(error).__name__}: {short(error)}); "
            f"expected {EXPECTED_NAMES}"
        ) from None
    defaults = {s.value: s.color for s in default_structures(values, [row.get("color") or "" for row in rows])}
    structures = tuple(
        Structure(value, name, row.get("color") or defaults[value], unescaped(row.get("terminology") or ""))
        for value, name, row in zip(values, names, rows, strict=True)
    )
    seen: set[int] = set()
    for s in structures:
        if s.value in seen:
            raise InputError(f"{path} names the label {short(s.value)} twice; expected one row for each label")
        seen.add(s.value)
        if not 0 <= s.value <= MAX_LABEL:
            raise InputError(f"{path} names the label {short(s.value)}; expected 0 to {MAX_LABEL}")
        if any(printable(text) != text for text in (s.name, s.terminology)):
            raise InputError(
                f"{path}: label {short(s.value)} has letters that cannot be printed in its name or terminology; "
                f"expected {EXPECTED_NAMES}"
            )
        if not s.name:
            raise InputError(f"{path}: label {short(s.value)} has no name; expected value,name,color,terminology")
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", s.color):
            raise InputError(f"{path}: label {short(s.value)} has colour {short(s.color)}; expected #rrggbb")
    return structures


def same_names(structures: Sequence[Structure]) -> list[str]:
    """'2 labels are called X …' of each name that several labels have."""
    counts = Counter(s.name for s in structures)
    return [
        f"{count} labels are called {short(name)}: nothing tells them apart but their values"
        for name, count in counts.items()
        if count > 1
    ]


def _is_remark(row: dict[str, str]) -> bool:
    """Whether a row has words instead of a value, and no name; or names a range of labels, 1~20, as a group."""
    value = row["value"] or ""
    if RANGE.fullmatch(value.strip()):
        LOG.warning(f"the row {value.strip()} of a table of labels names a group of them; it is passed over")
        return True
    return bool(re.search(r"[^\W\d]", value)) and not (row["name"] or "").strip()


def _named_as_here(columns: Sequence[str]) -> list[str]:
    """A table's columns, those of values and of names called so, whatever other programs call them."""
    small = [(column or "").strip().lower() for column in columns]
    value = next((name for name in VALUE_COLUMNS if name in small), None)
    name = next((name for name in NAME_COLUMNS if name in small and name != value), None)
    if name is None or value is None:
        return list(columns)
    known = {small.index(value): "value", small.index(name): "name"}
    return [known.get(n, column) for n, column in enumerate(columns)]


def read_dataset_labels(path: Path) -> tuple[Structure, ...]:
    """Structures from a dataset.json, as the Decathlon ({"1": name}) and nnU-Net ({name: 1}) have it."""
    try:
        labels = parse_json(read_text(path, "a dataset.json with labels"))["labels"]
        pairs = [(key, value) if str(key).isdecimal() else (value, key) for key, value in labels.items()]
        names = {whole_number(str(value)): str(name) for value, name in pairs}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} names no labels ({type(error).__name__}: {short(error)}); expected its entry labels to be "
            "values with names"
        ) from None
    colors = {s.value: s.color for s in default_structures([v for v in names if v])}
    return tuple(Structure(value, printable(name), colors[value]) for value, name in sorted(names.items()) if value)


def default_structures(values: Sequence[int], taken: Collection[str] = ()) -> tuple[Structure, ...]:
    """'Label N' for each value, in colours whose hues are spread by the golden ratio, none of them ``taken``."""
    others = {color.lower() for color in taken}
    colors = (color for color in map(_spread_color, itertools.count()) if color not in others)
    return tuple(Structure(value, f"Label {value}", color) for value, color in zip(values, colors, strict=False))


def with_unnamed(structures: Sequence[Structure], values: Iterable[int]) -> tuple[Structure, ...]:
    """The structures, and those of the values that are none of theirs, called by these, in colours of their own."""
    unnamed = sorted(set(values) - {s.value for s in structures})
    return (*structures, *default_structures(unnamed, [s.color for s in structures]))


def _spread_color(index: int) -> str:
    rgb = colorsys.hsv_to_rgb(index * 0.61803398875 % 1.0, 0.55 + 0.2 * (index % 2), 0.85)
    return "#" + "".join(f"{round(255 * c):02x}" for c in rgb)


def save_atlas(folder: Path, atlas: Atlas) -> None:
    """Writes an atlas as ``read_atlas`` reads it, whole or not at all.

    OutputError where that fails, or would replace what is read, or what is no atlas or was changed since.
    """
    check_sources(folder, FILES, [atlas.image, atlas.labels])
    check_atlas_place(folder)
    with atomic_folder(folder, optional=(SHARES,), certificate=NAMES) as temporary:
        write_image(atlas.image, temporary / "image.nii.gz")
        write_image(atlas.labels, temporary / "labels.nii.gz")
        if atlas.shares is not None:
            write_shares(temporary / SHARES, atlas.shares)
        with (temporary / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("value", "name", "color", "terminology"))
            writer.writerows((s.value, escaped(s.name), s.color, escaped(s.terminology)) for s in atlas.structures)
        (temporary / CHECKSUMS).write_text(json.dumps({"atlas": atlas.name}), encoding="utf-8")
        seal(temporary, folder, FILES, CHECKSUMS)


def check_atlas_place(folder: Path) -> None:
    """OutputError unless ``folder`` has no file of an atlas, or a whole atlas that is as it was written."""
    check_results(folder, FILES, certificates=(), optional=[SHARES, CHECKSUMS], record=CHECKSUMS)


def check_one_protocol(atlases: Sequence[Atlas]) -> None:
    """InputError where atlases to be fused call one value by two names, or one has no value that another has."""
    named: dict[int, tuple[str, str]] = {}
    for atlas in atlases:
        for s in atlas.structures:
            if s.name == f"Label {s.value}":  # it has no name
                continue
            other, name = named.setdefault(s.value, (atlas.name, s.name))
            if name.casefold().split() != s.name.casefold().split():
                raise InputError(
                    f"atlases {other} and {atlas.name} call the label {s.value} {short(name)} and {short(s.name)}; "
                    "expected atlases of one protocol",
                    "give their structures the same numbers and names, or use those of one protocol alone",
                )
    values = [{s.value for s in atlas.structures} for atlas in atlases]
    for n, (atlas, own) in enumerate(zip(atlases, values, strict=True)):
        if len(atlases) > 1 and not own & set().union(*values[:n], *values[n + 1 :]):
            raise InputError(
                f"atlas {atlas.name} has the labels {sorted(own)[:10]}, which no other atlas has; expected atlases of "
                "one protocol",
                "give its structures the others' numbers, or leave it out",
            )


def structures_of(atlases: Sequence[Atlas]) -> tuple[Structure, ...]:
    """The structures of all atlases by value, each as the first atlas that has it describes it."""
    if len(atlases) == 1:
        return atlases[0].structures
    named = {s.value: s for atlas in reversed(atlases) for s in atlas.structures}
    return tuple(named[value] for value in sorted(named))
