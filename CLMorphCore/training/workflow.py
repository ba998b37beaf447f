"""From scans to a model: a plan, splits, the network, the atlas, tissue and quality, an evaluation, a page.

Each stage leaves a result that certifies it: a run that was stopped at any moment goes on, by the same call, with the
first stage whose result is not there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..atomic import atomic_write, check_not_overwritten, claimed
from ..bundles import checkpoint
from ..bundles.atlas import (
    FILES,
    Structure,
    label_values,
    read_dataset_labels,
    read_structures,
    save_atlas,
    with_unnamed,
)
from ..bundles.config import from_dict
from ..bundles.model import BUNDLED, bundled_models, load_model
from ..bundles.refinement import NAME as REFINEMENT
from ..bundles.refinement import Refinement, write_refinement
from ..bundles.template import average_image, build_atlas
from ..errors import InputError, listed
from ..evaluation import RESULTS as EVALUATED
from ..evaluation import SUMMARY, evaluate
from ..instance_optimization import InstanceOptimization
from ..io.files import read_text
from ..io.images import read_labels, write_image
from ..io.layouts import Collection
from ..io.manifest import Subject, choose
from ..io.outputs import check_results
from ..matching import prepare
from ..networks import build
from ..progress import Progress, part, silent
from ..quality.fitting import fit as fit_quality
from ..quality.observations import genuine_and_corrupted
from ..quality.score import write_quality
from ..reports.training import doubts
from ..tissue.choosing import TRIED, Registered, Tried, choose_tissue, reached, register_labelled
from ..tissue.settings import NAME as TISSUE
from ..tissue.settings import OFF, TissueSettings, write_settings
from . import starting
from .batches import load_dataset
from .card import PICTURE, SPLITS_MEASURED, describe
from .digests import DIGESTS
from .loop import RESULTS as TRAINED
from .loop import checkpoint_path, fit
from .plan import Plan
from .processes import ALONE, Team
from .propagation import atlas_of_one, unmeasured_tissue
from .run import ATLAS, CARD, PLAN, SCANS, Run, Tell, begin, check_begun, go_on
from .run_page import measured, write_page
from .stages import ATLAS as ATLAS_SETTINGS
from .stages import BEGINNING, write_atlas_settings

LOG = logging.getLogger(__name__)
REFERENCE, QUALITY, PAGE = "reference.nii.gz", "model/quality.toml", "report.html"
OF_THE_ATLAS = (  # what follows from it
    *(QUALITY, PAGE, *(f"model/{name}" for name in (REFINEMENT, TISSUE, PICTURE))),
    *(f"{split}/{name}" for split in SPLITS_MEASURED for name in EVALUATED),
)
RESULTS = (
    *(PLAN, SCANS, DIGESTS, BEGINNING, ATLAS_SETTINGS, REFERENCE, *TRAINED),
    *(f"{ATLAS}/{name}" for name in FILES),
    *OF_THE_ATLAS,
)
MAX_REFERENCE_SUBJECTS = 15  # of the affine average that scans are aligned with
MIN_TISSUE_SCANS, MAX_TISSUE_SCANS = 2, 8  # labelled, of validation
MIN_QUALITY_SCANS, MAX_QUALITY_SCANS = 5, 40  # labelled, of train and validation
MIN_REFINEMENT_GAIN = 0.005  # mean Dice, for which a segmentation may take twice as long
CORRUPT_EVERY = 4  # scans of the quality's fit
# Shares of the progress bar up to the end of each stage.
ENDS = {"looking": 0.05, "reference": 0.1, "network": 0.65, "atlas": 0.78, "tissue": 0.83, "quality": 0.92}


def train_scans(
    collection: Collection,
    output: Path,
    *,
    minutes: float,
    device: torch.device,
    plan: Plan | None = None,
    structures: Sequence[Structure] | None = None,
    name: str = "",
    initial: str | Path | None = None,
    tell: Tell = lambda finding: None,
    progress: Progress = silent,
    team: Team = ALONE,
) -> Path:
    """A model from scans, in ``output``/model; goes on where an earlier call with the same scans was stopped.

    ``plan`` takes the place of the one that would be made; ``structures`` name the labels, ``name`` the scans in plan
    and card; ``initial`` is a model to
    start from, by its name or folder, the start itself being kept where validation finds nothing better; the other
    processes of a ``team`` are in ``follow``. InputError
    where too few scans can be used, and where ``output`` holds another training, or something that is read.
    """
    inputs = [file for s in collection.subjects for file in (s.image, s.labels)]
    check_not_overwritten(output, RESULTS, inputs)
    check_results(output, RESULTS, certificates=(PLAN,))
    with claimed(output):
        begun = (output / PLAN).exists() and (output / SCANS).exists()
        check_begun(output, begun, RESULTS)
        looking = part(progress, 0.0, ENDS["looking"])
        named = _names(structures, collection)
        if begun:
            run = go_on(collection, output, plan, device, initial=initial, team=team)
        else:
            how = {"minutes": minutes, "device": device, "name": name, "initial": initial, "structures": named}
            run = begin(collection, output, plan, **how, tell=tell, look=looking, team=team)
        run = replace(run, structures=named, name=name)
        _make(run, progress)
        for doubt in doubts(measured(output)):
            LOG.warning(doubt)
    return run.model


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
    describe(run, run.output / REFERENCE)
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
    state = checkpoint_path(run.output, resume)
    divisor = build(config.network.name, config.network.settings).divisor
    # Of the training scans no label is read: two thirds of what they would take, and nothing asks for them here.
    seen = [replace(s, labels=None) if s.split == "train" else s for s in run.subjects]
    data = load_dataset(config, seen, divisor=divisor, progress=part(progress, 0.0, 0.1))
    initial = run.start.weights if run.start is not None and not resume else None
    if resume:  # perhaps the folder was moved, and the reference with it
        began = from_dict(checkpoint.load(state)[1]["config"]).data.reference
        config = replace(config, data=replace(config.data, reference=began))
    told = part(progress, 0.1, 1.0)
    fit(config, data, run.output, device=run.device, resume=resume, initial=initial, progress=told, team=run.team)


def _make_atlas(run: Run, progress: Progress) -> None:
    """The average of training scans with their labels, or with those that the only labelled one lends the others.

    Where none is labelled, the atlas that the start has.
    """
    if not run.labelled and run.start is not None:
        _keep_atlas(run)
    elif not run.labelled:
        LOG.warning("no scan is labelled: the model registers, and labels with an atlas that is given to it")
    if not run.labelled or (run.output / ATLAS / FILES[2]).exists():
        _check_names(run)
        return
    most = run.plan.atlas_subjects
    labelled = _spread(run.labelled, most)
    others = _spread([s for s in choose(run.subjects, "train") if s.labels is None], most - len(labelled))
    structures, margin = _for_all(run.structures, labelled), run.plan.atlas_margin_mm or None
    model, refining = run.load(), InstanceOptimization(Refinement().steps)
    how = {"structures": structures, "margin_mm": margin, "progress": _named("atlas", progress)}
    if len(labelled) == 1 and others:
        atlas = atlas_of_one(labelled[0], others, model, optimization=refining, **how)
    else:
        early = refining if run.plan.config.refinement.ends == "early" else None
        atlas = build_atlas([*labelled, *others], model=model, optimization=early, **how)
    for name in OF_THE_ATLAS:  # of an atlas that was deleted to be made anew
        (run.output / name).unlink(missing_ok=True)
    write_atlas_settings(run.output, run.plan)
    save_atlas(run.output / ATLAS, atlas)


def _check_names(run: Run) -> None:
    """A warning where names are given that an atlas which is there does not have."""
    path = run.output / ATLAS / "labels.csv"
    if run.structures is None or not path.is_file():
        return
    given = {s.value: s.name for s in run.structures}
    if other := [f"{s.value} {s.name}" for s in read_structures(path) if given.get(s.value, s.name) != s.name]:
        LOG.warning(f"the atlas is made and keeps its names ({listed(other)}); change them in {path}")


def _keep_atlas(run: Run) -> None:
    """The start's first atlas, and whether its labels follow the tissue."""
    assert run.start is not None
    own = load_model(run.start.weights.parent)
    if own.atlases and not (run.output / ATLAS / FILES[2]).exists():
        save_atlas(run.output / ATLAS, own.atlases[0])
        write_refinement(run.model, own.refinement)
        write_settings(run.model, own.tissue)


