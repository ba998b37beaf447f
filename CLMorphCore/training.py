"""Training without labels: one flat loop, read from top to bottom."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import __version__, checkpoint, losses
from .augmentation import augment_pair
from .config import Config, LossConfig, TrainingConfig, to_dict
from .contrast import Byol
from .data import Subject, Volume, choose, network_grid, network_input, prepare
from .errors import CLMorphError, InputError
from .files import cannot_write, check_writable, written_whole
from .models import write_card
from .networks import Prediction, build
from .preprocessing import read_image
from .progress import Progress, part, silent
from .spatial import folding_fraction, jacobian_determinant, warp

PREPARING = 0.1  # share of the progress bar for reading and aligning


@dataclass(frozen=True)
class Dataset:
    """The volumes of a training in memory: the reference on the network's grid, and the subjects of two splits."""

    reference: Tensor
    train: list[Volume]
    validation: list[Volume]


def train(config: Config, subjects: Sequence[Subject], output: Path, *, device: torch.device, resume: bool = False,
          initial: Path | None = None, tensorboard: bool = False, progress: Progress = silent) -> Path:
    """Trains a network and returns the folder of the model: weights with their configuration.

    ``output`` receives ``checkpoint.safetensors`` (to go on from), ``log.jsonl`` and ``model/``. Every random choice is
    a function of the seed and the step, so a resumed training ends in the same weights as an uninterrupted one.
    ``initial`` names weights to start from. Raises InputError for what cannot be trained.
    """
    state_path = _state_path(output, resume)
    network = build(config.network.name, config.network.settings)  # early: its errors come before the long reading
    data = load_dataset(config, subjects, divisor=network.divisor, progress=part(progress, 0.0, PREPARING))

    settings = config.training
    torch.manual_seed(settings.seed)
    network = build(config.network.name, config.network.settings).to(device)
    if initial is not None:
        checkpoint.load_into(network, checkpoint.load(initial)[0], source=initial)
    contrast = Byol(network).to(device) if config.loss.contrast > 0 and config.loss.contrastive == "byol" else None
    parts = nn.ModuleDict({"network": network} | ({"contrast": contrast} if contrast else {}))
    optimizer = torch.optim.Adam([p for p in parts.parameters() if p.requires_grad], lr=settings.learning_rate)
    start = _restore(state_path, config, parts, optimizer) if resume else 0
    log = Log(output / "log.jsonl", keep_below=start, tensorboard=tensorboard)

    network.train()
    began = time.monotonic()
    for step in range(start, settings.steps):
        torch.manual_seed(_mix(settings.seed, step))  # for the sampling of the posterior
        fixed, moving = draw_batch(data, config, network.divisor, step)
        fixed, moving = fixed.to(device), moving.to(device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, step)
        with _precision(device):
            prediction = network(fixed, moving)
        terms = loss_terms(config.loss, fixed, moving, prediction, contrast)
        total = weighted(config.loss, terms)
        if not torch.isfinite(total):
            raise CLMorphError(f"training diverged at step {step}: loss {total.item()}; lower training.learning_rate, "
                               f"{settings.learning_rate:g}, and resume from the last checkpoint")
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        if contrast is not None:
            contrast.update(network)

        done = step + 1
        log.write(step=done, loss=total.item(), **{name: value.item() for name, value in terms.items()},
                  learning_rate=learning_rate(settings, step), seconds=round(time.monotonic() - began, 2))
        if data.validation and (done % settings.validate_every == 0 or done == settings.steps):
            log.write(step=done, **validate(network, data.validation, device))
        if done % settings.checkpoint_every == 0 or done == settings.steps:
            # The weights first: a run killed between the two does these steps again, and has its model at the end.
            save_weights(output / "model" / "weights.safetensors", network, config, step=done)
            tensors = dict(parts.state_dict()) | checkpoint.optimizer_tensors(optimizer)
            checkpoint.save(state_path, tensors, {"config": to_dict(config), "step": done})
        rate = (done - start) / (time.monotonic() - began)
        progress(f"training {done}/{settings.steps}, {rate:.2f} steps/s",
                 PREPARING + (1 - PREPARING) * done / settings.steps)
    log.close()
    if not (output / "model" / "card.toml").exists():
        write_card(output / "model", {"model": {"name": output.resolve().name, "version": __version__,
                                                "training_data": f"{len(data.train)} images, {settings.steps} steps"}})
    return output / "model"


