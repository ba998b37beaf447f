"""``clmorph register``: the transform between two images."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Sequence

import SimpleITK as sitk

from .. import __version__
from ..atomic import atomic_folder
from ..console import say
from ..errors import InputError
from ..geometry import Grid, check_same_grid
from ..io.checksums import seal
from ..io.images import read_image, read_labels, warnings_of, write_image
from ..progress import Reporter, part
from ..registration import JACOBIAN_BITS, WARPED_BITS, Registration, register
from ..reports.making import landmarks_entry
from ..reports.report import LandmarksEntry, RegistrationReport
from . import options as given
from . import register_series
from .series import is_series, one_scan

LOG = logging.getLogger(__name__)
RESULTS = (
    "transform.h5",
    "affine.h5",
    "inverse.h5",
    "warped.nii.gz",
    "labels.nii.gz",
    "jacobian.nii.gz",
    "report.json",
)
MAX_LANDMARKS, MAX_NAME = 20, 30  # that are printed, and characters of a name
NO_LABELS = "no voxel of the fixed image got a label, all of them lie outside of it"
OPTIONAL = ("inverse.h5", "labels.nii.gz")  # not every network has an inverse, not every moving image labels


def run(options: Namespace, reporter: Reporter) -> None:
    """Writes the transforms, the warped image, warped labels where there are some, and the Jacobian map."""
    inputs = (options.fixed, options.moving, options.moving_labels, *given.guiding_files(options))
    with given.writing(options, RESULTS, *inputs, certificate="report.json", optional=OPTIONAL):
        _run(options, reporter)


def _run(options: Namespace, reporter: Reporter) -> None:
    optimization, affine = given.optimization(options), given.affine(options)
    if options.model is None and optimization is None:
        raise InputError(
            "neither --model nor --refine is given; expected a model whose network registers, or the number of steps "
            "to register by optimisation alone, for instance --refine 50"
        )
    model = given.model(options)
    landmarks, initial = given.landmarks(options), given.initial(options)
    masks = given.mask(options.mask), given.mask(options.moving_mask)
    reporter("reading", 0.0)
    moving = read_image(options.moving)
    labels = read_labels(options.moving_labels) if options.moving_labels is not None else None
    if labels is not None:
        check_same_grid(moving, labels, names=(str(options.moving), f"labels {options.moving_labels}"))
        if _is_empty(labels):
            raise InputError(f"labels {options.moving_labels} are empty; expected at least one label above zero")
    if is_series(options):
        register_series.run(options, reporter, model, moving, labels)
        return
    fixed, source = one_scan(options.fixed, options.frames)
    registration = register(
        fixed,
        moving,
        model,
        affine=affine,
        optimization=optimization,
        mask=masks[0],
        moving_mask=masks[1],
        moving_labels=labels,
        landmarks=landmarks,
        initial=initial,
        progress=part(reporter, 0.05, 0.8),
    )
    warped = registration.warp(labels, labels=True) if labels is not None else None
    warnings = [warning for image in (fixed, moving, labels) if image is not None for warning in warnings_of(image)]
    doubts = (
        landmarks.doubts(Grid.of(fixed), Grid.of(moving), registration.transform.TransformPoint) if landmarks else []
    )
    own = [*registration.warnings(), *doubts, *([NO_LABELS] if warped is not None and _is_empty(warped) else [])]
    for warning in own:
        LOG.warning(warning)
    warnings += own
    report = _report(options, source, model.name, registration, landmarks_entry(landmarks, registration), warnings)
    with atomic_folder(options.output, optional=OPTIONAL, certificate="report.json") as folder:
        reporter("writing", 0.8)
        registration.write(folder)
        write_image(registration.warp(moving), folder / "warped.nii.gz", scan=fixed, bits=WARPED_BITS)
        if warped is not None:
            write_image(warped, folder / "labels.nii.gz", scan=fixed)
        write_image(registration.jacobian_on_fixed(), folder / "jacobian.nii.gz", scan=fixed, bits=JACOBIAN_BITS)
        report.save(folder / "report.json")
        seal(folder, options.output, RESULTS, "report.json")
        reporter.check_cancelled()
    if report.landmarks is not None and reporter.kind != "json":
        say("\n".join(landmark_lines(report.landmarks)), given.console(reporter))
    inverse = "inverse.h5" if registration.inverse is not None else "no inverse (its network has none)"
    given.done(reporter, options.output, f"transform.h5, {inverse} and the warped image")


def landmark_lines(entry: LandmarksEntry) -> list[str]:
    """A table of landmarks' distances, those farthest apart at the end first, MAX_LANDMARKS of them at most."""
    rows = list(zip(entry.names, entry.before_mm, entry.affine_mm, entry.warped_mm, strict=True))
    farthest = sorted(rows, key=lambda row: -row[3])[:MAX_LANDMARKS]
    steps = ("before", "affine", "warped")
    rest = [(title, *(mm[s] for s in steps)) for title, mm in (("mean", entry.mean_mm), ("largest", entry.max_mm))]
    shown = [(name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…", *mm) for name, *mm in [*farthest, *rest]]
    width = max(len("landmark, mm"), *(len(name) for name, *_ in shown))
    head = f"{'landmark, mm':{width}}  {'before':>8}  {'affine':>8}  {'warped':>8}"
    lines = [f"{name:{width}}  " + "  ".join(f"{mm:8.2f}" for mm in row) for name, *row in shown]
    more = [f"… and {len(rows) - len(farthest)} more in report.json"] if len(rows) > len(farthest) else []
    return [head, *lines[: len(farthest)], *more, *lines[len(farthest) :]]


def _is_empty(labels: sitk.Image) -> bool:
    return not sitk.GetArrayViewFromImage(labels).any()


def _report(
    options: Namespace,
    source: str,
    model: str,
    registration: Registration,
    landmarks: LandmarksEntry | None,
    warnings: Sequence[str],
) -> RegistrationReport:
    before, after = registration.similarity
    return RegistrationReport(
        version=__version__,
        fixed=source,
        moving=str(options.moving),
        model=model,
        refinement_steps=registration.optimization_steps,
        folding_fraction=registration.folding_fraction,
        similarity={"affine": before, "warped": after},
        duration_s=registration.duration_s,
        warnings=tuple(warnings),
        landmarks=landmarks,
    )
