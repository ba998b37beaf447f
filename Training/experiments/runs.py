"""One run: train a system on a data set, segment its test subjects, measure, write down."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch

from CLMorphCore.bundles import checkpoint
from CLMorphCore.bundles.config import Config, from_dict, to_dict
from CLMorphCore.bundles.model import Model
from CLMorphCore.geometry import Grid, resample_labels
from CLMorphCore.metrics import compare_labels, inverse_consistency, log_jacobian_std
from CLMorphCore.networks import RegistrationNetwork, system
from CLMorphCore.progress import Progress, part, silent
from CLMorphCore.registration import Registration, register
from CLMorphCore.training.loop import fit
from Training.provenance import commit, now

from . import supervised
from .catalogue import AFFINE, STEPS, SUPERVISED, SYSTEMS
from .datasets import Case, Protocol
from .plan import Planned
from .store import BY_PRODUCT, SEGMENTATION, DeformationRow, Example, RegionRow, Results, Run, add

NO_LIMIT = 1_000_000  # steps: the minutes end a training
TRAINING = 0.8  # share of a run's progress


@dataclass(frozen=True)
class Trained:
    """A run's network, ready to predict, and the header of its training's state, empty where nothing is trained."""

    system: str
    folder: Path
    config: Config
    network: RegistrationNetwork | supervised.UNet
    device: torch.device
    header: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a system found for a case: labels on the fixed image's grid, and the registration where there is one."""

    labels: sitk.Image
    registration: Registration | None
    seconds: float


def configuration(settings: dict[str, Any], regions: dict[int, str], planned: Planned) -> Config:
    """The settings of a run: the recipe's, the losses of the system's own paper, the variant's, seed and budget."""
    labelling = planned.system == SUPERVISED
    names = {f.name for f in fields(supervised.UNetConfig if labelling else system(planned.system).settings)}
    network = {"name": planned.system} | {k: v for k, v in settings["network"].items() if k in names}
    if labelling:
        network["labels"] = sorted(regions)
    training = {
        "seed": planned.seed,
        "minutes": 0.0 if planned.clock == STEPS else planned.budget_minutes,
        "steps": int(planned.budget_minutes) if planned.clock == STEPS else NO_LIMIT,
        "validate_every": NO_LIMIT,
        "learning_rate": SYSTEMS[planned.system].learning_rate,
    }
    tree = settings | {"network": network, "training": settings["training"] | training}
    for section, values in planned.overrides.items():
        tree[section] = tree.get(section, {}) | values
    return supervised.from_dict(tree) if labelling else from_dict(tree)


def perform(
    planned: Planned, protocol: Protocol, results: Path, device: torch.device, progress: Progress = silent
) -> Results:
    """Trains, evaluates on every test case in both directions, and adds the run to the results folder.

    An interrupted training goes on from its checkpoint.
    """
    started = now()
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    trained = _trained(planned, protocol, results / "work", device, part(progress, 0.0, TRAINING))
    header = trained.header if trained else {}
    regions: list[RegionRow] = []
    deformations: list[DeformationRow] = []
    example = None
    directions = (SEGMENTATION,) if planned.system == SUPERVISED else (SEGMENTATION, BY_PRODUCT)
    for n, case in enumerate(protocol.cases):
        progress(f"{planned.name}: {case.subject}", TRAINING + (1 - TRAINING) * n / len(protocol.cases))
        for direction in directions:
            found, expected, answer = _solved(case, direction, trained)
            regions += _region_rows(planned.name, direction, case.subject, answer.labels, expected, protocol.regions)
            deformations.append(_deformation_row(planned.name, direction, case.subject, answer, found))
            if example is None:
                example = _example(case.subject, found, expected, answer, case.moving()[0])
    seconds = [row.seconds for row in deformations]
    run = Run(
        planned.dataset,
        planned.system,
        planned.variant,
        planned.seed,
        planned.budget_minutes,
        settings=_recorded(trained.config, results) if trained else "{}",
        commit=commit(),
        started=started,
        device=torch.cuda.get_device_name(device) if on_gpu else str(device),
        threads=torch.get_num_threads(),
        parameters=sum(p.numel() for p in trained.network.parameters()) if trained else 0,
        train_steps=int(header.get("step", 0)),
        train_seconds=float(header.get("seconds", 0.0)),
        seconds_per_pair=sum(seconds) / len(seconds),
        losses=json.dumps(final_losses(results / "work" / planned.name / "log.jsonl")),
        clock=planned.clock,
        processes=planned.processes,
        peak_memory_mb=torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else float("nan"),
    )
    return add(results, run, regions, deformations, example)


