"""The scans of a folder, a manifest or a list, each with the labels that lie beside it by the usual namings."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from io import StringIO
from pathlib import Path

from ..errors import FileError, InputError, counted, listed
from .contrasts import one_contrast
from .files import check_file, read_text, short
from .folders import entries, files_below, is_result, series_below
from .label_files import CHANNEL, bases, by_name, folders_of_labels, in_folders, is_image, pairs, scan_name, stem
from .manifest import ENDINGS, SPLITS, Subject, check_names, read_manifest
from .passed_over import passed_over, seen
from .tables import doubled

EXPECTED = "a folder of scans, a CSV manifest or a list of image files"
# Folders of images and, beside them, of their labels under the same names; the last ones are test scans.
BESIDE = (
    *(("imagesTr", "labelsTr"), ("images", "labels"), ("image", "label"), ("imgs", "masks"), ("images", "masks")),
    ("images", "segmentations"),
)
TEST = ("imagesTs", "labelsTs")
OF_DERIVED = ("space-", "desc-", "label-", "res-", "den-", "atlas-", "seg-", "scale-")  # entities of BIDS' derivatives
MAX_ABOVE = 3  # folders between a listed series and its labels
RECURRING = 0.5  # of the folders that a name must be found in, to be one of a kind of scan and not a scan's own
SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
WEIGHTED = re.compile(r"(?<![a-z])t[12]", re.IGNORECASE)
TABLES = ("labels.csv", "label-names.csv", "label_names.csv")


@dataclass(frozen=True)
class Collection:
    """What was found: subjects, their split empty where none is given; what was passed over; a table of label names."""

    subjects: tuple[Subject, ...]
    notes: tuple[str, ...] = ()
    label_names: Path | None = None


def find_scans(data: Path, labels_for: Mapping[Path, Path] | None = None) -> Collection:
    """The scans of a folder (nnU-Net's and BIDS' layouts among others), of a CSV manifest or of a list of files.

    ``labels_for`` gives labels to images that were found, in place of what lies beside them. InputError where there is
    no scan, or no such image.
    """
    check_file(data, EXPECTED, folder=True)
    found = _folder(data) if data.is_dir() else _file(data)
    if not found.subjects:
        notes = [note for note in (*found.notes, seen(data) if data.is_dir() else "") if note]
        more = f" ({'; '.join(notes)})" if notes else ""
        raise FileError(
            f"{data} holds no scan{more}; expected {EXPECTED}, with files ending in {', '.join(ENDINGS)} or folders of "
            "one DICOM series each"
        )
    check_names(found.subjects)
    if data.is_dir() and (rest := passed_over(data, {file for s in found.subjects for file in (s.image, s.labels)})):
        found = replace(found, notes=(*found.notes, f"not taken for scans: {rest}"))
    return replace(found, subjects=_with_labels(found.subjects, labels_for or {}))


def _with_labels(subjects: Sequence[Subject], labels_for: Mapping[Path, Path]) -> tuple[Subject, ...]:
    wanted = {image.resolve(): labels for image, labels in labels_for.items()}
    missing = wanted.keys() - {s.image.resolve() for s in subjects}
    if missing:
        raise InputError(
            f"`labels_for` names {min(missing)}, which is not among the {counted(len(subjects), 'scan')} of the data; "
            "expected one of them"
        )
    for labels in wanted.values():
        check_file(labels, "a label image")
    return tuple(replace(s, labels=wanted.get(s.image.resolve(), s.labels)) for s in subjects)


def _file(path: Path) -> Collection:
    """A manifest, whose splits may be left to be made, or a list with a path on each line."""
    text = read_text(path, EXPECTED)
    first = next(csv.reader(StringIO(text, newline="")), [])
    if path.suffix.lower() == ".csv" or "image" in first:
        return Collection(tuple(read_manifest(path, splits=False)), label_names=_table_in(path.parent))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    images = [path.parent / line for line in lines]
    gone = [str(image) for image in images if not image.exists()]
    if gone:
        raise FileError(
            f"{path} lists {counted(len(gone), 'file that does', 'files that do')} not exist "
            f"({listed(gone)}); "
            "expected the path of an image on each line, from the list's own folder on"
        )
    alone = len({image.parent for image in images}) > 1
    in_folder = cache(by_name)
    beside = cache(lambda folder: pairs(sorted(p for p in folder.iterdir() if is_image(p)), alone)[1])
    labels_of = {image: _beside(image, in_folder, beside) for image in images}
    lacking = [image for image in images if image.is_dir()]
    labels_of |= {image: labels_of[image] or found for image, found in _of_series(lacking, in_folder).items()}
    labels = set(labels_of.values())
    of_others = [image for image in images if image in labels]
    found = [(image, labels_of[image]) for image in images if image not in labels]
    notes = (f"{some(of_others, path.parent)} are the labels of others and no scans",) if of_others else ()
    return Collection(_with_splits(named(found, path.parent), path.parent), notes, _table_in(path.parent))


def _beside(
    image: Path, in_folder: Callable[[Path], Mapping[str, Path]], beside: Callable[[Path], Mapping[Path, Path]]
) -> Path | None:
    """The labels of one image: of its name ``in_folder`` of labels, or ``beside`` it in its own folder."""
    for images, labels in (*BESIDE, TEST):
        if image.parent.name != images:
            continue
        for name in (stem(image), scan_name(image)):
            if found := in_folder(image.parent.with_name(labels)).get(name):
                return found
    if image.is_file() and (others := folders_of_labels(image.parent)):
        return next((found for folder in others if (found := in_folder(folder).get(scan_name(image)))), None)
    return beside(image.parent).get(image) if image.is_file() else None


def _of_series(listed: Sequence[Path], in_folder: Callable[[Path], Mapping[str, Path]]) -> dict[Path, Path | None]:
    """Listed series → labels, in a series' folder or above it, up to the folder that holds other series too."""
    below: dict[Path, dict[Path, Path]] = defaultdict(dict)  # folder → series below it → what lies there of each
    for series in listed:
        for place, own in zip((series, *series.parents), (series, series, *series.parents), strict=False):
            below[place][series] = own
    return {series: _of_one_series(series, below, in_folder) for series in listed}


