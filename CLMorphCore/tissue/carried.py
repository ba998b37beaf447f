"""The labels that ``segment`` makes of one atlas and a match that is there already."""

from __future__ import annotations

import SimpleITK as sitk

from ..geometry import Grid, placed, resample_labels
from ..matching import Match, PreparedAtlas
from ..registration import transform_of
from .expectation import of_one
from .labels import Unfit, check_told_apart, tissue_labels
from .prepared import PreparedTissue
from .settings import TissueSettings


def warped_labels(found: Match, prepared: PreparedAtlas) -> sitk.Image:
    """The atlas' labels on the scan's grid, by the map alone."""
    return resample_labels(prepared.atlases[0].labels, Grid.of(found.scan.image), transform_of(found))


def followed_labels(
    found: Match, prepared: PreparedAtlas, tissue: PreparedTissue, settings: TissueSettings
) -> sitk.Image:
    """The labels that follow the scan's tissue, or the warped ones where that tells nothing."""
    image = found.scan.image
    try:
        how = {"exponent": settings.exponent, "background": settings.background, "device": prepared.device}
        followed = tissue_labels(image, of_one(found, tissue), tissue.groups, **how)
        check_told_apart(followed)
    except Unfit:
        return warped_labels(found, prepared)
    return placed(followed.labels, Grid.of(image))
