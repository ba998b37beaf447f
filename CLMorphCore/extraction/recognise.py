"""What a scan is, for a model of the brain: stripped already, a whole head, or neither.

Decided by facts that hold for brains and heads as such: how large they are, that a stripped brain is an island in
empty space and a head is not, what a brain's outline fills of its box, and that its tissues differ in MR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from ..alignment import best_turn
from ..errors import InputError
from ..geometry import Grid
from ..network_input import normalise
from ..quality.evidence import foreground_of
from .brain import Brain

COARSE_MM = 2.0  # spacing at which a scan's foreground is looked at
MAX_CRUMB_MM = 3.0
MIN_BRAIN_ML, MAX_BRAIN_ML = 500.0, 2300.0  # of a child, or with much atrophy; of a large head in a standard space
MIN_SIDE_MM, MAX_SIDE_MM = 70.0, 240.0  # of a brain's box, tilted
MIN_FILL, MAX_FILL = 0.3, 0.62  # of its box; an ellipsoid fills 0.52 of its own, a tilted one less
MAX_FACE_SHARE = 0.12  # of a face of the volume, where a stripped brain is cut close to its box
MAX_CUT_SHARE = 0.3  # of the largest section of a brain, that lies on a face of the volume; clinical stacks: 0.2
MIN_CERTAINTY = 0.985  # mean probability in what the networks call brain
# (90th − 10th percentile) in a brain / (median − air): 0.5 to 1.4 in heads, 0.03 in CT, 1.8 and more in hearts
MIN_CONTRAST, MAX_CONTRAST = 0.12, 1.6
RIM_MM, MAX_RIM = (2.0, 6.0), 0.85  # around a brain, where skull and fluid are dark in MR; median of it / of the brain
RIM_SAMPLE_MM = 1.5  # enough to see it by
AIR_HU, MIN_AIR_SHARE = -900, 0.02  # voxels of CT that are air
MIN_TURN = 60.0  # degrees: less is a tilted patient
# Information shared with the atlas when turned over / upright: 0.47 to 0.63 in T1, T2 and FLAIR brains, 1.0 in a ball
# or a blob of blurred noise, 1.6 to 2.3 in brains whose header is wrong
MAX_UPRIGHT, MIN_TURNED = 0.85, 1.25
REMEDY = "give an MR scan of a whole head, a skull-stripped one, or a mask in `brain_extraction`"


@dataclass(frozen=True)
class Shape:
    """Size and place of a region in a scan.

    ``fill`` is its share of its own box, ``face_share`` the largest share of one face of the volume that it covers,
    ``cut_share`` the largest area of it on one face over that of its own largest section in that direction.
    """

    volume_ml: float
    sides_mm: tuple[float, float, float]
    fill: float
    face_share: float
    cut_share: float

    @classmethod
    def of(cls, region: np.ndarray, voxel_mm: tuple[float, float, float]) -> Shape:
        """The shape of a mask (z, y, x) that is not empty."""
        counts = [region.sum(axis=tuple(o for o in range(3) if o != axis), dtype=np.int64) for axis in range(3)]
        planes = [np.flatnonzero(count) for count in counts]
        box = [int(where[-1] - where[0] + 1) for where in planes]
        ends = [max(int(count[0]), int(count[-1])) for count in counts]
        z, y, x = (n * mm for n, mm in zip(box, voxel_mm, strict=True))
        return cls(
            volume_ml=float(counts[0].sum() * np.prod(voxel_mm) / 1000),
            sides_mm=(z, y, x),
            fill=float(counts[0].sum() / np.prod(box)),
            face_share=max(end * n / region.size for end, n in zip(ends, region.shape, strict=True)),
            cut_share=max(end / int(count.max()) for end, count in zip(ends, counts, strict=True)),
        )

    def is_brains(self) -> bool:
        """Whether it is as large and as full as a brain."""
        return (
            MIN_BRAIN_ML <= self.volume_ml <= MAX_BRAIN_ML
            and min(self.sides_mm) >= MIN_SIDE_MM
            and max(self.sides_mm) <= MAX_SIDE_MM
            and MIN_FILL <= self.fill <= MAX_FILL
        )

    def is_a_brain_alone(self) -> bool:
        """Whether what a scan shows is an island of a brain's size and shape that the volume's faces hardly cut."""
        return self.is_brains() and self.face_share <= MAX_FACE_SHARE


def shown(image: sitk.Image) -> Shape | None:
    """The largest part of what a scan shows above its background, ringing and faint noise; None for nothing."""
    steps = [max(1, int(COARSE_MM / mm)) for mm in image.GetSpacing()]
    voxel_mm = [mm * step for mm, step in zip(image.GetSpacing(), steps, strict=True)]
    coarse = sitk.GetArrayFromImage(image[:: steps[0], :: steps[1], :: steps[2]]).astype(np.float32)
    if coarse.min() == coarse.max():
        return None
    above = foreground_of(normalise(torch.from_numpy(coarse)[None, None]))[0, 0].numpy()
    # Bridges and crumbs of single voxels belong to the background; a voxel across thick slices is none.
    radius = [int(mm <= MAX_CRUMB_MM) for mm in voxel_mm]
    opened = sitk.BinaryMorphologicalOpening(sitk.GetImageFromArray(above.astype(np.uint8)), radius)
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(opened), sortByObjectSize=True) == 1
    region = sitk.GetArrayFromImage(largest) > 0
    x, y, z = voxel_mm
    return Shape.of(region, (z, y, x)) if region.any() else None


def check_scan(image: sitk.Image) -> None:
    """InputError where a scan cannot be an MR of a head: CT, or too small for one."""
    values = sitk.GetArrayViewFromImage(image)
    if float((values <= AIR_HU).mean()) >= MIN_AIR_SHARE:
        raise _no_brain("its values are those of CT")
    extent = np.sort(np.ptp(Grid.of(image).corners_mm() @ np.reshape(image.GetDirection(), (3, 3)), axis=0))
    if extent[0] < MIN_SIDE_MM:
        raise _no_brain(f"it is {_mm(extent)} mm large, a brain at least {MIN_SIDE_MM:g} mm in each direction")


def check_brain(image: sitk.Image, brain: Brain) -> None:
    """InputError where what the networks found in a scan is no brain, or not a whole one."""
    inside = sitk.GetArrayViewFromImage(brain.mask) > 0
    shape = Shape.of(inside, Grid.of(image).voxel_mm)
    if not shape.is_brains():
        raise _no_brain(
            f"what looks most like one is {shape.volume_ml:.0f} ml, {_mm(shape.sides_mm)} mm large, and fills "
            f"{shape.fill:.0%} of its box"
        )
    contrast, rim = _looks(image, brain.mask)
    if brain.certainty < MIN_CERTAINTY or not MIN_CONTRAST <= contrast <= MAX_CONTRAST or rim > MAX_RIM:
        raise _no_brain("what looks most like one has no tissues of a brain, or no skull around it")
    if shape.cut_share > MAX_CUT_SHARE:
        raise InputError(
            f"the scan ends within the brain, which it cuts by {shape.cut_share:.0%} of a section, or shows none",
            REMEDY,
        )


def check_upright(brain: sitk.Image, atlas: sitk.Image, *, step: Callable[[], None] = lambda: None) -> None:
    """InputError where a brain resembles the atlas' as much or more turned over: wrong header, or none."""
    turn = best_turn(brain, atlas, step=step)
    if turn.degrees < MIN_TURN:
        return
    if turn.gain > MIN_TURNED:
        raise InputError(
            f"the head in the scan lies turned by about {turn.degrees:.0f}° to what its header says: up, front and left"
            " are not where they should be",
            "mend the orientation in its header, convert it from DICOM anew, or pass the turn in `affine`",
        )
    if turn.gain > MAX_UPRIGHT:
        raise _no_brain("turned over, it would resemble the atlas just as much")


def _looks(image: sitk.Image, mask: sitk.Image) -> tuple[float, float]:
    """How far the grey values in a mask differ, and how bright its rim is; both by the mask's own distance from air."""
    steps = tuple(slice(None, None, max(1, int(RIM_SAMPLE_MM / mm))) for mm in image.GetSpacing())
    image, mask = image[steps], mask[steps]
    values, inside = sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(mask) > 0
    distance = sitk.SignedMaurerDistanceMap(mask, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    distance = sitk.GetArrayFromImage(distance)  # a view would outlive its image
    around = values[(distance > RIM_MM[0]) & (distance < RIM_MM[1])]
    air = float(np.percentile(values[::2, ::2, ::2], 1))
    low, middle, high = np.percentile(values[inside], (10, 50, 90)) - air
    scale = max(float(middle), 1e-9)
    return float(high - low) / scale, (float(np.median(around)) - air) / scale if len(around) else 0.0


def _no_brain(why: str) -> InputError:
    return InputError(f"no brain was found in the scan: {why}", REMEDY)


def _mm(sides: np.ndarray | tuple[float, ...]) -> str:
    return " × ".join(f"{side:.0f}" for side in sides)
