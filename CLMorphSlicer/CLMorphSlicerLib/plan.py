"""What is done with an image before its structures are looked for, as far as the model's card and its size tell."""

from __future__ import annotations

from collections.abc import Collection

import slicer

from . import presets
from .exporting import world_matrix
from .geometry import spacing_and_direction
from .models import ModelCard
from .options import Options
from .words import _

MIN_WHOLE_MM = 70.0  # each side of a whole brain, or a head; the engine's: a smaller image is a crop
Extent = tuple[float, float, float]


def extent_mm(volume: slicer.vtkMRMLVolumeNode, proxy: slicer.vtkMRMLVolumeNode | None = None) -> Extent:
    """How long an image is along its own axes, mm. Raises NodeError as `world_matrix`."""
    image = volume.GetImageData()
    size = image.GetDimensions() if image is not None else (0, 0, 0)
    i, j, k = (spacing_and_direction(world_matrix(volume, proxy))[0] * size).tolist()
    return i, j, k


def shows_the_whole(extent: Extent) -> bool:
    """Whether an image is too large for a crop around one organ of the head."""
    return min(extent) >= MIN_WHOLE_MM


def finds_both_sides(card: ModelCard, options: Options, extent: Extent) -> bool:
    """Whether the engine looks for the model's organ on both sides, by another model."""
    return bool(card.locator) and not _begins(options) and shows_the_whole(extent)


def _begins(options: Options) -> bool:
    """Whether the place of the organ is told by an atlas or an alignment of one's own."""
    return any(node is not None for node in (options.atlas, options.affine, options.initial))


def may_extract(card: ModelCard, options: Options, extent: Extent) -> bool:
    """Whether the engine may take the brain out of the image, for which it needs networks of another package."""
    if options.brain_extraction == presets.AUTOMATIC:
        return card.needs_brain or finds_both_sides(card, options, extent)
    return options.brain_extraction == presets.ON


def told(card: ModelCard, options: Options, extents: Collection[Extent]) -> str:
    """What will be done with images of these sizes, a line for each sentence; empty where there is nothing to tell."""
    if not card.looks_for_brains:
        return ""
    if card.locator and _begins(options):
        return _("One side is segmented: with an atlas or an alignment of your own, both are not looked for.")
    whole = {shows_the_whole(extent) for extent in extents}
    if not card.needs_brain and whole == {False} and options.brain_extraction != presets.ON:
        return _("This is a crop: the one side in it is segmented.")
    if whole == {False} and options.brain_extraction != presets.OFF:
        smallest = min(extents, key=min)
        refused = _("Too small for a whole brain: {size} mm, expected {least:.0f} mm at least in each direction.")
        return refused.format(size=" × ".join(f"{side:.0f}" for side in smallest), least=MIN_WHOLE_MM)
    return "\n".join(part for part in (_told_sides(card, whole), _told_brain(options.brain_extraction)) if part)


def _told_sides(card: ModelCard, whole: set[bool]) -> str:
    if not card.locator:
        return ""
    if whole == {True}:
        return _("Both sides are found in the whole head or brain.")
    return _("Both sides are found where an image shows the whole head or brain; a crop is one side.")


def _told_brain(extraction: str) -> str:
    sentences = {
        presets.AUTOMATIC: _("If this is a head, the brain is taken out first."),
        presets.ON: _("The brain is taken out first."),
        presets.OFF: _("It is taken for a brain alone, without skull."),
    }
    return sentences.get(extraction, "")
