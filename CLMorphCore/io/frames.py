"""Several volumes in one file of NIfTI: frames of a beating heart, of contrast that arrives, of functional imaging."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..atomic import cannot_write
from ..errors import FileError
from . import nifti, nifti_writer
from .files import check_file
from .volume import check_place, straightened, to_image

LOG = logging.getLogger(__name__)
EXPECTED = "a NIfTI file of several frames"


def has_frames(path: Path) -> bool:
    """Whether a file is NIfTI with a fourth axis of more than one, and no fifth."""
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return False
    try:
        check_file(path, EXPECTED)
        sides = nifti.sides_of(path)
    except (FileError, OSError):  # which comes again when it is read
        return False
    return len(sides) == 4 and min(sides) > 1


def read_frames(path: Path) -> list[sitk.Image]:
    """The frames of a file, in their order, on one grid; FileError where they cannot be read in full."""
    volume = nifti.read(path, series=True)
    check_place(path, volume.to_mm)
    frames = [straightened(replace(volume, voxels=voxels), path.name) for voxels in volume.voxels]
    for warning in frames[0].warnings:
        LOG.warning(warning)
    return [to_image(frame) for frame in frames]


def write_frames(frames: Sequence[sitk.Image], path: Path, *, like: sitk.Image, reference: sitk.Image) -> None:
    """Writes frames as one NIfTI file, with the time step of ``like`` and the placements of ``reference``."""
    voxels, to_mm = np.stack([sitk.GetArrayViewFromImage(frame) for frame in frames]), np.eye(4)
    to_mm[:3, :3] = np.reshape(frames[0].GetDirection(), (3, 3)) * frames[0].GetSpacing()
    to_mm[:3, 3] = frames[0].GetOrigin()
    header = {key: reference.GetMetaData(key) for key in reference.GetMetaDataKeys()}
    header |= {key: like.GetMetaData(key) for key in ("frame_step", "frame_units")}
    try:
        nifti_writer.write(path, voxels, to_mm, header)
    except OSError as error:
        raise cannot_write(path, error) from None
