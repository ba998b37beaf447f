"""Manifest of cardiac cine MR at end-diastole and end-systole: ``python -m Training.recipes.acdc.prepare DATA CSV``.

DATA/ACDC holds patientNNN/ with Info.cfg (which frame is end-diastole, which end-systole), the two frames and their
labels. Where there is a split.csv (subject, split) it decides; otherwise patients 1–100 are for training and 101–150
for the test, as in the paper, in folders training/ and testing/ or all in one. Every tenth training patient by name is
for validation where the split names none. The column group is the patient: pairs are made of one patient's frames.
"""

from __future__ import annotations

from pathlib import Path

from CLMorphCore.io.manifest import Subject
from Training.recipes.checks import check_subjects
from Training.recipes.manifest import command_line, folder_of, read_split, write_manifest
from Training.recipes.regions import read_regions

PHASES = ("ED", "ES")  # end-diastole, end-systole; the first one's grid is the patient's


def main(data: Path, manifest: Path) -> None:
    folder = folder_of(data, "ACDC")
    subjects: list[Subject] = []
    faults: list[str] = []
    for patient, split in _with_validation(_split(folder)).items():
        try:
            subjects += _frames(_place(folder, patient), split)
        except ValueError as error:
            faults.append(str(error))
    regions = read_regions(Path(__file__).with_name("regions.csv"))
    check_subjects(subjects, expected=[value for region in regions for value in region.values], faults=faults)
    write_manifest(manifest, subjects)


def _split(folder: Path) -> dict[str, str]:
    if (folder / "split.csv").exists():
        return read_split(folder)
    return {f"patient{n:03d}": "train" if n <= 100 else "test" for n in range(1, 151)}


def _with_validation(split: dict[str, str]) -> dict[str, str]:
    """Every tenth training patient by name is for validation, unless the split has some already."""
    if "validation" in split.values():
        return split
    train = sorted(patient for patient, part in split.items() if part == "train")
    return split | dict.fromkeys(train[9::10], "validation")


def _place(folder: Path, patient: str) -> Path:
    """The patient's folder, in training/ or testing/ where the data set is laid out so."""
    places = [folder / part / patient for part in ("", "training", "testing")]
    return next((place for place in places if place.is_dir()), places[0])


def _frames(place: Path, split: str) -> list[Subject]:
    """One subject for each phase; ValueError where Info.cfg does not tell its frame."""
    return [
        Subject(
            f"{place.name}-{phase}",
            place / f"{place.name}_frame{frame:02d}.nii.gz",
            place / f"{place.name}_frame{frame:02d}_gt.nii.gz",
            split,
            place.name,
        )
        for phase, frame in _phases(place / "Info.cfg").items()
    ]


def _phases(info: Path) -> dict[str, int]:
    """phase → frame, from the lines ``ED: 1`` and ``ES: 12``."""
    try:
        lines = dict(line.split(":", 1) for line in info.read_text(encoding="utf-8").splitlines() if ":" in line)
        return {phase: int(lines[phase]) for phase in PHASES}
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{info} does not tell the frames of end-diastole and end-systole "
            f"({type(error).__name__}: {error}); expected lines as ED: 1 and ES: 12"
        ) from None


if __name__ == "__main__":
    command_line(main)
