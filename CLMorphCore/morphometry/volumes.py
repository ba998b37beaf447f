"""How much larger a scan is than the atlas, at each point of the atlas: log-Jacobians of results of clmorph segment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import FileError
from ..geometry import Grid, chain, displacement_field, field_voxels, linear_parts, placed, resample
from ..io.transforms import read_result
from ..reports.report import Report
from ..spatial import jacobian_determinant

MIN_RATIO = 0.01  # of volumes; what folds, or nearly does, counts as so much
FWHM_OF_SIGMA = 2 * math.sqrt(2 * math.log(2))
RECORD, INVERSE = "report.json", "inverse.h5"
KINDS = ("transform", "inverse")
ONE, SIDES = ("",), ("left", "right")  # of an organ that a scan has once, and of both sides, each with its own map
EXPECTED = f"a folder of clmorph segment with {RECORD} and {INVERSE}"


@dataclass(frozen=True)
class Scan:
    """What a folder of results tells without its maps, of which many would need much memory.

    ``sides`` are ONE or SIDES; the report has the structures of one side after those of the other.
    """

    folder: Path
    report: Report
    sides: tuple[str, ...] = ONE

    def volumes_ml(self, *affine_ratios: float) -> dict[int, float]:
        """The structures' volumes; with the ratio of each side's ``Inverse`` as if it were of the atlas' size."""
        structures, ratios = self.report.structures, affine_ratios or (1.0,) * len(self.sides)
        each = max(1, len(structures) // len(self.sides))
        return {s.value: s.volume_ml / ratios[min(n // each, len(ratios) - 1)] for n, s in enumerate(structures)}


@dataclass(frozen=True)
class Inverse:
    """Atlas → scan (LPS, mm), and how many times larger than the atlas the scan is by the affine part alone."""

    transform: sitk.Transform
    affine_ratio: float


def read_scan(folder: Path) -> Scan:
    """The report of a scan; FileError where a file of its results is missing or damaged."""
    if not folder.is_dir():
        raise FileError(f"{folder} is no folder; expected {EXPECTED}")
    sides = SIDES if any((folder / f"{side}_{kind}.h5").exists() for side in SIDES for kind in KINDS) else ONE
    for name in (RECORD, *map(inverse_name, sides)):
        if not (folder / name).exists():
            raise FileError(f"{folder} lacks {name}; expected {EXPECTED}", "segment the scan again")
    return Scan(folder, Report.read(folder / RECORD), sides)


def inverse_name(side: str = "") -> str:
    """The file with the map atlas → scan, of a side where there are two."""
    return f"{side}_{INVERSE}" if side else INVERSE


def read_inverse(scan: Scan, side: str = "") -> Inverse:
    """The map of a scan, or of one of its sides; FileError where it is damaged."""
    transform = read_result(scan.folder / inverse_name(side), RECORD)
    linear = [part for part in _parts(transform) if part.IsLinear()]
    return Inverse(transform, math.prod(abs(float(np.linalg.det(linear_parts(part)[0]))) for part in linear))


def _parts(transform: sitk.Transform) -> list[sitk.Transform]:
    whole = chain(transform)
    return [whole.GetNthTransform(n) for n in range(whole.GetNumberOfTransforms())]


def log_jacobian(transform: sitk.Transform, grid: Grid) -> np.ndarray:
    """ln |det ∂T⁻¹/∂p| on a grid of the atlas, T⁻¹ atlas → scan: (D, H, W), above 0 where the scan is larger.

    A scan that is the atlas magnified s times has 3 ln s everywhere. What folds counts as ``MIN_RATIO``.
    """
    field = displacement_field(transform, grid)
    with torch.inference_mode():
        ratio = jacobian_determinant(field_voxels(field))[0, 0].numpy()
    if np.median(ratio) < 0:  # the affine mirrors
        ratio = -ratio
    return np.log(np.maximum(ratio, MIN_RATIO))


def volume_map(inverse: Inverse, grid: Grid, working: Grid, fwhm_mm: float, *, relative: bool) -> np.ndarray:
    """The log-Jacobian of a scan, smoothed by a Gaussian, on a working grid: (D, H, W) float32.

    ``relative`` leaves out the affine part: what is larger than elsewhere in that scan.
    """
    values = log_jacobian(inverse.transform, grid)
    if relative:
        values = values - math.log(inverse.affine_ratio)
    image = placed(values.astype(np.float32), grid)
    if fwhm_mm > 0:
        image = sitk.SmoothingRecursiveGaussian(image, [fwhm_mm / FWHM_OF_SIGMA] * 3)
    return sitk.GetArrayFromImage(resample(image, working))


def working_grid(grid: Grid, fwhm_mm: float) -> Grid:
    """A grid over the same extent with voxels of half the smoothing's width: no coarser, as nothing finer is left."""
    shape = [
        max(2, math.ceil((n - 1) * mm / max(mm, fwhm_mm / 2)) + 1)
        for n, mm in zip(grid.shape, grid.voxel_mm, strict=True)
    ]
    return grid.with_shape(shape)
