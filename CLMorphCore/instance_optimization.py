"""Instance optimization: the displacement between two images is optimised on this very pair, no weights are.

φ ← K_map ∗ (φ ∘ (id + K_step ∗ d)) with d along the gradient of the similarity: greedy diffeomorphic registration
(Joshi et al., NeuroImage 2004; Avants et al., Medical Image Analysis 2008) by gradient ascent with momentum, coarse to
fine, from any initial map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .progress import Progress, part, silent
from .similarity import LocalCorrelation, Mind, forces, mind
from .spatial import compose, gaussian, halve, resize_field, resize_image, warp

WINDOW = 5  # voxels: fits structures as fine as a brain's
LEVELS = 3  # resolutions: the images' own, a half and a quarter of it
MIN_SIDE = 16  # voxels: an axis that would become shorter is not halved
PATIENCE = 4  # the step is halved after so many steps
MIN_GAIN = 2e-4  # none of which raised the similarity by this share,
MIN_STEP = 0.2  # and a resolution is finished when it is shorter than this share of the first

Shape = tuple[int, ...]


@dataclass(frozen=True)
class InstanceOptimization:
    """Settings; lengths are in voxels of the field at each resolution, along its finest axis."""

    steps: int = 50  # at each resolution, at most
    similarity: Literal["lncc", "mind"] = "lncc"  # mind: for images of different contrast
    window_voxels: int | None = None  # of the local cross-correlation, in voxels of the images; None: WINDOW
    step_voxels: float = 1.0  # largest displacement of a step
    momentum: float = 0.9  # weight of the previous direction
    smooth_step_voxels: float = 1.0  # standard deviation of K_step: fluid regularisation
    smooth_map_voxels: float = 0.35  # standard deviation of K_map: elastic regularisation
    every_voxel: bool = False  # the finest field is as fine as the images: slower by a third, for images of low noise


@dataclass(frozen=True)
class Optimized:
    """A displacement (1, 3, D, H, W) in voxels of its grid, and the number of steps taken at all resolutions."""

    displacement: Tensor
    steps: int


def optimize(
    fixed: Tensor,
    moving: Tensor,
    start: Tensor,
    settings: InstanceOptimization,
    *,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    progress: Progress = silent,
) -> Optimized:
    """argmax_u S(fixed, moving ∘ (id + u)) by gradient ascent from ``start``, coarse to fine.

    fixed and moving (1, 1, D, H, W), normalised, with voxels of ``spacing_mm`` (z, y, x); ``start`` (1, 3, d, h, w) in
    voxels of a grid that spans the same corners. So does the result's grid, which has every second voxel of the images
    along axes with an odd number of them, or each with ``every_voxel``. The result is never less similar than ``start``
    on that grid: where nothing better was found, it is ``start``. ``progress`` may raise.
    """
    levels = levels_of(tuple(fixed.shape[2:]), spacing_mm, settings.every_voxel)
    ascents = [
        _Ascent(resize_image(fixed, level.image), resize_image(moving, level.image), level, settings)
        for level in levels
    ]
    field, taken, done, total = start, 0, 0, sum(level.voxels for level in levels)
    for level, ascent in zip(levels, ascents, strict=True):
        at_level = part(progress, done / total, (done + level.voxels) / total)
        field, steps = ascent.run(resize_field(field, level.field), at_level)
        taken, done = taken + steps, done + level.voxels
    initial, finest = resize_field(start, levels[-1].field), ascents[-1]
    better = finest.evaluate(field)[0] > finest.evaluate(initial)[0]
    return Optimized(field if better else initial, taken)


@dataclass(frozen=True)
class Level:
    """A resolution: the shapes of images and field, which span the same corners, and the field's spacing in mm."""

    image: Shape
    field: Shape
    spacing_mm: tuple[float, ...]

    @property
    def voxels(self) -> int:
        return self.image[0] * self.image[1] * self.image[2]

    def voxels_along(self, length: float) -> tuple[float, ...]:
        """A length in voxels along the finest axis → the same length in voxels along each axis."""
        return tuple(length * min(self.spacing_mm) / spacing for spacing in self.spacing_mm)


