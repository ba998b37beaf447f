"""Whether a model's answers are refined unasked: chosen on its validation scans, kept in refinement.toml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..atomic import atomic_write
from ..errors import FileError
from ..instance_optimization import InstanceOptimization
from ..io.files import read_toml, short

NAME = "refinement.toml"
MAX_STEPS = 1000


@dataclass(frozen=True)
class Refinement:
    """What refinement did to a model's labels of validation scans.

    on     whether a segmentation that asks for nothing is refined
    steps  that were tried, at each resolution at most
    gain   mean Dice with them, less that without; None where it was not measured
    """

    on: bool = False
    steps: int = 50
    gain: float | None = None

    @property
    def unasked(self) -> InstanceOptimization | None:
        """The optimization of a segmentation that asks for nothing, or None."""
        return InstanceOptimization(self.steps) if self.on else None


UNKNOWN = Refinement()


def read_refinement(folder: Path) -> Refinement:
    """What is in a model's folder; off and not measured where there is nothing. FileError for anything else."""
    path = folder / NAME
    if not path.exists():
        return UNKNOWN
    tree = read_toml(path, "TOML with on, steps and gain", kind="what refinement does")
    on, steps, gain = tree.get("on"), tree.get("steps"), tree.get("gain")
    steps = steps if isinstance(steps, int) and steps is not True and 1 <= steps <= MAX_STEPS else None
    measured = gain is None or (isinstance(gain, float) and abs(gain) <= 1)
    if not isinstance(on, bool) or steps is None or not measured:
        raise FileError(
            f"{path} gives {short(tree)}; expected on = true or false, steps from 1 to {MAX_STEPS} and gain, if any, "
            "from -1.0 to 1.0; delete it, and nothing is refined unasked"
        )
    return Refinement(on, steps, gain)


def write_refinement(folder: Path, refinement: Refinement) -> None:
    """refinement.toml, as ``read_refinement`` reads it; nothing where that is the default."""
    if refinement == UNKNOWN:
        return
    gain = "# gain was not measured" if refinement.gain is None else f"gain = {refinement.gain:.4f}"
    lines = (
        "# Whether segment refines unasked, and the mean Dice that it adds on validation scans",
        f"on = {str(refinement.on).lower()}",
        f"steps = {refinement.steps}",
        gain,
    )
    with atomic_write(folder / NAME) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
