"""A moving image, or atlases, as the network needs them: prepared once, used for every scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..bundles.atlas import Atlas
from ..bundles.model import Model
from ..geometry import Grid, check_same_grid, crop_padding, placed
from ..guidance.masks import checked_mask, counted_on, replaced
from ..network_input import network_grid, normalised_on
from ..networks import RegistrationNetwork
from ..tissue.prepared import PreparedTissue, prepare_tissue
from ..tissue.settings import OFF, TissueSettings


@dataclass(frozen=True)
class MovingImage:
    """One moving image as the network needs it.

    image     as it is stored, and ``labels`` on its grid, or None
    visible   the image without padding
    tensor    (1, 1, D, H, W) on the network's grid, normalised
    mask      1 where the image counts, on its grid, or None for everywhere; ``counts`` is it on the network's grid
    """

    image: sitk.Image
    labels: sitk.Image | None
    visible: sitk.Image
    tensor: Tensor
    mask: sitk.Image | None = None
    counts: Tensor | None = None
    _features: dict[RegistrationNetwork, Any] = field(default_factory=dict, repr=False)

    def features_by(self, network: RegistrationNetwork) -> Any:
        """A network's features of the tensor, computed when they are first asked for."""
        if network not in self._features:
            self._features[network] = network.features_of(self.tensor)
        return self._features[network]


@dataclass(frozen=True)
class PreparedAtlas:
    """One atlas, or several in one space, as the network needs them: made once, used for every scan.

    grid       the network's
    reference  what a scan is aligned with: the atlas' image, or the average of several
    moving     the images, with
    atlases    the atlases that they are of, in the same order; empty where an image alone was prepared
    settings   of the tissue model, and ``device``, where it computes
    """

    grid: Grid
    reference: sitk.Image
    moving: tuple[MovingImage, ...]
    atlases: tuple[Atlas, ...] = ()
    settings: TissueSettings = OFF
    device: str = "cpu"

    @cached_property
    def tissue(self) -> PreparedTissue:
        """Where the atlases expect which label; found when it is first asked for."""
        return prepare_tissue(self.atlases, self.settings, self.device)


def prepare(model: Model, atlases: Sequence[Atlas]) -> PreparedAtlas:
    """The atlases as ``register`` and ``segment`` need them.

    Raises InputError unless they lie on one grid, as ``build_each`` makes them: one grid means one space, in which the
    affine alignment of a scan with one of them is that with all.
    """
    first = atlases[0]
    for other in atlases[1:]:
        check_same_grid(first.image, other.image, names=(f"atlas {first.name}", f"voxels of atlas {other.name}"))
    reference = first.image if len(atlases) == 1 else _average([atlas.image for atlas in atlases])
    grid = _grid_over(reference, model)
    moving = tuple(_moving_image(atlas.image, atlas.labels, grid, model) for atlas in atlases)
    return PreparedAtlas(grid, reference, moving, tuple(atlases), model.tissue, model.device)


def prepare_image(
    model: Model, image: sitk.Image, labels: sitk.Image | None = None, mask: sitk.Image | None = None
) -> PreparedAtlas:
    """A moving image that is no atlas as ``register`` needs it, with labels on its grid or without.

    ``mask``, on its grid, is above zero where the image counts. InputError for a mask that does not fit.
    """
    if mask is not None:
        mask = checked_mask(mask, image, "`moving_mask`")
        image = replaced(image, mask)
    grid = _grid_over(image, model)
    return PreparedAtlas(grid, image, (_moving_image(image, labels, grid, model, mask),))


def _grid_over(reference: sitk.Image, model: Model) -> Grid:
    data = model.config.data
    return network_grid(reference, data.spacing_mm, margin_voxels=data.margin_voxels, divisor=model.network.divisor)


@torch.inference_mode()
def _moving_image(
    image: sitk.Image, labels: sitk.Image | None, grid: Grid, model: Model, mask: sitk.Image | None = None
) -> MovingImage:
    visible, counts = crop_padding(image), None if mask is None else counted_on(mask, grid).to(model.device)
    moving = MovingImage(image, labels, visible, normalised(visible, grid, None, counts, model), mask, counts)
    if mask is None:
        moving.features_by(model.network)
    return moving


def normalised(
    visible: sitk.Image, grid: Grid, transform: sitk.Transform | None, counts: Tensor | None, model: Model
) -> Tensor:
    on_cpu = None if counts is None else counts.cpu()
    return normalised_on(visible, grid, transform, on_cpu).to(model.device)


def _average(images: Sequence[sitk.Image]) -> sitk.Image:
    """The mean of images on one grid, each scaled so that 0…1 is its minimum … 99th percentile."""
    total = np.zeros(Grid.of(images[0]).shape, np.float32)
    for image in images:
        values = sitk.GetArrayFromImage(image).astype(np.float32)
        low = values.min()
        total += (values - low) / (np.percentile(values[values > low], 99) - low)
    return placed(total / len(images), Grid.of(images[0]))
