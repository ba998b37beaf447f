"""What encoders have learned: do their embeddings tell images apart, and do their features tell where one is?

Alignment and uniformity are those of Wang and Isola, Understanding contrastive representation learning through
alignment and uniformity on the hypersphere, ICML 2020. The read-out is a linear classifier of each voxel's structure on
frozen features (Alain and Bengio, Understanding intermediate layers using linear classifier probes, 2016), learned from
some validation subjects and judged on the others; the encoders were trained on neither.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from CLMorphCore.bundles import checkpoint
from CLMorphCore.bundles.config import Config
from CLMorphCore.errors import InputError
from CLMorphCore.networks.blocks import Siamese
from CLMorphCore.training.batches import Dataset, Volume
from CLMorphCore.training.objective import CONTRASTED_VOXELS
from CLMorphCore.training.views import view
from Training.csv_rows import read_rows, write_rows

from .catalogue import OURS, RunKey
from .datasets import Protocol
from .plan import Planned
from .runs import configuration
from .store import load, locked
from .supervised import network_of

ENCODERS, CURVES = "encoders.csv", "curves.csv"
UNTRAINED = "untrained"  # variant of the run that is none
ALIGNMENT_PAIRS, ALIGNMENT_VIEWS, UNIFORMITY = "alignment_pairs", "alignment_views", "uniformity"
READ_OUT, READ_OUT_POSITION = "read_out", "read_out_position"
CHANCE, VALIDATION_DICE = "chance", "validation_dice"
MAX_VOXELS, MAX_VOXELS_OF_IMAGE = 200, 6000  # for the read-out, of a class in one image and of all classes
MAX_FOLDS = 5
MIN_IMAGES = 8  # for alignment and uniformity
MAX_IMAGES = 40  # to estimate statistics from
NEAR_VOXELS = 3  # how far from a structure its background reaches
MAX_POINTS = 60  # of a curve
DECAY = 1e-3  # of the read-out's weights, whose inputs have variance 1
TERMS = ("similarity", "contrast", "voxel_contrast")


@dataclass(frozen=True)
class EncoderRow:
    """One measure of one run's encoder."""

    run: str
    measure: str
    value: float


@dataclass(frozen=True)
class CurveRow:
    """A term of a run's loss: the mean over the steps up to ``step`` from the point before."""

    run: str
    step: int
    term: str
    value: float


def untrained(dataset: str, seed: int) -> RunKey:
    """The name by which the measures of an encoder's initial weights go."""
    return RunKey(dataset, OURS, UNTRAINED, seed, 0.0)


def read(folder: Path) -> tuple[list[EncoderRow], list[CurveRow]]:
    """The measures and curves of a results folder; empty where there are none."""
    rows, curves = folder / ENCODERS, folder / CURVES
    return (
        read_rows(rows, EncoderRow) if rows.exists() else [],
        read_rows(curves, CurveRow) if curves.exists() else [],
    )


def merge(source: Path, target: Path, runs: Collection[str]) -> None:
    """Adds to ``target`` the measures of ``source`` of these runs, and of untrained encoders, that are not there."""
    rows, curves = read(source)
    wanted = {row.run for row in rows if row.run in runs or f"/{UNTRAINED}/" in row.run}
    _add(target, [row for row in rows if row.run in wanted], [row for row in curves if row.run in wanted])


def _add(folder: Path, rows: Sequence[EncoderRow], curves: Sequence[CurveRow]) -> None:
    if not rows:
        return
    with locked(folder):
        there, known = read(folder)
        names = {row.run for row in there}
        write_rows(folder / CURVES, CurveRow, [*known, *(row for row in curves if row.run not in names)])
        write_rows(folder / ENCODERS, EncoderRow, [*there, *(row for row in rows if row.run not in names)])


