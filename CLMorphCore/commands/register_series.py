"""``clmorph register --frames``: an image warped onto the frames of a series in time."""

from __future__ import annotations

import logging
from argparse import Namespace

import SimpleITK as sitk

from .. import __version__
from ..atomic import atomic_folder
from ..bundles.model import Model
from ..io.checksums import seal
from ..io.images import warnings_of, write_image
from ..io.series import write_series
from ..progress import Reporter, Stopwatch, part
from ..registration import JACOBIAN_BITS
from ..reports.report import RegistrationReport
from ..reports.series import write_report
from ..series.following import FOLLOWING
from ..series.registration import SeriesRegistration, register_series
from . import options as given
from .series import read

LOG = logging.getLogger(__name__)
REPORT = "report.json"
RESULTS = ("transform.h5", "affine.h5", "inverse.h5", "warped.nii.gz", "labels.nii.gz", "jacobian.nii.gz", REPORT)
OPTIONAL = ("inverse.h5", "labels.nii.gz")
NO_LABELS = "no voxel of frame {} got a label, all of them lie outside of it"


def run(options: Namespace, reporter: Reporter, model: Model, moving: sitk.Image, labels: sitk.Image | None) -> None:
    """Writes what ``register`` writes: warped images and labels of all frames (4D), the map of the one to follow."""
    optimization = given.optimization(options)
    series = read(options.fixed, reporter, Stopwatch())
    found = register_series(
        series,
        moving,
        model,
        labels=labels,
        frames=options.frames,
        affine=given.affine(options),
        optimization=optimization,
        following=optimization or FOLLOWING,
        progress=part(reporter, 0.05, 0.8),
    )
    warped, carried = found.warp(moving), found.warp(labels, labels=True) if labels is not None else {}
    empty = [n for n, image in carried.items() if not sitk.GetArrayViewFromImage(image).any()]
    own = [*found.registration.warnings(), *(NO_LABELS.format(n + 1) for n in empty)]
    for warning in own:
        LOG.warning(warning)
    warnings = [
        text for image in (series.frames[0], moving, labels) if image is not None for text in warnings_of(image)
    ]
    with atomic_folder(options.output, optional=OPTIONAL, certificate=REPORT) as folder:
        reporter("writing", 0.8)
        like = series.only(sorted(warped))
        found.registration.write(folder)
        write_series(list(warped.values()), folder / "warped.nii.gz", like)
        if carried:
            write_series(list(carried.values()), folder / "labels.nii.gz", like)
        jacobian = found.registration.jacobian_on_fixed()
        write_image(jacobian, folder / "jacobian.nii.gz", scan=series.frames[found.key], bits=JACOBIAN_BITS)
        write_report(folder / REPORT, _report(options, model.name, found, [*warnings, *own]), _series(found))
        seal(folder, options.output, RESULTS, REPORT)
        reporter.check_cancelled()
    text = f"the image warped onto {len(warped)} of {len(series)} frames, transform.h5 of frame {found.key + 1}"
    given.done(reporter, options.output, text)


def _report(options: Namespace, model: str, found: SeriesRegistration, warnings: list[str]) -> RegistrationReport:
    before, after = found.registration.similarity
    return RegistrationReport(
        version=__version__,
        fixed=str(options.fixed),
        moving=str(options.moving),
        model=model,
        refinement_steps=found.registration.optimization_steps,
        folding_fraction=found.registration.folding_fraction,
        similarity={"affine": before, "warped": after},
        duration_s=dict(found.duration_s),
        warnings=tuple(warnings),
    )


def _series(found: SeriesRegistration) -> dict[str, object]:
    """Which frame MOVING was registered to, and how like it the others are along their maps; frames from 1."""
    return {
        "count": len(found.series),
        "registered": found.key + 1,
        "warped": [n + 1 for n in found.transforms],
        "similarity": {str(n + 1): round(alike, 4) for n, alike in sorted(found.similarity.items())},
    }
