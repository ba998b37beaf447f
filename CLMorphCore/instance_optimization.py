"""Refining the map between two images on the pair itself: the field is optimised, no weights are.

φ ← K_map ∗ (φ ∘ (id + K_step ∗ d)) with d up the gradient of the similarity: greedy diffeomorphic registration
(Joshi et al., NeuroImage 2004; Avants et al., Medical Image Analysis 2008), coarse to fine, here with momentum and from
any start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .progress import Progress, silent
from .similarity import LocalCorrelation, Mind, forces, mind
from .spatial import compose, gaussian, halve, resize_field, resize_image, warp

SIMILARITIES = ("lncc", "mind")
WINDOW = 5  # voxels: fine structures, as brains have them
LEVELS = 3  # resolutions: the images', its half and its quarter
MIN_SIDE = 16  # voxels: an axis that would become shorter is not halved
PATIENCE = 4  # steps are halved when so many of them
MIN_GAIN = 2e-4  # have not raised the similarity by this share,
MIN_STEP = 0.2  # and a resolution is done when they are shorter than this share of the first

Shape = tuple[int, ...]


@dataclass(frozen=True)
class InstanceOptimization:
    """Settings; lengths are in voxels of the field at each resolution, along its finest axis."""

    steps: int = 50  # at each resolution, at most
    similarity: str = "lncc"  # lncc | mind, for images of different contrast
    window_voxels: int | None = None  # of the local cross-correlation, in voxels of the images; None: WINDOW
    step_voxels: float = 1.0  # largest displacement of a step
    momentum: float = 0.9  # share of the earlier steps that goes on
    smooth_step_voxels: float = 1.0  # standard deviation of K_step: how fluid the map is
    smooth_map_voxels: float = 0.35  # standard deviation of K_map: how elastic it is
    every_voxel: bool = False  # the finest field is as fine as the images: slower by a third, for little noise


@dataclass(frozen=True)
class Optimized:
    """A displacement (1, 3, D, H, W) in voxels of its grid, and the steps that led there, of all resolutions."""

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
    """argmax_u S(fixed, moving ∘ (id + u)) by gradient steps from ``start``, coarse to fine.

    fixed and moving (1, 1, D, H, W), normalised, ``spacing_mm`` (z, y, x) apart; ``start`` (1, 3, d, h, w) in voxels of
    a grid that spans the same corners. The answer lies on a grid of these corners too, half as fine as the images along
    the axes whose number of voxels is odd, unless ``every_voxel`` moves. If it is less similar than ``start``, that is
    the answer. ``progress`` hears the share that is done and may raise.
    """
    field, taken = start, 0
    levels = levels_of(tuple(fixed.shape[2:]), spacing_mm, settings.every_voxel)
    cost = torch.tensor([level.voxels for level in levels]) / sum(level.voxels for level in levels)
    for level, done, share in zip(levels, cost.cumsum(0) - cost, cost, strict=True):
        search = _Search(*(resize_image(image, level.image) for image in (fixed, moving)), level, settings)
        field, steps = search.ascend(
            resize_field(field, level.field),
            lambda fraction, done=done, share=share: progress("refinement", float(done + share * fraction)),
        )
        taken += steps
    first = resize_field(start, level.field)
    better = search.look(field)[0] > search.look(first)[0]
    return Optimized(field if better else first, taken)


@dataclass(frozen=True)
class Level:
    """A resolution: the shapes of images and field, which span the same corners, and the spacing of the field, mm."""

    image: Shape
    field: Shape
    spacing_mm: tuple[float, ...]

    @property
    def voxels(self) -> int:
        return self.image[0] * self.image[1] * self.image[2]

    def voxels_along(self, length: float) -> tuple[float, ...]:
        """A length in voxels of the finest axis, in voxels of each axis."""
        return tuple(length * min(self.spacing_mm) / spacing for spacing in self.spacing_mm)


def levels_of(shape: Shape, spacing_mm: Sequence[float], every_voxel: bool = False) -> list[Level]:
    """The resolutions, coarsest first: an axis is halved while it is not much coarser than the others, and long.

    Only the finest field is coarser than its images, unless ``every_voxel`` moves: it is the next level's, where that
    has every second voxel.
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


class _Search:
    """The ascend at one resolution."""

    def __init__(self, fixed: Tensor, moving: Tensor, level: Level, settings: InstanceOptimization) -> None:
        self.level, self.settings = level, settings
        if settings.similarity == "mind":
            self.similarity, self.moving = Mind(mind(fixed)), mind(moving)
        else:
            lengths = level.voxels_along(settings.window_voxels or WINDOW)
            window = tuple(max(1, 2 * round((length - 1) / 2) + 1) for length in lengths)
            self.similarity, self.moving = LocalCorrelation(fixed, window), moving

    def ascend(self, field: Tensor, tell: Callable[[float], None]) -> tuple[Tensor, int]:
        """The best field met on the way up from ``field``, and the number of steps taken."""
        steps, length, since = self.settings.steps, self.settings.step_voxels, 0
        (highest, uphill), best, direction = self.look(field), field, torch.zeros_like(field)
        gradient = uphill
        for step in range(1, steps + 1):
            tell((step - 1) / steps)
            direction = self.settings.momentum * direction + gradient
            field = self._moved(field, direction, length)
            value, gradient = self.look(field)
            since = 0 if value - highest > MIN_GAIN * abs(highest) else since + 1
            if value > highest:
                highest, uphill, best = value, gradient, field
            if since == PATIENCE:  # the steps have become too long: back to the best, and shorter ones from there
                field, gradient, direction, length, since = best, uphill, torch.zeros_like(field), 0.5 * length, 0
            if length < MIN_STEP * self.settings.step_voxels:
                break
        tell(1.0)
        return best, step

    def look(self, field: Tensor) -> tuple[float, Tensor]:
        """S(u) and the smoothed direction, in voxels, in which it grows."""
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
        moved = compose(_still_faces(direction * (length / longest)), field)
        return _still_faces(gaussian(moved, self.level.voxels_along(self.settings.smooth_map_voxels)))


def _still_faces(field: Tensor) -> Tensor:
    """The field with zero on the faces of its grid, so that the map goes on as the identity."""
    for axis in (2, 3, 4):
        field.narrow(axis, 0, 1).zero_()
        field.narrow(axis, field.shape[axis] - 1, 1).zero_()
    return field
