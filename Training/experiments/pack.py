"""``python -m Training.experiments.pack``: a prepared data set in one small file, for a machine that has only that.

A pack is a zip of a folder a data set: the volumes of train and validation on the network's grid (images of half
precision, labels of a byte), and of the test subjects images, labels as regions, affine maps and the atlas.
``python -m Training.experiments … --packed FILE`` trains and measures from it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from CLMorphCore.atomic import atomic_write
from CLMorphCore.bundles.atlas import NAMES
from CLMorphCore.errors import CLMorphError, FileError, InputError
from CLMorphCore.io.manifest import COLUMNS, Subject, choose, read_manifest
from Training.csv_rows import write_lines

from .catalogue import DATASETS
from .datasets import SUBJECTS, VOLUMES, halved, shared_settings

WHOLE = ("atlas", "affine")  # folders of a prepared data set that are packed as they are


def pack(prepared: Path, dataset: str, target: Path) -> None:
    """Packs ``prepared``, the folder that ``prepare_protocol`` left of a data set, whole or not at all."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / dataset
        folder.mkdir()
        halved(prepared / VOLUMES, folder / VOLUMES)
        for name in WHOLE:
            if (prepared / name).is_dir():
                shutil.copytree(prepared / name, folder / name)
        _copy_tests(prepared, folder)
        with atomic_write(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                archive.write(path, path.relative_to(temporary).as_posix())


def _copy_tests(prepared: Path, folder: Path) -> None:
    """Images and regions of the test subjects, and a manifest that names them from where it lies."""
    tests = []
    for subject in choose(read_manifest(prepared / SUBJECTS), "test", labelled=True):
        image = folder / "images" / f"{subject.name}{_extension(subject.image)}"
        labels = prepared / "regions" / f"{subject.name}.nii.gz"
        for source, place in ((subject.image, image), (labels, folder / "regions" / labels.name)):
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, place)
        tests.append(replace(subject, image=image, labels=folder / "regions" / labels.name))
    write_lines(folder / SUBJECTS, list(COLUMNS), (_line(s, folder) for s in tests))


def _line(subject: Subject, folder: Path) -> list[str]:
    image, labels = (file.relative_to(folder).as_posix() if file else "" for file in (subject.image, subject.labels))
    cells = {"subject": subject.name, "image": image, "labels": labels, "split": subject.split, "group": subject.group}
    return [cells[column] for column in COLUMNS]


def _extension(path: Path) -> str:
    if path.suffix in (".hdr", ".img"):
        raise InputError(f"{path} is one of a pair of files", "convert the data set's images to NIfTI before packing")
    return "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix


def unpack(file: Path, work: Path) -> list[str]:
    """Unpacks a file into WORK/DATASET/prepared where these are not there yet; returns the data sets that it holds.

    InputError, and nothing is unpacked, where it lacks a part, or where other subjects are prepared there.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = [PurePosixPath(name) for name in archive.namelist()]
            datasets = sorted({member.parts[0] for member in members})
            strange = [str(m) for m in members if m.is_absolute() or ".." in m.parts or m.parts[0] not in DATASETS]
            if strange or not members:
                raise FileError(f"{file} is no pack of data sets ({strange[0] if strange else 'empty'})", _EXPECTED)
            for dataset in datasets:
                _check_whole(file, dataset, archive.namelist())
                _check_same(file, archive.read(f"{dataset}/{SUBJECTS}"), work / dataset / "prepared")
            for member in members:
                dataset, *rest = member.parts
                place = work.joinpath(dataset, "prepared", *rest)
                if not place.exists():
                    with atomic_write(place) as temporary:
                        temporary.write_bytes(archive.read(str(member)))
            return datasets
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise FileError(f"{file} cannot be read ({type(error).__name__}: {error})", _EXPECTED) from None


def _check_whole(file: Path, dataset: str, names: Collection[str]) -> None:
    """FileError where a pack lacks what every one has; pairs of one patient's scans need no atlas."""
    grouped = shared_settings(dataset)["training"].get("moving") == "group"
    parts = {SUBJECTS: "its list of test subjects", VOLUMES: "the volumes to train on"}
    parts |= {} if grouped else {f"atlas/{name}": "the atlas" for name in ("image.nii.gz", "labels.nii.gz", NAMES)}
    for part, what in parts.items():
        if f"{dataset}/{part}" not in names:
            raise FileError(f"{file} lacks {what} ({dataset}/{part}); {_EXPECTED}", "make the pack again")


def _check_same(file: Path, subjects: bytes, prepared: Path) -> None:
    """InputError where ``prepared`` is of other subjects than the pack's."""
    there = prepared / SUBJECTS
    if there.exists() and there.read_bytes() != subjects:
        raise InputError(
            f"{prepared} was prepared of other subjects, or from elsewhere, and not from {file}; "
            f"expected it to have the {SUBJECTS} of the pack",
            f"choose another --out, or delete {prepared}",
        )


_EXPECTED = "expected a file that python -m Training.experiments.pack has written"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepares a data set, or takes what is prepared, and packs it; exit code 0 or 2 (bad input)."""
    from .__main__ import prepared_in, say

    parser = argparse.ArgumentParser(prog="python -m Training.experiments.pack", description=__doc__)
    parser.add_argument("dataset", metavar="DATASET", help=", ".join(DATASETS))
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the data sets' folders")
    parser.add_argument("--results", type=Path, required=True, help="results folder: its work/ keeps what is prepared")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the pack to write")
    options = parser.parse_args(arguments)
    try:
        prepared_in(options.results, options.dataset, options.data)
        pack(options.results / "work" / options.dataset / "prepared", options.dataset, options.out)
        say(f"{options.out}: {options.out.stat().st_size / 2**20:.1f} MiB")
        return 0
    except CLMorphError as error:
        print(f"pack: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