def _for_all(structures: Sequence[Structure] | None, labelled: Sequence[Subject]) -> tuple[Structure, ...] | None:
    """The named structures, and those that have no name by their values."""
    if structures is None:
        return None
    values = (v for s in labelled if s.labels is not None for v in label_values(read_labels(s.labels)))
    return with_unnamed(structures, values)


def _fit_tissue(run: Run, progress: Progress) -> None:
    """refinement.toml and tissue.toml, chosen together on validation scans, or as elsewhere where these are too few.

    An atlas whose labels cannot follow the tissue is not refined either.
    """
    scans = choose(run.subjects, "validation", labelled=True)
    if (run.model / TISSUE).exists() or not run.labelled:
        return
    if len(scans) < MIN_TISSUE_SCANS:
        write_refinement(run.model, Refinement(run.plan.config.refinement.ends == "early"))  # as mice gained by it
        write_settings(run.model, unmeasured_tissue(run.load().atlases[0]))
        return
    model, scans, count = run.load(), _spread(scans, MAX_TISSUE_SCANS), 0

    def tell(_: object) -> None:
        nonlocal count
        count += 1
        progress("tissue" if count <= TRIED else "refinement", min(1.0, count / (2 * TRIED)))

    try:
        registered = register_labelled(model, scans)
        settings, tried = choose_tissue(registered, tell=tell)
        refinement, refined_settings = _refined(registered, reached(settings, tried), tell)
    except InputError as error:
        LOG.warning(f"labels will not follow a scan's tissue: {error.problem}")
        write_settings(run.model, OFF)
        return
    write_refinement(run.model, refinement)
    write_settings(run.model, refined_settings if refinement.on else settings)