def measure_missing(
    runs: Sequence[Planned], protocol: Protocol, folder: Path, device: torch.device, say: Callable[[str], None]
) -> None:
    """Measures finished runs whose weights are in ``folder`` and that have no measures yet, and untrained encoders."""
    results = load(folder)
    measured = {row.run for row in read(folder)[0]}
    voxels: ReadOut | None = None
    for run in runs:
        work = folder / "work" / run.name
        weights = work / "model" / "weights.safetensors"
        if not (results.has(run.name) and weights.exists()):
            continue
        start = untrained(run.dataset, run.seed).name
        for name, file in ((start, None), (run.name, weights)):
            if name not in measured:
                say(f"looking into {name}")
                voxels = voxels or ReadOut.of(protocol.volumes.validation)
                spacing_mm, log = protocol.settings["data"]["spacing_mm"], work / "log.jsonl"
                network = _network(run, protocol, file, device)
                found = measures(network, shown_of(protocol.volumes), spacing_mm, voxels, device)
                if file:
                    found |= of_training(configuration(protocol.settings, protocol.regions, run), log)
                add_measures(folder, name, found, curves(name, log) if file else [])
                measured.add(name)


def shown_of(data: Dataset) -> list[Volume]:
    """The validation volumes, and train volumes beside them where those are fewer than MIN_IMAGES."""
    return [*data.validation, *data.train[: max(0, MIN_IMAGES - len(data.validation))]]


def add_measures(folder: Path, run: str, found: Mapping[str, float], points: Sequence[CurveRow]) -> None:
    """Adds the measures and curves of a run to a results folder, where they are not there yet."""
    _add(folder, [EncoderRow(run, measure, value) for measure, value in found.items()], points)


def of_training(config: Config, log: Path) -> dict[str, float]:
    """What a training's settings and log tell: chance of each contrastive term that it has, and its last Dice.

    Chance is the loss of embeddings that tell nothing of the image, the logarithm of the number of candidates.
    """
    pairs, loss = config.training.batch_size, config.loss
    images = 2 * pairs if loss.contrasted == "views" else pairs
    found = {}
    if loss.contrast > 0 and loss.contrastive == "nt-xent":
        found[f"{CHANCE}_contrast"] = math.log(2 * images - 1)
    if loss.voxel_contrast > 0:
        found[f"{CHANCE}_voxel_contrast"] = math.log(CONTRASTED_VOXELS * pairs)
    judged = [line["validation_dice"] for line in log_lines(log) if "validation_dice" in line]
    return found | ({VALIDATION_DICE: judged[-1]} if judged else {})


