"""From scans to a model: a plan, splits, the network, the atlas, tissue and quality, an evaluation, a page.

Each stage leaves a result that certifies it: a run that was stopped at any moment goes on, by the same call, with the
first stage whose result is not there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..atomic import atomic_write, check_not_overwritten, claimed
from ..bundles.atlas import (
    FILES,
    Structure,
    default_structures,
    label_values,
    read_dataset_labels,
    read_structures,
    save_atlas,
)
from ..bundles.config import Config
from ..bundles.model import BUNDLED, Model, bundled_models, load_model, read_card, write_card
from ..bundles.template import average_image, build_atlas
from ..errors import InputError, OutputError
from ..evaluation import RESULTS as EVALUATED
from ..evaluation import SUMMARY, evaluate
from ..io.files import parse_json, read_text
from ..io.images import read_labels, write_image
from ..io.layouts import Collection
from ..io.manifest import Subject, choose, read_manifest, write_manifest
from ..io.outputs import check_results
from ..matching import prepare
from ..networks import build
from ..progress import Progress, part, silent
from ..quality.fitting import fit as fit_quality
from ..quality.observations import genuine_and_corrupted
from ..quality.score import write_quality
from ..tissue.choosing import choose_tissue
from ..tissue.settings import NAME as TISSUE
from ..tissue.settings import OFF, write_settings
from .alignments import choose_alignment
from .batches import load_dataset
from .fingerprint import Finding, Fingerprint, take_fingerprint
from .loop import RESULTS as TRAINED
from .loop import checkpoint_path, fit
from .measuring import StepCost, measure_step
from .plan import Plan, read_plan, write_plan
from .planning import check_enough, make_plan
from .run_page import write_page
from .splits import check_same, make_splits

LOG = logging.getLogger(__name__)
PLAN, SCANS, REFERENCE, CARD, QUALITY, PAGE = (
    *("plan.toml", "scans.csv", "reference.nii.gz", "model/card.toml", "model/quality.toml"),
    "report.html",
)
ATLAS = "model/atlases/average"
SPLITS_MEASURED = ("validation", "test")
RESULTS = (
    *(PLAN, SCANS, REFERENCE, *TRAINED, f"model/{TISSUE}", QUALITY, PAGE),
    *(f"{ATLAS}/{name}" for name in FILES),
    *(f"{split}/{name}" for split in SPLITS_MEASURED for name in EVALUATED),
)
MAX_REFERENCE_SUBJECTS = 15  # of the affine average that scans are aligned with
MIN_TISSUE_SCANS, MAX_TISSUE_SCANS = 2, 8  # labelled, of validation
MIN_QUALITY_SCANS, MAX_QUALITY_SCANS = 5, 40  # labelled, of train and validation
CORRUPT_EVERY = 4  # scans of the quality's fit
# Shares of the progress bar up to the end of each stage.
ENDS = {"looking": 0.05, "reference": 0.1, "network": 0.65, "atlas": 0.78, "tissue": 0.83, "quality": 0.92}

Tell = Callable[[Finding], None]


@dataclass(frozen=True)
class Run:
    """A folder with a plan and its scans, in their splits."""

    output: Path
    plan: Plan
    subjects: tuple[Subject, ...]
    structures: tuple[Structure, ...] | None
    device: torch.device

    @property
    def model(self) -> Path:
        """The folder of the model."""
        return self.output / "model"

    @property
    def labelled(self) -> list[Subject]:
        """The labelled training scans."""
        return choose(self.subjects, "train", labelled=True)

    def load(self) -> Model:
        """The model as far as it is made."""
        return load_model(self.model, self.device)


def plan_scans(
    collection: Collection,
    *,
    minutes: float,
    device: torch.device,
    name: str = "",
    tell: Tell = lambda finding: None,
    progress: Progress = silent,
) -> tuple[Plan, Fingerprint]:
    """Looks at every scan, tells what is wrong with any, and chooses. InputError where too few are left."""
    fingerprint = take_fingerprint(collection.subjects, part(progress, 0.0, 0.7))
    for finding in fingerprint.findings:
        tell(finding)
    check_enough(fingerprint)
    kept = [scan for scan in fingerprint.kept if scan.subject.split != "test"]
    alignment = choose_alignment(kept, part(progress, 0.7, 0.95))
    progress("measuring a step", 0.95)

    def cost(config: Config) -> StepCost:
        return measure_step(config, device)

    return make_plan(fingerprint, alignment, cost, minutes=minutes, name=name), fingerprint


def train_scans(
    collection: Collection,
    output: Path,
    *,
    minutes: float,
    device: torch.device,
    plan: Plan | None = None,
    structures: Sequence[Structure] | None = None,
    name: str = "",
    tell: Tell = lambda finding: None,
    progress: Progress = silent,
) -> Path:
    """A model from scans, in ``output``/model; goes on where an earlier call with the same scans was stopped.

    ``plan`` takes the place of the one that would be made; ``structures`` name the labels. InputError where too few
    scans can be used, and where ``output`` holds another training, or something that is read.
    """
    inputs = [file for s in collection.subjects for file in (s.image, s.labels)]
    check_not_overwritten(output, RESULTS, inputs)
    check_results(output, RESULTS, certificates=(PLAN,))
    with claimed(output):
        begun = (output / PLAN).exists() and (output / SCANS).exists()
        _check_begun(output, begun)
        looking = part(progress, 0.0, ENDS["looking"])
        if begun:
            run = _resumed(collection, output, plan, device)
        else:
            run = _begun(collection, output, plan, minutes=minutes, device=device, name=name, tell=tell, look=looking)
        _make(replace(run, structures=_names(structures, collection)), progress)
    return run.model


def _check_begun(output: Path, begun: bool) -> None:
    """OutputError where a training lies in the folder, and not the plan and the scans that it was made by."""
    there = next((name for name in RESULTS if name not in (PLAN, SCANS) and (output / name).exists()), None)
    if there is not None and not begun:
        raise OutputError(
            f"{output / there} is there already, without {PLAN} and {SCANS} of its training; expected both to go on "
            "with, or a folder without it",
            "choose another output folder",
        )


def _begun(
    collection: Collection,
    output: Path,
    plan: Plan | None,
    *,
    minutes: float,
    device: torch.device,
    name: str,
    tell: Tell,
    look: Progress,
) -> Run:
    """The plan and the scans with their splits, written down."""
    if plan is None:
        plan, fingerprint = plan_scans(collection, minutes=minutes, device=device, name=name, tell=tell, progress=look)
        kept = [scan.subject for scan in fingerprint.kept]
    else:
        fingerprint = take_fingerprint(collection.subjects, look)
        kept = _as_planned(plan, fingerprint, collection, tell)
    subjects = make_splits(kept)
    write_plan(output / PLAN, plan)  # first: it certifies the folder
    write_manifest(output / SCANS, subjects)
    return Run(output, plan, tuple(subjects), None, device)


def _as_planned(plan: Plan, fingerprint: Fingerprint, collection: Collection, tell: Tell) -> list[Subject]:
    """The scans that a plan does not leave out; what is wrong with them is told, unreadable ones are refused."""
    left_out = plan.left_out or {}
    unknown = sorted(set(left_out) - {s.name for s in collection.subjects})
    if unknown:
        raise InputError(
            f"the plan leaves out {', '.join(unknown[:5])}, which the data lack; expected the plan of these data"
        )
    for finding in fingerprint.findings:
        if finding.subject not in left_out:
            tell(replace(finding, left_out=False))
    readable = {scan.subject.name: scan.subject for scan in fingerprint.scans}
    wanted = [s.name for s in collection.subjects if s.name not in left_out]
    if gone := [f"{name}: {fingerprint.left_out[name]}" for name in wanted if name not in readable]:
        raise InputError(
            f"the plan uses scans that cannot be used ({'; '.join(gone[:5])})", "add them to its leave_out"
        )
    return [readable[name] for name in wanted]


def _resumed(collection: Collection, output: Path, plan: Plan | None, device: torch.device) -> Run:
    """The run in ``output``; InputError where it is one of other scans, or by another plan."""
    subjects, own = read_manifest(output / SCANS), read_plan(output / PLAN)
    there = {s.image.resolve() for s in collection.subjects}
    if other := [s.name for s in subjects if s.image.resolve() not in there]:
        raise InputError(
            f"{output} holds a training of other scans (the data lack {', '.join(other[:3])}); expected those it began "
            "with, or another folder"
        )
    check_same(subjects, collection.subjects, own.left_out or {}, output)
    if plan is not None and plan.config != own.config:
        raise InputError(f"{output} holds a training by another plan, its {PLAN}; expected that, or another folder")
    return Run(output, own, tuple(subjects), None, device)


def _names(given: Sequence[Structure] | None, collection: Collection) -> tuple[Structure, ...] | None:
    """The names that are given, or those of a table beside the scans; one that is no such table is passed over."""
    if given is not None or collection.label_names is None:
        return tuple(given) if given is not None else None
    read = read_dataset_labels if collection.label_names.suffix == ".json" else read_structures
    try:
        return read(collection.label_names)
    except InputError as error:
        LOG.warning(f"structures keep their values as names: {error.problem}")
        return None


def _make(run: Run, progress: Progress) -> None:
    """Every stage whose result is not there yet, in order."""
    start = ENDS["looking"]
    stages: list[tuple[str, Callable[[Run, Progress], None]]] = [
        ("reference", _make_reference),
        ("network", _train_network),
        ("atlas", _make_atlas),
        ("tissue", _fit_tissue),
        ("quality", _fit_quality),
    ]
    for name, make in stages:
        make(run, part(progress, start, ENDS[name]))
        start = ENDS[name]
    span = (1.0 - start) / (len(SPLITS_MEASURED) + 1)
    for n, split in enumerate(SPLITS_MEASURED):
        _measure(run, split, part(progress, start + n * span, start + (n + 1) * span))
    _write_card(run)
    _draw(run, part(progress, 1.0 - span, 1.0))


def _make_reference(run: Run, progress: Progress) -> None:
    """The affine average of some training scans."""
    if (run.output / REFERENCE).exists():
        return
    chosen = _spread(choose(run.subjects, "train"), MAX_REFERENCE_SUBJECTS)
    average = average_image(chosen, progress=_named("reference", progress))
    with atomic_write(run.output / REFERENCE) as temporary:
        write_image(average, temporary)


def _train_network(run: Run, progress: Progress) -> None:
    """The network's weights; the card comes when it is trained to the end."""
    if (run.output / CARD).exists():
        return
    config = run.plan.config
    config = replace(config, data=replace(config.data, reference=str((run.output / REFERENCE).resolve())))
    resume = (run.output / "checkpoint.safetensors").exists()
    checkpoint_path(run.output, resume)
    divisor = build(config.network.name, config.network.settings).divisor
    data = load_dataset(config, run.subjects, divisor=divisor, progress=part(progress, 0.0, 0.1))
    fit(config, data, run.output, device=run.device, resume=resume, progress=part(progress, 0.1, 1.0))


