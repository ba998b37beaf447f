"""Instance optimization: the displacement between two images is optimised on this very pair, no weights are.

φ ← K_map ∗ (φ ∘ (id + K_step ∗ d)) with d along the gradient of the similarity: greedy diffeomorphic registration
(Joshi et al., NeuroImage 2004; Avants et al., Medical Image Analysis 2008) by gradient ascent with momentum, coarse to
fine. The answer is start ∘ φ: what is smoothed is the change since the initial map, a network's for instance, which
stays as sharp as it is; or the whole map is, from its coarsest resolution on. How much goes by the images' noise.
Noise is what is fitted last: an ascent of few short steps, which ends early, leaves it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from .errors import SettingError
from .guidance.landmarks import Pull
from .guidance.masks import WHOLE
from .progress import Progress, part, silent
from .similarity import LocalCorrelation, Mind, forces, mind
from .spatial import compose, gaussian, halve, resize_field, resize_image, warp

# By noise, in units of the normalised images: that of clean scans, hippocampi, hearts and brains have up to 0.036; and
# that of noisy ones, mice have 0.15 to 0.35. In between the smoothing lies between.
CLEAN, NOISY = 0.04, 0.15
WINDOWS = (5, 9)  # voxels, of clean and of noisy images: 5 fits structures as fine as a brain's
SMOOTHING = (0.35, 0.7)  # voxels of the field, the standard deviation of K_map: of clean and of noisy images
STEP_SMOOTHING = (1.0, 1.7)  # and that of K_step
MAX_SMOOTHING, MIN_WINDOW, MAX_WINDOW = 50.0, 3, 49  # voxels, of what is asked for
LEVELS = 3  # resolutions: the images' own, a half and a quarter of it
ROUND_OFF = 1e-5  # of a normalised image's values
MIN_SIDE = 16  # voxels: an axis that would become shorter is not halved
PATIENCE = 4  # the step is halved after so many steps
MIN_GAIN = 2e-4  # none of which raised the similarity by this share,
MIN_STEP = 0.2  # and a resolution is finished when it is shorter than this share of the first
# Steps that end early: of this length, in voxels, and at most so many at each resolution. Of three mice, registered
# with a fourth, Dice is .849 by the network, .874 with .25 or .5 (in 40 or 20 steps) and .868 with 1, in 10; .871 where
# the ascent converges at .5.
EARLY_STEP, MAX_EARLY_STEPS = 0.5, 20

Shape = tuple[int, ...]


class Millimetres(float):
    """A length in mm, at the finest resolution, where bare numbers are voxels along the finest axis."""

    def __format__(self, spec: str) -> str:
        return f"{float(self):{spec}}mm"


@dataclass(frozen=True)
class InstanceOptimization:
    """Settings; lengths are in voxels of the field at each resolution, along its finest axis, or Millimetres."""

    steps: int = 50  # at each resolution, at most; 0: none
    similarity: Literal["lncc", "mind"] = "lncc"  # mind: for images of different contrast
    window_voxels: float | None = None  # of the local cross-correlation, in voxels of the images; None: by noise
    step_voxels: float = 1.0  # largest displacement of a step
    momentum: float = 0.9  # weight of the previous direction
    smooth_step_voxels: float | None = None  # sd of K_step: fluid regularisation; None: by noise
    smooth_map_voxels: float | None = None  # sd of K_map: elastic regularisation; None: by noise
    smoothed: Literal["change", "map"] | None = (
        None  # by K_map: the change since the start (None too), or the whole map
    )
    ends: Literal["converged", "early"] = "converged"  # early: EARLY_STEP and MAX_EARLY_STEPS, without momentum
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
    weights: Tensor | None = None,
    pull: Pull | None = None,
    progress: Progress = silent,
) -> Optimized:
    """argmax_u S(fixed, moving ∘ (id + u)) by gradient ascent from ``start``, coarse to fine.

    fixed and moving (1, 1, D, H, W), normalised, with voxels of ``spacing_mm`` (z, y, x); ``start`` (1, 3, d, h, w) in
    voxels of a grid that spans the same corners. So does the result's grid, which has every second voxel of the images
    along axes with an odd number of them, or each with ``every_voxel``. The result is never less similar than ``start``
    on that grid: where nothing better was found, it is ``start``. ``weights`` (1, 1, D, H, W), of 0 and 1, are where
    both images count; ``pull`` is what landmarks take away from the similarity. ``progress`` may raise. Raises
    SettingError for Millimetres that are no length of a window or a kernel on this grid.
    """
    levels = levels_of(tuple(fixed.shape[2:]), spacing_mm, settings.every_voxel)
    settings = in_voxels(settings, min(spacing_mm), min(levels[-1].spacing_mm))
    settings = by_noise(settings, max(noise_of(image, spacing_mm) for image in (fixed, moving)))
    if settings.ends == "early" and start.any():
        levels = levels[-1:]  # what coarser ones would find the start has
    still = torch.zeros_like(start)
    base, change = (start, still) if settings.smoothed != "map" else (still, start)
    ascents = [
        _Ascent(
            resize_image(fixed, level.image),
            resize_image(moving, level.image),
            base,
            level,
            settings,
            None if weights is None else (resize_image(weights, level.image) > WHOLE).float(),
            pull,
        )
        for level in levels
    ]
    taken, done, total = 0, 0, sum(level.voxels for level in levels)
    for level, ascent in zip(levels, ascents, strict=True):
        at_level = part(progress, done / total, (done + level.voxels) / total)
        change, steps = ascent.run(resize_field(change, level.field), at_level)
        taken, done = taken + steps, done + level.voxels
    finest = ascents[-1]
    unchanged = resize_field(still if base is start else start, levels[-1].field)
    better = finest.evaluate(change)[0] > finest.evaluate(unchanged)[0]
    if not better:
        return Optimized(resize_field(start, levels[-1].field), taken)
    return Optimized(_with_fixed_faces(finest.changed(change)), taken)


def in_voxels(settings: InstanceOptimization, image_mm: float, field_mm: float) -> InstanceOptimization:
    """The settings with Millimetres as voxels of ``image_mm``, the window, and of ``field_mm``, along the finest axes.

    SettingError for a window below MIN_WINDOW voxels, and for lengths above the largest that bare numbers may be.
    """
    smoothing, step, window = settings.smooth_map_voxels, settings.smooth_step_voxels, settings.window_voxels
    return replace(
        settings,
        smooth_map_voxels=_voxels("smoothing", smoothing, field_mm, 0.0, MAX_SMOOTHING),
        smooth_step_voxels=_voxels("smoothing of each step", step, field_mm, 0.0, MAX_SMOOTHING),
        window_voxels=_voxels("window", window, image_mm, MIN_WINDOW, MAX_WINDOW),
    )


def _voxels(what: str, length: float | None, voxel_mm: float, least: float, most: float) -> float | None:
    if not isinstance(length, Millimetres):
        return length
    if not least <= (voxels := float(length) / voxel_mm) <= most:
        limits = f"from {least * voxel_mm:.3g} to {most * voxel_mm:.3g} mm"
        raise SettingError(
            f"the refinement's {what} is {length:g}, {voxels:.3g} voxels of {voxel_mm:.3g} mm; expected {limits}"
        )
    return voxels


def by_noise(settings: InstanceOptimization, noise: float) -> InstanceOptimization:
    """The settings with what is left open chosen by the images' noise, a standard deviation as ``noise_of`` has it."""
    share = min(max((noise - CLEAN) / (NOISY - CLEAN), 0.0), 1.0)
    smoothing, step, window = settings.smooth_map_voxels, settings.smooth_step_voxels, settings.window_voxels
    return replace(
        settings,
        smooth_map_voxels=_between(SMOOTHING, share) if smoothing is None else smoothing,
        smooth_step_voxels=_between(STEP_SMOOTHING, share) if step is None else step,
        window_voxels=WINDOWS[share >= 1] if window is None else window,
    )


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])