def _of_one_series(
    series: Path, below: Mapping[Path, Mapping[Path, Path]], in_folder: Callable[[Path], Mapping[str, Path]]
) -> Path | None:
    for place in (series, *series.parents[:MAX_ABOVE]):
        own, others = below[place][series], set(below[place].values())
        files = [*filter(is_image, entries(place)), *sorted(others)]
        if found := pairs(files, alone=len(below[place]) == 1)[1].get(own):
            return found
        for folder in folders_of_labels(place):
            if found := in_folder(folder).get(stem(own)):
                return found
        if len(below[place]) > 1:
            break
    return None


def _folder(folder: Path) -> Collection:
    names, inner = _table_in(folder), _only_folder(folder)
    if inner is not None:
        found = _folder(inner)
        return replace(found, label_names=found.label_names or names)
    below = {path.name.lower(): path.name for path in entries(folder) if path.is_dir()}
    for images, labels in BESIDE:
        if images.lower() in below and (labels.lower() in below or images == BESIDE[0][0]):
            found = _two_folders(folder, below[images.lower()], below.get(labels.lower(), labels))
            return replace(found, label_names=names)
    subjects, notes = _bids(folder) if any(path.is_dir() for path in folder.glob("sub-*")) else ([], [])
    if not subjects:
        subjects, notes = _walked(folder)
    return Collection(_with_splits(subjects, folder), tuple(notes), names)


def _only_folder(folder: Path) -> Path | None:
    """The folder in which all lies, as a data set of nnU-Net or BIDS does that was unpacked here."""
    own = [path for path in entries(folder) if not path.name.startswith(".")]
    folders = [path for path in own if path.is_dir()]
    beside = any(is_image(path) or path.name == "split.csv" for path in own if path.is_file())
    alone = len(folders) == 1 and not beside and not is_result(folders[0])
    return folders[0] if alone and any(path.is_dir() for path in entries(folders[0])) else None


