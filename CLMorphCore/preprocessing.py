"""From a file to an image that the engine can use, with every reason why it can't as one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from torch import Tensor

from .errors import InputError
from .itk_files import read_file

LABEL_TYPES = (sitk.sitkUInt8, sitk.sitkInt8, sitk.sitkUInt16, sitk.sitkInt16, sitk.sitkUInt32, sitk.sitkInt32,
               sitk.sitkUInt64, sitk.sitkInt64)
LARGEST_LABEL = 2**32 - 1
MOST_SHEAR = 1e-3  # cosine between two axes: NIfTI, which results are written as, has no place for more


def read_image(path: str | Path) -> sitk.Image:
    """The scalar 3D image of a file (whatever ITK reads) or of a folder that holds one DICOM series, checked."""
    image = read_file(Path(path))
    check_image(image, str(path))
    return image


def read_labels(path: str | Path) -> sitk.Image:
    """An integer label image. Float files whose values are whole numbers are taken as what they mean."""
    image = read_file(Path(path))
    _check_scalar_3d(image, str(path))
    array, whole = sitk.GetArrayViewFromImage(image), image.GetPixelID() in LABEL_TYPES
    if not whole and (not np.isfinite(array).all() or (array != np.round(array)).any()):
        raise InputError(f"labels {path} hold fractional values or NaN ({image.GetPixelIDTypeAsString()}); expected "
                         "whole numbers; resample labels with nearest-neighbour interpolation")
    if array.max() > LARGEST_LABEL:
        raise InputError(f"labels {path} hold the value {array.max():.0f}; expected at most {LARGEST_LABEL}; give the "
                         "structures smaller numbers")
    if whole:
        return image
    return sitk.Cast(image, sitk.sitkInt32 if array.max() <= np.iinfo(np.int32).max else sitk.sitkInt64)


def check_image(image: sitk.Image, name: str) -> None:
    """InputError unless it is a scalar 3D image with finite values that differ, several slices, orthogonal axes."""
    _check_scalar_3d(image, name)
    if min(image.GetSize()) < 2:
        raise InputError(f"{name} has size {image.GetSize()}; expected at least 2 voxels along each axis; "
                         "give a volume, not a slice")
    axes = np.array(image.GetDirection()).reshape(3, 3)
    if np.abs(axes.T @ axes - np.eye(3)).max() > MOST_SHEAR:
        raise InputError(f"{name} has sheared axes (direction {', '.join(f'{d:.4g}' for d in image.GetDirection())}); "
                         "expected axes at right angles; resample it onto a grid without shear")
    array = sitk.GetArrayViewFromImage(image)
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise InputError(f"{name} has {bad} voxels that are NaN or infinite; expected finite intensities; "
                         "replace them, for instance by zero")
    if array.min() == array.max():
        raise InputError(f"{name} is constant ({array.min():g} everywhere); expected an image with contrast; "
                         "check that the right file was given")


def normalise(tensor: Tensor) -> Tensor:
    """(x − mean) / sd over the foreground (voxels above the minimum), clipped at its 0.1 and 99.9 percentiles.

    (…, D, H, W) → the same shape. Computed on the network's grid, so that padding or cropping of the input file
    changes nothing. Zero mean and unit variance are the paper's; the clip keeps single bright voxels from deciding.
    """
    inside = tensor > tensor.min()
    if not inside.any():
        raise InputError("the image does not overlap the atlas' region; expected an affine that maps its points to the "
                         "atlas' (LPS, mm); check --affine, or data.affine = false in a training")
    values = np.sort(tensor[inside].cpu().numpy())
    low, high = (float(values[int(q * (len(values) - 1))]) for q in (0.001, 0.999))
    if low == high:  # one grey value has no spread: the foreground becomes 0, the background −1
        return (tensor.clamp(max=high) - high) / (high - tensor.min())
    clipped = tensor.clamp(low, high)
    chosen = clipped[inside]
    return (clipped - chosen.mean()) / chosen.std()


def _check_scalar_3d(image: sitk.Image, name: str) -> None:
    if image.GetDimension() != 3:
        raise InputError(f"{name} has {image.GetDimension()} dimensions, size {image.GetSize()}; expected a 3D image; "
                         "extract one volume first")
    if image.GetNumberOfComponentsPerPixel() != 1 or "complex" in image.GetPixelIDTypeAsString():
        raise InputError(f"{name} has pixels of type {image.GetPixelIDTypeAsString()} with "
                         f"{image.GetNumberOfComponentsPerPixel()} components; expected one intensity per voxel; "
                         "convert it to a scalar image")