def noise_of(image: Tensor, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)) -> float:
    """σ = 1.4826 · median |Δ²…Δ² I| / √6ⁿ: the noise of an image (1, 1, D, H, W), in units of its values.

    Second differences along the n axes of fine voxels, where anatomy is smooth (after Immerkær, Computer Vision and
    Image Understanding 1996), at voxels above the minimum; where they are 0 the image was extended, or is flat.
    """
    inside, bent = image > image.min(), image
    for axis, side in enumerate(image.shape[2:], start=2):
        if side < 3 or spacing_mm[axis - 2] >= 1.5 * min(spacing_mm):
            continue
        before, here, after = (bent.narrow(axis, k, side - 2) for k in range(3))
        bent = (2 * here - before - after) / 6**0.5
        inside = inside.narrow(axis, 0, side - 2) & inside.narrow(axis, 1, side - 2) & inside.narrow(axis, 2, side - 2)
    sizes = bent[inside].abs()
    sizes = sizes[sizes > ROUND_OFF]
    return 1.4826 * sizes.median().item() if len(sizes) else 0.0


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
    """Gradient ascent at one resolution, over the change φ of the map ``start``."""

    def __init__(
        self,
        fixed: Tensor,
        moving: Tensor,
        start: Tensor,
        level: Level,
        settings: InstanceOptimization,
        weights: Tensor | None = None,
        pull: Pull | None = None,
    ) -> None:
        self.pull = pull
        self.level, self.settings, self.start = level, settings, resize_field(start, level.field)
        self.still = not self.start.any()
        if settings.similarity == "mind":
            self.similarity, self.moving = Mind(mind(fixed), weights), mind(moving)
        else:
            lengths = level.voxels_along(settings.window_voxels or WINDOWS[0])
            window = tuple(max(1, 2 * round((length - 1) / 2) + 1) for length in lengths)
            self.similarity, self.moving = LocalCorrelation(fixed, window, weights), moving

    def run(self, field: Tensor, progress: Progress) -> tuple[Tensor, int]:
        """The change found from ``field`` on, and the number of steps taken."""
        return self._early(field, progress) if self.settings.ends == "early" else self._converged(field, progress)

    def _early(self, field: Tensor, progress: Progress) -> tuple[Tensor, int]:
        """After steps of one length along the gradient."""
        steps = min(self.settings.steps, MAX_EARLY_STEPS)
        for taken in range(steps):
            progress("refinement", taken / steps)
            field = self._moved(field, self.evaluate(field)[1], EARLY_STEP)
        progress("refinement", 1.0)
        return field, steps

    def _converged(self, field: Tensor, progress: Progress) -> tuple[Tensor, int]:
        """The best that was found, by steps with momentum that become shorter where they do not help."""
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

    def changed(self, field: Tensor) -> Tensor:
        """start ∘ φ."""
        return field if self.still else compose(field, self.start)

    def evaluate(self, field: Tensor) -> tuple[float, Tensor]:
        """S(start ∘ φ), and its gradient in voxels, smoothed by K_step: (1, 3, D, H, W) as the field of φ."""
        warped = warp(self.moving, resize_field(self.changed(field), self.level.image), padding="border")
        value, gradient = self.similarity(warped)
        slopes = halve(forces(gradient, warped), self.level.field)
        slopes = gaussian(slopes, self.level.voxels_along(self.settings.smooth_step_voxels or 0.0))
        if self.pull is not None:
            cost, force = self.pull(self.changed(field))
            value, slopes = value - cost, slopes + force
        # Steepest in mm, not in voxels: where voxels are long, the same step is fewer of them.
        unit = slopes.new_tensor(self.level.voxels_along(1.0)).view(1, 3, 1, 1, 1)
        return value.item(), slopes * unit**2

    def _moved(self, field: Tensor, direction: Tensor, length: float) -> Tensor:
        """K_map ∗ (u ∘ (id + d)) for the direction scaled to its largest displacement, zero on the faces."""
        unit = direction.new_tensor(self.level.voxels_along(1.0)).view(1, 3, 1, 1, 1)
        longest = (direction / unit).square().sum(1).max().sqrt().clamp_min(1e-20)
        moved = compose(_with_fixed_faces(direction * (length / longest)), field)
        return _with_fixed_faces(gaussian(moved, self.level.voxels_along(self.settings.smooth_map_voxels or 0.0)))


def _with_fixed_faces(field: Tensor) -> Tensor:
    """The field, in place, with zeros on the faces of its grid: beyond them the map continues as the identity."""
    for axis in (2, 3, 4):
        field.narrow(axis, 0, 1).zero_()
        field.narrow(axis, field.shape[axis] - 1, 1).zero_()
    return field
