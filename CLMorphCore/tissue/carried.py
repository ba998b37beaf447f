"""The labels that ``segment`` makes of one atlas and a match that is there already."""

from __future__ import annotations

import SimpleITK as sitk

from ..geometry import Grid, placed, resample_labels
from ..matching import Match, PreparedAtlas
from ..registration import transform_of
from .expectation import of_one
from .labels import Unfit, followed
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
        labels = followed(image, of_one(found, tissue), tissue, settings, device=prepared.device).labels
    except Unfit:
        return warped_labels(found, prepared)
    return placed(labels, Grid.of(image))
