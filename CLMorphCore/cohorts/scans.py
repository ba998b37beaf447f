"""The scans of a cohort: of a folder, a list, a manifest or a BIDS data set, each with the place of its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..io.files import check_file, read_text
from ..io.layouts import EXPECTED, find_scans, named, some, stem
from ..io.manifest import ENDINGS, Subject, check_names, read_manifest
from ..io.outputs import check_distinct
from .bids import find_bids, is_bids
from .places import Place, bids_place, plain_place


@dataclass(frozen=True)
class Scan:
    """One scan: what the table calls it, its file (or its folder of DICOM), and where its result goes.

    ``missing`` says why there is no file to read, for instance of a session without a T1w image.
    """

    name: str
    image: Path
    place: Place
    missing: str = ""


@dataclass(frozen=True)
class Cohort:
    """The scans by name, what was passed over, and the BIDS data set that they are of, if they are."""

    scans: tuple[Scan, ...]
    notes: tuple[str, ...] = ()
    bids: Path | None = None


def find_cohort(
    data: Path, output: Path, *, suffix: str = "T1w", participants: Sequence[str] = (), sessions: Sequence[str] = ()
) -> Cohort:
    """The scans of a folder, a list of files, a manifest or a BIDS data set, with their places below ``output``.

    ``suffix``, ``participants`` and ``sessions`` choose among those of a BIDS data set. A file that is not there is a
    scan that will fail, and no error. InputError where there is no scan, or two would have one place.
    """
    check_file(data, f"{EXPECTED}, or a BIDS data set", folder=True)
    data, output = data.absolute(), output.absolute()
    if is_bids(data):
        images = find_bids(data, suffix, participants, sessions)
        scans = [
            Scan(
                each.name,
                each.image,
                bids_place(output / each.folder, each.entities, suffix, each.image.relative_to(data).as_posix()),
                each.missing,
            )
            for each in images
        ]
        return Cohort(tuple(scans), _left_out([twin for each in images for twin in each.twins], data), bids=data)
    if participants or sessions:
        raise InputError(
            f"{data} is no BIDS data set, it has no dataset_description.json; expected one for the participants and "
            "sessions that were named",
            "omit them, or give the data set's folder",
        )
    subjects, notes = _subjects(data)
    outside = [
        s for s in subjects if not s.image.absolute().is_relative_to(output)
    ]  # which are results of earlier runs
    if not outside:
        raise InputError(f"all scans of {data} lie in the output folder {output}; expected scans outside of it")
    check_distinct(s.name for s in outside)
    return Cohort(tuple(Scan(s.name, s.image.absolute(), plain_place(output, s.name)) for s in outside), notes)


def _subjects(data: Path) -> tuple[Sequence[Subject], tuple[str, ...]]:
    """The subjects of a folder, a manifest or a list; of the latter two also those whose files are gone."""
    if data.is_dir():
        found = find_scans(data)
        images, others = _each_once([subject.image for subject in found.subjects])
        kept = [subject for subject in found.subjects if subject.image in images]
        return kept, (*found.notes, *_left_out(others, data))
    if data.suffix.lower() == ".csv":
        return read_manifest(data, splits=False, files=False, others=True), ()
    if data.name.lower().endswith(ENDINGS):
        raise InputError(
            f"{data} is one image; expected {EXPECTED}, or a BIDS data set",
            "segment it with clmorph segment, or give the folder that it lies in",
        )
    lines = [line.strip() for line in read_text(data, EXPECTED).splitlines()]
    images = list(dict.fromkeys(data.parent / line for line in lines if line and not line.startswith("#")))
    if not images:
        raise InputError(f"{data} lists no scan; expected the path of an image on each line, from its own folder on")
    images, others = _each_once(images)
    subjects = named([(image, None) for image in images], data.parent)
    check_names(subjects)
    return subjects, _left_out(others, data.parent)


def _each_once(images: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """(images, those that one of these is too: by a link, or under the same name in another format).

    One head that is counted twice would be in every statistic twice.
    """
    seen: set[Path] = set()
    kept, others = [], []
    for image in images:
        keys = {image.resolve(), image.absolute().with_name(stem(image))}
        (others if keys & seen else kept).append(image)
        seen |= keys
    return kept, others


def _left_out(images: Sequence[Path], folder: Path) -> tuple[str, ...]:
    if not images:
        return ()
    return (f"left out, as links to other scans or of a scan's name in another format: {some(images, folder)}",)


def shard_of(cohort: Cohort, shard: tuple[int, int] | None) -> Cohort:
    """The share I of N: every N-th scan from the I-th on, so that the shares are alike and together are all."""
    if shard is None:
        return cohort
    number, count = shard
    return replace(cohort, scans=cohort.scans[number - 1 :: count])