def _trained(
    planned: Planned, protocol: Protocol, work: Path, device: torch.device, progress: Progress
) -> Trained | None:
    """The network of a run; None for the affine alignment alone."""
    if planned.system == AFFINE:
        return None
    config = configuration(protocol.settings, protocol.regions, planned)
    folder = work / planned.name
    network = supervised.network_of(config)
    header: dict[str, Any] = {}
    if SYSTEMS[planned.system].trained:
        state = folder / "checkpoint.safetensors"
        train = supervised.fit if planned.system == SUPERVISED else fit
        train(
            config,
            protocol.volumes,
            folder,
            device=device,
            resume=state.exists(),
            progress=lambda text, fraction: progress(f"{planned.name}: {text}", fraction),
        )
        checkpoint.load_into(network, checkpoint.load(folder / "model" / "weights.safetensors")[0], source=folder)
        header = checkpoint.load(state)[1]
    return Trained(planned.system, folder, config, network.to(device).eval(), device, header)


def _solved(case: Case, direction: str, trained: Trained | None) -> tuple[sitk.Image, sitk.Image, Answer]:
    """(image, its manual labels, what was found) of a case; the by-product is the same with the roles swapped."""
    (image, expected), (moving, labels), affine = case.fixed(), case.moving(), case.affine
    if direction == BY_PRODUCT:
        (image, expected), (moving, labels), affine = (moving, labels), (image, expected), affine.GetInverse()
    if trained is None:
        return image, expected, Answer(resample_labels(labels, Grid.of(image), affine), None, 0.0)
    network, config = trained.network, trained.config
    if isinstance(network, supervised.UNet):
        labelled, seconds = supervised.Labeller(config, network, trained.device).segment(image, moving, affine)
        return image, expected, Answer(labelled, None, seconds)
    model = Model(trained.system, trained.folder, config, {}, network, (), str(trained.device))
    found = register(image, moving, model, affine=affine)
    return image, expected, Answer(found.warp(labels, labels=True), found, found.duration_s["network"])


def _region_rows(
    run: str, direction: str, subject: str, found: sitk.Image, expected: sitk.Image, regions: dict[int, str]
) -> list[RegionRow]:
    found, expected = (sitk.Cast(image, sitk.sitkInt32) for image in (found, expected))
    return [
        RegionRow(run, direction, subject, number, regions[number], m.status, m.dice, m.hd_mm, m.hd95_mm, m.assd_mm)
        for number, m in compare_labels(found, expected, sorted(regions)).items()
    ]


def _deformation_row(run: str, direction: str, subject: str, answer: Answer, image: sitk.Image) -> DeformationRow:
    registration, none = answer.registration, float("nan")
    if registration is None:
        return DeformationRow(run, direction, subject, none, none, none, answer.seconds)
    there_and_back = none
    if registration.inverse is not None:
        there_and_back = inverse_consistency(registration.transform, registration.inverse, image).mean_mm
    return DeformationRow(
        run,
        direction,
        subject,
        registration.folding_fraction,
        log_jacobian_std(registration.jacobian),
        there_and_back,
        answer.seconds,
    )


def _example(subject: str, image: sitk.Image, expected: sitk.Image, answer: Answer, moving: sitk.Image) -> Example:
    registration = answer.registration
    if registration is None:
        return Example.cut(subject, image, expected, answer.labels)
    return Example.cut(
        subject,
        image,
        expected,
        answer.labels,
        warped=registration.warp(moving),
        transform=registration.transform,
        affine=registration.affine,
    )


def final_losses(log: Path) -> dict[str, float]:
    """Mean of each loss term over the last tenth of a training's steps; empty where nothing was trained."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    steps = [line for line in lines if "loss" in line]
    last = steps[-max(1, len(steps) // 10) :]
    names = [name for name in (last[0] if last else ()) if name not in ("step", "learning_rate", "seconds")]
    return {name: round(sum(line[name] for line in last) / len(last), 6) for name in names}


def _recorded(config: Config, results: Path) -> str:
    """A configuration as text, with files of the results folder named from there: rows tell nothing of a machine."""
    tree = to_dict(config)
    reference = Path(tree["data"]["reference"])
    if reference.is_relative_to(results):
        tree["data"]["reference"] = reference.relative_to(results).as_posix()
    return json.dumps(tree)
