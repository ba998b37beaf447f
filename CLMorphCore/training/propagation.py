"""Labels of one scan carried to many, before all of them vote on an atlas: what single registrations get wrong differs.

After Chakravarty et al., Human Brain Mapping 2013, who carry few atlases' labels to the scans themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..bundles.atlas import make_atlas
from ..bundles.model import Model
from ..errors import InputError
from ..instance_optimization import InstanceOptimization
from ..io.images import write_image
from ..io.manifest import Subject, read_subject
from ..matching import align_scan, match, prepare
from ..progress import Progress, part, silent
from ..tissue.carried import warped_labels

LOG = logging.getLogger(__name__)


def propagated(
    labelled: Subject,
    others: Sequence[Subject],
    model: Model,
    folder: Path,
    *,
    optimization: InstanceOptimization,
    progress: Progress = silent,
) -> list[Subject]:
    """The others with the labels that the labelled scan has where a refined map takes them; files in ``folder``.

    One that cannot be aligned, or gets no label, stays as it is, with a warning.
    """
    assert labelled.labels is not None
    prepared = prepare(model, [make_atlas(labelled.name, labelled.image, labelled.labels, None)])
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
            LOG.warning(f"{subject.name} has no say in the atlas' labels: none of {labelled.name}'s lies in it")
            found.append(subject)
            continue
        path = folder / f"{n}.nii.gz"
        write_image(labels, path, scan=image)
        found.append(replace(subject, labels=path))
    return found
