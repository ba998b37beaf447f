"""The report of a run: one typed value that the page, report.json, the evaluation and Slicer read.

report.json is this tree as JSON, with ``schema``, which grows whenever a reader has to know about a change. Readers of
an older schema are served too: ``Report.from_dict`` takes whatever an earlier version wrote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from ..errors import FileError
from ..io.files import parse_json, read_text, short

T = TypeVar("T")
EXPECTED = "report.json of a segmentation"
SCHEMA = 2  # 1: without a number; quality.outlier_score was called oddness


@dataclass(frozen=True)
class ModelEntry:
    """The model of a run, from its card; what the card lacks is empty."""

    name: str
    version: str = ""
    licence: str = ""
    commit: str = ""


@dataclass(frozen=True)
class AtlasEntry:
    """The atlas whose registration is saved: the only one, or the most similar one."""

    name: str


@dataclass(frozen=True)
class FusionEntry:
    """How several atlases were fused, and which, the most similar first."""

    method: str
    atlases: tuple[str, ...]


@dataclass(frozen=True)
class StructureEntry:
    """One structure: its label, its volume, the Dice to expect and the share of label disagreement; None: not known.

    ``volume_expected_ml`` is what the atlas alone says, where the labels follow the scan's tissue;
    ``quality_interval`` is where the Dice lies in nine of ten cases.
    """

    value: int
    name: str
    color: str
    terminology: str
    volume_ml: float
    uncertainty: float | None = None
    quality: float | None = None
    volume_expected_ml: float | None = None
    quality_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class TissueClassEntry:
    """Structures of one tissue, none for the background's, and its mean and standard deviation on the scan."""

    structures: tuple[str, ...]
    mean: float
    sd: float


@dataclass(frozen=True)
class TissueEntry:
    """Whether the labels follow the scan's tissue, why they do not where that was tried, and the tissues found."""

    used: bool
    note: str = ""
    classes: tuple[TissueClassEntry, ...] = ()


@dataclass(frozen=True)
class BrainEntry:
    """What was done for a model that needs a stripped brain, or where it was asked for: one of ``method``'s.

    ``extracted`` by the networks that ``source`` names, ``mask`` of the user's, or ``stripped already``: the scan was
    left as it is. ``volume_ml`` is that of the mask, or of what the scan shows.
    """

    method: str
    volume_ml: float
    source: str = ""


@dataclass(frozen=True)
class QualityEntry:
    """Mean expected Dice, the scan's outlier score (unusual above 1), or why there is neither.

    ``verdict`` is pass, review or reject with its ``reason``, or empty where nothing is known.
    """

    expected_dice: float | None
    outlier_score: float | None
    note: str = ""
    verdict: str = ""
    reason: str = ""


@dataclass(frozen=True)
class SimilarityEntry:
    """Similarity of scan and atlas after the affine, and after the deformation."""

    measure: str
    affine: float | None
    warped: float | None


