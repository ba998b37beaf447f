"""BYOL beside a registration network: no negatives, a target network by moving average (Grill et al., NeurIPS 2020)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..losses import byol
from ..networks.blocks import Siamese


class Byol(nn.Module):
    """Predictor q on the projections, and the target f': a moving average of the network's encoder and projection."""

    momentum = 0.99

    def __init__(self, network: Siamese) -> None:
        super().__init__()
        size = network.projection.size
        self.predictor = nn.Sequential(nn.Linear(size, size), nn.ReLU(inplace=True), nn.Linear(size, size))
        # What the target follows, in a plain dictionary: parts of the network, not of this module.
        self.followed = {"encoder": network.encoder, "projection": network.projection}
        self.target = nn.ModuleDict(copy.deepcopy(self.followed))
        self.target.requires_grad_(False)

    def loss(self, fixed: Tensor, moving: Tensor, embeddings: tuple[Tensor, Tensor]) -> Tensor:
        """½ [ℓ(q(f(x)), f'(y)) + ℓ(q(f(y)), f'(x))], images (B, 1, D, H, W), embeddings (B, N)."""
        with torch.no_grad():
            of_fixed, of_moving = (self.target["projection"](self.target["encoder"](x)[-1]) for x in (fixed, moving))
        of_embeddings = [self.predictor(e.float()) for e in embeddings]  # under mixed precision they are coarser
        return 0.5 * (byol(of_embeddings[0], of_moving) + byol(of_embeddings[1], of_fixed))

    @torch.no_grad()
    def update(self) -> None:
        """f' ← m·f' + (1 − m)·f, after each step."""
        for part, network in self.followed.items():
            online = network.state_dict()
            for name, value in self.target[part].state_dict().items():
                if value.is_floating_point():
                    value.lerp_(online[name], 1.0 - self.momentum)
                else:
                    value.copy_(online[name])
