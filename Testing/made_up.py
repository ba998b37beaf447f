"""What several folders of tests make up: a labelled atlas of ellipsoids, and a model that has learned nothing yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from CLMorphCore.bundles.atlas import Atlas, Structure, save_atlas
from CLMorphCore.bundles.config import from_dict
from CLMorphCore.bundles.model import Model
from CLMorphCore.matching import Match, align_scan, match, prepare_image
from CLMorphCore.networks import build
from CLMorphCore.training.loop import save_weights

TINY = {
    "network": {"name": "clmorph-pyramid", "channels": [4, 8, 8], "width": 8, "embedding": 8},
    "data": {"spacing_mm": [2.0, 2.0, 2.0]},
    "loss": {"regulariser": "diffusion"},
}

# The settings of the shortest training there is.
ONE_STEP = """
[network]
name = 'clmorph-pyramid'
channels = [4, 8]
[data]
alignment = 'given'
[loss]
regulariser = 'diffusion'
contrast = 0
[training]
steps = 1
batch_size = 1
"""


@dataclass(frozen=True)
class Ellipsoid:
    """A structure: centre (about the grid's middle) and radii along the grid's axes, mm, and its brightness."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    brightness: float


PAIR = {1: Ellipsoid((-8, 0, 0), (6, 9, 7), 1000.0), 2: Ellipsoid((8, 0, 0), (6, 9, 7), 1250.0)}
PAIR_NAMES = (Structure(1, "Left", "#d8654f"), Structure(2, "Right", "#4f8fd8"))


def ellipsoid_atlas(
    size: Sequence[int] = (32, 36, 28),
    spacing_mm: float = 1.5,
    *,
    origin: Sequence[float] = (0, 0, 0),
    direction: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    ellipsoids: Mapping[int, Ellipsoid] = PAIR,
    structures: Sequence[Structure] = PAIR_NAMES,
) -> Atlas:
    """An atlas called "ellipsoids": a body of smooth texture, zero outside, with the labelled structures in it."""
    z, y, x = np.meshgrid(*[spacing_mm * (np.arange(n) - (n - 1) / 2) for n in size[::-1]], indexing="ij")
    rx, ry, rz = (0.45 * spacing_mm * n for n in size)
    intensity = 500 + 60 * np.sin(x / 4) * np.cos(y / 5) + 60 * np.sin(z / 4 + x / 9)
    labels = np.zeros(x.shape, np.uint8)
    for value, one in ellipsoids.items():
        inside = sum(((at - c) / r) ** 2 for at, c, r in zip((x, y, z), one.centre, one.radii, strict=True)) < 1
        intensity[inside] += one.brightness - 500
        labels[inside] = value
    intensity[(x / rx) ** 2 + (y / ry) ** 2 + (z / rz) ** 2 >= 1] = 0
    placed = [sitk.GetImageFromArray(array) for array in (intensity.astype(np.float32), labels)]
    for image in placed:
        image.SetSpacing([spacing_mm] * 3)
        image.SetDirection(list(direction))
        image.SetOrigin(list(origin))
    return Atlas("ellipsoids", *placed, tuple(structures))


def fresh_model(folder: Path, atlas: Atlas | None = None) -> Path:
    """Writes a bundle of a small pyramid with fresh weights (almost the identity) into a folder, and returns it."""
    config = from_dict(TINY)
    torch.manual_seed(0)
    save_weights(folder / "weights.safetensors", build(config.network.name, config.network.settings), config, step=0)
    if atlas is not None:
        save_atlas(folder / "atlases" / atlas.name, atlas)
    return folder


def match_images(fixed: sitk.Image, moving: sitk.Image, model: Model, *, affine=None, optimization=None) -> Match:
    """What ``register`` finds on the network's grid."""
    prepared = prepare_image(model, moving)
    return match(align_scan(fixed, prepared, model, affine=affine), prepared, model, optimization=optimization)


def write_series(
    folder: Path, image: sitk.Image, order: Sequence[int] | None = None, *, shift_mm: Sequence[float] = (0.0, 0.0, 0.0)
) -> None:
    """Writes slices of an image as one DICOM series, in files whose order is not the patient's.

    ``order`` are the slices' indices (all of them, once); each slice is ``shift_mm`` further than it should be.
    """
    folder.mkdir()
    direction = np.array(image.GetDirection()).reshape(3, 3)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    voxels = sitk.GetArrayFromImage(image)
    order = range(len(voxels)) if order is None else order
    for number, n in enumerate(order):
        one = sitk.GetImageFromArray(np.round(voxels[n]).astype(np.int16))
        one.SetSpacing(image.GetSpacing()[:2])
        position = np.array(image.TransformIndexToPhysicalPoint((0, 0, n))) + n * np.array(shift_mm)
        for tag, value in {
            "0008|0060": "MR",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.1",
            "0020|0013": str(number),
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.1.{number + 1}",
            "0020|0032": "\\".join(f"{p:.6f}" for p in position),
            "0020|0037": "\\".join(f"{c:.6f}" for c in direction[:, :2].T.ravel()),
        }.items():
            one.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{(number * 7) % len(order):03}-{number}.dcm"))
        writer.Execute(one)


def off_grid(image: sitk.Image) -> sitk.Image:
    """The same voxels half a voxel farther along x: none of them is one of the image's grid."""
    there = sitk.Image(image)
    there.SetOrigin(image.TransformContinuousIndexToPhysicalPoint((0.5, 0.0, 0.0)))
    return there


def placement(image: sitk.Image) -> np.ndarray:
    """4×4, voxel → LPS, of an ITK image."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return matrix
