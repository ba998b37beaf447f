"""The result of one scan on the disk: whole and of the same scan and settings, or to be made; saved all or none."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ..atomic import atomic_folder, atomic_write, check_not_overwritten, claimed
from ..errors import CLMorphError, InputError, InUse, OutputError
from ..extraction.sides import Sides
from ..geometry import chain
from ..io.checksums import KEY, check_unchanged, seal
from ..io.files import parse_json
from ..io.images import FLOAT32_BITS, write_image
from ..io.outputs import check_results
from ..io.tables import escaped
from ..io.transforms import write_transform
from ..progress import Stopwatch
from ..registration import JACOBIAN_BITS, WARPED_BITS, Registration
from ..reports.report import StructureEntry
from ..reports.thumbnails import thumbnail
from ..segmentation import UNCERTAINTY_BITS, Segmentation
from .places import KEEPABLE, Place
from .scans import Scan

WRITING = "the run ended as it wrote the result; the same command makes it again"
MAX_WAIT_S, WAIT_S = 60.0, 0.1  # for another process that writes the same
OWN = "cohort"  # the key of what a report says about its place in a cohort


@dataclass(frozen=True)
class Made:
    """What a scan's result was made with: the digest of the settings, and what is kept beside labels and report."""

    settings: str
    keep: tuple[str, ...] = ()


def is_whole(scan: Scan, made: Made) -> bool:
    """Whether the result is there already: of this file and these settings, with all that is to be kept.

    OutputError where the files in its place are another scan's, nobody's, or were changed since.
    """
    place = scan.place
    tree = read_record(place)
    own = own_of(tree)
    if not own:
        if read_failure(place) != WRITING:
            check_free(place)
        return False
    same_place = own.get("image") == str(scan.image)
    untouched = same_place and stamp(scan.image) == own.get("stamp")
    same_file = untouched or digest_of(scan.image) == own.get("digest")
    if not same_file and not same_place:
        raise InputError(
            f"{place.folder / place.record} is the result of {own.get('image')}, which is another scan; expected one "
            "folder for each cohort",
            "choose another output folder, or rename one of the scans",
        )
    check_unchanged(place.folder, place.results, place.record)
    whole = all(os.path.lexists(place.folder / name) for name in (tree or {}).get(KEY, {}))
    kept = set(made.keep) <= set(own.get("keep", ()))
    return same_file and whole and kept and own.get("settings") == made.settings


def check_free(place: Place) -> None:
    """OutputError where a result would replace what no earlier run has written, or what was changed since."""
    there = [name for name in place.results if os.path.lexists(place.folder / name)]
    if there and "model" not in (read_record(place) or {}):
        raise OutputError(
            f"{place.folder / there[0]} is there already, and no {place.record} tells that an earlier run has written "
            "it; expected a place without it",
            "move it, or choose another output folder",
        )
    check_results(
        place.folder, place.results, certificates=[place.record], optional=place.optional, record=place.record
    )


def read_record(place: Place) -> dict[str, Any] | None:
    """The report of a scan as its file has it, or None where there is none."""
    try:
        tree = parse_json((place.folder / place.record).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) else None