def _make_atlas(run: Run, progress: Progress) -> None:
    """The average of training scans with their labels, or with the labels of the only one that has any."""
    if not run.labelled:
        LOG.warning("no scan is labelled: the model registers, and labels with an atlas that is given to it")
    if not run.labelled or (run.output / ATLAS / FILES[2]).exists():
        return
    most = run.plan.atlas_subjects
    labelled = _spread(run.labelled, most)
    others = [s for s in choose(run.subjects, "train") if s.labels is None]
    chosen = [*labelled, *_spread(others, most - len(labelled))]
    margin = run.plan.atlas_margin_mm or None
    named = _named("atlas", progress)
    structures = _for_all(run.structures, labelled)
    atlas = build_atlas(chosen, model=run.load(), structures=structures, margin_mm=margin, progress=named)
    save_atlas(run.output / ATLAS, atlas)


def _for_all(structures: Sequence[Structure] | None, labelled: Sequence[Subject]) -> tuple[Structure, ...] | None:
    """The named structures, and those that have no name by their values."""
    if structures is None:
        return None
    values = {v for s in labelled if s.labels is not None for v in label_values(read_labels(s.labels))}
    unnamed = values - {s.value for s in structures}
    if unnamed:
        LOG.warning(f"the labels {sorted(unnamed)[:10]} have no name in the table of names")
    return (*structures, *default_structures(sorted(unnamed)))


