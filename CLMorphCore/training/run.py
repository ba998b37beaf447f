"""The folder of a training from scans: what it is begun with, written down, and gone on with by the next call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ..bundles import checkpoint
from ..bundles.atlas import FILES, Structure, same_names
from ..bundles.config import Config, from_dict
from ..bundles.model import Model, load_model
from ..errors import InputError, OutputError, SettingError, counted, listed
from ..io.images import read_labels
from ..io.layouts import Collection
from ..io.manifest import Subject, choose, read_manifest, write_manifest
from ..network_input import MAX_GRID_VOXELS
from ..progress import Progress, part, silent
from . import starting
from .alignments import choose_alignment
from .digests import DIGESTS, check_digests, write_digests
from .fingerprint import Fingerprint, duplicates, take_fingerprint
from .labels import of_labels
from .measuring import StepCost, measure_step
from .plan import Plan, changed_since, differing, read_plan, starting_from, write_plan
from .planning import MIN_SCANS, Structures, check_enough, make_plan
from .processes import ALONE, Team
from .scans import Finding, Scan, kept_on_grid
from .splits import check_same, make_splits
from .stages import BEGINNING, check_atlas, check_beginning, settings_at_beginning, write_beginning
from .starting import Start, read_start

PLAN, SCANS, CARD, WEIGHTS = "plan.toml", "scans.csv", "model/card.toml", "model/weights.safetensors"
ATLAS = "model/atlases/average"
MEASURED = 3  # labelled scans, of which it is measured what coarser grids leave
MIN_SIDE = 4  # voxels of the foreground, with fewer of which no network has two levels

Tell = Callable[[Finding], None]


@dataclass(frozen=True)
class Run:
    """A folder with a plan and its scans, in their splits; and the model that the training starts from, if any.

    ``name`` is what the scans are called.
    """

    output: Path
    plan: Plan
    subjects: tuple[Subject, ...]
    structures: tuple[Structure, ...] | None
    device: torch.device
    start: Start | None = None
    team: Team = ALONE
    name: str = ""

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
    start: Start | None = None,
    processes: int = 1,
    tell: Tell = lambda finding: None,
    progress: Progress = silent,
) -> tuple[Plan, Fingerprint]:
    """Looks at every scan, tells what is wrong with any, and chooses. InputError where too few are left.

    ``start`` is the model that the training is to start from, ``processes`` how many will share each batch.
    """
    fingerprint = take_fingerprint(collection.subjects, part(progress, 0.0, 0.7))
    for finding in fingerprint.findings:
        tell(finding)
    check_enough(fingerprint)
    _tell_unlike(start, fingerprint.kept, tell)
    _tell_labelled(make_splits([scan.subject for scan in fingerprint.kept]), start, tell)
    kept = [scan for scan in fingerprint.kept if scan.subject.split != "test"]
    alignment = choose_alignment(kept, part(progress, 0.7, 0.95))
    progress("measuring a step", 0.95)

    def cost(config: Config) -> StepCost:
        return measure_step(config, device)

    how = {"minutes": minutes, "name": name, "start": start, "processes": processes}
    plan = make_plan(
        *(fingerprint, alignment, cost, _structures(kept)), **how, tell=lambda text: tell(Finding("", text))
    )
    return plan, fingerprint


def _structures(scans: Sequence[Scan]) -> Structures:
    """What coarser grids leave of the labels: the mean of a few scans, in the order of their names."""
    labelled = sorted((s.subject for s in scans if s.values is not None), key=lambda subject: subject.name)[:MEASURED]
    read = cache(lambda: [read_labels(subject.labels) for subject in labelled if subject.labels is not None])
    return cache(lambda factor: float(np.mean([kept_on_grid(each, factor) for each in read()])) if labelled else 1.0)


def check_begun(output: Path, begun: bool, results: Iterable[str]) -> None:
    """OutputError where a training lies in the folder, and not the plan and the scans that it was made by."""
    made = (name for name in results if name not in (PLAN, SCANS, DIGESTS, BEGINNING))
    there = next((name for name in made if (output / name).exists()), None)
    if there is not None and not begun:
        raise OutputError(
            f"{output / there} is there already, without {PLAN} and {SCANS} of its training; expected both to go on "
            "with, or a folder without it",
            "choose another output folder",
        )


def begin(
    collection: Collection,
    output: Path,
    plan: Plan | None,
    *,
    minutes: float,
    device: torch.device,
    name: str,
    initial: str | Path | None,
    structures: Sequence[Structure] | None,
    tell: Tell,
    look: Progress,
    team: Team = ALONE,
) -> Run:
    """The plan and the scans with their splits, written down; what is kept of a start is told."""
    start = _start_of(plan, initial)
    if plan is None:
        how = {"minutes": minutes, "device": device, "name": name, "start": start, "processes": team.count}
        plan, fingerprint = plan_scans(collection, **how, tell=tell, progress=look)
        kept = [scan.subject for scan in fingerprint.kept]
    else:
        team.check_batch(plan.config.training.batch_size)
        fingerprint = take_fingerprint(collection.subjects, look)
        kept = _as_planned(plan, fingerprint, collection, tell)
        scans = [scan for scan in fingerprint.scans if scan.subject in kept]
        _check_planned(plan, scans)
        _tell_unlike(start, scans, tell)
        _tell_labelled(make_splits(kept), start, tell)
    subjects = make_splits(kept)
    _check_pair(subjects)
    _tell_unnamed(structures, [scan for scan in fingerprint.scans if scan.subject in kept], tell)
    for finding in _across_splits(subjects, fingerprint):
        tell(finding)
    if start is not None:
        what = starting.kept(start, labelled=any(s.labels is not None for s in subjects))
        plan = plan if plan.start else starting_from(plan, start.given, f"{start.name}: {what}")
        tell(Finding(start.name, what))
    write_plan(output / PLAN, plan)  # first: it certifies the folder
    write_beginning(output, plan, subjects)
    write_digests(output / DIGESTS, fingerprint.scans)
    write_manifest(output / SCANS, subjects)
    return Run(output, plan, tuple(subjects), None, device, start, team)


def _check_planned(plan: Plan, scans: Sequence[Scan]) -> None:
    """InputError where the grid of a plan has no use for these scans."""
    given = np.array(plan.config.data.spacing_mm)
    own, extent = (np.median([getattr(s, key) for s in scans], axis=0) for key in ("voxel_mm", "extent_mm"))
    sides = extent / np.where(given > 0, given, own)
    too_coarse = (sides < MIN_SIDE) & (given > own)
    if too_coarse.any() or sides.prod() > MAX_GRID_VOXELS:
        spacing, size, few = (" × ".join(f"{n:.3g}" for n in each[::-1]) for each in (given, extent, np.ceil(sides)))
        raise SettingError(
            f"data.spacing_mm is {spacing} mm in the plan, by which the scans' foreground, {size} mm, has {few} "
            f"voxels; expected {MIN_SIDE} or more along each side, {MAX_GRID_VOXELS:.2g} in all"
        )


def _tell_unlike(start: Start | None, scans: Sequence[Scan], tell: Tell) -> None:
    """That the scans are of another size than those of the model that is started from."""
    what = starting.unlike(start, scans) if start is not None else ""
    if start is not None and what:
        tell(Finding(start.name, what))


def _check_pair(subjects: Sequence[Subject]) -> None:
    """InputError where too few scans are for training, before anything is written."""
    counts = Counter(s.split for s in subjects)
    if counts["train"] < MIN_SCANS:
        others = ", ".join(f"{n} for {split}" for split, n in counts.items() if split != "train")
        raise InputError(
            f"{counts['train']} of {len(subjects)} scans are for training{f', {others}' if others else ''}; expected "
            f"at least {MIN_SCANS}, to make a pair",
            "leave out or hold out fewer, or add scans",
        )


def _tell_labelled(subjects: Sequence[Subject], start: Start | None, tell: Tell) -> None:
    """That there will be no atlas, where no training scan is labelled; that nothing will be measured, where labels are.

    ``subjects`` are in their splits.
    """
    labelled = [s for s in subjects if s.labels is not None]
    if start is None and not any(s.split == "train" for s in labelled):
        which = "no scan for training" if labelled else "no scan"
        tell(Finding("", f"{which} is labelled: the model registers, and labels with an atlas that is given to it"))
    if labelled and not any(s.split in ("test", "validation") for s in labelled):
        groups = len({s.group for s in labelled if s.group})
        of = f" of {groups} persons, as their folders say" if groups else ""
        scans = counted(len(labelled), "labelled scan")
        what = f"{scans}{of}: none is held out, and how good the model is stays unknown"
        tell(Finding("", what))


def _tell_unnamed(structures: Sequence[Structure] | None, scans: Sequence[Scan], tell: Tell) -> None:
    """Equal names of a table, the labels of the scans that it lacks, and those of its own that no scan has."""
    values = {value for scan in scans for value in scan.values or ()}
    if structures is None or not values:
        return
    for text in same_names(structures):
        tell(Finding("", text))
    named = {s.value for s in structures}
    if lacking := sorted(values - named):
        tell(Finding("", f"no name is given for {of_labels(lacking)}, whose values stand in for one"))
    if strange := sorted(named - values - {0}):
        tell(Finding("", f"names are given for {of_labels(strange)}, which no scan has"))


def _across_splits(subjects: Sequence[Subject], fingerprint: Fingerprint) -> list[Finding]:
    """Duplicates that a plan keeps, in the splits that were made."""
    split_of = {s.name: s for s in subjects}
    scans = [replace(s, subject=split_of[s.subject.name]) for s in fingerprint.scans if s.subject.name in split_of]
    return [replace(found, left_out=False) for found in duplicates(scans) if "among splits" in found.text]


def _start_of(plan: Plan | None, initial: str | Path | None) -> Start | None:
    """The model that is started from, as the plan says or the call; InputError where they differ, or do not fit."""
    of_plan = read_start(plan.start) if plan is not None and plan.start else None
    of_call = read_start(initial) if initial is not None else None
    if of_plan is not None and of_call is not None and of_plan.given != of_call.given:
        raise InputError(
            f"`initial={of_call.given}` was given, and the plan starts from {of_plan.given}",
            "change start.model in it, or omit `initial`",
        )
    start = of_plan or of_call
    if start is not None and plan is not None:
        starting.check_plan(start, plan.config)
    return start


def _as_planned(plan: Plan, fingerprint: Fingerprint, collection: Collection, tell: Tell) -> list[Subject]:
    """The scans that a plan does not leave out; what is wrong with them is told, unreadable ones are refused."""
    left_out = plan.left_out or {}
    unknown = sorted(set(left_out) - {s.name for s in collection.subjects})
    if unknown:
        raise InputError(
            f"the plan leaves out {listed(unknown, 5)}, which the data lack; expected the plan of these data"
        )
    for finding in fingerprint.findings:
        if finding.subject not in left_out:
            tell(replace(finding, left_out=False))
    readable = {scan.subject.name: scan.subject for scan in fingerprint.scans}
    wanted = [s.name for s in collection.subjects if s.name not in left_out]
    if gone := [f"{name}: {fingerprint.left_out[name]}" for name in wanted if name not in readable]:
        raise InputError(
            f"the plan uses scans that cannot be used ({listed(gone, 5, between='; ')})", "add them to its leave_out"
        )
    return [readable[name] for name in wanted]


def _check_trained(output: Path, plan: Plan) -> None:
    """InputError where a network was trained to its end by other settings than the plan beside it has now."""
    if not all((output / name).exists() for name in (CARD, WEIGHTS)):
        return
    trained = from_dict(checkpoint.load(output / WEIGHTS)[1]["config"])
    if other := changed_since(plan, trained, settings_at_beginning(output)):
        raise InputError(
            f"{output / PLAN} was changed after the training ended ({listed(other)}); expected it as it was",
            "put it back, or train by it in another folder, with `plan`",
        )


def go_on(
    collection: Collection,
    output: Path,
    plan: Plan | None,
    device: torch.device,
    *,
    initial: str | Path | None,
    team: Team = ALONE,
) -> Run:
    """The run in ``output``; InputError where it is one of other scans, or by another plan."""
    subjects, own = read_manifest(output / SCANS), read_plan(output / PLAN)
    there = {s.image.resolve() for s in collection.subjects}
    if other := [s.name for s in subjects if s.image.resolve() not in there]:
        raise InputError(
            f"{output} holds a training of other scans (the data lack {listed(other)}); expected those it began "
            "with, or another folder"
        )
    check_beginning(output, own, subjects, named=PLAN, splits=SCANS)
    check_same(subjects, collection.subjects, own.left_out or {}, output)
    check_digests(output / DIGESTS, subjects)
    if plan is not None and (other := differing(plan, own)):
        raise InputError(
            f"{output} holds a training by another plan, its {PLAN} ({listed(other)} differ); expected that, or "
            "another folder"
        )
    _check_trained(output, own)
    if (output / ATLAS / FILES[2]).exists():
        check_atlas(output, own, output / ATLAS, named=PLAN)
    start = read_start(own.start) if own.start else None
    given = read_start(initial).given if initial is not None else plan.start if plan is not None else ""
    if given and given != own.start:
        raise InputError(
            f"{output} holds a training from {start.name if start else 'fresh weights'}, not from {given}; expected "
            "the same start, or another folder"
        )
    team.check_batch(own.config.training.batch_size)
    return Run(output, own, tuple(subjects), None, device, start, team)
