"""Training without labels: one flat loop, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import __version__
from ..atomic import check_not_overwritten, check_writable, claimed
from ..bundles import checkpoint
from ..bundles.config import Config, RefinementConfig, TrainingConfig, check_trainable, from_dict, to_dict
from ..bundles.model import write_card
from ..errors import Cancelled, InputError, counted
from ..io.manifest import Subject
from ..io.outputs import check_results
from ..networks import RegistrationNetwork, build, system
from ..progress import Progress, part, silent
from .batches import Dataset, draw_batch, load_dataset, mixed
from .learner import Learner, learner_of
from .log import Log
from .processes import ALONE, Team
from .sharing import give, outline_of, receive
from .validation import judged, shortfall

RESULTS = ("checkpoint.safetensors", "log.jsonl", "model/weights.safetensors", "model/card.toml")
PREPARING = 0.1  # fraction of the progress bar for reading and aligning


def train(
    config: Config,
    subjects: Sequence[Subject],
    output: Path,
    *,
    device: torch.device,
    resume: bool = False,
    initial: Path | None = None,
    tensorboard: bool = False,
    progress: Progress = silent,
    team: Team = ALONE,
) -> Path:
    """Trains a network on the subjects' scans and returns the folder of the model; as ``fit``, after reading them.

    InputError also where another run writes to ``output``, or a result there would replace what is read.
    """
    inputs = [file for subject in subjects for file in (subject.image, subject.labels)]
    check_not_overwritten(output, RESULTS, [*inputs, initial, config.data.reference or None])
    check_results(output, RESULTS, certificates=("checkpoint.safetensors", "log.jsonl"))
    team.check_batch(config.training.batch_size)
    with claimed(output):
        divisor = _fresh_network(config).divisor  # early: errors come before the long reading
        checkpoint_path(output, resume)
        data = load_dataset(config, subjects, divisor=divisor, progress=part(progress, 0.0, PREPARING))
        return fit(
            config,
            data,
            output,
            device=device,
            resume=resume,
            initial=initial,
            tensorboard=tensorboard,
            progress=part(progress, PREPARING, 1.0),
            team=team,
        )


def follow(team: Team) -> None:
    """What every process but 0 does: takes part in each training, until there is none any more."""
    while (job := team.shared(None)) is not None:
        config, outline = job
        fit(config, receive(outline, team), Path(), device=team.device, team=team)


def fit(
    config: Config,
    data: Dataset,
    output: Path,
    *,
    device: torch.device,
    resume: bool = False,
    initial: Path | None = None,
    tensorboard: bool = False,
    progress: Progress = silent,
    team: Team = ALONE,
) -> Path:
    """Trains a network on volumes and returns the folder of the model: weights with their configuration.

    ``output`` receives ``checkpoint.safetensors`` (to resume from), ``log.jsonl`` and ``model/``. Random choices are
    functions of the seed and the step, so a resumed training ends with the same weights as an uninterrupted one (except
    where ``training.minutes`` end it by the clock). ``initial`` is a file of weights to start from: the model is then
    the best by ``judged``, of those weights themselves and of what each validation found. A ``team`` shares each
    batch, its others in ``follow``; process 0 alone reads and writes. Raises InputError for what cannot be trained.
    """
    how = {"device": device, "resume": resume, "initial": initial, "tensorboard": tensorboard, "team": team}
    learner, keeper, start, spent = _begun(config, data, output, **how)
    settings, network, places = config.training, learner.network, team.share(config.training.batch_size)

    network.train()
    done, clock = start, computing_clock(device)
    began = clock() - spent
    for step in range(start, settings.steps):
        fraction = team.told(done_fraction(settings, step, clock() - began))  # by one clock
        if fraction >= 1.0:
            break
        torch.manual_seed(mixed(settings.seed, step))  # for the sampling of the posterior
        batch = draw_batch(data, config, network, step, device, places)
        network.begin_step(fraction)
        rate = learning_rate(settings, step, network.schedule_fraction(fraction))
        losses = learner.step(batch, rate, step, team)
        if keeper is None:
            continue

        done = step + 1
        seconds = clock() - began
        reached = done_fraction(settings, done, seconds)
        keeper.log.write(step=done, **losses, learning_rate=rate, seconds=round(seconds, 2))
        improved = False
        if keeper.judges(done, reached):
            improved = keeper.judge(done)
            began += clock() - began - seconds  # validation is not training
        if done % settings.checkpoint_every == 0 or reached >= 1.0 or improved:
            keeper.save(done, seconds, improved)
        speed = (done - start) / max(seconds - spent, 1e-9)
        try:
            progress(f"training {_how_far(settings, done, seconds)}, {speed:.2f} steps/s", reached)
        except (Cancelled, KeyboardInterrupt):
            keeper.save(done, seconds, improved)
            raise
    return keeper.finished(done) if keeper is not None else output


def _begun(
    config: Config,
    data: Dataset,
    output: Path,
    *,
    device: torch.device,
    resume: bool,
    initial: Path | None,
    tensorboard: bool,
    team: Team,
) -> tuple[Learner, _Keeper | None, int, float]:
    """What is trained, what keeps it, in process 0, and the steps and seconds that were spent; alike in every process.

    InputError for what cannot be trained.
    """
    network = _fresh_network(config).to(device)
    team.check_batch(config.training.batch_size)
    team.check_network(network)
    state_path = checkpoint_path(output, resume) if team.leads else output
    if initial is not None:
        checkpoint.load_into(network, checkpoint.load(initial)[0], source=initial)
    learner = learner_of(config, network, device)
    start, spent = restore(state_path, config, learner.parts, learner.optimizer) if resume else (0, 0.0)
    best = best_so_far(state_path) if resume else None
    if team.leads and team.count > 1:
        team.shared((config, outline_of(data)))
        give(data, team)
    start = int(team.told(start))
    team.made_alike(learner.parts, learner.optimizer)
    network.first_row = team.share(config.training.batch_size).start
    log = Log(output / "log.jsonl", keep_below=start, tensorboard=tensorboard) if team.leads else None
    keeper = _Keeper(learner, data, output, state_path, log, best) if log is not None else None
    if initial is not None and not resume:
        assert keeper is not None, "process 0 alone is given a start"
        keeper.keep_start()
    return learner, keeper, start, spent


@dataclass
class _Keeper:
    """What process 0 keeps of a training: its log, its checkpoint and its model, the last or the best that was found.

    ``best`` is the least ``shortfall`` so far, None where the model is the last.
    """

    learner: Learner
    data: Dataset
    output: Path
    state_path: Path
    log: Log
    best: float | None

    def keep_start(self) -> None:
        """The weights that it starts from are the best so far."""
        found = self._judged()
        self.best = shortfall(found)
        self.log.write(step=0, **found)
        self._save_weights(0)

    def judges(self, done: int, reached: float) -> bool:
        """Whether validation is due after so many steps."""
        due = done % self.learner.config.training.validate_every == 0 or reached >= 1.0
        return due and bool(self.data.validation or self.best is not None)

    def judge(self, done: int) -> bool:
        """Validates; whether that is the best so far, where the model is to be the best."""
        self.log.write(step=done, **(found := self._judged()))
        if self.best is None or shortfall(found) >= self.best:
            return False
        self.best = shortfall(found)
        return True

    def save(self, done: int, seconds: float, improved: bool) -> None:
        """The weights first: a run killed between the two does these steps again, and has its model at the end."""
        if self.best is None or improved:
            self._save_weights(done)
        learner = self.learner
        how = {"step": done, "seconds": seconds, "best": self.best}
        save_state(self.state_path, learner.parts, learner.optimizer, learner.config, **how)

    def finished(self, done: int) -> Path:
        """Closes the log, writes a card where there is none, and returns the model's folder."""
        self.log.close()
        model = self.output / "model"
        self._state_settings(model / "weights.safetensors")
        if not (model / "card.toml").exists():
            data = f"{counted(len(self.data.train), 'image')}, {counted(done, 'step')}"
            about = {"name": self.output.resolve().name, "version": __version__, "training_data": data}
            write_card(model, {"model": about})
        return model

    def _state_settings(self, path: Path) -> None:
        """The settings of today in the header of the weights: what may change on the way has changed since the best."""
        tensors, header = checkpoint.load(path)
        if from_dict(header["config"]) != (config := _without_reference(self.learner.config)):
            checkpoint.save(path, tensors, {**header, "config": to_dict(config)})

    def _judged(self) -> dict[str, float]:
        return judged(self.learner.config, self.learner.network, self.data, self.learner.device)

    def _save_weights(self, done: int) -> None:
        path = self.output / "model" / "weights.safetensors"
        save_weights(path, self.learner.network, self.learner.config, step=done)


