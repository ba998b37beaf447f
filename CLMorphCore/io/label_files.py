"""Which files are labels, and of which images: by their names, and by the folders that they lie in."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from .manifest import ENDINGS

# What names a file of labels, the likeliest first: as a whole name, at its end or, with a separator, at its start.
LABEL_WORDS = (
    *("labels", "label", "labelmap", "seg", "segmentation", "dseg", "gt", "groundtruth", "parcellation", "annotation"),
    *("lbl", "segm", "segmented", "annotated", "parc", "aseg", "manual", "mask", "roi"),
)
_WORDS = "|".join(LABEL_WORDS)
_VERSION = r"(?:[-_. ]?(?:\d|v\d+|final|corrected|edited))?"  # at the end of a name
OF_LABELS = re.compile(
    rf"(?:(?P<base>.*?)[-_. ]+)?(?:brain[-_]?)?(?P<word>{_WORDS}){_VERSION}|(?P<first>{_WORDS})[-_. ].*", re.IGNORECASE
)
FOLDER_OF_LABELS = re.compile(rf"(?:.*[-_. ])?(?:{_WORDS})s?(?:tr|ts)?", re.IGNORECASE)
SEPARATORS = "-_. "
CHANNEL = re.compile(r"(.*)_(\d{4})")  # of nnU-Net: name_0000 is the first channel of a scan


def is_image(path: Path) -> bool:
    """Whether a name ends as those of images do; hidden files are none."""
    return path.name.lower().endswith(ENDINGS) and not path.name.startswith(".")


def stem(path: Path) -> str:
    """The name without the ending of its format; other dots stay."""
    name = path.name
    ending = max((e for e in ENDINGS if name.lower().endswith(e)), key=len, default="")
    return name[: len(name) - len(ending)] if ending else name


def scan_name(path: Path) -> str:
    """The name without its format and without the channel of nnU-Net."""
    channel = CHANNEL.fullmatch(stem(path))
    return channel[1] if channel else stem(path)


def bases(name: str) -> list[str]:
    """What a name of labels may be of, the longest first: it without its last word for labels, or its last two …"""
    found: list[str] = []
    while (split := OF_LABELS.fullmatch(name)) and (name := split["base"] or ""):
        found.append(name)
    return found


def by_name(folder: Path) -> dict[str, Path]:
    """The files of a folder of labels by the scan's name: their own name, and it without words for labels."""
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if is_image(p)) if folder.is_dir() else ():
        for name in (stem(path), *bases(stem(path))):
            found.setdefault(name, path)
    return found


def folders_of_labels(folder: Path) -> list[Path]:
    """The folders beside one of images that are called as folders of labels are."""
    if FOLDER_OF_LABELS.fullmatch(folder.name) or not folder.parent.is_dir():
        return []
    return [p for p in sorted(folder.parent.iterdir()) if FOLDER_OF_LABELS.fullmatch(p.name) and p.is_dir()]


def pairs(files: Sequence[Path], alone: bool) -> tuple[list[Path], dict[Path, Path], list[Path]]:
    """(images, their labels, labels without an image) of one folder's files and, as images, folders of DICOM.

    With ``alone``, where each folder is of one subject, labels of any name are those of a folder's only image.
    """
    marked = {path: OF_LABELS.fullmatch(stem(path)) if is_image(path) else None for path in files}
    images = [path for path in files if not marked[path]]
    names = defaultdict(list)
    for image in images:
        names[stem(image).lower()].append(image)
    chosen: dict[Path, tuple[int, Path]] = {}
    without = []
    for path, mark in marked.items():
        if not mark:
            continue
        anybodys = len(images) == 1 and (alone or not mark["base"])
        image = _image_of(path, names) or (images[0] if anybodys else None)
        if image is None:
            without.append(path)
            continue
        rank = LABEL_WORDS.index((mark["word"] or mark["first"]).lower())
        chosen[image] = min(chosen.get(image, (rank, path)), (rank, path))
    return images, {image: path for image, (_, path) in chosen.items()}, without


def _image_of(labels: Path, names: Mapping[str, Sequence[Path]]) -> Path | None:
    """The image of the labels' base or, where only one's name goes on after it, that: m1_T2 of m1_seg."""
    for base in map(str.lower, bases(stem(labels))):
        if base in names:
            return names[base][0]
        longer = [own for name, own in names.items() if name.startswith(tuple(base + c for c in SEPARATORS))]
        if sum(map(len, longer)) == 1:
            return longer[0][0]
    return None


def in_folders(in_folder: Mapping[Path, Sequence[Path]]) -> tuple[dict[Path, Path], list[Path], set[Path]]:
    """(images' labels, labels without an image, folders) of folders of labels that lie beside or in those of images."""
    found: dict[Path, Path] = {}
    without: list[Path] = []
    folders: set[Path] = set()
    for place, files in in_folder.items():
        if not FOLDER_OF_LABELS.fullmatch(place.name):
            continue
        near = [p for p in in_folder if place.parent in (p, p.parent)]
        beside = [p for p in near if p == place.parent or not FOLDER_OF_LABELS.fullmatch(p.name)]
        images = [image for p in beside for image in in_folder[p]]
        alone = len(images) == len(files) == 1
        called = defaultdict(list)
        for image in images:
            for name in {stem(image), scan_name(image)}:
                called[name].append(image)
        own = {
            image: path
            for path in files
            for image in (images if alone else (i for name in (stem(path), *bases(stem(path))) for i in called[name]))
        }
        of_one = len(images) == 1 and beside == [place.parent]  # a file for each structure of one scan
        if own or of_one:
            found |= own
            without += [path for path in files if path not in own.values()]
            folders.add(place)
    return found, without, folders
