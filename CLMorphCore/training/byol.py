"""BYOL beside a registration network: no negatives, a target network by moving average (Grill et al., NeurIPS 2020)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..losses import byol


class Byol(nn.Module):
    """Predictor q on the projections, and the target: a moving average of the network's encoder and projection."""

    momentum = 0.99

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        size = network.config.embedding
        self.predictor = nn.Sequential(nn.Linear(size, size), nn.ReLU(inplace=True), nn.Linear(size, size))
        self.target = copy.deepcopy(nn.ModuleDict({"encoder": network.encoder, "projection": network.projection}))
        self.target.requires_grad_(False)

    def loss(self, fixed: Tensor, moving: Tensor, embeddings: tuple[Tensor, Tensor]) -> Tensor:
        """½ [ℓ(q(f(x)), f'(y)) + ℓ(q(f(y)), f'(x))], images (B, 1, D, H, W), embeddings (B, N)."""
        with torch.no_grad():
            of_fixed, of_moving = (self.target["projection"](self.target["encoder"](x)[-1]) for x in (fixed, moving))
        of_embeddings = [self.predictor(e.float()) for e in embeddings]  # under mixed precision they are coarser
        return 0.5 * (byol(of_embeddings[0], of_moving) + byol(of_embeddings[1], of_fixed))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """f' ← m·f' + (1 − m)·f, after each step."""
        for part in ("encoder", "projection"):
            own, online = self.target[part].state_dict(), getattr(network, part).state_dict()
            for name, value in own.items():
                if value.is_floating_point():
                    value.lerp_(online[name], 1.0 - self.momentum)
                else:
                    value.copy_(online[name])