def _fresh_network(config: Config) -> RegistrationNetwork:
    """The network with its initial weights, a function of the seed; InputError for what cannot be trained."""
    check_trainable(config)
    if not system(config.network.name).trained:
        raise InputError(
            f"{config.network.name} has no weights to train", f"use it as it is: `model={config.network.name}`"
        )
    torch.manual_seed(config.training.seed)
    return build(config.network.name, config.network.settings)


def done_fraction(settings: TrainingConfig, step: int, seconds: float) -> float:
    """The fraction of a training done, by its steps or by its minutes, whichever is more."""
    by_steps = step / settings.steps
    return min(1.0, max(by_steps, seconds / (60 * settings.minutes))) if settings.minutes else by_steps


def _how_far(settings: TrainingConfig, step: int, seconds: float) -> str:
    """'50/3600', or the minutes where these will end the training first."""
    if settings.minutes and seconds / (60 * settings.minutes) >= step / settings.steps:
        return f"{seconds / 60:.1f}/{settings.minutes:g} min, step {step}"
    return f"{step}/{settings.steps}"


def learning_rate(settings: TrainingConfig, step: int, fraction: float) -> float:
    """η₀ · w · factor^⌊step / every⌋, or η₀ · w · ½(1 + cos(π · fraction of the schedule)).

    w = min(1, (step + 1) / (warm-up + 1)).
    """
    reached = min(1.0, (step + 1) / (settings.warm_up + 1))
    if settings.schedule == "cosine":
        return settings.learning_rate * reached * 0.5 * (1.0 + math.cos(math.pi * fraction))
    return settings.learning_rate * reached * settings.decay_factor ** (step // settings.decay_every)


def save_weights(path: Path, network: nn.Module, config: Config, *, step: int) -> None:
    """The network's weights with the configuration that made them in the header, but for the reference's path."""
    checkpoint.save(path, network.state_dict(), {"config": to_dict(_without_reference(config)), "step": step})


def _without_reference(config: Config) -> Config:
    """Its path means nothing on another machine."""
    return replace(config, data=replace(config.data, reference=""))


def save_state(
    path: Path,
    parts: nn.ModuleDict,
    optimizer: torch.optim.Optimizer,
    config: Config,
    *,
    step: int,
    seconds: float,
    best: float | None = None,
) -> None:
    """What ``restore`` needs to resume: parameters, the optimizer's moments, the step and the seconds spent.

    ``best`` is the least ``shortfall`` so far where the model is the best that was found, not the last.
    """
    tensors = dict(parts.state_dict()) | checkpoint.optimizer_tensors(optimizer)
    chosen = {} if best is None else {"best": best}
    checkpoint.save(path, tensors, {"config": to_dict(config), "step": step, "seconds": seconds, **chosen})


def best_so_far(path: Path) -> float | None:
    """The ``best`` of a checkpoint, None for one whose model is the last."""
    return checkpoint.load(path)[1].get("best")


def checkpoint_path(output: Path, resume: bool) -> Path:
    """Where the checkpoint lies; InputError if there is one to overwrite, or none to resume from."""
    check_writable(output)
    path = output / "checkpoint.safetensors"
    if path.exists() and not resume:
        raise InputError(f"{output} holds a training already; pass `resume` to go on with it, or another folder")
    if resume and not path.exists():
        raise InputError(f"{output} holds no checkpoint to resume from; omit `resume` to start one")
    return path


def restore(
    path: Path,
    config: Config,
    parts: nn.ModuleDict,
    optimizer: torch.optim.Optimizer,
    *,
    read: Callable[[Mapping[str, Any]], Config] = from_dict,
) -> tuple[int, float]:
    """Loads a checkpoint into the parts and the optimizer; returns its step and the seconds spent so far.

    ``read`` parses the checkpoint's configuration; InputError if that is not ``config``.
    """
    tensors, header = checkpoint.load(path)
    if _unchangeable(read(header["config"])) != _unchangeable(config):
        raise InputError(
            f"{path} was trained with other settings; resume with the same configuration "
            "(only training.steps and the intervals may change)"
        )
    weights = {name: t for name, t in tensors.items() if not name.startswith("optimizer.")}
    checkpoint.load_into(parts, weights, source=path)
    checkpoint.restore_optimizer(optimizer, tensors)
    return int(header["step"]), float(header.get("seconds", 0.0))


def _unchangeable(config: Config) -> Config:
    """The configuration without what may change when a training is resumed."""
    free = TrainingConfig()
    kept = replace(
        config.training,
        steps=free.steps,
        minutes=free.minutes,
        checkpoint_every=free.checkpoint_every,
        validate_every=free.validate_every,
    )
    return replace(config, training=kept, refinement=RefinementConfig())


def computing_clock(device: torch.device) -> Callable[[], float]:
    """Seconds of computing: on a CPU, processor time per thread, which other programs do not affect."""
    if device.type == "cpu":
        return lambda: time.process_time() / torch.get_num_threads()
    return time.monotonic
