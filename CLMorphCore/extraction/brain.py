"""Brain extraction: where the brain of a head lies, by two networks, one for its box and one for what is in it.

The method is deepbet's (Fisch et al. 2024, doi:10.1016/j.compbiomed.2024.108845): the whole scan as a coarse cube shows
where the brain is; what lies there, as a fine cube, is segmented. Cubes whatever the scan's sides and spacing: so the
networks were trained, with the nearest voxel at each point, axes to the right, anterior and superior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid, placed, resample, to_tensor
from ..progress import Progress, silent
from . import weights

COARSE, FINE = (128, 128, 128), (256, 256, 256)  # voxels of the two networks' cubes
WINDOW = (0.005, 0.995)  # quantiles of the coarse cube between which grey values are told apart
MEAN, SD = 0.449, 0.226  # of what the networks take
BRAIN = 1  # channel of their answers
MIN_PLANE_SHARE = 0.02  # of a coarse plane that is brain, where the box begins
MARGIN = 0.1  # of the box's sides, on each side
ORIENTATION = "RAS"


@dataclass(frozen=True)
class Brain:
    """A brain as uint8 ``mask``, 1 within, on the grid of its scan; ``certainty`` is the networks' mean probability.

    The mean is over the mask; 0.5 would be a guess, 1 no doubt at all.
    """

    mask: sitk.Image
    volume_ml: float
    certainty: float


@torch.inference_mode()
def extract_brain(image: sitk.Image, device: torch.device | str = "cpu", progress: Progress = silent) -> Brain:
    """The largest component, without holes, of what the networks call brain with a probability above ½.

    Any orientation, spacing and contrast of MR. Raises InputError where the networks see no brain, or are missing.
    """
    finder, extractor = (weights.load(name, device) for name in (weights.FINDER, weights.EXTRACTOR))
    progress("brain", 0.0)
    upright = sitk.DICOMOrient(image, ORIENTATION)
    # SimpleITK's arrays are (z, y, x); the networks take (x, y, z).
    scan = torch.nan_to_num(to_tensor(upright).permute(0, 1, 4, 3, 2)).to(device)
    coarse = _sampled(scan, COARSE)
    low, high = (float(np.quantile(coarse.cpu().numpy(), share)) for share in WINDOW)
    if not high > low:
        raise _nothing("it is of one grey value, almost everywhere")
    box = _box(finder(_normalised(coarse, low, high))[0, BRAIN] > 0.5, tuple(scan.shape[2:]))
    progress("brain", 0.3)
    part = scan[(..., *box)]
    probability = extractor(_normalised(_sampled(part, FINE), low, high))[:, BRAIN : BRAIN + 1]
    probability = F.interpolate(probability, part.shape[2:], mode="trilinear", align_corners=False)
    found = probability.permute(0, 1, 4, 3, 2)[0, 0].cpu().numpy()
    progress("brain", 0.9)
    mask = _solid(found > 0.5)
    if not mask.any():
        raise _nothing("nothing in it looks like one")
    whole = np.zeros(sitk.GetArrayViewFromImage(upright).shape, np.uint8)
    x, y, z = box
    whole[z, y, x] = mask
    volume = float(whole.sum(dtype=np.int64)) * float(np.prod(image.GetSpacing())) / 1000
    return Brain(
        resample(placed(whole, Grid.of(upright)), Grid.of(image), labels=True), volume, float(found[mask].mean())
    )


def masked(image: sitk.Image, mask: sitk.Image) -> sitk.Image:
    """The scan where the mask is above 0, its smallest value elsewhere: padding, as of a stripped scan."""
    values, brain = sitk.GetArrayFromImage(image), sitk.GetArrayViewFromImage(mask) > 0
    values[~brain] = min(values.min(), 0)
    stripped = placed(values, Grid.of(image))
    for key in image.GetMetaDataKeys():
        stripped.SetMetaData(key, image.GetMetaData(key))
    return stripped


def _nothing(why: str) -> InputError:
    return InputError(f"no brain was found in the scan: {why}; expected an MR image of a head")


def _sampled(scan: Tensor, shape: tuple[int, ...]) -> Tensor:
    return F.interpolate(scan, shape, mode="nearest-exact")


def _normalised(cube: Tensor, low: float, high: float) -> Tensor:
    """Grey values from ``low`` to ``high``, with the mean and the standard deviation that the networks know."""
    cube = ((cube - low) / (high - low)).clamp(0, 1)
    return (cube - cube.mean()) * (SD / cube.std()) + MEAN


def _box(coarse: Tensor, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Where the largest component of a coarse cube lies in a scan of that shape, with a margin."""
    component = _largest(coarse.cpu().numpy())
    sides = []
    for axis, length in enumerate(shape):
        share = component.mean(axis=tuple(other for other in range(3) if other != axis))
        planes = np.flatnonzero(share > MIN_PLANE_SHARE)
        if not len(planes):
            raise _nothing("nothing in it looks like one")
        scale, (first, last) = length / len(share), (int(planes[0]), int(planes[-1]) + 1)
        # Whole voxels from the middle out: of a stack of slices one more or less changes the cube.
        centre, half = round(scale * (first + last) / 2), round(scale * (last - first) * (1 + 2 * MARGIN)) / 2
        sides.append(slice(max(0, int(centre - half)), min(length, int(centre + half))))
    return tuple(sides)


def _solid(mask: np.ndarray) -> np.ndarray:
    """The largest component of a mask, its holes filled."""
    framed = np.pad(_largest(mask), 1).astype(np.uint8)  # nothing that reaches the border is a hole
    return sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(framed)))[1:-1, 1:-1, 1:-1] > 0


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest component of a mask, connected by faces, edges or corners."""
    parts = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True)
    parts = sitk.RelabelComponent(parts, sortByObjectSize=True)
    return sitk.GetArrayFromImage(parts) == 1
