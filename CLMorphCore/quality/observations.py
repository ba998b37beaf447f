"""What the quality score is fitted to and measured on: scans, genuine and corrupted, registered as ``segment`` would.

Of the quality score's making this is the only file that registers anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..bundles.model import Model
from ..errors import InputError
from ..io.images import read_image
from ..io.manifest import Subject, read_subject
from ..matching import Match, PreparedAtlas, align_scan, match
from ..metrics import dice_per_label
from ..tissue.carried import followed_labels, warped_labels
from .corruptions import (
    CORRUPTIONS,
    LabelledScan,
    as_scanned,
    failed_affine,
    of_other_contrast,
    wrong_header,
    wrong_organ,
)
from .evidence import Evidence, evidence
from .uncertainty import alternative_displacements

GENUINE = "genuine"


@dataclass(frozen=True)
class Observation:
    """What one scan's registration showed.

    kind      GENUINE, or how the scan was corrupted
    split     of the subject; the atlas is made from those of train
    evidence  None where the engine refused the scan
    dice      (K,) of the structures; None where there are no labels
    """

    subject: str
    kind: str
    evidence: Evidence | None
    dice: np.ndarray | None
    split: str = ""


def observe(
    model: Model, prepared: PreparedAtlas, scan: LabelledScan, subject: Subject, kind: str, *, labelled: bool
) -> tuple[Observation, Match | None]:
    """Matches a scan as ``segment`` would and keeps its evidence and, where it is labelled, its Dice."""
    (atlas,) = prepared.atlases
    values = [s.value for s in atlas.structures]
    try:
        found = match(
            align_scan(scan.image, prepared, model, affine=scan.affine),
            prepared,
            model,
            optimization=model.refinement.unasked,
        )
        shown = evidence(found, atlas.labels, values, alternative_displacements(model, found))
    except InputError:  # said in words, so it cannot be missed
        return Observation(subject.name, kind, None, None, subject.split), None
    if not labelled:
        return Observation(subject.name, kind, shown, None, subject.split), found
    labels = (
        followed_labels(found, prepared, prepared.tissue, model.tissue)
        if model.tissue.on
        else warped_labels(found, prepared)
    )
    whole = [sitk.Cast(image, sitk.sitkInt32) for image in (labels, scan.labels)]
    dice = dice_per_label(whole[0], whole[1], values)
    return Observation(subject.name, kind, shown, np.array([dice[v] for v in values]), subject.split), found


def genuine_and_corrupted(
    model: Model, prepared: PreparedAtlas, subject: Subject, others: Sequence[Path], seed: int, *, corrupt: bool
) -> Iterator[Observation]:
    """The subject as it is, as it might have been scanned, in any contrast, and corrupted in each way with ``corrupt``.

    ``others`` are images of other organs.
    """
    image, labels = read_subject(subject)
    scan, random = LabelledScan(image, labels if labels is not None else image), np.random.default_rng(seed)
    first, found = observe(model, prepared, scan, subject, GENUINE, labelled=labels is not None)
    yield first
    scanned = as_scanned(scan, random)
    yield observe(model, prepared, scanned, subject, GENUINE, labelled=labels is not None)[0]
    if model.any_contrast:
        yield observe(
            model, prepared, of_other_contrast(scanned, random), subject, GENUINE, labelled=labels is not None
        )[0]
    if not corrupt or found is None:
        return
    # Where stacks are aligned by centre and axes, whatever the header calls them, a wrong header corrupts nothing.
    corrupted = {
        name: corruption(scan, random)
        for name, corruption in CORRUPTIONS.items()
        if not (model.config.data.alignment == "centres" and corruption is wrong_header)
    }
    corrupted["failed affine"] = failed_affine(scan, random, found.scan.affine)
    if others:
        corrupted["wrong organ"] = wrong_organ(scan, read_image(others[int(random.integers(len(others)))]))
    for kind, one in corrupted.items():
        yield observe(model, prepared, one, subject, kind, labelled=False)[0]
