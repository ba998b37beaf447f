"""How long runs took on this computer, and what is to be expected of one with other choices of the same model."""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from statistics import mean, median

import slicer

from .settings import PREFIX
from .words import _

KEPT_EACH = 5  # runs of the same choices
MAX_KEPT = 50
FOR_EACH_ATLAS = ("network", "labels")  # steps of the engine's report; "refinement" goes by its steps too


@dataclass(frozen=True)
class Cost:
    """What decides how long a run takes, beside the image; atlases: 0 for the first one alone."""

    task: str
    model: str
    device: str
    steps: int
    atlases: int

    @property
    def key(self) -> str:
        """What runs that can be compared are kept under."""
        model = self.model.replace("/", "_").replace("\\", "_")  # QSettings would make groups of them
        return f"{PREFIX}runs/{self.task}|{model}|{self.device}"


@dataclass(frozen=True)
class Taken:
    """A run, in seconds: in all, in what is done once for each atlas, and in the optimisation."""

    steps: int
    atlases: int
    seconds: float
    for_atlases: float = 0.0
    optimisation: float = 0.0

    @property
    def registrations(self) -> int:
        return max(self.atlases, 1)


def taken(cost: Cost, seconds: float, reports: Sequence[dict]) -> Taken:
    """A run as it is kept: the mean of its reports, one for each image."""
    steps = [report.get("duration_s") or {} for report in reports] or [{}]
    for_atlases = mean(sum(each.get(name, 0.0) for name in FOR_EACH_ATLAS) for each in steps)
    optimisation = mean(each.get("refinement", 0.0) for each in steps)
    return Taken(cost.steps, cost.atlases, *(round(part, 1) for part in (seconds, for_atlases, optimisation)))


def add(cost: Cost, run: Taken) -> None:
    """Keep how long a run took."""
    runs = [*_runs(cost), run]
    same = [each for each in runs if (each.steps, each.atlases) == (run.steps, run.atlases)]
    runs = [each for each in runs if each not in same[:-KEPT_EACH]][-MAX_KEPT:]
    slicer.app.userSettings().setValue(cost.key, json.dumps([astuple(each) for each in runs]))


def estimate(cost: Cost, runs: Sequence[Taken]) -> float | None:
    """once + for each atlas · atlases + for each step · steps · atlases, s, by runs with other choices.

    None where they do not tell it: there is none, or an optimisation is asked for and none of them had one.
    """
    optimised = [run for run in runs if run.steps and run.optimisation > 0.0]
    if not runs or (cost.steps and not optimised):
        return None
    wanted = max(cost.atlases, 1)
    rate = median(run.optimisation / (run.steps * run.registrations) for run in optimised) if cost.steps else 0.0
    without = [
        run.seconds - run.for_atlases - run.optimisation + run.for_atlases / run.registrations * wanted for run in runs
    ]
    return median(without) + rate * cost.steps * wanted


def told(cost: Cost) -> str:
    """How long such a run takes on this computer, by the last ones; a guess, or that there was none yet."""
    runs = _runs(cost)
    same = [run.seconds for run in runs if (run.steps, run.atlases) == (cost.steps, cost.atlases)]
    if same:
        return _("about {time} on this computer, by earlier runs").format(time=_duration(median(same)))
    guess = estimate(cost, runs)
    if guess is None:
        return _("not run on this computer yet")
    return _("roughly {time}, by runs with other choices").format(time=_duration(max(5.0 * round(guess / 5.0), 5.0)))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return _("{seconds:.0f} s").format(seconds=seconds)
    return _("{minutes:.0f} min").format(minutes=seconds / 60)


def _runs(cost: Cost) -> list[Taken]:
    try:
        kept = json.loads(slicer.app.userSettings().value(cost.key) or "[]")
        return [Taken(int(steps), int(atlases), *map(float, parts)) for steps, atlases, *parts in kept]
    except (ValueError, TypeError):
        return []