def _two_folders(folder: Path, images: str, labels: str) -> Collection:
    """imagesTr and labelsTr, and imagesTs where labelsTs measures it; of several channels the first."""
    subjects, channels, gone = [], set(), 0
    for one, other, split in ((images, labels, ""), (*TEST, "test")):
        if not (folder / one).is_dir() or (split and not (folder / other).is_dir()):
            continue
        labels_of = by_name(folder / other)
        names = {p: stem(p) for p in sorted((folder / one).iterdir()) if is_image(p)} or _names_of_series(folder / one)
        own = {p: labels_of.get(name) for p, name in names.items()}
        numbered = any(of_scan and CHANNEL.fullmatch(names[p]) for p, of_scan in own.items())  # scans, not channels
        for path, of_scan in own.items():
            name, channel = names[path], CHANNEL.fullmatch(names[path])
            if channel and not numbered:
                if channel[2] != "0000":
                    channels.add(channel[2])
                    continue
                name, of_scan = channel[1], labels_of.get(channel[1])
            gone += of_scan is None
            subjects.append(Subject(name, path, of_scan, split))
    notes = [f"the channels {', '.join(sorted(channels))} are left out: a model is of one contrast"] if channels else []
    if gone and (gone < len(subjects) or any(map(is_image, entries(folder / labels)))):
        notes.append(f"{gone} of {len(subjects)} images have no labels in {labels}: they are trained on without")
    return Collection(_with_splits(subjects, folder), tuple(notes))


def _names_of_series(folder: Path) -> dict[Path, str]:
    """The series of DICOM below a folder of them, called by the folder there that each lies in alone."""
    places = {series: series.relative_to(folder).parts for series in series_below(folder, ())}
    counts = Counter(parts[:1] for parts in places.values())
    return {p: parts[0] if counts[parts[:1]] == 1 else "_".join(parts) for p, parts in places.items() if parts}


def _bids(folder: Path) -> tuple[list[Subject], list[str]]:
    """sub-NAME[/ses-NAME]/anat/…_SUFFIX, of the commonest suffix; labels are …_dseg there or below derivatives."""
    files = [p for p in files_below(folder) if is_image(p) and p.name.startswith("sub-")]
    labels = [p for p in files if stem(p).endswith(("_dseg", "_seg", "_labels", "_mask"))]
    raw = [p for p in files if p not in labels and "derivatives" not in p.relative_to(folder).parts]
    raw = [p for p in raw if "_" in stem(p) and "-" not in stem(p).rpartition("_")[2]]
    kinds = Counter(stem(p).rpartition("_")[2] for p in raw)
    if not kinds:
        return [], []
    kind = max(kinds, key=lambda suffix: (kinds[suffix], suffix.startswith("T1")))
    notes = [
        f"{counted(count, 'scan')} of the kind {other} {'is' if count == 1 else 'are'} left out: "
        f"a model is of one contrast, {kind} is the commonest"
        for other, count in sorted(kinds.items())
        if other != kind
    ]
    subjects = []
    for path in (p for p in raw if stem(p).endswith(f"_{kind}")):
        name = stem(path).removesuffix(f"_{kind}")
        own = [p for p in labels if _entities(p) == _entities(path) and _suffixes(p) <= {kind}]
        best = min(own, key=_rank, default=None)
        subjects.append(Subject(name, path, best, "", name.partition("_ses-")[0] if "_ses-" in name else ""))
    return subjects, notes


def _entities(path: Path) -> set[str]:
    """What BIDS tells a scan by, 'sub-1', 'run-2' …, without what only derived files have."""
    return {word for word in stem(path).split("_") if "-" in word and not word.startswith(OF_DERIVED)}


def _suffixes(labels: Path) -> set[str]:
    """The words of a name that are no entities, 'T1w' …, but the last, which says that it is of labels."""
    return {word for word in stem(labels).split("_")[:-1] if "-" not in word}


def _rank(labels: Path) -> tuple[bool, bool, bool, int]:
    name = labels.name
    return "_dseg" not in name, "_mask" in name, "_space-" in name, len(name)