def levels_of(shape: Shape, spacing_mm: Sequence[float], every_voxel: bool = False) -> list[Level]:
    """The resolutions, coarsest first: an axis is halved while it is long and not much coarser than the others.

    The finest field has every second voxel of the images, where their number is odd, unless ``every_voxel``; all others
    have the resolution of their images.
    """
    shapes = [shape]
    while len(shapes) < LEVELS:
        spacing = _spacing(shapes[-1], shape, spacing_mm)
        half = tuple(
            (n + 1) // 2 if s < 1.5 * min(spacing) and n >= 2 * MIN_SIDE - 1 else n
            for n, s in zip(shapes[-1], spacing, strict=True)
        )
        if half == shapes[-1]:
            break
        shapes.append(half)
    finest = tuple(
        (n + 1) // 2 if n % 2 and n >= 2 * MIN_SIDE - 1 and n != h else n
        for n, h in zip(shape, shapes[min(1, len(shapes) - 1)], strict=True)
    )
    fields = [shape if every_voxel else finest, *shapes[1:]]
    return [
        Level(image, field, _spacing(field, shape, spacing_mm))
        for image, field in zip(reversed(shapes), reversed(fields), strict=True)
    ]


def _spacing(shape: Shape, finest: Shape, spacing_mm: Sequence[float]) -> tuple[float, ...]:
    return tuple(s * max(m - 1, 1) / max(n - 1, 1) for n, m, s in zip(shape, finest, spacing_mm, strict=True))


class _Ascent:
    """Gradient ascent at one resolution."""

    def __init__(self, fixed: Tensor, moving: Tensor, level: Level, settings: InstanceOptimization) -> None:
        self.level, self.settings = level, settings
        if settings.similarity == "mind":
            self.similarity, self.moving = Mind(mind(fixed)), mind(moving)
        else:
            lengths = level.voxels_along(settings.window_voxels or WINDOW)
            window = tuple(max(1, 2 * round((length - 1) / 2) + 1) for length in lengths)
            self.similarity, self.moving = LocalCorrelation(fixed, window), moving

    def run(self, field: Tensor, progress: Progress) -> tuple[Tensor, int]:
        """The best field found from ``field`` on, and the number of steps taken."""
        steps, length, taken, since_gain = self.settings.steps, self.settings.step_voxels, 0, 0
        (highest, best_gradient), best, direction = self.evaluate(field), field, torch.zeros_like(field)
        gradient = best_gradient
        while taken < steps and length >= MIN_STEP * self.settings.step_voxels:
            progress("refinement", taken / steps)
            direction = self.settings.momentum * direction + gradient
            field = self._moved(field, direction, length)
            value, gradient = self.evaluate(field)
            taken += 1
            since_gain = 0 if value - highest > MIN_GAIN * abs(highest) else since_gain + 1
            if value > highest:
                highest, best_gradient, best = value, gradient, field
            if since_gain == PATIENCE:  # the steps are too long: back to the best field, with shorter ones
                field, gradient, direction = best, best_gradient, torch.zeros_like(field)
                length, since_gain = 0.5 * length, 0
        progress("refinement", 1.0)
        return best, taken

    def evaluate(self, field: Tensor) -> tuple[float, Tensor]:
        """S(u), and its gradient in voxels, smoothed by K_step: (1, 3, D, H, W) as the field u."""
        warped = warp(self.moving, resize_field(field, self.level.image), padding="border")
        value, gradient = self.similarity(warped)
        slopes = halve(forces(gradient, warped), self.level.field)
        slopes = gaussian(slopes, self.level.voxels_along(self.settings.smooth_step_voxels))
        # Steepest in mm, not in voxels: where voxels are long, the same step is fewer of them.
        unit = slopes.new_tensor(self.level.voxels_along(1.0)).view(1, 3, 1, 1, 1)
        return value.item(), slopes * unit**2

    def _moved(self, field: Tensor, direction: Tensor, length: float) -> Tensor:
        """K_map ∗ (u ∘ (id + d)) for the direction scaled to its largest displacement, zero on the faces."""
        unit = direction.new_tensor(self.level.voxels_along(1.0)).view(1, 3, 1, 1, 1)
        longest = (direction / unit).square().sum(1).max().sqrt().clamp_min(1e-20)
        moved = compose(_with_fixed_faces(direction * (length / longest)), field)
        return _with_fixed_faces(gaussian(moved, self.level.voxels_along(self.settings.smooth_map_voxels)))


def _with_fixed_faces(field: Tensor) -> Tensor:
    """The field, in place, with zeros on the faces of its grid: beyond them the map continues as the identity."""
    for axis in (2, 3, 4):
        field.narrow(axis, 0, 1).zero_()
        field.narrow(axis, field.shape[axis] - 1, 1).zero_()
    return field
