"""The report of a segmentation, made from what its steps found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..bundles.atlas import Atlas, Structure
from ..bundles.model import Model
from ..devices import threads_used
from ..extraction.step import TakenOut
from ..geometry import Grid
from ..guidance.landmarks import Landmarks
from ..io.images import warnings_of
from ..matching import Match
from ..metrics import volumes_ml
from ..progress import Stopwatch
from ..quality.judgement import Judgement
from ..registration import Registration
from ..tissue.labels import TissueLabels
from ..tissue.shares import PADDING
from .report import (
    AtlasEntry,
    FusionEntry,
    LandmarksEntry,
    ModelEntry,
    Report,
    SimilarityEntry,
    StructureEntry,
    TissueClassEntry,
    TissueEntry,
    with_total,
)

OTHER_CONTRASTS = "for other contrasts"
REFINED_OTHER = (
    "the scan is not of the atlas' contrast; refinement made the labels of such scans worse where that was measured, "
    "compare with those of a run without it"
)
UNASKED = "similarity"  # fusion
MAX_FOLDING = 1e-3  # above it a warning


def landmarks_entry(landmarks: Landmarks | None, registration: Registration) -> LandmarksEntry | None:
    """How far apart landmarks lie before a registration, after its affine, and after its deformation."""
    if landmarks is None:
        return None
    steps = {
        "before": landmarks.errors_mm(lambda point: point),
        "affine": landmarks.errors_mm(registration.affine.TransformPoint),
        "warped": landmarks.errors_mm(registration.transform.TransformPoint),
    }
    before, affine, warped = (tuple(round(float(e), 4) for e in errors) for errors in steps.values())
    mean, most = ({name: round(float(take(e)), 4) for name, e in steps.items()} for take in (np.mean, np.max))
    return LandmarksEntry(landmarks.names, before, affine, warped, mean, most, landmarks.matched_by, landmarks.alone)


class Labelling(Protocol):
    """Labels as one atlas or several, and the scan's tissue, made them: ``tissue``, or why it was not followed."""

    @property
    def atlases(self) -> tuple[Atlas, ...]: ...
    @property
    def tissue(self) -> TissueLabels | None: ...
    @property
    def note(self) -> str: ...
    @property
    def match(self) -> Match: ...


def report_of(
    model: Model,
    registration: Registration,
    fused: Labelling,
    labels_expected: sitk.Image | None,
    structures: Sequence[Structure],
    volumes: Mapping[int, float],
    judgement: Judgement,
    method: str,
    source: str,
    watch: Stopwatch,
    scan: sitk.Image,
    brain: TakenOut,
    landmarks: Landmarks | None = None,
) -> Report:
    """What ``segment`` did and found, from what its steps left; ``scan`` is the image, ``method`` of the fusion."""
    before, after = registration.similarity
    expected = volumes_ml(labels_expected) if labels_expected is not None else None
    names = tuple(atlas.name for atlas in fused.atlases)
    return Report(
        version=__version__,
        image=source,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        model=ModelEntry(model.name, *(model.about(key) for key in ("version", "licence", "commit"))),
        atlas=AtlasEntry(names[0]),
        device=str(model.device),
        threads=threads_used(),
        refinement_steps=registration.optimization_steps,
        structures=tuple(
            StructureEntry(
                s.value,
                s.name,
                s.color,
                s.terminology,
                round(volumes.get(s.value, 0.0), 4),
                judgement.structures[s.value].uncertainty,
                judgement.structures[s.value].expected_dice,
                None if expected is None else round(expected.get(s.value, 0.0), 4),
                judgement.structures[s.value].interval,
            )
            for s in structures
        ),
        quality=judgement.quality,
        similarity=SimilarityEntry("local normalised cross-correlation", round(before, 4), round(after, 4)),
        folding_fraction=registration.folding_fraction,
        duration_s=with_total(watch.seconds),
        warnings=(
            *_doubts((scan, *((brain.mask,) if brain.mask is not None else ())), fused.atlases),
            *_notes(fused, method),
            *judgement.warnings,
            *_refined(model, registration, _of_another_contrast(model, fused)),
            *_warnings(structures, volumes, registration),
            *_of_landmarks(landmarks, scan, fused.atlases[0].image, registration),
        ),
        fusion=FusionEntry(method, names) if len(names) > 1 else None,
        tissue=_tissue_entry(fused, structures),
        brain=brain.entry,
        landmarks=landmarks_entry(landmarks, registration),
        network=OTHER_CONTRASTS if _of_another_contrast(model, fused) else "",
    )


def _notes(fused: Labelling, method: str) -> Iterator[str]:
    if fused.note:
        yield fused.note
    if len(fused.atlases) == 1 and method != UNASKED:
        yield f"fusion by {method} was asked for and nothing is fused: there is one atlas"


def _of_landmarks(
    landmarks: Landmarks | None, scan: sitk.Image, atlas: sitk.Image, registration: Registration
) -> list[str]:
    if landmarks is None:
        return []
    return landmarks.doubts(Grid.of(scan), Grid.of(atlas), registration.transform.TransformPoint)


def _of_another_contrast(model: Model, fused: Labelling) -> bool:
    return model.other_contrasts is not None and fused.match.scan.network is model.other_contrasts


def _tissue_entry(fused: Labelling, structures: Sequence[Structure]) -> TissueEntry:
    found = fused.tissue
    if found is None:
        return TissueEntry(False, fused.note)
    known = {s.value: s.name for s in structures}
    numbers = zip(found.tissues, found.mixture.mean.tolist(), found.mixture.sd.tolist(), strict=True)
    classes = (
        TissueClassEntry(tuple(known[v] for v in labels if v in known), float(f"{mean:.5g}"), float(f"{sd:.5g}"))
        for labels, mean, sd in numbers
        if PADDING not in labels
    )
    return TissueEntry(True, "", tuple(classes))


def _doubts(scans: Sequence[sitk.Image], atlases: Sequence[Atlas]) -> dict[str, None]:
    """What was said when the scan, its mask and the atlases were read, each once."""
    images = (*scans, *(image for atlas in atlases for image in (atlas.image, atlas.labels)))
    return dict.fromkeys(warning for image in images for warning in warnings_of(image))


def _refined(model: Model, registration: Registration, other_contrast: bool) -> Iterator[str]:
    if not registration.optimization_steps:
        return
    if other_contrast:
        yield REFINED_OTHER
    gain = model.refinement.gain
    if gain is not None and gain < 0:
        yield (
            f"refinement lowered this model's mean Dice on its validation scans by {-gain:.3f}, compare with the "
            "labels of a run without it"
        )


def _warnings(
    structures: Sequence[Structure], volumes: Mapping[int, float], registration: Registration
) -> Iterator[str]:
    yield from registration.warnings()
    missing = [s.name for s in structures if s.value not in volumes]
    if missing:
        yield (
            f"{len(missing)} of {len(structures)} structures lie outside of the image or are thinner than its "
            f"voxels: {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}"
        )
    if registration.folding_fraction > MAX_FOLDING:
        yield f"{registration.folding_fraction:.2%} of the deformation folds; look at the Jacobian map"
    before, after = registration.similarity
    if after < before:
        yield "the deformation did not make the images more alike; check that the model fits the image"