def _walked(folder: Path) -> tuple[list[Subject], list[str]]:
    """Every scan below a folder; of several kinds in each subject's folder, those that have labels."""
    in_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in files_below(folder):
        if is_image(path):
            in_folder[path.parent].append(path)
    of_images = {place for place, files in in_folder.items() if pairs(files, alone=True)[0]}
    for series in [*series_below(folder, of_images)]:  # an image where its folder lies, or beside the labels in there
        in_folder[series if series in in_folder or series == folder else series.parent].append(series)
    found: list[tuple[Path, Path | None]] = []
    notes: list[str] = []
    with_all = in_folder
    in_folder, left, kept = one_contrast(with_all)
    if left:
        what = f"a model is of one contrast, {kept} is taken; give a list of files to choose others"
        notes.append(f"{some(left, folder)} are left out: {what}")
    unused: list[Path] = []
    of_folders, without_image, beside = in_folders(in_folder)
    for files in (files for place, files in in_folder.items() if place not in beside):
        images, labels, without = pairs(files, alone=len(in_folder) > 1)
        found += [(image, labels.get(image) or of_folders.get(image)) for image in images]
        without_image += without
        unused += sorted({*files} - {*images} - {*labels.values()} - {*without})
    found, without_image = _of_the_only_scan_below(found, without_image)
    if len(without_image) == 1:
        notes.append(f"{without_image[0].relative_to(folder)} is taken for labels and has no image beside it")
    if len(without_image) > 1:
        notes.append(f"{some(without_image, folder)} are taken for labels and have no images beside them")
    if unused:
        notes.append(f"{some(unused, folder)} of labels are not used, others of their scans are; give a manifest")
    found, more = _one_kind(sorted(found), in_folder)
    subjects, of_splits = _splits_of_folders(named(found, folder), folder)
    return subjects, [*notes, *more, *of_splits]


def _of_the_only_scan_below(
    found: Sequence[tuple[Path, Path | None]], without_image: Sequence[Path]
) -> tuple[list[tuple[Path, Path | None]], list[Path]]:
    """Labels called as such alone, or as their folder is, are of the only scan below it: case1/labels.nii.gz."""
    labels_of, left = dict(found), []
    for path in without_image:
        below = [image for image in labels_of if path.parent in image.parents]
        if len(below) == 1 and labels_of[below[0]] is None and {*bases(stem(path))} <= {path.parent.name}:
            labels_of[below[0]] = path
        else:
            left.append(path)
    return list(labels_of.items()), left


def _one_kind(
    found: list[tuple[Path, Path | None]], in_folder: Mapping[Path, Sequence[Path]]
) -> tuple[list[tuple[Path, Path | None]], list[str]]:
    """Where each subject's folder holds files of the same few names, the scans of one name and a note of the others."""
    counts, folders = Counter(image.name for image, _ in found), len({image.parent for image, _ in found})
    recurring = [name for name, n in counts.items() if n >= max(2, RECURRING * folders)]
    if len(recurring) < 2 or folders < len(recurring) or _numbered(recurring):
        return found, []
    labelled = Counter(image.name for image, labels in found if labels is not None)
    kept = max(sorted(recurring), key=lambda name: (labelled[name], counts[name]))
    others = [name for name in sorted(recurring) if name != kept]
    note = f"{', '.join(others)} of each folder are left out: a model is of one contrast, {kept} is taken; give a list"
    return [pair for pair in found if pair[0].name not in others], [f"{note} of files to choose others"]


def _numbered(names: Sequence[str]) -> bool:
    """Whether names differ by a number alone, as those of subjects do; T1 and T2 are contrasts."""
    return len({re.sub(r"\d+", "#", name) for name in names}) == 1 and not any(map(WEIGHTED.search, names))


