"""Where the result of a scan lies, and its files' names: a folder of its own, or beside others' as BIDS has it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SIDES = ("left", "right")
KEEPABLE = {
    "transform": ("transform", "inverse", "affine"),
    "images": ("warped", "jacobian", "uncertainty", "brain_mask"),
    "page": ("page",),
}
OF_SIDES = ("transform", "inverse", "affine", "page")  # of each side, where both are found in a whole head
PLAIN = {
    "labels": "labels.nii.gz",
    "record": "report.json",
    "transform": "transform.h5",
    "inverse": "inverse.h5",
    "affine": "affine.h5",
    "warped": "warped.nii.gz",
    "jacobian": "jacobian.nii.gz",
    "uncertainty": "uncertainty.nii.gz",
    "brain_mask": "brain_mask.nii.gz",
    "page": "report.html",
}
BIDS = {
    "labels": "desc-clmorph_dseg.nii.gz",
    "record": "desc-clmorph_dseg.json",
    "table": "desc-clmorph_dseg.tsv",
    "transform": "from-{own}_to-atlas_mode-image_xfm.h5",
    "inverse": "from-atlas_to-{own}_mode-image_xfm.h5",
    "affine": "from-{own}_to-atlas_mode-image_desc-affine_xfm.h5",
    "warped": "desc-clmorph_warped.nii.gz",
    "jacobian": "desc-clmorph_jacobian.nii.gz",
    "uncertainty": "desc-clmorph_uncertainty.nii.gz",
    "brain_mask": "desc-brain_mask.nii.gz",
    "page": "desc-clmorph_report.html",
}


@dataclass(frozen=True)
class Place:
    """A folder and what the files of one scan in it are called.

    ``entities`` begin their names in a BIDS data set, ``suffix`` is the image's there and ``source`` its path within
    the data set; without entities the folder is this scan's alone.
    """

    folder: Path
    entities: str = ""
    suffix: str = ""
    source: str = ""

    def name(self, kind: str, side: str = "") -> str:
        """The file's name of a kind of result, perhaps of a side."""
        if not self.entities:
            return f"{side}_{PLAIN[kind]}" if side else PLAIN[kind]
        hemisphere = f"_hemi-{side[0].upper()}" if side else ""
        return f"{self.entities}{hemisphere}_{BIDS[kind].format(own=self.suffix)}"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of results that there may be."""
        return tuple(BIDS if self.entities else PLAIN)

    @property
    def record(self) -> str:
        """The name of the report, which comes last and has the checksums of the others."""
        return self.name("record")

    @property
    def labels(self) -> str:
        """The name of the label image."""
        return self.name("labels")

    @property
    def failed(self) -> str:
        """The name of the file that says why there is no result."""
        return f"{self.entities}_desc-clmorph_failed.json" if self.entities else "failed.json"

    @property
    def results(self) -> tuple[str, ...]:
        """The names of all that may be there but ``failed``."""
        sides = [self.name(kind, side) for side in SIDES for kind in OF_SIDES]
        return (*(self.name(kind) for kind in self.kinds), *sides)

    @property
    def optional(self) -> tuple[str, ...]:
        """The names that not every run makes."""
        always = {self.name(kind) for kind in ("labels", "record", "table") if kind in self.kinds}
        return tuple(name for name in self.results if name not in always)


def plain_place(output: Path, name: str) -> Place:
    """The scan's own folder."""
    return Place(output / name)


def bids_place(folder: Path, entities: str, suffix: str, source: str) -> Place:
    """Beside other images of the same participant and session; ``suffix`` without what BIDS' labels cannot hold."""
    return Place(folder, entities, re.sub(r"[^0-9A-Za-z]", "", suffix), source)
