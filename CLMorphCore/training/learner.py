"""One step of a training: what is predicted of a batch, how bad that is, and the weights after it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..bundles.config import Config, LossConfig
from ..devices import has_bfloat16
from ..errors import Diverged
from ..networks import RegistrationNetwork, TrainingPrediction
from ..networks.blocks import Siamese
from .batches import Batch
from .byol import Byol
from .objective import loss_terms, weighted
from .processes import Team


@dataclass(frozen=True)
class Learner:
    """What a training changes: the network, what BYOL has beside it, both together, and their optimizer."""

    config: Config
    network: RegistrationNetwork
    contrast: Byol | None
    parts: nn.ModuleDict
    optimizer: torch.optim.Optimizer
    device: torch.device

    def step(self, batch: Batch, rate: float, at: int, team: Team) -> dict[str, float]:
        """One step by a batch, the team's gradients averaged; the loss and its terms. Diverged where it has no end."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with mixed_precision(self.device):
            prediction = predicted(self.network, batch)
        terms = loss_terms(self.config.loss, batch, prediction, self.contrast, team.gathered)
        total = weighted(self.config.loss, terms)
        if not torch.isfinite(total):
            raise self._diverged(at, f"loss {total.item()}")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        team.average_gradients(self.parts.parameters())
        if not has_finite_gradients(self.parts):  # before the weights, which may be saved, take it in
            raise self._diverged(at, "a gradient that is no number")
        self.optimizer.step()
        if self.contrast is not None:
            self.contrast.update()
        loss, *means = team.mean(torch.stack([total, *terms.values()])).tolist()
        return {"loss": loss, **dict(zip(terms, means, strict=True))}

    def _diverged(self, at: int, how: str) -> Diverged:
        return Diverged(
            f"training diverged at step {at}: {how}; lower training.learning_rate, "
            f"{self.config.training.learning_rate:g}, and resume from the last checkpoint"
        )


def learner_of(config: Config, network: RegistrationNetwork, device: torch.device) -> Learner:
    """What trains a network by a configuration."""
    contrast = _byol_beside(network, config.loss, device)
    parts = nn.ModuleDict({"network": network} | ({"contrast": contrast} if contrast else {}))
    trained = [p for p in parts.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=config.training.learning_rate)
    return Learner(config, network, contrast, parts, optimizer, device)


def predicted(network: RegistrationNetwork, batch: Batch) -> TrainingPrediction:
    """What the network makes of the batch's images or of their views; embeddings of all views where there are two."""
    prediction = network(*(batch.seen or (batch.fixed, batch.moving)))
    if batch.again is None:
        return prediction
    assert isinstance(network, Siamese), "see check_trainable: no other network has a projection"
    return replace(prediction, embeddings=(torch.cat(prediction.embeddings), network.embed(batch.again)))


def has_finite_gradients(parts: nn.Module) -> bool:
    """Whether every gradient of the parts' parameters is a number, asked of the device once."""
    sizes = [p.grad.norm() for p in parts.parameters() if p.grad is not None]
    return bool(torch.isfinite(torch.stack(sizes)).all())


def _byol_beside(network: RegistrationNetwork, loss: LossConfig, device: torch.device) -> Byol | None:
    """What BYOL trains beside the network, if it is the contrastive loss."""
    if loss.contrast == 0 or loss.contrastive != "byol":
        return None
    assert isinstance(network, Siamese), "see check_trainable: no other network has a projection"
    return Byol(network).to(device)


def mixed_precision(device: torch.device) -> Any:
    """bfloat16 where the processor multiplies it natively (its range needs no loss scaling), else full precision."""
    native = {"cuda": torch.cuda.is_bf16_supported, "cpu": has_bfloat16}.get(device.type)
    return torch.autocast(device.type, torch.bfloat16) if native is not None and native() else nullcontext()
