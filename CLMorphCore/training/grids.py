"""The network's grid over a usual scan: as fine as the scans or coarser, its levels, and crops of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..networks import build
from ..networks.halvings import Halvings
from . import starting
from .measuring import StepCost
from .scans import Scan
from .starting import MIN_COARSEST, Start

LEVELS, MIN_LEVELS = 5, 3  # of the pyramid, fewer where its coarsest one would have no MIN_COARSEST voxels
STACK = 2.5  # slices this many times as far apart as voxels are wide: a stack, not a volume
CUT_OFF = 0.9  # share of its box that a scan's foreground fills where the body goes on beyond the field of view
MARGIN_VOXELS = 3
MAX_MEMORY_SHARE = 0.6
MIN_CROP, MIN_SIDE = 0.5, 48  # of a side of the grid; voxels: crops so small still taught brains well, .59 at 1.5 mm


@dataclass(frozen=True)
class NetworkGrid:
    """The network's grid over a usual scan, (z, y, x), with the levels of the network that it has room for."""

    spacing_mm: tuple[float, float, float]
    margin_voxels: tuple[int, int, int]
    shape: tuple[int, int, int]
    divisor: tuple[int, int, int]  # what the sides are multiples of
    levels: int
    flat_levels: int

    @property
    def voxels(self) -> int:
        """Of the whole grid."""
        return math.prod(self.shape)


def grid_over_scans(scans: Sequence[Scan], factor: float) -> NetworkGrid:
    """The grid whose voxels are ``factor`` times as long as the scans' shortest, or as these where they are longer."""
    voxels = np.array([scan.voxel_mm for scan in scans])
    own = np.median(voxels, axis=0)
    thick = own > STACK * own.min()
    own = np.where(thick, voxels.min(axis=0), own)  # of slices none is to be lost where they are nearest together
    spacing = np.array([float(f"{length:.3g}") for length in np.maximum(own, factor * own.min())])
    is_stack = thick.any() and np.median([scan.filled for scan in scans]) > CUT_OFF
    margin = np.where(thick, 1, 0 if is_stack else MARGIN_VOXELS)
    in_plane = spacing[1:].max()
    flat = max(0, round(math.log2(spacing[0] / in_plane))) if spacing[0] > STACK * in_plane else 0
    needed = np.ceil(np.median([scan.extent_mm for scan in scans], axis=0) / spacing - 1e-6) + 2 * margin
    levels = LEVELS
    while levels > MIN_LEVELS and (_sides(needed, levels, flat) // Halvings(levels, flat).divisor).min() < MIN_COARSEST:
        levels -= 1
    shape = _sides(needed, levels, flat)
    flat = min(flat, levels - 1)
    return NetworkGrid(three(spacing), three(margin), three(shape), Halvings(levels, flat).divisor, levels, flat)


def grid_of_start(start: Start, scans: Sequence[Scan]) -> NetworkGrid:
    """The start's grid over a usual scan; InputError where that is too small for its network."""
    data, network = start.config.data, start.config.network
    built = build(network.name, network.settings)
    own = np.median([scan.voxel_mm for scan in scans], axis=0)
    spacing = np.where(np.array(data.spacing_mm) > 0, data.spacing_mm, own)
    needed = np.ceil(np.median([scan.extent_mm for scan in scans], axis=0) / spacing - 1e-6)
    divisor = np.array(built.divisor)
    shape = (np.ceil((needed + 2 * np.array(data.margin_voxels)) / divisor) * divisor).astype(int)
    starting.check_grid(start, three(shape), built.divisor)
    flat = getattr(network.settings, "flat_levels", 0)
    return NetworkGrid(three(spacing), data.margin_voxels, three(shape), built.divisor, 0, flat)


def _sides(needed: np.ndarray, levels: int, flat_levels: int) -> np.ndarray:
    """The sides of the smallest grid with as many voxels as are needed, or more, that a network of the levels takes."""
    divisor = np.array(Halvings(levels, flat_levels).divisor)
    return (np.ceil(needed / divisor) * divisor).astype(int)


def crop_in_memory(grid: NetworkGrid, pairs: int, cost: StepCost) -> tuple[int, int, int]:
    """The whole grid, or its longest sides shortened until a batch fits into the memory."""
    crop = np.array(grid.shape)
    while cost.gigabytes(pairs * int(crop.prod())) > MAX_MEMORY_SHARE * cost.memory_gb:
        longest = int(np.argmax(crop / grid.divisor))
        if crop[longest] <= grid.divisor[longest]:
            break
        crop[longest] -= grid.divisor[longest]
    return three(crop)


def shortened(grid: NetworkGrid, crop: tuple[int, int, int], voxels: float) -> tuple[int, int, int]:
    """The crop with its longest sides shortened to so many voxels, none below MIN_CROP of the grid's or MIN_SIDE."""
    sides, unit = np.array(crop), np.array(grid.divisor)
    while sides.prod() > voxels:
        able = sides - unit >= np.maximum(MIN_CROP * np.array(grid.shape), MIN_SIDE)
        if not able.any():
            break
        longest = int(np.argmax(np.where(able, sides / unit, 0)))
        sides[longest] -= unit[longest]
    return three(sides)


def three(array: np.ndarray) -> tuple[Any, Any, Any]:
    """The three numbers of an array."""
    x, y, z = array.tolist()
    return x, y, z
