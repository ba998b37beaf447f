"""The last step of an affine alignment: local correlation, by Gauss and Newton's method, from a map that is near."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..geometry import Grid, linear_parts, to_tensor
from ..guidance.masks import WHOLE
from ..similarity import LocalCorrelation, forces
from ..spatial import identity_grid, sample

# Voxels of the working images. Windows of 3 were better than of 5 and 7, and coarse images as good as fine ones, on
# pairs of mice, hippocampi and brains.
POLISH_WINDOW = 3
MIN_SIDE = 3 * POLISH_WINDOW  # of both images; with fewer there is nothing to be more exact about
MAX_ITERATIONS = 20
MIN_GAIN = 1e-5  # of the similarity, as a share of it, for another iteration
LONGER, SHORTER, LONGEST, SHORTEST = 1.5, 0.25, 8.0, 0.05  # of the step, after a success and after none
RIDGE = 1e-3  # of the mean curvature

Linear = tuple[np.ndarray, np.ndarray]  # M (3, 3) and t (3,) of p ↦ Mp + t, LPS, mm
Masks = tuple[sitk.Image | None, sitk.Image | None]  # of fixed and moving, 1 where they count; None: everywhere
NO_MASKS: Masks = (None, None)


def polished(
    fixed: sitk.Image,
    moving: sitk.Image,
    start: sitk.Transform,
    *,
    masks: Masks = NO_MASKS,
    step: Callable[[], None] = lambda: None,
) -> sitk.AffineTransform:
    """argmax over A of the mean local squared correlation of fixed(p) and moving(A(p)), where both images are.

    ``start`` is near it: fixed → moving, LPS, mm; the images lie on isotropic grids with axes L, P, S. ``step`` is
    called at every iteration and may raise. Images of less than MIN_SIDE voxels along an axis end in ``start``.
    """
    best = linear_parts(start)
    if min(*fixed.GetSize(), *moving.GetSize()) >= MIN_SIDE:
        best = _climbed(_Objective(fixed, moving, masks), best, step)
    matrix, shift = best
    return sitk.AffineTransform(matrix.ravel().tolist(), shift.tolist())


def _climbed(objective: _Objective, best: Linear, step: Callable[[], None]) -> Linear:
    highest, gradient, curvature = objective(best)
    length = 1.0
    for _ in range(MAX_ITERATIONS):
        step()
        ridge = RIDGE * np.trace(curvature) / len(curvature)
        if not ridge > 0:  # nothing to see, or no numbers
            break
        ascent = np.linalg.solve(curvature + ridge * np.eye(len(curvature)), gradient)
        there = objective.moved(best, length * ascent)
        value, *slopes = objective(there)
        if value > highest:
            gained, highest, best = value - highest, value, there
            gradient, curvature = slopes
            length = min(LONGER * length, LONGEST)
            if gained < MIN_GAIN * highest:
                break
        else:
            length *= SHORTER
            if length < SHORTEST:
                break
    return best


class _Objective:
    """Mean local squared correlation as a function of A, over d(x) = D (x − c) / r + e, r half the longest side.

    Derivatives are by D and e in voxels (z, y, x), a row of D and e after the other: 12 numbers. Sums over voxels are
    NumPy's, in double precision: the same however many threads compute the summands.
    """

    def __init__(self, fixed: sitk.Image, moving: sitk.Image, masks: Masks = NO_MASKS) -> None:
        self.masks = [None if mask is None else to_tensor(mask) for mask in masks]
        self.fixed_grid, self.moving_grid = Grid.of(fixed), Grid.of(moving)
        self.moving = _of_unit_variance(moving)
        self.correlation = LocalCorrelation(_of_unit_variance(fixed), POLISH_WINDOW)
        shape = self.fixed_grid.shape
        self.voxels = identity_grid(shape, like=self.moving)
        self.centre, self.reach = (np.array(shape) - 1) / 2, max(shape) / 2
        about = self.voxels[0].flatten(1).double().numpy() - self.centre[:, None]
        self.basis = np.concatenate([about / self.reach, np.ones((1, about.shape[1]))])

    def __call__(self, affine: Linear) -> tuple[float, np.ndarray, np.ndarray]:
        """The value, its gradient (12,) and the negated curvature (12, 12)."""
        where = self._in_moving(affine)
        warped = sample(self.moving, where, padding="border")
        last = where.new_tensor([n - 0.5 for n in self.moving_grid.shape]).view(1, 3, 1, 1, 1)
        both = ((where >= -0.5) & (where <= last)).all(dim=1, keepdim=True).float()
        for mask, points in zip(self.masks, (self.voxels, where), strict=True):
            if mask is not None:
                both = both * (sample(mask, points, padding="border") > WHOLE).float()
        value, slope, curvature = self.correlation.weighted(warped, both)
        count = max(float(both.numpy().sum(dtype=np.float64)), 1.0)
        force, edges = (_flat(forces(each, warped)) for each in (slope, torch.ones_like(slope)))
        by_parameters = (edges[:, None] * self.basis).reshape(12, -1)
        return (
            float((value * both).numpy().sum(dtype=np.float64)) / count,
            np.stack([(row * self.basis).sum(axis=1) for row in force]).ravel() / count,
            2 * np.einsum("in,jn->ij", by_parameters * _flat(curvature)[0], by_parameters) / count,
        )

    def moved(self, affine: Linear, change: np.ndarray) -> Linear:
        """A ∘ (id + d) for the twelve numbers of d."""
        matrix, shift = affine
        rows = change.reshape(3, 4)
        to_mm = self.fixed_grid.to_mm()[:, ::-1]  # from voxels (z, y, x)
        centre = to_mm @ self.centre + np.array(self.fixed_grid.origin_mm)
        linear = np.eye(3) + to_mm @ (rows[:, :3] / self.reach) @ np.linalg.inv(to_mm)
        return matrix @ linear, matrix @ (centre - linear @ centre + to_mm @ rows[:, 3]) + shift

    def _in_moving(self, affine: Linear) -> Tensor:
        """(1, 3, D, H, W): where A maps the voxels of the fixed grid, in voxels (z, y, x) of the moving one."""
        matrix, shift = affine
        to_mm, to_voxels = self.fixed_grid.to_mm()[:, ::-1], np.linalg.inv(self.moving_grid.to_mm())[::-1]
        linear = to_voxels @ matrix @ to_mm
        offset = to_voxels @ (matrix @ np.array(self.fixed_grid.origin_mm) + shift - self.moving_grid.origin_mm)
        z, y, x = self.voxels.unbind(1)
        rows = [a * z + b * y + c * x + d for (a, b, c), d in zip(linear.tolist(), offset.tolist(), strict=True)]
        return torch.stack(rows, dim=1)


def _of_unit_variance(image: sitk.Image) -> Tensor:
    values = to_tensor(image)
    return values / max(float(values[values > 0].double().numpy().std()), 1e-12)


def _flat(field: Tensor) -> np.ndarray:
    """(1, C, D, H, W) → (C, N), in double precision."""
    return field[0].flatten(1).double().numpy()
