"""Affine alignment of two images in millimetres: by mutual information, on SimpleITK's optimisers, then polished."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from .errors import InputError
from .geometry import Grid, crop_padding, foreground_box, grid_over, linear_parts, reach, resample, to_tensor
from .io.itk import reason
from .progress import deferred
from .similarity import LocalCorrelation, forces
from .spatial import identity_grid, sample

WORKING_VOXELS = 56  # of the longest side while aligning: more took longer and found the same twelve parameters
# Of the working images' voxels: slices farther apart than so many leave local correlation nothing but what lies between
# them, which is interpolated (hearts: affine Dice .36 → .32). A polish that moves a corner by more, or keeps less of
# the information, has found something else: good ones moved up to 1.5, three pairs of crops more, and kept .957; on
# hearts they moved 15 and kept .74.
MAX_SLICE_VOXELS = 2.0
MAX_POLISH_VOXELS = 1.5
MIN_INFORMATION = 0.95
# Voxels of the working images. Windows of 3 were better than of 5 and 7, and coarse images as good as fine ones, on
# pairs of mice, hippocampi and brains.
POLISH_WINDOW = 3
MIN_SIDE = 3 * POLISH_WINDOW  # of both images; with fewer there is nothing to be more exact about
MAX_ITERATIONS = 20
MIN_GAIN = 1e-5  # of the similarity, as a share of it, for another iteration
LONGER, SHORTER, LONGEST, SHORTEST = 1.5, 0.25, 8.0, 0.05  # of the step, after a success and after none
RIDGE = 1e-3  # of the mean curvature
TURN_VOXELS = 80  # of the longest side of what turns are tried on: 3 mm of a head

Linear = tuple[np.ndarray, np.ndarray]  # M (3, 3) and t (3,) of p ↦ Mp + t, LPS, mm


@dataclass(frozen=True)
class _Stage:
    """One run of the optimiser: image pyramid and step."""

    shrink: tuple[int, ...]
    smoothing_voxels: tuple[float, ...]
    iterations: int


RIGID = _Stage((4, 2), (2.0, 1.0), 80)
AFFINE = _Stage((2, 1), (1.0, 0.5), 100)


@dataclass(frozen=True)
class Turn:
    """A rotation by ``degrees``; ``gain`` is the information that two images share with it / without it."""

    degrees: float
    gain: float


def align(fixed: sitk.Image, moving: sitk.Image, *, step: Callable[[], None] = lambda: None) -> sitk.AffineTransform:
    """A: the affine map fixed → moving (LPS, mm) of largest Mattes mutual information, polished by local correlation.

    Starts from the images' centres and from their centres of mass, goes on with the better one, first rigid, then
    with all twelve parameters. ``step`` is called at every iteration and may raise to stop (cancel). InputError where
    no start leads anywhere.
    """
    slices_mm = max(*fixed.GetSpacing(), *moving.GetSpacing())
    fixed, moving = _working(fixed), _working(moving)
    rigid = _rigid(fixed, moving, step)
    affine = sitk.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    best = sitk.AffineTransform(_optimise(fixed, moving, affine, AFFINE, step)[0])
    found = sitk.AffineTransform(best.GetMatrix(), best.GetTranslation(), best.GetCenter())
    if slices_mm > MAX_SLICE_VOXELS * max(*fixed.GetSpacing(), *moving.GetSpacing()):
        return found
    finer = _polished(fixed, moving, found, step=step)
    return finer if _agree(fixed, moving, found, finer) else found


def _agree(fixed: sitk.Image, moving: sitk.Image, found: sitk.AffineTransform, finer: sitk.AffineTransform) -> bool:
    """Whether the second is the first made more exact: no corner lies far off, nor is information lost."""
    spacing = min(*fixed.GetSpacing(), *moving.GetSpacing())
    corners = Grid.of(fixed).corners_mm().tolist()
    moved = max(math.dist(found.TransformPoint(p), finer.TransformPoint(p)) for p in corners)
    before, after = (_information(fixed, moving, each) for each in (found, finer))
    return moved < MAX_POLISH_VOXELS * spacing and after > MIN_INFORMATION * before


def best_turn(fixed: sitk.Image, moving: sitk.Image, *, step: Callable[[], None] = lambda: None) -> Turn:
    """The rotation fixed → moving, begun from another than the headers', with which they share most information.

    All 24 turns by right angles are tried about the centres of mass; the best other one and none are then aligned. A
    mirrored image is found as the turn that is closest to it, where what it shows is nearly symmetrical.
    """
    fixed, moving = (_working(image[_strides(image)]) for image in (fixed, moving))
    with _itk_errors():
        start = sitk.Euler3DTransform(
            sitk.CenteredTransformInitializer(
                fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
            )
        )
    small = sitk.BinShrink(fixed, [2, 2, 2])
    none, *others = _right_angles()
    best = max(others, key=lambda each: _information(small, moving, _rotated(start, each)))
    own, other = (_optimise(fixed, moving, _rotated(start, each), RIGID, step) for each in (none, best))
    rotation, _ = linear_parts(other[0])
    degrees = float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))
    return Turn(degrees, -other[1] / max(-own[1], 1e-9))


def _strides(image: sitk.Image) -> tuple[slice, ...]:
    sides = list(zip(image.GetSize(), image.GetSpacing(), strict=True))
    coarse = max(n * mm for n, mm in sides) / TURN_VOXELS
    return tuple(slice(None, None, max(1, int(coarse / mm))) for _, mm in sides)


def _right_angles() -> list[np.ndarray]:
    """The 24 rotations that map axes onto axes, first none."""
    matrices = [
        np.diag(signs)[list(order)] for order in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)
    ]
    return [matrix for matrix in matrices if np.linalg.det(matrix) > 0]


def _rotated(start: sitk.Euler3DTransform, rotation: np.ndarray) -> sitk.Euler3DTransform:
    rotated = sitk.Euler3DTransform(start)
    rotated.SetMatrix(rotation.ravel().tolist())
    return rotated


def _information(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """Mattes mutual information of fixed and the moving image seen through the transform; 0 where they do not meet."""
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsMattesMutualInformation(32)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(transform)
    try:
        return -float(method.MetricEvaluate(fixed, moving))
    except RuntimeError:
        return 0.0


def align_centres(fixed: sitk.Image, moving: sitk.Image) -> sitk.AffineTransform:
    """A: fixed → moving (LPS, mm) with which the centres and the axes of the two grids are aligned.

    A rotation, never a mirror: where one grid is left-handed, its slices are taken in the other order.
    """
    axes = [np.array(image.GetDirection()).reshape(3, 3) for image in (fixed, moving)]
    hand = np.diag([1.0, 1.0, np.sign(np.linalg.det(axes[0]) * np.linalg.det(axes[1]))])
    here, there = (Grid.of(image).corners_mm().mean(axis=0) for image in (fixed, moving))
    return sitk.AffineTransform((axes[1] @ hand @ axes[0].T).ravel().tolist(), (there - here).tolist(), here.tolist())


def closest_similarity(points: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """argmin Σ |M p + t − q|² over M = s R, a scaled rotation, and t, for points p, targets q (N, d) (Umeyama 1991)."""
    centre, goal = points.mean(axis=0), targets.mean(axis=0)
    left, stretch, right = np.linalg.svd((targets - goal).T @ (points - centre))
    proper = np.ones(len(centre))
    proper[-1] = np.sign(np.linalg.det(left @ right))
    matrix = (stretch * proper).sum() / np.square(points - centre).sum() * (left * proper) @ right
    return matrix, goal - matrix @ centre


def _working(image: sitk.Image) -> sitk.Image:
    """The image's foreground on an anatomically aligned, isotropic grid: the same for every storage order of a scan.

    Its intensities begin at 0, as weights of a centre of mass have to.
    The grid ends where the foreground ends: a dark rim around a scan that is cut out of a body would be an edge, and
    the rims of two cut-outs would be aligned instead of what is in them.
    """
    image = crop_padding(image)
    lower, upper = foreground_box(image)
    spacing = max(float((upper - lower).max()) / WORKING_VOXELS, min(image.GetSpacing()))
    # A single voxel of a million times the rest would leave one bin of the histogram for all others. The foreground
    # says what is bright: a small object in a wide field of zeros is less than a thousandth of all voxels.
    values = sitk.GetArrayViewFromImage(image)
    low, high = np.percentile(values, 0.1), np.percentile(values[values > values.min()], 99.9)
    # Of a stripped head a quarter is brain. The same sums in the same order, whatever the storage.
    image = sitk.DICOMOrient(_around(image, lower, upper, 2.0 * spacing), "LPS")
    image = sitk.Clamp(sitk.Cast(image, sitk.sitkFloat32), sitk.sitkFloat32, float(low), float(high)) - float(low)
    for axis, own in enumerate(image.GetSpacing()):
        # Fine detail would alias on the coarser grid; ITK's recursion needs four voxels, fewer hold no detail.
        if spacing > 1.5 * own and image.GetSize()[axis] > 3:
            image = sitk.RecursiveGaussian(image, 0.4 * spacing, direction=axis)
    working = resample(image, grid_over(lower, upper, [spacing] * 3))
    if not np.isfinite(sitk.GetArrayViewFromImage(working)).all():  # with which ITK's moments never come to an end
        sides = " × ".join(f"{n:.4g}" for n in image.GetSpacing())
        raise InputError(
            f"the affine alignment failed: voxels of {sides} mm cannot be brought onto an even grid; check the image's "
            "header, or pass `affine`, a transform of your own or none"
        )
    return working


def _around(image: sitk.Image, lower: np.ndarray, upper: np.ndarray, margin_mm: float) -> sitk.Image:
    """The part of an image that holds a box (mm, LPS-aligned), with a margin."""
    box = Grid((1, 1, 1), tuple((upper - lower + 2 * margin_mm).tolist()), tuple(((lower + upper) / 2).tolist()))
    z, y, x = reach(Grid.of(image), box, sitk.Transform(3, sitk.sitkIdentity))
    return image[x, y, z]


def _rigid(fixed: sitk.Image, moving: sitk.Image, step: Callable[[], None]) -> sitk.Euler3DTransform:
    """The better one of the rigid maps found from two starts, or that of the one start that leads anywhere."""
    found, failed = [], []
    for mode in (sitk.CenteredTransformInitializerFilter.GEOMETRY, sitk.CenteredTransformInitializerFilter.MOMENTS):
        try:
            with _itk_errors():
                start = sitk.CenteredTransformInitializer(fixed, moving, sitk.Euler3DTransform(), mode)
            found.append(_optimise(fixed, moving, sitk.Euler3DTransform(start), RIGID, step))
        except InputError as error:
            failed.append(error)
    if not found:
        raise failed[0]
    return min(found, key=lambda each: each[1])[0]


@contextmanager
def _itk_errors() -> Iterator[None]:
    """ITK's reason why it cannot align, as one line."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            "the affine alignment failed: the images do not overlap or have too little contrast "
            f"({reason(str(error))}); pass `affine`, a transform of your own or none"
        ) from None


