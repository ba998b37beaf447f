"""Manifest of Mindboggle-101 brains in MNI152: ``python -m Training.recipes.mindboggle101.prepare DATA CSV``.

DATA/Mindboggle101 holds a folder COHORT_volumes/COHORT-N for each brain. With both NKI cohorts the split is the
paper's: NKI-RS-22 and NKI-TRT-20 for training, OASIS-TRT-20 for the test. Without them OASIS-TRT-20 is split by its
split.csv, and DATA/MICCAI2012 adds images without labels to the training; a printed line says so.
"""

from __future__ import annotations

from pathlib import Path

from CLMorphCore.io.manifest import Subject
from Training.recipes.brain.prepare import DROPPED, IMAGE, unlabelled
from Training.recipes.checks import check_subjects
from Training.recipes.manifest import command_line, folder_of, read_split, write_manifest
from Training.recipes.regions import read_regions

LABELS = "labels.DKT31.manual.MNI152Affine.nii.gz"
TRAIN, TEST = ("NKI-RS-22", "NKI-TRT-20"), ("OASIS-TRT-20",)  # the last number is how many they are
INSULA = frozenset((1035, 2035))  # in none of the paper's five regions


def main(data: Path, manifest: Path) -> None:
    folder = folder_of(data, "Mindboggle101")
    there = [cohort for cohort in TRAIN if (folder / f"{cohort}_volumes").is_dir()]
    if len(there) == 1:
        raise SystemExit(
            f"{folder} holds {there[0]} without the other one; expected both {' and '.join(TRAIN)}, the "
            "paper's training cohorts, or neither"
        )
    subjects = _as_in_the_paper(folder) if there else _without_nki(data)
    regions = read_regions(Path(__file__).with_name("regions.csv"))
    listed = {value for region in regions for value in region.values}
    check_subjects(subjects, expected=(listed | INSULA) - DROPPED, sometimes=DROPPED)
    write_manifest(manifest, subjects)


def _as_in_the_paper(folder: Path) -> list[Subject]:
    cohorts = [(cohort, split) for split, names in (("train", TRAIN), ("test", TEST)) for cohort in names]
    return [
        _subject(folder, cohort, f"{cohort}-{n}", split)
        for cohort, split in cohorts
        for n in range(1, int(cohort.rpartition("-")[2]) + 1)
    ]


def _without_nki(data: Path) -> list[Subject]:
    folder = data / "Mindboggle101"
    labelled = [_subject(folder, TEST[0], name, split) for name, split in read_split(folder).items()]
    more = unlabelled(data)
    print(
        f"{folder} has neither {' nor '.join(TRAIN)}, the paper's training cohorts: {TEST[0]} is split by split.csv "
        f"instead, and {len(more)} unlabelled images of MICCAI2012 join the training"
    )
    return labelled + more


def _subject(folder: Path, cohort: str, name: str, split: str) -> Subject:
    place = folder / f"{cohort}_volumes" / name
    return Subject(name, place / IMAGE, place / LABELS, split)


if __name__ == "__main__":
    command_line(main)