def named(found: Sequence[tuple[Path, Path | None]], folder: Path) -> tuple[Subject, ...]:
    """Subjects called by their files or, where files are called alike, by their folders too.

    Groups are folders that are of one person each: of few scans, in many folders, or called as their scans begin. Few
    folders of many scans are something else, a treatment's or a scanner's.
    """
    per_folder = Counter(image.parent for image, _ in found)
    persons = len(per_folder) >= max(per_folder.values(), default=0)
    stems = Counter(stem(image) for image, _ in found)
    parents = {Path(os.path.abspath(image)).parent for image, _ in found}
    base = Path(os.path.commonpath(parents)) if len(parents) > 1 else Path(os.path.abspath(folder))
    subjects, seen = [], Counter[str]()
    for image, labels in found:
        place = Path(os.path.abspath(image)).parent
        above = place.relative_to(base).parts if place.is_relative_to(base) else place.parts[-1:]
        alone = per_folder[image.parent] == 1 and bool(above) and image.is_file()
        name = stem(image)
        if stems[name] > 1:
            name = "_".join(above) if alone else "_".join((*above, name))
        seen[name] += 1
        is_group = persons or stem(image).lower().startswith(place.name.lower())
        group = "_".join(above) if above and is_group and 1 < per_folder[image.parent] < len(found) / 2 else ""
        subjects.append(Subject(f"{name}_{seen[name]}" if seen[name] > 1 else name, image, labels, "", group))
    return tuple(subjects)


def _with_splits(subjects: Sequence[Subject], folder: Path) -> tuple[Subject, ...]:
    """Subjects with the splits of a split.csv in the folder (columns subject, split), where there is one."""
    path = folder / "split.csv"
    if not path.is_file():
        return tuple(subjects)
    rows = list(csv.DictReader(StringIO(read_text(path, "a CSV with the columns subject, split"), newline="")))
    if not rows or not {"subject", "split"} <= set(rows[0]) or doubled(list(rows[0])):
        raise FileError(f"{path} lacks the columns subject and split; expected them, or no such file")
    pairs = [((row["subject"] or "").strip(), (row["split"] or "").strip()) for row in rows]
    if twice := doubled([name for name, _ in pairs]):
        raise FileError(f"{path} has {short(twice)} twice; expected one row for each subject")
    split_of = dict(pairs)
    wrong = sorted({split for split in split_of.values() if split not in SPLITS})
    if wrong:
        raise FileError(f"{path} has the split {short(wrong[0])}; expected {', '.join(SPLITS)}")
    found = tuple(replace(s, split=split_of.get(s.name, split_of.get(s.group, s.split))) for s in subjects)
    unknown = [name for name in split_of if name not in {n for s in subjects for n in (s.name, s.group)}]
    without = [s.name for s in found if not s.split]
    if unknown and without:  # perhaps the same ones, spelt otherwise, and a test scan would be trained on
        raise FileError(
            f"{path} names {listed([short(name) for name in unknown])}, which is no scan here, and has no split for "
            f"{listed([short(name) for name in without])}; expected the scans' own names",
            "correct the names, or delete the rows of scans that are not here",
        )
    return found


def _table_in(folder: Path) -> Path | None:
    return next((folder / name for name in (*TABLES, "dataset.json") if (folder / name).is_file()), None)


def _splits_of_folders(subjects: Sequence[Subject], folder: Path) -> tuple[list[Subject], list[str]]:
    """The subjects in the splits that their folders name, train/a.nii.gz and test/b.nii.gz; one alone says nothing.

    Such a folder is no person's.
    """
    words = [[word.lower() for word in s.image.relative_to(folder).parts[:-1]] for s in subjects]
    splits = [next((SPLIT_FOLDERS[word] for word in own if word in SPLIT_FOLDERS), "") for own in words]
    if len(set(splits) - {""}) < 2:
        return list(subjects), []
    counts = Counter(split or "no split yet" for split in splits)
    note = f"splits are taken from the folders' names: {', '.join(f'{n} for {split}' for split, n in counts.items())}"
    group = ["" if s.group.lower() in SPLIT_FOLDERS else s.group for s in subjects]
    return [replace(s, split=split, group=g) for s, split, g in zip(subjects, splits, group, strict=True)], [note]


def some(files: Sequence[Path], folder: Path) -> str:
    """'5 files (a, b, c …)', seen from a folder."""
    return f"{counted(len(files), 'file')} ({listed([os.path.relpath(path, folder) for path in files])})"
