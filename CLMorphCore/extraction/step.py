"""The step before a segmentation: of a whole head the brain is taken out, for models that know brains alone."""

from __future__ import annotations

from dataclasses import dataclass

import SimpleITK as sitk

from ..errors import InputError, did_you_mean
from ..geometry import Grid
from ..io.label_grid import on_grid_of
from ..io.volume import add_warning, warnings_of
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


def _given(image: sitk.Image, given: sitk.Image, needed: bool) -> TakenOut:
    """What remains in a mask of the user's, which holds as warnings what is doubtful about it."""
    given = on_grid_of(image, given, names=("the scan", "the voxels of the brain's mask"))
    mask = sitk.Cast(given > 0, sitk.sitkUInt8)
    mask.CopyInformation(image)
    inside = sitk.GetArrayViewFromImage(mask) > 0
    if not inside.any():
        raise InputError("the brain's mask is empty; expected voxels above zero", "check `brain_extraction`")
    shape = Shape.of(inside, Grid.of(image).voxel_mm)
    if needed and not MIN_BRAIN_ML <= shape.volume_ml <= MAX_BRAIN_ML:
        raise InputError(
            f"the brain's mask is of {shape.volume_ml:.0f} ml; expected a brain, {MIN_BRAIN_ML:.0f} to "
            f"{MAX_BRAIN_ML:.0f} ml",
            "check `brain_extraction`, and that it is above 0 inside of the brain",
        )
    for warning in warnings_of(given):
        add_warning(mask, f"the brain's mask: {warning}")
    if needed and not shape.is_brains():
        add_warning(
            mask,
            f"the brain's mask has not the shape of a brain's (it fills {shape.fill:.0%} of its box); check that it is "
            "the right one",
        )
    return TakenOut(masked(image, mask), mask, BrainEntry(GIVEN, round(shape.volume_ml, 4)))
