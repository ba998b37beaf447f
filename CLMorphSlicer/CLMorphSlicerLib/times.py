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
# Steps of the engine's report. "refinement" goes by its steps too; "labels" that follow the tissue are made once.
FOR_EACH_ATLAS = ("network", "labels")


@dataclass(frozen=True)
class Cost:
    """What decides how long a run takes, beside the image.

    atlases: 0 for the first one alone; tissue: whether the labels are to follow the image's tissue; both_sides: whether
    the organ is looked for on both sides of a whole; frames: how many follow one, 0 for none.
    """

    task: str
    model: str
    device: str
    steps: int
    atlases: int
    tissue: bool = False
    both_sides: bool = False
    frames: int = 0

    @property
    def key(self) -> str:
        """What runs that can be compared are kept under."""
        model = self.model.replace("/", "_").replace("\\", "_")  # QSettings would make groups of them
        ending = ("|sides" if self.both_sides else "") + (f"|{self.frames} frames" if self.frames else "")
        return f"{PREFIX}runs/{self.task}|{model}|{self.device}{ending}"

    @property
    def choices(self) -> tuple[int, int, bool]:
        """What runs of the same kind share."""
        return self.steps, self.atlases, self.tissue


@dataclass(frozen=True)
class Taken:
    """A run, in seconds: in all, in what is done once for each atlas, in the optimisation, and in labels by tissue.

    The latter are None where the labels were not to follow the tissue.
    """

    steps: int
    atlases: int
    seconds: float
    for_atlases: float = 0.0
    optimisation: float = 0.0
    tissue: float | None = None

    @property
    def registrations(self) -> int:
        return max(self.atlases, 1)

    @property
    def choices(self) -> tuple[int, int, bool]:
        return self.steps, self.atlases, self.tissue is not None


def taken(cost: Cost, seconds: float, reports: Sequence[dict]) -> Taken:
    """A run as it is kept: the mean of its reports, one for each image."""
    steps = [report.get("duration_s") or {} for report in reports] or [{}]
    once = "labels" if cost.tissue else ""  # of the steps that are done for each atlas otherwise
    for_atlases = mean(sum(each.get(name, 0.0) for name in FOR_EACH_ATLAS if name != once) for each in steps)
    optimisation = mean(each.get("refinement", 0.0) for each in steps)
    tissue = round(mean(each.get(once, 0.0) for each in steps), 1) if cost.tissue else None
    return Taken(cost.steps, cost.atlases, round(seconds, 1), round(for_atlases, 1), round(optimisation, 1), tissue)


def add(cost: Cost, run: Taken) -> None:
    """Keep how long a run took."""
    runs = [*_runs(cost), run]
    same = [each for each in runs if each.choices == run.choices]
    runs = [each for each in runs if each not in same[:-KEPT_EACH]][-MAX_KEPT:]
    slicer.app.userSettings().setValue(cost.key, json.dumps([astuple(each) for each in runs]))


def estimate(cost: Cost, runs: Sequence[Taken]) -> float | None:
    """once + for each atlas · atlases + for each step · steps · atlases + for the tissue, s, by other runs.

    None where they do not tell it: there is none, or an optimisation or labels that follow the tissue are asked for and
    none of them had that.
    """
    optimised = [run for run in runs if run.steps and run.optimisation > 0.0]
    followed = [run.tissue for run in runs if run.tissue is not None]
    if not runs or (cost.steps and not optimised) or (cost.tissue and not followed):
        return None
    wanted = max(cost.atlases, 1)
    rate = median(run.optimisation / (run.steps * run.registrations) for run in optimised) if cost.steps else 0.0
    without = [
        run.seconds - run.for_atlases - run.optimisation - (run.tissue or 0.0)
        + run.for_atlases / run.registrations * wanted
        for run in runs
    ]  # fmt: skip
    return median(without) + rate * cost.steps * wanted + (median(followed) if cost.tissue else 0.0)


def told(cost: Cost) -> str:
    """How long such a run takes on this computer, by the last ones; a guess, or that there was none yet."""
    runs = _runs(cost)
    same = [run.seconds for run in runs if run.choices == cost.choices]
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
        return [_read(*each) for each in kept]
    except (ValueError, TypeError):
        return []


def _read(steps: int, atlases: int, seconds: float, for_atlases=0.0, optimisation=0.0, tissue=None) -> Taken:
    """A run as it was kept; versions before labels could follow the tissue kept no seconds of that."""
    parts = (float(seconds), float(for_atlases), float(optimisation))
    return Taken(int(steps), int(atlases), *parts, None if tissue is None else float(tissue))
