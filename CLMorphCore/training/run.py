"""The folder of a training from scans: what it is begun with, written down, and gone on with by the next call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..bundles.atlas import Structure
from ..bundles.config import Config
from ..bundles.model import Model, load_model
from ..errors import InputError, OutputError
from ..io.layouts import Collection
from ..io.manifest import Subject, choose, read_manifest, write_manifest
from ..progress import Progress, part, silent
from . import starting
from .alignments import choose_alignment
from .digests import DIGESTS, check_digests, write_digests
from .fingerprint import Finding, Fingerprint, duplicates, take_fingerprint
from .measuring import StepCost, measure_step
from .plan import Plan, read_plan, starting_from, write_plan
from .planning import check_enough, make_plan
from .processes import ALONE, Team
from .splits import check_same, make_splits
from .starting import Start, read_start

PLAN, SCANS = "plan.toml", "scans.csv"

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
    kept = [scan for scan in fingerprint.kept if scan.subject.split != "test"]
    alignment = choose_alignment(kept, part(progress, 0.7, 0.95))
    progress("measuring a step", 0.95)

    def cost(config: Config) -> StepCost:
        return measure_step(config, device)

    plan = make_plan(fingerprint, alignment, cost, minutes=minutes, name=name, start=start, processes=processes)
    return plan, fingerprint


def check_begun(output: Path, begun: bool, results: Iterable[str]) -> None:
    """OutputError where a training lies in the folder, and not the plan and the scans that it was made by."""
    there = next((name for name in results if name not in (PLAN, SCANS, DIGESTS) and (output / name).exists()), None)
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
    subjects = make_splits(kept)
    for finding in _across_splits(subjects, fingerprint):
        tell(finding)
    if start is not None:
        what = starting.kept(start, labelled=any(s.labels is not None for s in subjects))
        plan = plan if plan.start else starting_from(plan, start.given, f"{start.name}: {what}")
        tell(Finding(start.name, what))
    write_plan(output / PLAN, plan)  # first: it certifies the folder
    write_digests(output / DIGESTS, fingerprint.scans)
    write_manifest(output / SCANS, subjects)
    return Run(output, plan, tuple(subjects), None, device, start, team)


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
            f"{output} holds a training of other scans (the data lack {', '.join(other[:3])}); expected those it began "
            "with, or another folder"
        )
    check_same(subjects, collection.subjects, own.left_out or {}, output)
    check_digests(output / DIGESTS, subjects)
    if plan is not None and plan.config != own.config:
        raise InputError(f"{output} holds a training by another plan, its {PLAN}; expected that, or another folder")
    start = read_start(own.start) if own.start else None
    given = read_start(initial).given if initial is not None else plan.start if plan is not None else ""
    if given and given != own.start:
        raise InputError(
            f"{output} holds a training from {start.name if start else 'fresh weights'}, not from {given}; expected "
            "the same start, or another folder"
        )
    team.check_batch(own.config.training.batch_size)
    return Run(output, own, tuple(subjects), None, device, start, team)
