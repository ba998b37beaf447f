"""Transform files, read or refused, written whole or an error."""

from __future__ import annotations

import math
from pathlib import Path

import SimpleITK as sitk

from ..atomic import cannot_write
from ..errors import FileError
from .itk import CHUNK_BYTES, quiet, reason


def read_transform(path: Path) -> sitk.Transform:
    """The transform of a file; InputError if there is none."""
    try:
        with quiet():
            return sitk.ReadTransform(str(path))
    except RuntimeError:
        raise FileError(
            f"{path} cannot be read as a transform; expected an ITK transform file (.h5, .tfm, .mat)"
        ) from None


def write_transform(transform: sitk.CompositeTransform, path: Path) -> None:
    """Writes a transform file; InputError when it cannot be."""
    try:
        _make_room(path, _bytes_of(transform))
        with quiet():
            sitk.WriteTransform(transform, str(path))
    except OSError as error:
        raise cannot_write(path, error) from None
    except RuntimeError as error:
        raise cannot_write(path, reason(error)) from None


def _bytes_of(transform: sitk.CompositeTransform) -> int:
    """Size of a transform's file, at most: three doubles a point of its fields, and what HDF5 adds."""
    parts = [transform.GetNthTransform(n) for n in range(transform.GetNumberOfTransforms())]
    sizes = [part.GetFixedParameters()[:3] for part in parts if part.GetName() == "DisplacementFieldTransform"]
    return CHUNK_BYTES // 8 + sum(24 * math.prod(int(n) for n in size) for size in sizes)


def _make_room(path: Path, size: int) -> None:
    """Fills a file with zeros, which ITK then replaces: here a full disk is an OSError, inside HDF5 it is a crash."""
    with path.open("wb") as file:
        for start in range(0, size, CHUNK_BYTES):
            file.write(bytes(min(CHUNK_BYTES, size - start)))


def read_affine(path: str | Path) -> sitk.Transform:
    """A linear transform fixed → moving from a file that ITK reads; InputError otherwise."""
    if not Path(path).exists():
        raise FileError(f"`affine={path}` does not exist; expected none, or a transform file (.h5, .tfm, .mat)")
    transform = read_transform(Path(path))
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise FileError(
            f"`affine={path}` holds a {transform.GetDimension()}D {transform.GetName()}; expected a "
            "linear 3D transform from the image to the atlas"
        )
    try:
        transform.GetInverse()
    except RuntimeError:
        raise FileError(
            f"`affine={path}` has no inverse; expected a matrix with a determinant that is not zero"
        ) from None
    return transform
