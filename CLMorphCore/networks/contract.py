"""What every network takes and returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .halvings import Halvings


@dataclass(frozen=True)
class Prediction:
    """The map that a network finds between two images, on their grid.

    displacement   (B, 3, D, H, W) voxels: warped(x) = moving(x + displacement(x))
    inverse        (B, 3, D, H, W) voxels, the inverse map, or None where the network has none
    """

    displacement: Tensor
    inverse: Tensor | None = None


@dataclass(frozen=True)
class TrainingPrediction(Prediction):
    """The map, and what losses read beside it; what a network has no use for stays None.

    mean           (B, …) and
    log_variance   (B, …) of the posterior q(z | y; x)
    embeddings     projections (B, N) of the fixed and of the moving image, for the contrastive loss
    features       encoder features (B, C, d, h, w) of the fixed and of the moving image on a grid that spans the same
                   corners as the images', for contrast voxel by voxel
    coarse         displacements (B, 3, d, h, w) of coarser levels, each in voxels of its own grid that spans the same
                   corners as the images', finest first: for a similarity at several resolutions
    regularised    fields (N, 3, d, h, w) whose roughness counts in place of the displacement's
    penalty        what the network's own paper adds to the loss, a scalar
    """

    mean: Tensor | None = None
    log_variance: Tensor | None = None
    embeddings: tuple[Tensor, Tensor] | None = None
    features: tuple[Tensor, Tensor] | None = None
    coarse: tuple[Tensor, ...] = ()
    regularised: Tensor | None = None
    penalty: Tensor | None = None


class RegistrationNetwork(nn.Module):
    """``forward(fixed, moving) -> Prediction``; images are (B, 1, D, H, W) with sides divisible by ``divisor``.

    A network that is trained answers with a TrainingPrediction; ``match`` need not compute what only training reads.
    """

    halvings = Halvings(1)  # of the images
    sampling: bool = False  # draw from the posterior at test time too, where the network has one

    @property
    def divisor(self) -> tuple[int, int, int]:
        """What the sides (D, H, W) of images must be multiples of."""
        return self.halvings.divisor

    def begin_step(self, fraction: float) -> None:
        """Called before each training step with the share of the training that is done: for training in stages."""

    def schedule_fraction(self, fraction: float) -> float:
        """The share of the learning rate's schedule that is done; it starts anew with each stage of a training."""
        return fraction

    def features_of(self, image: Tensor) -> Any:
        """What ``match`` needs of one image (B, 1, D, H, W), whichever its partner: computed once, used with many."""
        return image

    def match(self, fixed: Any, moving: Any) -> Prediction:
        """The map that ``forward`` finds between the images that the two features are of."""
        return self(fixed, moving)


class Identity(RegistrationNetwork):
    """(fixed, moving) → the displacement zero and its inverse."""

    def forward(self, fixed: Tensor, moving: Tensor) -> Prediction:
        still = fixed.new_zeros(fixed.shape[0], 3, *fixed.shape[2:])
        return Prediction(still, still)


@dataclass(frozen=True)
class Capabilities:
    """What a network can do, as it is set.

    inverse        it answers with the inverse map too
    posterior      its field has a distribution: sampled in training, and at test time where ``sampling`` is set
    projection     it embeds images, for a contrastive loss to compare
    coarse_stages  its coarse levels are trained first, when only the similarity at their resolution reaches them
    """

    inverse: bool = False
    posterior: bool = False
    projection: bool = False
    coarse_stages: bool = False


def _no_capabilities(settings: Any) -> Capabilities:
    return Capabilities()


@dataclass(frozen=True)
class System:
    """A network that the configuration takes by name.

    settings      the dataclass of its settings, whose instance its constructor takes
    network       the class
    paper         the settings of data, loss, augmentation and training that its paper states, a tree of sections; they
                  take the place of the defaults where a configuration is silent
    trained       false for what has no weights, an optimiser on the pair: it is a model by its name alone
    capabilities  what it can do with given settings
    """

    settings: type
    network: type[RegistrationNetwork]
    paper: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trained: bool = True
    capabilities: Callable[[Any], Capabilities] = _no_capabilities