def log_lines(log: Path) -> list[dict[str, float]]:
    """The records of a training's log, also of a compressed one (.gz)."""
    opened = gzip.open if log.suffix == ".gz" else open
    with opened(log, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def measures(
    network: Siamese, volumes: Sequence[Volume], spacing_mm: Sequence[float], voxels: ReadOut, device: torch.device
) -> dict[str, float]:
    """Alignment and uniformity on volumes, and read-outs, of a network that has been set to evaluation."""
    rng = torch.Generator().manual_seed(0)
    rows: list[list[Tensor]] = [[], [], []]
    with torch.inference_mode():
        for volume in volumes:
            image = volume.image.to(device)
            views = [view(image, rng, spacing_mm=spacing_mm) for _ in range(2)]
            for of, seen in zip(rows, (image, *views), strict=True):
                of.append(network.embed(seen))
    seen, first, second = (torch.cat(of) for of in rows)
    one, other = torch.combinations(torch.arange(len(seen))).T
    return {
        ALIGNMENT_PAIRS: alignment(seen[one], seen[other]),
        ALIGNMENT_VIEWS: alignment(first, second),
        UNIFORMITY: uniformity(seen),
        **voxels.scores(network, device),
    }


def alignment(first: Tensor, second: Tensor) -> float:
    """E‖u − v‖² of positive pairs on the unit sphere, rows of two (N, C): 0 where they are one, 2 where unrelated."""
    u, v = F.normalize(first.double(), dim=1), F.normalize(second.double(), dim=1)
    return float((u - v).square().sum(dim=1).mean())


def uniformity(embeddings: Tensor) -> float:
    """log E exp(−2‖u − v‖²) over all pairs of rows (N, C) on the unit sphere: 0 where all are one, −4 at most apart."""
    unit = F.normalize(embeddings.double(), dim=1)
    return float(torch.pdist(unit).square().mul(-2).exp().mean().log())


@dataclass(frozen=True)
class ReadOut:
    """Chosen voxels of labelled volumes, of each class as many in an image as there are, up to a limit.

    Each entry is (volume, flat indices of voxels, their classes); class 0 is the background near the structures.
    """

    chosen: tuple[tuple[Volume, Tensor, Tensor], ...]

    @classmethod
    def of(cls, volumes: Sequence[Volume]) -> ReadOut:
        """Of the volumes that have labels; InputError for fewer than two, one to learn from and one to judge by."""
        labelled = [(volume, volume.labels) for volume in volumes if volume.labels is not None]
        if len(labelled) < 2:
            raise InputError(f"{len(labelled)} validation volumes have labels; a read-out needs two")
        values = sorted({int(v) for _, labels in labelled for v in labels.unique()} - {0})
        most = max(1, min(MAX_VOXELS, MAX_VOXELS_OF_IMAGE // (len(values) + 1)))
        rng = torch.Generator().manual_seed(0)
        return cls(tuple((volume, *choose_voxels(labels, values, most, rng)) for volume, labels in labelled))

    def scores(self, network: Siamese, device: torch.device) -> dict[str, float]:
        """Balanced accuracy by all levels of the encoder, by each alone, and by the place in the grid without it."""
        features = self._features(network, device)
        widths = _channels(network)
        found = {READ_OUT: self._score(features), READ_OUT_POSITION: self._score(self._positions())}
        for level, channels in enumerate(widths):
            place = sum(widths[:level])
            found[f"{READ_OUT}_level{level}"] = self._score([of[:, place : place + channels] for of in features])
        return found

    def _score(self, rows: Sequence[Tensor]) -> float:
        """Mean over folds of the images: learned from all others, judged on those of the fold."""
        folds = min(MAX_FOLDS, len(rows))
        classes = [of for _, _, of in self.chosen]
        scores = []
        for fold in range(folds):
            parts = [
                torch.cat([of for n, of in enumerate(each) if (n % folds == fold) == inside])
                for each in (rows, classes)
                for inside in (False, True)
            ]
            scores.append(read_out(*parts))
        return sum(scores) / folds

    def _features(self, network: Siamese, device: torch.device) -> list[Tensor]:
        """Features of all levels at each image's voxels (N, C), those of coarse levels interpolated."""
        rows = []
        with torch.inference_mode():
            for volume, indices, _ in self.chosen:
                size = volume.image.shape[2:]
                at = indices.to(device)
                levels = [
                    F.interpolate(level, size=size, mode="trilinear", align_corners=True).flatten(2)[0, :, at]
                    for level in network.encoder(volume.image.to(device))
                ]
                rows.append(torch.cat(levels).T.float().cpu())
        return [of.clone() for of in rows]  # tensors of inference mode cannot be learned from

    def _positions(self) -> list[Tensor]:
        """Coordinates of each image's voxels, −1 … 1, with their squares and products, (N, 9)."""
        rows = []
        for volume, indices, _ in self.chosen:
            shape = volume.image.shape[2:]
            axes = torch.stack(torch.unravel_index(indices, shape), dim=1).float()
            at = 2 * axes / (torch.tensor(shape) - 1) - 1
            products = [at[:, i] * at[:, j] for i in range(3) for j in range(i, 3)]
            rows.append(torch.cat([at, torch.stack(products, dim=1)], dim=1))
        return rows


def choose_voxels(labels: Tensor, values: Sequence[int], most: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(flat indices, classes) of random voxels of labels (1, 1, D, H, W), at most ``most`` of a class.

    Class k + 1 is the label ``values[k]``, class 0 what has none within NEAR_VOXELS of one.
    """
    inside = (labels != 0).float()
    near = F.max_pool3d(inside, 2 * NEAR_VOXELS + 1, stride=1, padding=NEAR_VOXELS) > 0
    masks = [near & (labels == 0), *(labels == value for value in values)]
    indices, classes = [], []
    for k, mask in enumerate(masks):
        places = mask.flatten().nonzero()[:, 0]
        places = places[torch.randperm(len(places), generator=rng)[:most]]
        indices.append(places)
        classes.append(torch.full_like(places, k))
    return torch.cat(indices), torch.cat(classes)


def read_out(train: Tensor, test: Tensor, of_train: Tensor, of_test: Tensor) -> float:
    """Balanced accuracy on ``test`` of a linear classifier on ``train``: the mean over classes of what is recognised.

    Features (N, C) are brought to mean 0 and variance 1 on ``train``; classes (N,) count from 0.
    """
    mean, sd = train.mean(dim=0), train.std(dim=0).clamp_min(1e-6)
    train, test = ((x - mean) / sd for x in (train, test))
    classes = int(of_train.max()) + 1
    weights = torch.zeros(train.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(train @ weights + bias, of_train) + DECAY * weights.square().sum()
        value.backward()
        return value

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]  a tensor is taken too
    with torch.no_grad():
        found = (test @ weights + bias).argmax(dim=1)
    known = [k for k in range(classes) if (of_test == k).any()]
    return sum(float((found[of_test == k] == k).float().mean()) for k in known) / len(known)


def _channels(network: Siamese) -> list[int]:
    """The number of features of each of the encoder's levels."""
    with torch.inference_mode():
        sides = [2 * n for n in network.divisor]
        image = torch.zeros(1, 1, *sides, device=next(network.parameters()).device)
        return [level.shape[1] for level in network.encoder(image)]


def _network(run: Planned, protocol: Protocol, weights: Path | None, device: torch.device) -> Siamese:
    """The network of a run, set to evaluation; with its initial weights where there is no file of others."""
    torch.manual_seed(run.seed)
    network = network_of(configuration(protocol.settings, protocol.regions, run))
    assert isinstance(network, Siamese), "the contrastive term needs a projection"
    return ready(network.to(device), weights, protocol.volumes.train, device)


def ready(network: Siamese, weights: Path | None, train: Sequence[Volume], device: torch.device) -> Siamese:
    """The network set to evaluation, with the weights of a file, or as it is.

    Batch normalisation then has the images' statistics: without them an untrained encoder would be another network.
    """
    if weights is not None:
        checkpoint.load_into(network, checkpoint.load(weights)[0], source=weights)
        return network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = None  # the mean over all batches
    network.train()
    volumes = train[:MAX_IMAGES]
    with torch.no_grad():
        for start in range(0, len(volumes) - 1, 2):
            network.encoder(torch.cat([volume.image.to(device) for volume in volumes[start : start + 2]]))
    return network.eval()


def curves(run: str, log: Path) -> list[CurveRow]:
    """The terms of a training's log as at most MAX_POINTS points each."""
    steps = [line for line in log_lines(log) if "loss" in line]
    wide = math.ceil(len(steps) / MAX_POINTS)
    parts = [steps[start : start + wide] for start in range(0, len(steps), wide)] if steps else []
    return [
        CurveRow(run, int(part[-1]["step"]), term, sum(line[term] for line in part) / len(part))
        for term in TERMS
        for part in parts
        if term in part[0]
    ]


def by_run(rows: Sequence[EncoderRow]) -> dict[str, Mapping[str, float]]:
    """run → measure → value."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row.run, {})[row.measure] = row.value
    return dict(found)
