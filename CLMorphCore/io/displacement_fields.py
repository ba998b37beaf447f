"""Displacement fields in image files, as ITK, ANTs and Slicer write them: vectors in LPS, mm, one at every voxel."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..atomic import check_utf8
from ..errors import FileError
from . import itk
from .compression import CHUNK_BYTES, GZIP
from .files import cannot_read, check_file
from .nifti import FIELDS
from .transforms import read_transform
from .volume import unreadable

EXPECTED = "an image of three numbers per voxel, the displacements in mm (LPS)"
IMAGE = re.compile(rb"NRRD000|ObjectType|NDims|.{344}n[i+][12]|.{4}n\+2", re.DOTALL)
MAX_DISPLACEMENT_MM = 1e6
NEEDED = ("dim", "bitpix", "vox_offset")  # of NIfTI's header, for the length of its file


def read_any(path: Path) -> sitk.Transform:
    """The 3D transform of a file of ITK's or of a displacement field; FileError where it is neither."""
    transform = read_field(path) if _is_image(path) else read_transform(path)
    if transform.GetDimension() != 3:
        raise FileError(f"{path} holds a {transform.GetDimension()}D {transform.GetName()}; expected a 3D transform")
    return transform


def _is_image(path: Path) -> bool:
    check_utf8(path)
    check_file(path, "a transform file of ITK (.h5, .tfm, .mat, .txt) or a displacement field (.nii.gz, .nrrd, .mha)")
    try:
        with path.open("rb") as file:
            start = file.read(512)
        if start.startswith(GZIP):
            with gzip.open(path) as packed:
                start = packed.read(512)
    except (OSError, EOFError) as error:
        raise cannot_read(path, OSError(str(error)), EXPECTED) from None
    return IMAGE.match(start) is not None


def read_field(path: Path) -> sitk.DisplacementFieldTransform:
    """p ↦ p + u(p) of an image of vectors; FileError where it is no such image."""
    _check_complete(path)
    try:
        about, content = itk.read("field", path)
    except itk.CannotRead as error:
        raise FileError(f"{path} cannot be read as a displacement field ({error}); expected {EXPECTED}") from None
    except OSError as error:
        raise cannot_read(path, error, EXPECTED) from None
    if len(about["size"]) != 3 or about["components"] != 3:
        raise FileError(
            f"{path} is an image of {len(about['size'])} dimensions with {about['components']} numbers per voxel; "
            f"expected a transform file, or {EXPECTED}"
        )
    vectors = np.frombuffer(content, np.float64).reshape(*about["size"][::-1], 3)
    if not (np.abs(vectors) < MAX_DISPLACEMENT_MM).all():
        raise FileError(f"{path} holds displacements that are not finite or beyond a kilometre; expected {EXPECTED}")
    field = sitk.GetImageFromArray(vectors, isVector=True)
    field.SetSpacing(about["spacing"])
    field.SetOrigin(about["origin"])
    field.SetDirection(about["direction"])
    return sitk.DisplacementFieldTransform(field)


def _check_complete(path: Path) -> None:
    """FileError where a NIfTI file is shorter than its header says, or its checksum is wrong: ITK reads zeros there."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP[:2]
    opened = gzip.open(path) if packed else path.open("rb")  # noqa: SIM115
    try:
        with opened as file:
            header = file.read(540)
            length = len(header)
            while part := file.read(CHUNK_BYTES):
                length += len(part)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise unreadable(path, str(error)) from None
    except OSError as error:
        raise cannot_read(path, error, EXPECTED) from None
    for order in "<>":
        if len(header) >= 352 and (fields := FIELDS.get(struct.unpack(order + "i", header[:4])[0])):
            dim, bits, offset = (struct.unpack_from(order + fields[key][0], header, fields[key][1]) for key in NEEDED)
            needed = int(offset[0]) + math.prod(dim[1 : 1 + max(0, min(7, dim[0]))]) * bits[0] // 8
            if length < needed:
                raise unreadable(path, f"it is cut off, {needed - length} bytes are missing", "NIfTI")
