"""``clmorph apply``: images, label maps, points and surfaces along transforms."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..applying.images import apply
from ..applying.maps import Step, flat, inverse_of
from ..atomic import atomic_write, check_writable
from ..errors import FileError, InputError, OutputError
from ..io.displacement_fields import read_any
from ..io.images import read_file, read_labels, write_image
from ..progress import Reporter
from . import options as given

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")


def run(options: Namespace, reporter: Reporter) -> None:
    """Writes OUTPUT, a file of the input's kind; InputError where there is one of that name already."""
    check_output(options.output, IMAGE_ENDINGS)
    reporter("reading", 0.0)
    steps = chain_of(options)
    _image(options, steps, reporter)


def check_output(output: Path, endings: tuple[str, ...]) -> None:
    """InputError unless ``output`` is free, can be written and has one of the endings."""
    if not output.name.lower().endswith(endings):
        raise InputError(f"--output {output} is given; expected a file that ends in {', '.join(endings)}")
    if os.path.lexists(output):
        raise OutputError(f"{output} is there already; expected a new file", "delete it, or choose another name")
    check_writable(output.parent)


def chain_of(options: Namespace) -> list[Step]:
    """The transforms of the command line, in their order, or the inverse of all of them."""
    if not options.transforms:
        raise InputError("no transform is given; expected --transform FILE or --inverse-of FILE")
    steps = flat([Step(read_any(file), inverse) for file, inverse in options.transforms])
    return inverse_of(steps) if options.inverse else steps


def _image(options: Namespace, steps: list[Step], reporter: Reporter) -> None:
    interpolation = options.interpolation or ("labels" if options.labels else "linear")
    if options.labels and interpolation not in ("labels", "nearest"):
        raise InputError(f"--labels is given with --interpolation {interpolation}; expected labels or nearest")
    if options.points_space is not None:
        raise InputError("--points-space is given with an image; expected points or a surface; omit it")
    image = read_labels(options.input) if options.labels or interpolation == "labels" else _finite(options.input)
    reference = image if options.reference is None else read_file(options.reference)
    reporter("applying", 0.2)
    moved = apply(image, steps, reference, interpolation=interpolation)
    reporter("writing", 0.8)
    reporter.check_cancelled()
    with atomic_write(options.output) as temporary:
        save_image(moved, temporary, reference)
    given.done(reporter, options.output, f"{options.input.name} along {len(steps)} transforms, {interpolation}")


def _finite(path: Path) -> sitk.Image:
    image = read_file(path)
    if bad := int(np.count_nonzero(~np.isfinite(sitk.GetArrayViewFromImage(image)))):
        raise FileError(
            f"{path} has {bad} voxels that are NaN or infinite; expected finite intensities; "
            "replace them, for instance by zero"
        )
    return image


def save_image(image: sitk.Image, path: Path, reference: sitk.Image | None) -> None:
    """Writes NIfTI with the reference's placements, or what ITK writes; OutputError where that fails."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        write_image(image, path, scan=reference)
        return
    try:
        sitk.WriteImage(image, str(path), True)
    except RuntimeError as error:
        raise OutputError(f"{path} cannot be written: {str(error).splitlines()[-1]}") from None