def load_dataset(config: Config, subjects: Sequence[Subject], *, divisor: int, progress: Progress = silent) -> Dataset:
    """Reads, aligns and resamples the subjects of the train and validation splits; InputError if there are too few."""
    chosen = choose(subjects, "train"), choose(subjects, "validation", labelled=True)
    if len(chosen[0]) < 2:
        raise InputError(f"the manifest has {len(chosen[0])} subjects with split train; "
                         "expected at least 2 to make a pair")
    reference = read_image(config.data.reference or chosen[0][0].image)
    grid = network_grid(reference, config.data.spacing_mm, margin_voxels=config.data.margin_voxels, divisor=divisor)
    total = len(chosen[0]) + len(chosen[1])
    volumes: list[list[Volume]] = [[], []]
    for split, of_split in enumerate(chosen):
        for subject in of_split:
            done = len(volumes[0]) + len(volumes[1])
            progress(f"preparing {done + 1}/{total}", done / total)
            volumes[split].append(prepare(subject, reference, grid, affine=config.data.affine))
    return Dataset(network_input(reference, grid), *volumes)


def draw_batch(data: Dataset, config: Config, divisor: int, step: int) -> tuple[Tensor, Tensor]:
    """(fixed, moving), each (B, 1, D, H, W): random, augmented pairs that depend on the seed and the step only."""
    rng = torch.Generator().manual_seed(_mix(config.training.seed, step))
    pairs = []
    order = torch.randperm(len(data.train), generator=rng).tolist()
    for index in range(config.training.batch_size):
        fixed = data.train[order[index % len(order)]].image
        if config.training.moving == "reference":
            moving = data.reference
        else:
            other = int(torch.randint(len(order) - 1, (), generator=rng))
            moving = data.train[(order[index % len(order)] + 1 + other) % len(order)].image
        pairs.append(augment_pair(fixed, moving, config.augment, divisor, rng))
    fixed, moving = (torch.cat(images) for images in zip(*pairs, strict=True))
    return fixed, moving


def loss_terms(config: LossConfig, fixed: Tensor, moving: Tensor, prediction: Prediction,
               contrast: Byol | None = None) -> dict[str, Tensor]:
    """The unweighted terms of equation 9: similarity, regulariser and, where its weight is not zero, contrast."""
    def similarity(target: Tensor, image: Tensor, displacement: Tensor) -> Tensor:
        warped = warp(image, displacement)
        if config.similarity == "lncc":
            return losses.local_correlation(target, warped, config.window_voxels)
        return losses.reconstruction(target, warped, config.sigma)

    terms = {"similarity": similarity(fixed, moving, prediction.displacement)}
    if config.symmetric and prediction.inverse is not None:
        terms["similarity"] = 0.5 * (terms["similarity"] + similarity(moving, fixed, prediction.inverse))
    if config.regulariser == "kl":
        terms["regulariser"] = losses.kl_divergence(prediction.mean, prediction.log_variance)
    else:
        terms["regulariser"] = losses.diffusion(prediction.displacement)
    if config.contrast > 0:
        if contrast is not None:
            terms["contrast"] = contrast.loss(fixed, moving, prediction.embeddings)
        else:
            terms["contrast"] = losses.nt_xent(*prediction.embeddings, config.temperature)
    return terms


def weighted(config: LossConfig, terms: Mapping[str, Tensor]) -> Tensor:
    """L = recon + α · smooth + β · contrast: equation 9, the only place where weights are applied."""
    weights = {"similarity": 1.0, "regulariser": config.smooth, "contrast": config.contrast}
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


