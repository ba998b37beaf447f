"""What every network takes and returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .halvings import Halvings


@dataclass(frozen=True)
class Prediction:
    """The map that a network predicts between two images, on their grid.

    displacement   (B, 3, D, H, W) voxels: warped(x) = moving(x + displacement(x))
    inverse        (B, 3, D, H, W) voxels, the inverse map, or None where the network has none
    """

    displacement: Tensor
    inverse: Tensor | None = None


@dataclass(frozen=True)
class TrainingPrediction(Prediction):
    """The map, and what else losses read of a network; None where it has no such thing.

    mean           (B, …) and
    log_variance   (B, …) of the posterior q(z | y; x)
    embeddings     projections (B, N) of the fixed and of the moving image, for the contrastive loss
    features       encoder features (B, C, d, h, w) of the fixed and of the moving image, on a grid that spans the same
                   corners as the images', for the voxel-wise contrastive loss
    coarse         displacements (B, 3, d, h, w) of coarser levels, finest first, each in voxels of its own grid, which
                   spans the same corners as the images': for the similarity at several resolutions
    regularised    fields (N, 3, d, h, w) that are regularised instead of the displacement
    penalty        a further term of the loss, from the network's own paper, a scalar
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

    A network with weights returns a TrainingPrediction; ``match`` need not compute what only training reads.
    """

    halvings = Halvings(1)  # of the images
    first_row: int = 0  # place in the whole batch of the first pair of ``forward``, where processes share batches
    sampling: bool = False  # draw from the posterior at test time too, where the network has one

    @property
    def divisor(self) -> tuple[int, int, int]:
        """What the sides (D, H, W) of images must be multiples of."""
        return self.halvings.divisor

    def begin_step(self, fraction: float) -> None:
        """Called before each training step with the fraction of the training done, for training in stages."""

    def schedule_fraction(self, fraction: float) -> float:
        """The fraction of the learning-rate schedule done; each stage of a training restarts the schedule."""
        return fraction

    def features_of(self, image: Tensor) -> Any:
        """What ``match`` needs of one image (B, 1, D, H, W): computed once, used with any number of partners."""
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
    """What a network can do with given settings.

    inverse        it predicts the inverse map too
    posterior      it predicts a distribution of fields, sampled in training, and at test time if ``sampling`` is set
    projection     it embeds images, for the contrastive loss
    coarse_stages  its coarse levels are trained first, on nothing but the similarity at their resolution
    """

    inverse: bool = False
    posterior: bool = False
    projection: bool = False
    coarse_stages: bool = False


def _no_capabilities(settings: Any) -> Capabilities:
    return Capabilities()


@dataclass(frozen=True)
class System:
    """A network that a configuration selects by name.

    settings      the dataclass of its settings, an instance of which its constructor takes
    network       the class
    paper         the settings of data, loss, augmentation and training that its paper states, a tree of sections; they
                  replace the defaults of what a configuration does not set
    trained       false for a system without weights, which optimises on each pair: its name alone is a model
    capabilities  of the network with given settings
    """

    settings: type
    network: type[RegistrationNetwork]
    paper: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trained: bool = True
    capabilities: Callable[[Any], Capabilities] = _no_capabilities