def _optimise(
    fixed: sitk.Image, moving: sitk.Image, start: sitk.Transform, stage: _Stage, step: Callable[[], None]
) -> tuple[sitk.Transform, float]:
    """The transform found from ``start``, and its metric (lower is better)."""
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfWorkUnits(1)  # several sum in an order of chance, and every run ends a little elsewhere
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.5, seed=1)  # jittered samples: without a seed every run differs
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        1.0, 1e-3, stage.iterations, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-5
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(stage.shrink)
    method.SetSmoothingSigmasPerLevel(stage.smoothing_voxels)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(type(start)(start), inPlace=True)
    stopped: list[BaseException] = []
    method.AddCommand(sitk.sitkIterationEvent, lambda: _guarded(step, method, stopped))
    with _itk_errors(), deferred():
        found = method.Execute(fixed, moving)
    if stopped:
        raise stopped[0]
    return found, method.GetMetricValue()


def _guarded(step: Callable[[], None], method: sitk.ImageRegistrationMethod, stopped: list[BaseException]) -> None:
    """Runs ``step``; its exception cannot pass through ITK, so it is kept and the optimiser is told to stop."""
    try:
        step()
    except BaseException as error:
        stopped.append(error)
        method.StopRegistration()


def _polished(
    fixed: sitk.Image, moving: sitk.Image, start: sitk.Transform, *, step: Callable[[], None] = lambda: None
) -> sitk.AffineTransform:
    """argmax over A of the mean local squared correlation of fixed(p) and moving(A(p)), where both images are.

    ``start`` is near it: fixed → moving, LPS, mm; the images lie on isotropic grids with axes L, P, S. ``step`` is
    called at every iteration and may raise. Images of less than MIN_SIDE voxels along an axis end in ``start``.
    """
    best = linear_parts(start)
    if min(*fixed.GetSize(), *moving.GetSize()) >= MIN_SIDE:
        best = _climbed(_Objective(fixed, moving), best, step)
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

    def __init__(self, fixed: sitk.Image, moving: sitk.Image) -> None:
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