def _fit_tissue(run: Run, progress: Progress) -> None:
    """tissue.toml, chosen on validation scans, where there are enough."""
    scans = choose(run.subjects, "validation", labelled=True)
    if (run.model / TISSUE).exists() or not run.labelled or len(scans) < MIN_TISSUE_SCANS:
        return
    count = 0

    def tell(_: object) -> None:
        nonlocal count
        count += 1
        progress("tissue", min(1.0, count / 11))

    try:
        settings, _ = choose_tissue(run.load(), _spread(scans, MAX_TISSUE_SCANS), tell=tell)
    except InputError as error:
        LOG.warning(f"labels will not follow a scan's tissue: {error.problem}")
        settings = OFF
    write_settings(run.model, settings)


def _fit_quality(run: Run, progress: Progress) -> None:
    """quality.toml, from training and validation scans, where there are enough."""
    validation = choose(run.subjects, "validation", labelled=True)
    if (run.output / QUALITY).exists() or not validation or len(run.labelled) + len(validation) < MIN_QUALITY_SCANS:
        return
    model = run.load()
    prepared = prepare(model, model.atlases[:1])
    chosen = [*_spread(run.labelled, MAX_QUALITY_SCANS - min(len(validation), MAX_QUALITY_SCANS // 2)), *validation]
    others = [BUNDLED / name / "atlases" / "average" / FILES[0] for name in bundled_models()]
    observations = []
    for n, subject in enumerate(chosen):
        progress(f"quality: {subject.name} ({n + 1}/{len(chosen)})", n / len(chosen))
        corrupt = n % CORRUPT_EVERY == 0
        observations += genuine_and_corrupted(model, prepared, subject, others, n, corrupt=corrupt)
    write_quality(run.output / QUALITY, fit_quality(model.atlases[0].name, observations))


def _measure(run: Run, split: str, progress: Progress) -> None:
    """The evaluation of a held-out split, where it has labels."""
    if (run.output / split / SUMMARY).exists() or not run.labelled or not choose(run.subjects, split, labelled=True):
        return
    evaluate(run.load(), run.subjects, split=split, progress=_named(split, progress)).save(run.output / split)


def _write_card(run: Run) -> None:
    """The card with what was measured."""
    card = read_card(run.model)
    tables = {"model": card["model"]}
    for split in SPLITS_MEASURED:
        path = run.output / split / SUMMARY
        if path.exists():
            summary = parse_json(read_text(path, "a summary of an evaluation"))
            tables[f"accuracy.{split}"] = {
                key: round(value, 6)
                for key, value in summary.items()
                if isinstance(value, int | float) and key != "seconds"
            }
    write_card(run.model, tables)


def _draw(run: Run, progress: Progress) -> None:
    """The page, last."""
    if (run.output / PAGE).exists():
        return
    write_page(
        run.output / PAGE,
        run.load(),
        run.subjects,
        reference=run.output / REFERENCE,
        plan=read_text(run.output / PLAN, "a plan"),
        left_out=run.plan.left_out or {},
        progress=progress,
    )


def _spread(subjects: Sequence[Subject], most: int) -> list[Subject]:
    """At most so many, from all over the list."""
    if most <= 0:
        return []
    step = max(1.0, len(subjects) / most)
    return [subjects[int(n * step)] for n in range(min(most, len(subjects)))]


def _named(stage: str, progress: Progress) -> Progress:
    return lambda step, fraction: progress(f"{stage}: {step}", fraction)