def _refined(
    registered: Registered, without: float, tell: Callable[[Tried], None]
) -> tuple[Refinement, TissueSettings]:
    """What refinement does to the labels that reach a Dice of ``without``, and the tissue's settings with it."""
    settings, tried = choose_tissue(registered.refined(InstanceOptimization(Refinement().steps)), tell=tell)
    gain = reached(settings, tried) - without
    return Refinement(gain >= MIN_REFINEMENT_GAIN, gain=gain), settings


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
    try:
        quality = fit_quality(model.atlases[0].name, observations)
    except InputError as error:
        LOG.warning(f"the model gives no quality score: {error.problem}")
        return
    write_quality(run.output / QUALITY, quality)


def _measure(run: Run, split: str, progress: Progress) -> None:
    """The evaluation of a held-out split, where it has labels."""
    if (run.output / split / SUMMARY).exists() or not run.labelled or not choose(run.subjects, split, labelled=True):
        return
    evaluate(run.load(), run.subjects, split=split, progress=_named(split, progress)).save(run.output / split)


def _draw(run: Run, progress: Progress) -> None:
    """The page, last."""
    if (run.output / PAGE).exists():
        return
    start = run.start
    write_page(
        run.output / PAGE,
        run.load(),
        run.subjects,
        reference=run.output / REFERENCE,
        plan=read_text(run.output / PLAN, "a plan"),
        left_out=run.plan.left_out or {},
        start=f"{start.name}: {starting.kept(start, labelled=bool(run.labelled))}" if start is not None else "",
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
