"""The step before a segmentation: of a whole head the brain is taken out, for models that know brains alone."""

from __future__ import annotations

from dataclasses import dataclass

import SimpleITK as sitk

from ..errors import InputError, did_you_mean
from ..geometry import Grid, check_same_grid
from ..progress import Progress, Stopwatch
from ..reports.report import BrainEntry
from .brain import extract_brain, masked
from .recognise import MAX_BRAIN_ML, MIN_BRAIN_ML, Shape, check_brain, check_scan, shown
from .weights import DISTRIBUTION, VERSION

EXTRACTION = ("auto", "on", "off")
BRAIN = "brain"  # what the card of a model ``needs``, where that is a skull-stripped scan
STRIPPED, EXTRACTED, GIVEN = "stripped already", "extracted", "mask"


@dataclass(frozen=True)
class TakenOut:
    """The image to go on with, the brain's mask on its grid or None, and what the report says; None for nothing."""

    image: sitk.Image
    mask: sitk.Image | None = None
    entry: BrainEntry | None = None


def taken_out(
    image: sitk.Image, extraction: str | sitk.Image, needed: bool, device: str, watch: Stopwatch, progress: Progress
) -> TakenOut:
    """The scan outside of whose brain there is padding, or as it is where nothing has to be done.

    ``extraction`` is ``on``, ``off``, a mask, or ``auto``: where that is ``needed`` and the scan is not stripped.
    Raises InputError for a mask on another grid, where no brain is found, and where the networks are not installed.
    """
    if isinstance(extraction, str) and extraction not in EXTRACTION:
        raise InputError(f"unknown `brain_extraction={extraction}`{did_you_mean(extraction, EXTRACTION)}")
    if extraction == "off" or (extraction == "auto" and not needed):
        return TakenOut(image)
    with watch.step("brain"):
        progress("brain", 0.0)
        if isinstance(extraction, sitk.Image):
            return _given(image, extraction, needed)
        if extraction == "auto" and (island := shown(image)) is not None and island.is_a_brain_alone():
            return TakenOut(image, None, BrainEntry(STRIPPED, round(island.volume_ml, 1)))
        check_scan(image)
        brain = extract_brain(image, device, progress)
        check_brain(image, brain)
        entry = BrainEntry(EXTRACTED, round(brain.volume_ml, 4), f"{DISTRIBUTION} {VERSION}")
        return TakenOut(masked(image, brain.mask), brain.mask, entry)


def _given(image: sitk.Image, mask: sitk.Image, needed: bool) -> TakenOut:
    check_same_grid(image, mask, names=("the scan", "the voxels of the brain's mask"))
    mask = sitk.Cast(mask > 0, sitk.sitkUInt8)
    mask.CopyInformation(image)
    inside = sitk.GetArrayViewFromImage(mask) > 0
    if not inside.any():
        raise InputError("the brain's mask is empty; expected voxels above zero", "check `brain_extraction`")
    volume = Shape.of(inside, Grid.of(image).voxel_mm).volume_ml
    if needed and not MIN_BRAIN_ML <= volume <= MAX_BRAIN_ML:
        raise InputError(
            f"the brain's mask is of {volume:.0f} ml; expected a brain, {MIN_BRAIN_ML:.0f} to {MAX_BRAIN_ML:.0f} ml",
            "check `brain_extraction`",
        )
    return TakenOut(masked(image, mask), mask, BrainEntry(GIVEN, round(volume, 4)))
