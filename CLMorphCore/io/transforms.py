"""Transform files, read or refused, written whole or an error."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..atomic import cannot_write, check_utf8
from ..errors import FileError
from . import hdf5_writer, itk, names
from .checksums import is_unchanged
from .files import MAX_NAME, cannot_read, check_file
from .transform_formats import ENDINGS, examined

EXPECTED = "an ITK transform file (.h5, .tfm, .mat)"
MAX_NUMBER = 1e9  # of a matrix and an offset in mm: beyond it nothing lies in a room
MIN_DETERMINANT = 1e-6


def read_transform(path: Path) -> sitk.Transform:
    """The transform of a file; FileError if there is none. A linear one comes as an affine transform."""
    with _readable(path, str(path), EXPECTED) as (about, readable):
        linear = _linear(about)
        if linear is not None:
            return linear
        try:
            return sitk.ReadTransform(str(readable))  # a process of its own has survived it
        except RuntimeError as error:
            raise _not_read(str(path), itk.reason(str(error))) from None


def read_result(path: Path, record: str) -> sitk.Transform:
    """As ``read_transform``, of a result: without a process of its own where ``record`` says that it is whole."""
    if not is_unchanged(path, record):
        return read_transform(path)
    try:
        with names.to_read(path) as readable:
            return sitk.ReadTransform(str(readable))
    except RuntimeError as error:
        raise _not_read(str(path), itk.reason(str(error))) from None


@contextmanager
def _readable(path: Path, name: str, expected: str) -> Iterator[tuple[dict, Path]]:
    """What ITK finds in a file, and the path under which it reads it: ITK knows formats by endings in small letters."""
    check_utf8(path)
    check_file(path, expected, name=name)
    kind, fault, remedy = examined(path)
    if fault:
        raise FileError(f"{name} {fault}; expected {EXPECTED}", remedy)
    with ExitStack() as stack:
        if path.suffix not in ENDINGS[kind]:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="clmorph-", ignore_cleanup_errors=True))
            path = Path(shutil.copyfile(path, Path(folder) / f"transform{ENDINGS[kind][0]}"))
        try:
            path = stack.enter_context(names.to_read(path))
            about = itk.read("transform", path)[0]
        except itk.CannotRead as error:
            raise _not_read(name, str(error)) from None
        except OSError as error:
            raise cannot_read(path, error, expected, name=name) from None
        yield about, path


def _not_read(name: str, reason: str) -> FileError:
    return FileError(f"{name} cannot be read as a transform ({reason}); expected {EXPECTED}; check the file")


def _linear(about: dict) -> sitk.AffineTransform | None:
    if not about["linear"] or about["dimension"] != 3:
        return None
    return sitk.AffineTransform(np.ravel(about["matrix"]).tolist(), about["offset"])


def write_transform(transform: sitk.CompositeTransform, path: Path) -> None:
    """Writes an HDF5 file of ITK's, packed without loss; OutputError when it cannot be."""
    parts = [transform.GetNthTransform(n) for n in range(transform.GetNumberOfTransforms())]
    groups: dict[str, hdf5_writer.Tree] = {"0": {"TransformType": "CompositeTransform_double_3_3"}}
    groups |= {str(n): _group(part) for n, part in enumerate(parts, start=1)}
    try:
        hdf5_writer.write(path, {"TransformGroup": groups})
    except OSError as error:
        raise cannot_write(path, error) from None


def _group(part: sitk.Transform) -> hdf5_writer.Tree:
    """A transform as ITK's files hold it, in single precision where that holds its numbers exactly."""
    name = "IdentityTransform" if part.GetTransformEnum() == sitk.sitkIdentity else part.GetName()
    if name == "DisplacementFieldTransform":  # whose parameters would come one by one
        parameters = sitk.GetArrayFromImage(sitk.DisplacementFieldTransform(part).GetDisplacementField()).ravel()
    else:
        parameters = np.array(part.GetParameters(), np.float64)
    single = parameters.astype(np.float32)
    exact = len(single) > 0 and bool((single == parameters).all())
    return {
        "TransformType": f"{name}_{'float' if exact else 'double'}_3_3",
        "TransformFixedParameters": np.array(part.GetFixedParameters(), np.float64),
        "TransformParameters": single if exact else parameters,
    }


def read_affine(path: str | Path) -> sitk.Transform:
    """A linear transform fixed → moving from a file that ITK reads; InputError otherwise."""
    shown = str(path) if len(str(path)) <= MAX_NAME else f"{str(path)[:MAX_NAME]} …"
    name = f"`affine={shown}`"
    with _readable(Path(path), name, "none, or a transform file of ITK (.h5, .tfm, .mat)") as (about, _):
        transform = _linear(about)
    if transform is None:
        raise FileError(
            f"{name} holds a {about['dimension']}D {about['name']}; expected a "
            "linear 3D transform from the image to the atlas"
        )
    numbers = np.array([*transform.GetMatrix(), *transform.GetTranslation()])
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > MAX_NUMBER:
        raise FileError(
            f"{name} holds numbers that are not finite or above {MAX_NUMBER:g}; expected a matrix and an offset in mm"
        )
    if abs(np.linalg.det(np.reshape(transform.GetMatrix(), (3, 3)))) < MIN_DETERMINANT:
        raise FileError(f"{name} has no inverse; expected a matrix with a determinant that is not zero")
    return transform
