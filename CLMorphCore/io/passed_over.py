"""What lies in a folder of scans and is taken for none, counted by its kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from ..errors import counted, listed
from .folders import files_below
from .label_files import OF_LABELS, is_image, stem

# Of images that are not read as scans: slices without a voxel size, arrays, formats of other programs.
OTHER_IMAGES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".npy", ".npz", ".mat", ".par", ".rec"),
    *(".mif", ".mif.gz", ".mnc", ".head", ".brik", ".brik.gz"),
)
MOST_KINDS = 4


def passed_over(folder: Path, taken: Collection[Path | None]) -> str:
    """'4 .png files; 2 images in imagesTs, without labelsTs': all but ``taken``; nothing where there is none of it."""
    endings: Counter[str] = Counter()
    test = derived = 0
    for path in files_below(folder):
        parts = path.relative_to(folder).parts[:-1]
        if not is_image(path):
            endings[_ending(path)] += _ending(path) in OTHER_IMAGES
        elif path not in taken:
            test += parts[-1:] == ("imagesTs",)
            derived += "derivatives" in parts and path.name.startswith("sub-") and not OF_LABELS.fullmatch(stem(path))
    found = _kinds(endings)
    found += [f"{counted(test, 'image')} in imagesTs, without labels in labelsTs"] if test else []
    return "; ".join([*found, *([f"{counted(derived, 'image')} below derivatives"] if derived else [])])


def seen(folder: Path) -> str:
    """'4 .png files, 1 .txt file': what lies in a folder without scans."""
    return "".join(_kinds(Counter(_ending(path) for path in files_below(folder))))


def _kinds(endings: Counter[str]) -> list[str]:
    kinds = [
        counted(count, f"{ending} file") if ending else f"{counted(count, 'file')} without an ending"
        for ending, count in endings.most_common()
        if count
    ]
    return [listed(kinds, MOST_KINDS)] if kinds else []


def _ending(path: Path) -> str:
    name = path.name.lower()
    return "".join(Path(name).suffixes[-2:]) if name.endswith(".gz") else Path(name).suffix
