"""Manifest of LPBA40: ``python -m Training.recipes.lpba40.prepare DATA CSV``.

DATA/LPBA40 holds one of two layouts, both Analyze files (.hdr, .img):
    SNN/SNN.delineation.skullstripped, SNN/SNN.delineation.structure.label             the space of the delineations
    LPBA40_rigidly_registered_pairs/lI_to_lJ, LPBA40_rigidly_registered_label_pairs/…  the pairs of Klein et al. 2009
Of the pairs those are taken that were registered to subject 30, the paper's atlas: forty brains in one space. Where
both layouts are there the pairs are taken, whose grid is the paper's. A printed line says which it was.
"""

from __future__ import annotations

from pathlib import Path

from CLMorphCore.io.manifest import Subject
from Training.recipes.checks import check_subjects
from Training.recipes.manifest import command_line, folder_of, write_manifest
from Training.recipes.regions import read_regions

ATLAS = "S30"  # the subject whose labels are warped onto the others
PAIRS, LABEL_PAIRS = "LPBA40_rigidly_registered_pairs", "LPBA40_rigidly_registered_label_pairs"
IN_NO_REGION = frozenset((161, 162, 181, 182))  # caudate nuclei, cerebellum, brainstem: not in every copy


def main(data: Path, manifest: Path) -> None:
    folder = folder_of(data, "LPBA40")
    pairs = (folder / PAIRS).is_dir()
    print(f"{folder}: " + (f"pairs registered to {ATLAS}" if pairs else "subjects in the space of their delineations"))
    subjects = [(_registered if pairs else _delineated)(folder, number) for number in range(1, 41)]
    regions = read_regions(Path(__file__).with_name("regions.csv"))
    check_subjects(subjects, expected=[value for region in regions for value in region.values], sometimes=IN_NO_REGION)
    write_manifest(manifest, subjects)


def _delineated(folder: Path, number: int) -> Subject:
    name = f"S{number:02d}"
    place = folder / name
    return Subject(
        name,
        place / f"{name}.delineation.skullstripped.hdr",
        place / f"{name}.delineation.structure.label.hdr",
        _split(number),
    )


def _registered(folder: Path, number: int) -> Subject:
    file = f"l{number}_to_l{int(ATLAS[1:])}.hdr"
    return Subject(f"S{number:02d}", folder / PAIRS / file, folder / LABEL_PAIRS / file, _split(number))


def _split(number: int) -> str:
    return "train" if number <= 30 else "test"


if __name__ == "__main__":
    command_line(main)
