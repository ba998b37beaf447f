"""``clmorph register``: the transform between two images."""

from __future__ import annotations

from argparse import Namespace

from .. import __version__
from ..atomic import atomic_folder
from ..bundles.model import affine_model
from ..devices import choose_device
from ..errors import InputError
from ..geometry import check_same_grid
from ..io.images import read_image, read_labels, warnings_of, write_image
from ..matching import prepare_image
from ..progress import Reporter, part
from ..registration import JACOBIAN_BITS, WARPED_BITS, register
from ..reports.report import RegistrationReport
from . import options as given

RESULTS = (
    "transform.h5",
    "affine.h5",
    "inverse.h5",
    "warped.nii.gz",
    "labels.nii.gz",
    "jacobian.nii.gz",
    "report.json",
)
OPTIONAL = ("inverse.h5", "labels.nii.gz")  # not every network has an inverse, not every moving image labels


def run(options: Namespace, reporter: Reporter) -> None:
    """Writes the transforms, the warped image, warped labels where there are some, and the Jacobian map."""
    inputs = (options.fixed, options.moving, options.moving_labels)
    with given.writing(options, RESULTS, *inputs, certificate="report.json", optional=OPTIONAL):
        _run(options, reporter)


def _run(options: Namespace, reporter: Reporter) -> None:
    optimization, affine = given.optimization(options), given.affine(options)
    if options.model is None and optimization is None:
        raise InputError(
            "neither --model nor --refine is given; expected a model whose network registers, or the number of steps "
            "to register by optimisation alone, for instance --refine 50"
        )
    model = given.model(options) if options.model is not None else affine_model(choose_device(options.device))
    reporter("reading", 0.0)
    fixed, moving = read_image(options.fixed), read_image(options.moving)
    labels = read_labels(options.moving_labels) if options.moving_labels is not None else None
    if labels is not None:
        check_same_grid(moving, labels, names=(str(options.moving), f"labels {options.moving_labels}"))
    registration = register(
        fixed,
        prepare_image(model, moving, labels),
        model,
        affine=affine,
        optimization=optimization,
        progress=part(reporter, 0.05, 0.8),
    )
    before, after = registration.similarity
    report = RegistrationReport(
        version=__version__,
        fixed=str(options.fixed),
        moving=str(options.moving),
        model=model.name,
        refinement_steps=registration.optimization_steps,
        folding_fraction=registration.folding_fraction,
        similarity={"affine": before, "warped": after},
        duration_s=registration.duration_s,
        warnings=tuple(
            warning for image in (fixed, moving, labels) if image is not None for warning in warnings_of(image)
        ),
    )
    with atomic_folder(options.output, optional=OPTIONAL, certificate="report.json") as folder:
        reporter("writing", 0.8)
        registration.save(folder)
        write_image(registration.warp(moving), folder / "warped.nii.gz", scan=fixed, bits=WARPED_BITS)
        if labels is not None:
            write_image(registration.warp(labels, labels=True), folder / "labels.nii.gz", scan=fixed)
        write_image(registration.jacobian_on_fixed(), folder / "jacobian.nii.gz", scan=fixed, bits=JACOBIAN_BITS)
        report.save(folder / "report.json")
        reporter.check_cancelled()
    inverse = "inverse.h5" if registration.inverse is not None else "no inverse (its network has none)"
    given.done(reporter, options.output, f"transform.h5, {inverse} and the warped image")
