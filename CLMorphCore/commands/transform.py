"""``clmorph transform``: what a transform is; chains composed, inverted, converted."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk

from ..applying.description import as_composite, as_field, as_linear, describe, field_grid
from ..applying.maps import Step
from ..atomic import atomic_write, cannot_write
from ..console import say
from ..errors import InputError
from ..geometry import Grid
from ..io.images import read_file
from ..io.transforms import write_transform
from ..progress import Reporter
from . import options as given
from .apply import chain_of, check_output

LINEAR, FIELDS = (".tfm", ".txt", ".mat"), (".nii.gz", ".nii", ".nrrd", ".mha")
ENDINGS = (".h5", *LINEAR, *FIELDS)


def run(options: Namespace, reporter: Reporter) -> None:
    """Prints what the chain is, and writes it where --output is given."""
    if options.output is not None:
        check_output(options.output, ENDINGS)
    elif options.reference is not None:
        raise InputError("--reference is given without --output; expected both, or neither")
    steps = chain_of(options)
    lines = describe(steps)
    reporter.event("transform", text="\n".join(lines))
    if reporter.kind != "json":
        say("\n".join(lines), given.console(reporter))
    if options.output is not None:
        grid = Grid.of(read_file(options.reference)) if options.reference is not None else None
        with atomic_write(options.output) as temporary:
            about = _write(steps, temporary, grid)
        given.done(reporter, options.output, about)


def _write(steps: list[Step], path: Path, grid: Grid | None) -> str:
    """Writes a chain as the ending says; what is in the file, in words."""
    name = path.name.lower()
    if name.endswith(LINEAR):
        _by_itk(lambda plain: sitk.WriteTransform(as_linear(steps), plain), path)
        return "one affine transform"
    if name.endswith(FIELDS):
        where = grid or field_grid(steps)
        if where is None:
            raise InputError("no displacement field is in the chain, whose grid were taken", "give --reference GRID")
        field = sitk.Cast(as_field(steps, where), sitk.sitkVectorFloat32)
        _by_itk(lambda plain: sitk.WriteImage(field, plain, True), path)
        return "one displacement field, LPS, mm"
    composite, off_mm = as_composite(steps, grid)
    write_transform(composite, path)
    said = f"; its inverses are exact at voxels, and by up to {off_mm:.2g} mm off between them" if off_mm else ""
    return f"a chain of {composite.GetNumberOfTransforms()}{said}"


def _by_itk(write: Callable[[str], None], path: Path) -> None:
    try:
        write(str(path))
    except RuntimeError as error:
        raise cannot_write(path, str(error).splitlines()[-1]) from None