@dataclass(frozen=True)
class LandmarksEntry:
    """The distance in mm of each pair of landmarks: as the images lie, after the affine, after the deformation.

    ``matched_by`` is name or order, ``alone`` the names without a partner, which do not count.
    """

    names: tuple[str, ...]
    before_mm: tuple[float, ...]
    affine_mm: tuple[float, ...]
    warped_mm: tuple[float, ...]
    mean_mm: dict[str, float]
    max_mm: dict[str, float]
    matched_by: str = "order"
    alone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What ``segment`` did and found.

    labels_from is "atlas"; a report of version 0.1 may say "network". Times are in seconds, by step. ``locator`` is the
    model that found the place of the organ, where one had to. ``network`` is which of the model's networks was taken,
    where it was that for other contrasts than the atlas'. ``effort`` is the command line's: fast, balanced or best.
    """

    version: str
    image: str
    created: str
    model: ModelEntry
    atlas: AtlasEntry
    device: str
    threads: int
    refinement_steps: int
    structures: tuple[StructureEntry, ...]
    quality: QualityEntry
    similarity: SimilarityEntry
    folding_fraction: float
    duration_s: dict[str, float]
    warnings: tuple[str, ...]
    fusion: FusionEntry | None = None
    tissue: TissueEntry = TissueEntry(False)
    brain: BrainEntry | None = None
    locator: str = ""
    network: str = ""
    landmarks: LandmarksEntry | None = None
    effort: str = ""
    labels_from: str = "atlas"
    schema: int = SCHEMA

    def with_durations(self, seconds: Mapping[str, float]) -> Report:
        """The same report with the times of further steps, and their total anew."""
        return replace(self, duration_s=with_total(self.duration_s | dict(seconds)))

    def save(self, path: Path) -> None:
        """Writes report.json."""
        _write(self, path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The report in a file, of this schema or an older one; FileError where it is none."""
        try:
            return cls.from_dict(parse_json(read_text(path, EXPECTED, kind="a report")))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FileError(
                f"{path} cannot be read as a report ({type(error).__name__}: {short(error)}); expected {EXPECTED}"
            ) from None

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Self:
        """A report from the tree in its file; KeyError or TypeError where it is none."""
        quality = dict(tree["quality"])
        if "oddness" in quality:
            quality["outlier_score"] = quality.pop("oddness")
        entries = {
            "model": _entry(ModelEntry, tree["model"]),
            "atlas": _entry(AtlasEntry, tree["atlas"]),
            "structures": tuple(_structure(each) for each in tree["structures"]),
            "quality": _entry(QualityEntry, quality),
            "similarity": _entry(SimilarityEntry, tree["similarity"]),
            "warnings": tuple(tree["warnings"]),
            "duration_s": dict(tree["duration_s"]),
        }
        if tissue := tree.get("tissue"):
            classes = tuple(
                TissueClassEntry(tuple(each["structures"]), each["mean"], each["sd"]) for each in tissue["classes"]
            )
            entries["tissue"] = TissueEntry(tissue["used"], tissue["note"], classes)
        if brain := tree.get("brain"):
            entries["brain"] = _entry(BrainEntry, brain)
        if landmarks := tree.get("landmarks"):
            listed = {key: tuple(value) for key, value in landmarks.items() if isinstance(value, list)}
            entries["landmarks"] = _entry(LandmarksEntry, {**landmarks, **listed})
        if fusion := tree.get("fusion"):
            entries["fusion"] = FusionEntry(fusion["method"], tuple(fusion["atlases"]))
        return _entry(cls, {"schema": 1, **tree, **entries})


def _structure(tree: Mapping[str, Any]) -> StructureEntry:
    if (ends := tree.get("quality_interval")) is not None:
        low, high = ends
        ends = (float(low), float(high))
    return _entry(StructureEntry, {**tree, "quality_interval": ends})


@dataclass(frozen=True)
class RegistrationReport:
    """What ``register`` did and found, as its report.json."""

    version: str
    fixed: str
    moving: str
    model: str
    refinement_steps: int
    folding_fraction: float
    similarity: dict[str, float]
    duration_s: dict[str, float]
    warnings: tuple[str, ...] = ()
    landmarks: LandmarksEntry | None = None
    schema: int = SCHEMA

    def save(self, path: Path) -> None:
        """Writes report.json."""
        _write(self, path)


def _write(report: Report | RegistrationReport, path: Path) -> None:
    path.write_text(json.dumps(asdict(report), indent=1, ensure_ascii=False), encoding="utf-8")


def with_total(seconds: Mapping[str, float]) -> dict[str, float]:
    """The steps' seconds with their sum as ``total``, last."""
    steps = {step: spent for step, spent in seconds.items() if step != "total"}
    return steps | {"total": round(sum(steps.values()), 2)}


def _entry(kind: type[T], tree: Mapping[str, Any]) -> T:
    """A dataclass from a tree; what this version does not know is left out."""
    assert is_dataclass(kind)
    known = {each.name for each in fields(kind)}
    return kind(**{key: value for key, value in tree.items() if key in known})
