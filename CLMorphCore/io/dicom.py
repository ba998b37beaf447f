"""A DICOM series as a volume: read by ITK, after checking what it takes on trust."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..atomic import check_utf8
from ..errors import FileError
from .itk import quiet, reason

POSITION, ORIENTATION = "0020|0032", "0020|0037"  # of a DICOM slice: its first voxel, its rows' and columns' directions
MAX_SHIFT = 0.1  # of a slice from its place in an even stack, in steps of the stack: positions are rounded
MAX_TILT = 0.005  # of the stack against its slices' normal, tangent


def read_series(folder: Path) -> sitk.Image:
    for file in folder.iterdir():
        check_utf8(file)
    reader = sitk.ImageSeriesReader()
    with quiet():
        series = reader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        raise FileError(
            f"{folder} holds {len(series)} DICOM series; expected exactly one; give the folder of one series or a file"
        )
    files = reader.GetGDCMSeriesFileNames(str(folder), series[0])
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        with quiet():
            image = reader.Execute()
        if len(files) > 1:
            _check_stack(folder, *(_numbers(folder, reader, len(files), tag) for tag in (POSITION, ORIENTATION)))
    except (RuntimeError, ValueError) as error:
        raise FileError(
            f"the DICOM series in {folder} cannot be read ({reason(error)}); check that it was copied whole"
        ) from None
    return image


def _numbers(folder: Path, reader: sitk.ImageSeriesReader, count: int, tag: str) -> np.ndarray:
    """The numbers of a tag of every slice, a row for each; InputError where one has none."""
    if not all(reader.HasMetaDataKey(n, tag) for n in range(count)):
        raise FileError(
            f"the DICOM series in {folder} has slices that do not tell their place (tag {tag}); expected "
            "every slice to; give the original series, or a NIfTI file"
        )
    return np.array([[float(number) for number in reader.GetMetaData(n, tag).split("\\")] for n in range(count)])


def _check_stack(folder: Path, positions: np.ndarray, orientations: np.ndarray) -> None:
    """InputError unless slices, (N, 3) and (N, 6), are an even stack: what ITK takes any series for, without a word."""
    series = f"the DICOM series in {folder}"
    if np.ptp(orientations, axis=0).max() > 1e-3:
        raise FileError(f"{series} has slices of several orientations; expected parallel ones; give one volume alone")
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    along = positions @ normal
    order = np.argsort(along)
    along, steps = along[order], np.diff(along[order])
    shared = int(np.count_nonzero(steps <= 0.01 * steps.max()))
    if shared:
        raise FileError(
            f"{shared} of {len(along)} slices of {series} share a position with another: several volumes; "
            "expected one; give the files of one volume alone"
        )
    even = np.linspace(along[0], along[-1], len(along))
    if np.abs(along - even).max() > MAX_SHIFT * steps.min():
        wide = int(steps.argmax())
        lack = round(float(steps[wide] / np.median(steps))) - 1
        what = (
            f"{lack} slices are missing between {along[wide]:.6g} and {along[wide + 1]:.6g} mm"
            if lack
            else (f"the slices lie {steps.min():.4g} to {steps.max():.4g} mm apart")
        )
        raise FileError(f"{what} in {series}; expected equal steps; copy the whole series, or resample it")
    extent = along[-1] - along[0]
    drift = float(np.linalg.norm(positions[order[-1]] - positions[order[0]] - extent * normal))
    if drift > MAX_TILT * extent:
        raise FileError(
            f"the slices of {series} are shifted against each other by {drift:.4g} mm over the stack (a "
            "tilted gantry); expected a stack along their normal; resample it"
        )
