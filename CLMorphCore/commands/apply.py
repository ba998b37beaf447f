"""``clmorph apply``: images, label maps, points and surfaces along transforms."""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..applying.description import folded_inverses
from ..applying.images import Interpolation, apply, inexact
from ..applying.maps import TOLERANCE_MM, Step, flat, inverse_of, map_points, mirrors, on_grid
from ..atomic import atomic_write, check_writable
from ..errors import FileError, InputError, OutputError, counted
from ..geometry import Grid
from ..io import frames, points, surfaces
from ..io.displacement_fields import read_any
from ..io.images import read_file, read_labels, write_image
from ..progress import Reporter
from . import options as given

LOG = logging.getLogger(__name__)
IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")


def run(options: Namespace, reporter: Reporter) -> None:
    """Writes OUTPUT, a file of the input's kind; InputError where there is one of that name already."""
    kind, ending = kind_of(options.input)
    check_output(options.output, IMAGE_ENDINGS if kind == "image" else (ending,))
    if kind != "image":
        _check_no_image(options, kind)
    reporter("reading", 0.0)
    steps = chain_of(options)
    {"image": _image, "points": _points, "a surface": _surface}[kind](options, steps, reporter)


def kind_of(path: Path) -> tuple[str, str]:
    """What a file is, image, points or a surface, and the ending by which it is known."""
    name = path.name.lower()
    for kind, endings in (("points", points.ENDINGS), ("a surface", surfaces.ENDINGS)):
        for ending in endings:
            if name.endswith(ending) and (kind == "points" or surfaces.is_surface(path)):
                return kind, ending
    return "image", ""


def _check_no_image(options: Namespace, kind: str) -> None:
    for flag in ("reference", "labels", "interpolation"):
        if getattr(options, flag):
            raise InputError(f"--{flag} is given with {kind}, without a grid; expected an image; omit it")


def _points(options: Namespace, steps: list[Step], reporter: Reporter) -> None:
    found = points.read_points(options.input, options.points_space)
    moved, error = map_points(found.lps_mm, steps)
    _warn(error)
    reporter.check_cancelled()
    with atomic_write(options.output) as temporary:
        temporary.write_text(found.text(moved), encoding="utf-8", newline="")
    given.done(reporter, options.output, f"{counted(len(moved), 'point')} of {options.input.name} {_along(steps)}")


def _surface(options: Namespace, steps: list[Step], reporter: Reporter) -> None:
    found = surfaces.read_surface(options.input, options.points_space)
    moved, error = map_points(found.lps_mm, steps)
    _warn(error)
    reporter.check_cancelled()
    with atomic_write(options.output) as temporary:
        found.write(temporary, moved, mirrors(steps, found.lps_mm.mean(axis=0)))
    given.done(reporter, options.output, f"{len(moved)} vertices of {options.input.name} {_along(steps)}")


def _warn(error: np.ndarray) -> None:
    """A warning where points have no exact inverse."""
    _tell_inexact(float((error > 10 * TOLERANCE_MM).mean()), float(error.max()))


def _tell_inexact(share: float, off_mm: float) -> None:
    if share > 0:
        LOG.warning(inexact(share, off_mm))


def _along(steps: list[Step]) -> str:
    return f"along {counted(len(steps), 'transform')}"


def check_output(output: Path, endings: tuple[str, ...]) -> None:
    """InputError unless ``output`` is free, can be written and has one of the endings."""
    if not output.name.lower().endswith(endings):
        raise InputError(f"--output {output} is given; expected a file that ends in {', '.join(endings)}")
    if os.path.lexists(output):
        raise OutputError(f"{output} is there already; expected a new file", "delete it, or choose another name")
    check_writable(output.parent)


def chain_of(options: Namespace) -> list[Step]:
    """The transforms of the command line, or the inverse of all of them, composed as in ITK.

    ANTs' users name the one that is applied to points first, ITK's add it last.
    """
    if not options.transforms:
        raise InputError("no transform is given; expected --transform FILE or --inverse-of FILE")
    steps = flat([Step(read_any(file), inverse) for file, inverse in reversed(options.transforms)])
    steps = inverse_of(steps) if options.inverse else steps
    if share := folded_inverses(steps):
        LOG.warning(
            f"a transform whose inverse is taken folds in {share:.2g} of its voxels: several points lead to one place "
            "there, of which the inverse is one"
        )
    return steps


def _image(options: Namespace, steps: list[Step], reporter: Reporter) -> None:
    interpolation = options.interpolation or ("labels" if options.labels else "linear")
    if options.labels and interpolation not in ("labels", "nearest"):
        raise InputError(f"--labels is given with --interpolation {interpolation}; expected labels or nearest")
    if options.points_space is not None:
        raise InputError("--points-space is given with an image; expected points or a surface; omit it")
    if frames.has_frames(options.input):
        _frames(options, steps, reporter, interpolation)
        return
    image = read_labels(options.input) if options.labels or interpolation == "labels" else _finite(options.input)
    reference = image if options.reference is None else read_file(options.reference)
    reporter("applying", 0.2)
    moved = apply(image, steps, reference, interpolation=interpolation)
    reporter("writing", 0.8)
    reporter.check_cancelled()
    with atomic_write(options.output) as temporary:
        save_image(moved, temporary, reference)
    given.done(reporter, options.output, f"{options.input.name} {_along(steps)}, {interpolation}")


def _frames(options: Namespace, steps: list[Step], reporter: Reporter, interpolation: Interpolation) -> None:
    """Each frame of a series along the same transforms, into one file."""
    if not options.output.name.lower().endswith((".nii", ".nii.gz")):
        raise InputError(f"{options.input} has several frames; expected --output as .nii.gz or .nii")
    series = frames.read_frames(options.input)
    for n, frame in enumerate(series, start=1):
        _check_frame(frame, f"{options.input}, frame {n},", interpolation)
    reference = series[0] if options.reference is None else read_file(options.reference)
    grid = Grid.of(reference)
    transform = on_grid(steps, grid)
    _tell_inexact(transform[1], transform[2])
    moved = []
    for n, frame in enumerate(series):
        reporter("applying", 0.2 + 0.6 * n / len(series))
        moved.append(apply(frame, transform[0], grid, interpolation=interpolation))
    reporter("writing", 0.8)
    with atomic_write(options.output) as temporary:
        frames.write_frames(moved, temporary, like=series[0], reference=reference)
    given.done(reporter, options.output, f"{counted(len(series), 'frame')} of {options.input.name} {_along(steps)}")


def _check_frame(frame: sitk.Image, name: str, interpolation: Interpolation) -> None:
    values = sitk.GetArrayViewFromImage(frame)
    if not np.isfinite(values).all():
        raise FileError(f"{name} has voxels that are NaN or infinite; expected finite intensities")
    if interpolation == "labels" and (values != np.round(values)).any():
        raise FileError(f"{name} holds fractional values; expected labels, whole numbers")


def _finite(path: Path) -> sitk.Image:
    image = read_file(path)
    if bad := int(np.count_nonzero(~np.isfinite(sitk.GetArrayViewFromImage(image)))):
        raise FileError(
            f"{path} has {counted(bad, 'voxel that is', 'voxels that are')} NaN or infinite; expected "
            "finite intensities; replace them, for instance by zero"
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