def own_of(tree: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a report says of its place in a cohort; empty where it is of none, or was changed by hand."""
    own = (tree or {}).get(OWN)
    return own if isinstance(own, dict) else {}


def read_failure(place: Place) -> str:
    """Why the last try failed, or nothing."""
    try:
        tree = parse_json((place.folder / place.failed).read_text(encoding="utf-8"))
        return str(tree["failed"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def save_failure(place: Place, reason: str, model: str) -> None:
    """Writes why there is no result, where nobody else's file has that name; a result of other settings stays."""
    path = place.folder / place.failed
    if not os.path.lexists(path) or read_failure(place):
        with suppress(CLMorphError), atomic_write(path) as temporary:  # a folder that takes nothing is the reason then
            temporary.write_text(json.dumps({"model": model, "failed": reason}, indent=1), encoding="utf-8")


def clear_failure(place: Place) -> None:
    """Removes what ``save_failure`` has written."""
    if read_failure(place):
        (place.folder / place.failed).unlink(missing_ok=True)


@contextmanager
def held(place: Path) -> Iterator[None]:
    """Holds a place as ``claimed`` does, and waits where another process does: for as long as a writing may take."""
    until = time.monotonic() + MAX_WAIT_S
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(claimed(place))
                break
            except InUse:
                if time.monotonic() > until:
                    raise
                time.sleep(WAIT_S)
        yield


def save(found: Segmentation | Sides, scan: Scan, made: Made) -> None:
    """Writes labels, report and what is to be kept, all or none, and removes an earlier failure.

    OutputError where that fails, or would replace what is read, or what is not as an earlier run has written it.
    """
    place = scan.place
    if place.entities:  # a folder of several scans, which whoever comes first may make
        place.folder.mkdir(parents=True, exist_ok=True)
    with held(place.folder / f"{place.record}.run"):
        if is_whole(scan, made):  # by another run that was at the same scan
            return
        _make_free(place, scan, found.report.model.name)
        with atomic_folder(place.folder, optional=place.optional, certificate=place.record) as temporary:
            watch = Stopwatch()
            with watch.step("writing"):
                _write(found, place, temporary, made.keep)
            report = found.report.with_durations(watch.seconds)
            report.save(temporary / place.record)
            _amend(temporary / place.record, _own(found, scan, made) | _of_bids(place))
            seal(temporary, place.folder, place.results, place.record)
        clear_failure(place)


def _make_free(place: Place, scan: Scan, model: str) -> None:
    """Checks that the result may be written, removes what a killed run has written of it, and says what is going on.

    In a folder that is there files come one after the other; one that is not there comes as a whole.
    """
    if read_failure(place) == WRITING and read_record(place) is None:
        for name in place.results:
            (place.folder / name).unlink(missing_ok=True)
    check_free(place)
    check_not_overwritten(place.folder, place.results, [scan.image])
    if place.folder.is_dir():
        save_failure(place, WRITING, model)


def _own(found: Segmentation | Sides, scan: Scan, made: Made) -> dict[str, Any]:
    colors = {s.value: s.color for s in found.structures}
    return {
        OWN: {
            "scan": scan.name,
            "image": str(scan.image),
            "stamp": stamp(scan.image),
            "digest": digest_of(scan.image),
            "settings": made.settings,
            "keep": list(made.keep),
            "thumbnail": base64.b64encode(thumbnail(found.image, found.labels, colors)).decode("ascii"),
        }
    }


def _of_bids(place: Place) -> dict[str, Any]:
    """What a sidecar of BIDS says beside the report."""
    if not place.source:
        return {}
    source = f"bids:raw:{place.source}"
    about = "Labels of anatomical structures, from an atlas that was registered to the image"
    return {"Description": about, "Sources": [source], "SpatialReference": source, "Manual": False}


def _amend(path: Path, entries: Mapping[str, Any]) -> None:
    tree = parse_json(path.read_text(encoding="utf-8")) | dict(entries)
    path.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")


def _write(found: Segmentation | Sides, place: Place, folder: Path, keep: Collection[str]) -> None:
    """The files but the report: labels, their table in a BIDS data set, and what is kept."""
    write_image(found.labels, folder / place.labels, scan=found.image)
    if "table" in place.kinds:
        _write_table(folder / place.name("table"), found.report.structures)
    kinds = {kind for what in keep for kind in KEEPABLE[what]}
    for kind, image, bits in _images(found, kinds):
        write_image(image, folder / place.name(kind), scan=found.image, bits=bits)
    for side, one in found.found.items() if isinstance(found, Sides) else [("", found)]:
        if "transform" in kinds:
            _write_transforms(one.registration, place, folder, side)
        if "page" in kinds:
            (folder / place.name("page", side)).write_text(one.page(), encoding="utf-8")
    if isinstance(found, Sides) and "page" in kinds:
        page = found.page({side: place.name("page", side) for side in found.found})
        (folder / place.name("page")).write_text(page, encoding="utf-8")


def _images(found: Segmentation | Sides, kinds: Collection[str]) -> Iterable[tuple[str, sitk.Image, int]]:
    """(kind, image, bits) of the images that are kept and that there are."""
    if "warped" in kinds and isinstance(found, Segmentation):
        yield "warped", found.registration.warp(found.atlas.image), WARPED_BITS
        yield "jacobian", found.registration.jacobian_on_fixed(), JACOBIAN_BITS
    if "brain_mask" in kinds and found.brain_mask is not None:
        yield "brain_mask", found.brain_mask, FLOAT32_BITS
    if "uncertainty" in kinds and found.uncertainty is not None:
        yield "uncertainty", found.uncertainty, UNCERTAINTY_BITS


def _write_transforms(registration: Registration, place: Place, folder: Path, side: str) -> None:
    write_transform(registration.transform, folder / place.name("transform", side))
    write_transform(chain(registration.affine), folder / place.name("affine", side))
    if registration.inverse is not None:
        write_transform(registration.inverse, folder / place.name("inverse", side))


def _write_table(path: Path, structures: Iterable[StructureEntry]) -> None:
    """The look-up table of BIDS: what each value of the labels means."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("index", "name", "color"))
        writer.writerows((s.value, escaped(s.name), s.color) for s in structures)


def stamp(image: Path) -> str:
    """Digest of the names, sizes and times of a scan's files, by which untouched ones are known; empty without any."""
    with suppress(OSError):
        seen = [(each.name, each.stat()) for each in _files_of(image)]
        return hashlib.sha256(json.dumps([(name, s.st_size, s.st_mtime_ns) for name, s in seen]).encode()).hexdigest()
    return ""


def digest_of(image: Path) -> str:
    """SHA-256 over the files of a scan, empty where they cannot be read."""
    digest = hashlib.sha256()
    with suppress(OSError):
        for each in _files_of(image):
            with each.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()
    return ""


def _files_of(image: Path) -> list[Path]:
    """The file, those of its name with other endings for a header and its voxels, or the files of a DICOM folder."""
    if image.is_dir():
        return sorted(each for each in image.iterdir() if each.is_file())
    ending = image.name.lower().removesuffix(".gz").rpartition(".")[2]
    if ending in ("hdr", "img", "mhd", "nhdr"):
        start = image.name.partition(".")[0]
        return sorted(each for each in image.parent.iterdir() if each.name.partition(".")[0] == start)
    return [image]
