"""Manifest of the Medical Segmentation Decathlon's task 4: ``python -m Training.recipes.hippocampus.prepare DATA CSV``.

DATA/Task04_Hippocampus holds imagesTr/, labelsTr/ and split.csv (subject, split).
"""

from __future__ import annotations

from pathlib import Path

from CLMorphCore.io.manifest import Subject
from Training.recipes.checks import check_subjects
from Training.recipes.manifest import command_line, folder_of, read_split, write_manifest
from Training.recipes.regions import read_regions


def main(data: Path, manifest: Path) -> None:
    folder = folder_of(data, "Task04_Hippocampus")
    images, labels = folder / "imagesTr", folder / "labelsTr"
    subjects = [
        Subject(name, images / f"{name}.nii.gz", labels / f"{name}.nii.gz", split)
        for name, split in read_split(folder).items()
    ]
    regions = read_regions(Path(__file__).with_name("regions.csv"))
    check_subjects(subjects, expected=[value for region in regions for value in region.values])
    write_manifest(manifest, subjects)


if __name__ == "__main__":
    command_line(main)
