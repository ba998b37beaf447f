"""An atlas from one labelled scan: its labels are carried to many, which all vote; what single registrations get wrong
differs. After Chakravarty et al., Human Brain Mapping 2013, who carry few atlases' labels to the scans themselves.

Of three mice, refined and with tissue, Dice is .875 by the votes of a fourth mouse and of ten to which it lent its
labels, and .875 by the fourth as the atlas, without tissue (Greedy .868). Labelled again by that atlas and their own
tissue the ten had better labels (.861 → .870), and the votes made a worse atlas (.869): all then get the same wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk

from ..bundles.atlas import Atlas, Structure, make_atlas
from ..bundles.model import Model
from ..bundles.template import build_atlas
from ..errors import InputError
from ..geometry import Grid
from ..instance_optimization import InstanceOptimization
from ..io.images import write_image
from ..io.manifest import Subject, read_subject
from ..matching import align_scan, match, prepare
from ..progress import Progress, part, silent
from ..tissue.carried import warped_labels
from ..tissue.choosing import EXPONENTS, SMOOTHING_VOXELS
from ..tissue.settings import TissueSettings

LOG = logging.getLogger(__name__)
MIN_VOTERS = 5  # whose labels follow a scan's tissue where nothing was measured
BACKGROUND = 0.8
LENDING = 0.25  # share of the progress


def atlas_of_one(
    labelled: Subject,
    others: Sequence[Subject],
    model: Model,
    *,
    structures: Sequence[Structure] | None,
    margin_mm: float | None,
    optimization: InstanceOptimization,
    progress: Progress = silent,
) -> Atlas:
    """The average of all, with the vote of the labels that the labelled one lends to the others; all maps refined."""
    assert labelled.labels is not None
    own = make_atlas(labelled.name, labelled.image, labelled.labels, None)
    lending, building = part(progress, 0.0, LENDING), part(progress, LENDING, 1.0)
    with TemporaryDirectory(prefix="clmorph-lent-") as folder:
        lent = propagated(own, others, model, Path(folder), optimization=optimization, progress=lending)
        how = {"structures": structures, "margin_mm": margin_mm, "optimization": optimization}
        return build_atlas([labelled, *lent], model=model, progress=building, **how)


def unmeasured_tissue(atlas: Atlas) -> TissueSettings:
    """What other data have chosen: labels of several voters follow the tissue.

    Of all smoothings most organs have chosen the least, and of the exponents one of the two least; the background's
    factor is that of hippocampi. Labels of a single scan lost by following.
    """
    voters = atlas.shares.voters if atlas.shares is not None else 1
    least = round(SMOOTHING_VOXELS[0] * min(Grid.of(atlas.labels).voxel_mm), 3)
    return TissueSettings(voters >= MIN_VOTERS, least, EXPONENTS[0], BACKGROUND)


def propagated(
    atlas: Atlas,
    others: Sequence[Subject],
    model: Model,
    folder: Path,
    *,
    optimization: InstanceOptimization,
    progress: Progress = silent,
) -> list[Subject]:
    """The others with the labels that the atlas has where refined maps take them; files in ``folder``.

    One that cannot be aligned, or gets no label, stays as it is, with a warning.
    """
    prepared = prepare(model, [atlas])
    found = []
    for n, subject in enumerate(others):
        at = part(progress, n / len(others), (n + 1) / len(others))
        at(f"labels for {subject.name} ({n + 1}/{len(others)})", 0.0)
        image, _ = read_subject(subject)
        try:
            scan = align_scan(image, prepared, model)
            labels = warped_labels(match(scan, prepared, model, optimization=optimization, progress=at), prepared)
        except InputError as error:
            LOG.warning(f"{subject.name} has no say in the atlas' labels: {error.problem}")
            found.append(subject)
            continue
        if not np.any(sitk.GetArrayViewFromImage(labels)):
            LOG.warning(f"{subject.name} has no say in the atlas' labels: none of {atlas.name} lies in it")
            found.append(subject)
            continue
        path = folder / f"{n}.nii.gz"
        write_image(labels, path, scan=image)
        found.append(replace(subject, labels=path))
    return found
