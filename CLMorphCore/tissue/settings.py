"""Whether a model's labels follow the scan's tissue, and how: chosen on its validation scans, kept in tissue.toml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..atomic import atomic_write
from ..errors import FileError
from ..io.files import read_toml, short

NAME = "tissue.toml"
MAX_SMOOTHING_MM, MAX_FACTOR = 100.0, 2.0


@dataclass(frozen=True)
class TissueSettings:
    """How the atlas' shares and the scan's intensities are weighed.

    on            whether ``tissue="auto"`` takes the tissue model
    smoothing_mm  standard deviation of a Gaussian over the shares: how far borders may be wrong
    exponent      T, of the intensities' likelihood: neighbouring voxels do not speak independently
    background    factor of the background's score. Below 1 a voxel is a structure's where that is a little less likely
                  than not, as Dice asks for: the best threshold is half the Dice that is reached (Lipton, Elkan and
                  Naryanaswamy, ECML 2014)
    dark_background  factor, beside that, of the darkest of the background's tissues and of padding: below 1 where
                  structures reach farther into what is dark around them, as cortex does into fluid, than into what is
                  bright
    """

    on: bool = False
    smoothing_mm: float = 0.8
    exponent: float = 0.35
    background: float = 1.0
    dark_background: float = 1.0


OFF = TissueSettings()


def read_settings(folder: Path | None) -> TissueSettings:
    """The settings in a model's folder; the defaults, which are off, where there are none."""
    path = folder / NAME if folder is not None else None
    if path is None or not path.exists():
        return OFF
    tree = read_toml(path, "TOML with on, smoothing_mm and exponent", kind="settings of the tissue model")
    on = tree.get("on")
    smoothing, exponent = _within(tree.get("smoothing_mm"), MAX_SMOOTHING_MM), _within(tree.get("exponent"), 1.0)
    background, dark = (_within(tree.get(name, 1.0), MAX_FACTOR) for name in ("background", "dark_background"))
    if not isinstance(on, bool) or smoothing is None or exponent is None or not background or not dark:
        raise FileError(
            f"{path} gives {short(tree)}; expected on = true or false, smoothing_mm from 0 to {MAX_SMOOTHING_MM:g}, "
            f"exponent from 0 to 1, background and dark_background above 0 and up to {MAX_FACTOR:g}; make it again "
            "with python -m Training.tissue"
        )
    return TissueSettings(on, smoothing, exponent, background, dark)


def _within(value: object, most: float) -> float | None:
    """The number from 0 to ``most``; None for anything else."""
    return float(value) if isinstance(value, int | float) and value is not True and 0 <= value <= most else None


def write_settings(folder: Path, settings: TissueSettings) -> None:
    """tissue.toml, as ``read_settings`` reads it."""
    lines = (
        "# Labels that follow the scan's tissue, chosen on validation: python -m Training.tissue",
        f"on = {str(settings.on).lower()}",
        f"smoothing_mm = {settings.smoothing_mm:g}",
        f"exponent = {settings.exponent:g}",
        f"background = {settings.background:g}",
        f"dark_background = {settings.dark_background:g}",
    )
    with atomic_write(folder / NAME) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
