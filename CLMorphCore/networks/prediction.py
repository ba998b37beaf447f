"""What every network returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """The answer of ``network(fixed, moving)``, all of it on the grid of the two images.

    displacement   (B, 3, D, H, W) voxels: warped(x) = moving(x + displacement(x))
    inverse        (B, 3, D, H, W) voxels, the inverse map, or None where the network has none
    mean           (B, 3, …) and
    log_variance   (B, 3, …) of the posterior q(z | y; x), or None where the network is deterministic
    embeddings     projections (B, N) of the fixed and of the moving image, for the contrastive loss
    """

    displacement: Tensor
    inverse: Tensor | None = None
    mean: Tensor | None = None
    log_variance: Tensor | None = None
    embeddings: tuple[Tensor, Tensor] | None = None
