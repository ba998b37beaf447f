"""Manifest of skull-stripped T1 brains: ``python -m Training.recipes.brain.prepare DATA CSV``.

DATA/Mindboggle101 (OASIS-TRT-20) gives images and DKT31 + subcortical labels, split by its split.csv; DATA/MICCAI2012
adds images without labels to the training. Its subjects 1101 and 1104 stay out: they are for trying a finished model.
"""

from __future__ import annotations

from pathlib import Path

from CLMorphCore.bundles.atlas import read_structures
from CLMorphCore.io.manifest import Subject
from Training.recipes.checks import check_subjects
from Training.recipes.manifest import command_line, folder_of, read_split, write_manifest

IMAGE = "t1weighted_brain.MNI152Affine.nii.gz"
LABELS = "labels.DKT31.manual+aseg.MNI152Affine.nii.gz"
HELD_OUT = ("1101", "1104")
# Of the protocol before DKT31, left in a few scans: banks of the superior temporal sulcus, frontal and temporal pole.
DROPPED = frozenset((1001, 2001, 1032, 2032, 1033, 2033))
SOMETIMES = DROPPED | {30, 62, 72}  # vessels and the fifth ventricle, which not everybody has


def main(data: Path, manifest: Path) -> None:
    mindboggle = folder_of(data, "Mindboggle101")
    volumes = mindboggle / "OASIS-TRT-20_volumes"
    subjects = [
        Subject(name, volumes / name / IMAGE, volumes / name / LABELS, split)
        for name, split in read_split(mindboggle).items()
    ]
    subjects += unlabelled(data)
    known = {structure.value for structure in read_structures(Path(__file__).with_name("labels.csv"))}
    check_subjects(subjects, expected=known - SOMETIMES, sometimes=SOMETIMES)
    write_manifest(manifest, subjects)


def unlabelled(data: Path) -> list[Subject]:
    """The images of DATA/MICCAI2012 that may be trained on; ends where there is no such folder."""
    folder = folder_of(data, "MICCAI2012")
    return [
        Subject(place.name, place / IMAGE, None, "train")
        for place in sorted(folder.iterdir())
        if place.is_dir() and place.name not in HELD_OUT
    ]


if __name__ == "__main__":
    command_line(main)