def learning_rate(settings: TrainingConfig, step: int) -> float:
    """η₀ · factor^⌊step / every⌋, or η₀ · ½(1 + cos(π · step / steps))."""
    if settings.schedule == "cosine":
        return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))
    return settings.learning_rate * settings.decay_factor ** (step // settings.decay_every)


@torch.no_grad()
def validate(network: nn.Module, volumes: Sequence[Volume], device: torch.device) -> dict[str, float]:
    """Mean Dice over labels and pairs, and folding: each subject as fixed, the next one as moving."""
    network.eval()
    scores, folds = [], []
    for fixed, moving in zip(volumes, [*volumes[1:], *volumes[:1]], strict=True):
        displacement = network(fixed.image.to(device), moving.image.to(device)).displacement
        warped = warp(moving.labels.to(device), displacement, mode="nearest").cpu()
        scores.append(_mean_dice(warped, fixed.labels))
        folds.append(folding_fraction(jacobian_determinant(displacement)))
    network.train()
    return {"validation_dice": sum(scores) / len(scores), "folding_fraction": sum(folds) / len(folds)}


def save_weights(path: Path, network: nn.Module, config: Config, *, step: int) -> None:
    """The network's weights with the configuration that made them in the header, but for the reference's path."""
    config = replace(config, data=replace(config.data, reference=""))  # it means nothing on another machine
    checkpoint.save(path, network.state_dict(), {"config": to_dict(config), "step": step})


class Log:
    """JSON lines, one object a record, and optionally TensorBoard's scalars."""

    def __init__(self, path: Path, *, keep_below: int, tensorboard: bool = False) -> None:
        kept = []
        if keep_below and path.exists():  # what came after the checkpoint is done again
            kept = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True)
                    if line.endswith("\n") and json.loads(line)["step"] <= keep_below]
        with written_whole(path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")
        self.path, self.file = path, path.open("a", encoding="utf-8")
        self.board = _tensorboard(path.parent) if tensorboard else None

    def write(self, *, step: int, **values: float) -> None:
        try:
            self.file.write(json.dumps({"step": step, **values}) + "\n")
            self.file.flush()
        except OSError as error:
            raise cannot_write(self.path, error) from None
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("--tensorboard needs the package tensorboard; install it, or leave the option away") from None
    return SummaryWriter(folder)


def _state_path(output: Path, resume: bool) -> Path:
    """Where the checkpoint lies; InputError if the folder does not fit what was asked for."""
    check_writable(output)
    path = output / "checkpoint.safetensors"
    if path.exists() and not resume:
        raise InputError(f"{output} holds a training already; pass --resume to go on with it, or another folder")
    if resume and not path.exists():
        raise InputError(f"{output} holds no checkpoint to resume from; leave --resume away to start one")
    return path


def _restore(path: Path, config: Config, parts: nn.ModuleDict, optimizer: torch.optim.Optimizer) -> int:
    """Loads a checkpoint into the parts and the optimizer; returns its step."""
    tensors, header = checkpoint.load(path)
    old, new = dict(header["config"]), json.loads(json.dumps(to_dict(config)))
    if _without_length(old) != _without_length(new):
        raise InputError(f"{path} was trained with other settings; resume with the same configuration "
                         "(only training.steps and the intervals may change)")
    weights = {name: t for name, t in tensors.items() if not name.startswith("optimizer.")}
    checkpoint.load_into(parts, weights, source=path)
    checkpoint.restore_optimizer(optimizer, tensors)
    return int(header["step"])


def _without_length(tree: dict[str, Any]) -> dict[str, Any]:
    free = ("steps", "checkpoint_every", "validate_every")
    return tree | {"training": {k: v for k, v in tree["training"].items() if k not in free}}


def _mix(seed: int, step: int) -> int:
    """One seed for each pair of seed and step."""
    return (seed * 1_000_003 + step) % 2**63


def _precision(device: torch.device) -> Any:
    """bfloat16 on a GPU that has it: its range needs no loss scaling. Full precision elsewhere."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def _mean_dice(first: Tensor, second: Tensor) -> float:
    """Mean over the labels of ``second`` of 2|A∩B| / (|A| + |B|)."""
    labels = second.unique().int().tolist()
    return sum(2 * float(((first == k) & (second == k)).sum()) / float((first == k).sum() + (second == k).sum())
               for k in labels if k) / max(1, sum(1 for k in labels if k))
