"""How a pyramid halves the sides of an image from level to level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Sides = tuple[int, int, int]  # (D, H, W)
TAPER_VOXELS = 4


@dataclass(frozen=True)
class Halvings:
    """Level k has 1/2ᵏ of the image's resolution; thick slices are at first halved in their plane alone.

    levels       resolutions, including the image's own (level 0)
    flat_levels  first halvings that spare the axis D, across slices, until voxels are roughly cubes
    """

    levels: int
    flat_levels: int = 0

    def factor(self, level: int) -> Sides:
        """Voxels of the image along (D, H, W) for each voxel of the level."""
        return 2 ** max(0, level - self.flat_levels), 2**level, 2**level

    @property
    def divisor(self) -> Sides:
        """What the sides (D, H, W) of an image must be multiples of."""
        return self.factor(self.levels - 1)

    @property
    def strides(self) -> tuple[Sides, ...]:
        """Strides (D, H, W) from each level to the next coarser one, finest first: each 1 or 2."""
        factors = [self.factor(level) for level in range(self.levels)]
        return tuple((z // a, y // b, x // c) for (a, b, c), (z, y, x) in pairwise(factors))

    def shape_at(self, shape: Sequence[int], level: int) -> Sides:
        """Sides (D, H, W) of a level, of an image whose sides the level's factor divides."""
        depth, height, width = shape
        z, y, x = self.factor(level)
        return depth // z, height // y, width // x

    def taper_width(self, level: int = 0) -> Sides:
        """Width (D, H, W) of the margin in which ``spatial.taper`` fades a field of the level out, in its voxels.

        The same length at every level, TAPER_VOXELS of the image in the plane, but at least one of the level's voxels.
        """
        across = max(1, TAPER_VOXELS >> max(level, self.flat_levels))
        in_plane = max(1, TAPER_VOXELS >> level)
        return across, in_plane, in_plane
