"""BIDS: the images of a data set, and the description of the derivatives that are made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from .. import __version__
from ..atomic import atomic_write
from ..errors import InputError, OutputError
from ..io.files import folders_in, parse_json, read_text
from ..io.layouts import stem
from ..io.manifest import ENDINGS

DESCRIPTION = "dataset_description.json"
VERSION = "1.10.0"
IGNORED = ".bidsignore"
# What the specification has no names for.
NOT_BIDS = (
    *("*_xfm.h5", "*_warped.nii.gz", "*_jacobian.nii.gz", "*_uncertainty.nii.gz", "*_report.html", "*_failed.json"),
    *("volumes.csv", "cohort.html", "cohort.json"),
)
EXPECTED = "a BIDS data set with folders sub-…"


@dataclass(frozen=True)
class BidsImage:
    """An image of a data set: its folder within it, and what its name tells before the suffix, 'sub-1_ses-2_run-1'.

    Where a participant or a session has none, ``missing`` says so. ``twins`` are files of its name in other formats.
    """

    image: Path
    folder: PurePath
    entities: str
    missing: str = ""
    twins: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """What a table calls it."""
        return self.entities


def is_bids(folder: Path) -> bool:
    """Whether a folder is a BIDS data set."""
    return folder.is_dir() and (folder / DESCRIPTION).is_file()


def find_bids(
    root: Path, suffix: str, participants: Sequence[str] = (), sessions: Sequence[str] = ()
) -> list[BidsImage]:
    """The images of a suffix, of all participants and sessions or of those named (with or without sub- and ses-).

    A participant, or a session, without one is an entry that says so. InputError where there is no image at all.
    """
    wanted = [label.removeprefix("sub-") for label in participants]
    there = [path for path in folders_in(root, EXPECTED) if path.name.startswith("sub-")]
    chosen = [path for path in there if not wanted or path.name.removeprefix("sub-") in wanted]
    unknown = [label for label in dict.fromkeys(wanted) if not (root / f"sub-{label}").is_dir()]
    found = [each for path in chosen for each in _of_participant(root, path, suffix, sessions)]
    found += [
        BidsImage(root / f"sub-{label}", PurePath(f"sub-{label}"), f"sub-{label}", f"no participant {label} in {root}")
        for label in unknown
    ]
    if not any(not each.missing for each in found):
        kinds = sorted({name.rpartition("_")[2] for path in chosen for name in _stems(path)})
        known = f"; there are images of the kinds {', '.join(kinds)}" if kinds else ""
        raise InputError(
            f"{root} has no image of the suffix {suffix} among {len(chosen)} participants{known}; expected "
            f"sub-…/[ses-…/]anat/sub-…_{suffix}.nii.gz",
            "choose participants, sessions and suffix that it has",
        )
    return sorted(found, key=lambda each: each.name)


def _of_participant(root: Path, folder: Path, suffix: str, sessions: Sequence[str]) -> Iterator[BidsImage]:
    """The images of a participant, or of the named sessions."""
    wanted = [label.removeprefix("ses-") for label in sessions]
    own = [path for path in folders_in(folder, EXPECTED) if path.name.startswith("ses-")]
    chosen = [path for path in own if not wanted or path.name.removeprefix("ses-") in wanted]
    if wanted and not chosen:
        return  # as BIDS Apps do: whoever has no such session is not asked for
    if chosen and not wanted and any(stem(path).endswith(f"_{suffix}") for path in _images(folder)):
        chosen = [*chosen, folder]  # of a session without a name
    for place in chosen or [folder]:
        entities = "_".join(place.relative_to(root).parts)
        images = [path for path in _images(place) if stem(path).endswith(f"_{suffix}")]
        own = [path for path in images if stem(path).startswith(f"{entities}_")]
        misnamed = [path.name for path in images if path not in own]
        if misnamed or not images:
            missing = f"no {suffix} image in {place}"
            if misnamed:
                missing = f"{place} has {', '.join(misnamed)}; expected images whose names begin with {entities}_"
            yield BidsImage(place, place.relative_to(root) / "anat", entities, missing)
        for first, *twins in _of_one_name(own):
            entities = stem(first).removesuffix(f"_{suffix}")
            yield BidsImage(first, first.parent.relative_to(root), entities, twins=tuple(twins))


def _of_one_name(images: Sequence[Path]) -> list[list[Path]]:
    """Images together that differ only by the formats' endings."""
    found: dict[Path, list[Path]] = {}
    for path in images:
        found.setdefault(path.with_name(stem(path)), []).append(path)
    return list(found.values())


def _images(place: Path) -> list[Path]:
    """The image files in the folders of a participant's, or a session's, kinds of data; magnitudes of complex ones."""
    files = [path for kind in folders_in(place, EXPECTED) for path in sorted(kind.iterdir())]
    images = [p for p in files if p.name.startswith("sub-") and p.name.lower().endswith(ENDINGS)]
    return [p for p in images if not {"part-phase", "part-real", "part-imag"} & set(stem(p).split("_"))]


def _stems(participant: Path) -> list[str]:
    places = [p for p in folders_in(participant, EXPECTED) if p.name.startswith("ses-")] or [participant]
    return [stem(path) for place in places for path in _images(place)]


def describe_derivatives(output: Path, source: Path, suffix: str) -> None:
    """Writes dataset_description.json and .bidsignore of the derivatives, where they are not there already.

    OutputError where ``output`` holds the data set itself, or what another program has derived.
    """
    path = output / DESCRIPTION
    if os.path.lexists(path):
        _check_ours(path)
        return
    tree = {
        "Name": f"CLMorph segmentations of {suffix} images",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "CLMorph", "Version": __version__, "Description": "Segmentation by registration"}],
        "SourceDatasets": [{"URL": source.as_uri()}],
        "DatasetLinks": {"raw": source.as_uri()},
    }
    for name, text in ((IGNORED, "\n".join(NOT_BIDS) + "\n"), (DESCRIPTION, json.dumps(tree, indent=1) + "\n")):
        if not os.path.lexists(output / name):
            with atomic_write(output / name) as temporary:
                temporary.write_text(text, encoding="utf-8")


def _check_ours(path: Path) -> None:
    try:
        tree = parse_json(read_text(path, "the description of a data set"))
        makers = [each["Name"] for each in tree["GeneratedBy"]]
    except (ValueError, KeyError, TypeError):
        makers = []
    if "CLMorph" not in makers:
        raise OutputError(
            f"{path} does not say that CLMorph has made what lies beside it; expected an empty folder, or one of an "
            "earlier run",
            "choose another output folder",
        )
