"""Where points go along transforms and their inverses: (N, 3) points, LPS, mm, many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import InputError
from ..geometry import POINTS_AT_ONCE, Grid, chain, linear_parts, placed
from ..spatial import sample

TOLERANCE_MM = 1e-4  # to which T(T⁻¹(p)) is p
MAX_ITERATIONS = 50
MIN_DAMPING = 2.0**-8  # of Newton's steps, below which nothing gets better
MIN_DETERMINANT = 1e-3  # of a Jacobian that Newton's method may divide by
MAX_EXACT_POINTS = 20_000  # up to which a B-spline is inverted as it is, and not as sampled
SAMPLES_PER_KNOT, MAX_SAMPLES = 8, 30_000_000  # of a B-spline that is sampled
Evaluate = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Step:
    """One transform of a chain, LPS, mm, as it is or its inverse."""

    transform: sitk.Transform
    inverse: bool = False


Transforms = sitk.Transform | Step | Sequence[sitk.Transform | Step]


def flat(transforms: Transforms) -> list[Step]:
    """T₁, T₂, … of T₁ ∘ T₂ ∘ … (the last one is applied to points first), none composite, no linear one inverse.

    InputError where a linear transform has no inverse, or a transform is not 3D.
    """
    if isinstance(transforms, sitk.Transform):
        transforms = Step(transforms)
    steps = [transforms] if isinstance(transforms, Step) else transforms
    return [part for step in steps for part in _parts(step if isinstance(step, Step) else Step(step))]


def inverse_of(transforms: Transforms) -> list[Step]:
    """(T₁ ∘ T₂ ∘ …)⁻¹ = … ∘ T₂⁻¹ ∘ T₁⁻¹."""
    return flat([Step(step.transform, not step.inverse) for step in reversed(flat(transforms))])


def _parts(step: Step) -> list[Step]:
    transform = step.transform
    if transform.GetDimension() != 3:
        raise InputError(f"a transform is {transform.GetDimension()}D; expected 3D transforms")
    if isinstance(transform, sitk.CompositeTransform) or transform.GetName() == "CompositeTransform":
        nested = sitk.CompositeTransform(transform)
        parts = [Step(nested.GetNthTransform(n), step.inverse) for n in range(nested.GetNumberOfTransforms())]
        return [part for each in (reversed(parts) if step.inverse else parts) for part in _parts(each)]
    if step.inverse and transform.IsLinear():
        matrix, offset = linear_parts(transform)
        if abs(np.linalg.det(matrix)) < 1e-9:
            raise InputError("a linear transform has no inverse; expected a matrix with a determinant that is not zero")
        back = np.linalg.inv(matrix)
        return [Step(sitk.AffineTransform(back.ravel().tolist(), (-back @ offset).tolist()))]
    return [step]


def map_points(points_mm: np.ndarray, transforms: Transforms) -> tuple[np.ndarray, np.ndarray]:
    """T(p) of points (N, 3), and how far T⁻¹ ∘ T leaves inverted steps from where they began, (N,) mm, at most.

    The second is near zero but where the map folds or jumps, so that its inverse has no value.
    """
    moved, error = np.array(points_mm, np.float64).reshape(-1, 3), np.zeros(len(points_mm))
    for step in reversed(flat(transforms)):
        if not step.inverse:
            moved = evaluator(step.transform)(moved)
        else:
            moved, off = _inverted(step.transform, moved)
            error = np.maximum(error, off)
    return moved, error


def mirrors(transforms: Transforms, point_mm: np.ndarray) -> bool:
    """Whether det(∂T/∂p) < 0 at a point."""
    sides = np.concatenate([point_mm + 0.5 * np.eye(3), point_mm - 0.5 * np.eye(3)])
    moved, _ = map_points(sides, transforms)
    return bool(np.linalg.det(moved[:3] - moved[3:]) < 0)


def evaluator(transform: sitk.Transform) -> Evaluate:
    """T of one transform as a function of points (N, 3)."""
    if transform.IsLinear():
        matrix, offset = linear_parts(transform)
        return lambda points: points @ matrix.T + offset
    if transform.GetName() == "DisplacementFieldTransform":
        return _field(sitk.DisplacementFieldTransform(transform).GetDisplacementField())
    return lambda points: np.array([transform.TransformPoint(point) for point in points.tolist()]).reshape(-1, 3)


def _field(image: sitk.Image) -> Evaluate:
    """p + u(p) of a field of vectors, trilinear; u is zero from half a voxel outside, as in ITK."""
    grid, back = Grid.of(image), np.linalg.inv(Grid.of(image).to_mm())
    vectors = torch.from_numpy(np.moveaxis(sitk.GetArrayFromImage(image), -1, 0).astype(np.float64))[None]
    upper = np.array(grid.size) - 0.5

    def evaluate(points: np.ndarray) -> np.ndarray:
        moved = points.copy()
        for start in range(0, len(points), POINTS_AT_ONCE):
            part = points[start : start + POINTS_AT_ONCE]
            voxels = (part - np.array(grid.origin_mm)) @ back.T
            where = torch.from_numpy(np.ascontiguousarray(voxels.T[::-1]))[None, :, :, None, None]
            found = sample(vectors, where, padding="border")[0, :, :, 0, 0].numpy().T
            inside = np.all((voxels >= -0.5) & (voxels <= upper), axis=1)
            moved[start : start + POINTS_AT_ONCE] += np.where(inside[:, None], found, 0.0)
        return moved

    return evaluate


def _inverted(transform: sitk.Transform, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if transform.GetName() == "DisplacementFieldTransform":
        field = sitk.DisplacementFieldTransform(transform).GetDisplacementField()
        return solve(evaluator(transform), points, 0.5 * min(field.GetSpacing()))
    if len(points) > MAX_EXACT_POINTS and transform.GetName() == "BSplineTransform":
        field = sampled(sitk.BSplineTransform(transform))
        return solve(_field(field), points, 0.5 * min(field.GetSpacing()))
    return solve(evaluator(transform), points, 0.5)


def sampled(transform: sitk.BSplineTransform) -> sitk.Image:
    """The displacements of a B-spline over its domain, so fine that lines between them are near the curve."""
    mesh, extent = np.array(transform.GetTransformDomainMeshSize()), transform.GetTransformDomainPhysicalDimensions()
    per_knot = max(1, min(SAMPLES_PER_KNOT, int((MAX_SAMPLES / mesh.prod()) ** (1 / 3))))
    size = per_knot * mesh + 1
    # Beyond its domain it is the identity: the outermost points must not fall there by rounding.
    edge = 1e-6 * np.array(extent)
    spacing = (np.array(extent) - 2 * edge) / (size - 1)
    direction = np.array(transform.GetTransformDomainDirection()).reshape(3, 3)
    origin = np.array(transform.GetTransformDomainOrigin()) + direction @ edge
    return sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, size.tolist(), origin.tolist(), spacing.tolist(), direction.ravel().tolist()
    )


def solve(evaluate: Evaluate, points: np.ndarray, step_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """q with T(q) = p by damped Newton's steps from p − (T(p) − p), and |T(q) − p|: (N, 3), (N,) mm.

    Derivatives are central differences over ± ``step_mm``.
    """
    found = 2 * points - evaluate(points)
    error = evaluate(found) - points
    off, damping = np.linalg.norm(error, axis=1), np.ones(len(points))
    for _ in range(MAX_ITERATIONS):
        rest = np.flatnonzero((off > TOLERANCE_MM) & (damping > MIN_DAMPING))
        if not len(rest):
            break
        change = _newton(evaluate, found[rest], error[rest], step_mm)
        trial = found[rest] - damping[rest, None] * change
        trial_error = evaluate(trial) - points[rest]
        trial_off = np.linalg.norm(trial_error, axis=1)
        better = trial_off < off[rest]
        kept = rest[better]
        found[kept], error[kept], off[kept] = trial[better], trial_error[better], trial_off[better]
        damping[kept] = np.minimum(1.0, 2 * damping[kept])
        damping[rest[~better]] *= 0.5
    return found, off


def _newton(evaluate: Evaluate, points: np.ndarray, error: np.ndarray, step_mm: float) -> np.ndarray:
    """J⁻¹ · error, or the error itself where J has no sound inverse."""
    steps = step_mm * np.eye(3)
    jacobian = np.stack([(evaluate(points + d) - evaluate(points - d)) / (2 * step_mm) for d in steps], axis=-1)
    sound = np.linalg.det(jacobian) > MIN_DETERMINANT
    change = error.copy()
    change[sound] = np.linalg.solve(jacobian[sound], error[sound][..., None])[..., 0]
    return change


def on_grid(transforms: Transforms, grid: Grid) -> tuple[sitk.Transform, float, float]:
    """T as ITK takes it for the voxel centres of a grid; the share of them that have no inverse, and how far off (mm).

    Where a step is an inverse that ITK has no formula for, T is a field of displacements, exact at those centres.
    """
    steps = flat(transforms)
    if not any(step.inverse for step in steps):
        return chain(*(step.transform for step in steps)), 0.0, 0.0
    vectors, bad, worst = np.empty((*grid.shape, 3)), 0, 0.0
    thickness = max(1, POINTS_AT_ONCE // int(np.prod(grid.shape[1:])))
    for low in range(0, grid.shape[0], thickness):
        high = min(low + thickness, grid.shape[0])
        index = np.indices((high - low, *grid.shape[1:])).reshape(3, -1).T + np.array([low, 0, 0])
        points = grid.points_mm(index)
        moved, error = map_points(points, steps)
        vectors[low:high] = (moved - points).reshape(vectors[low:high].shape)
        bad, worst = bad + int(np.count_nonzero(error > 10 * TOLERANCE_MM)), max(worst, float(error.max()))
    field = placed(vectors, grid, vectors=True)
    return sitk.DisplacementFieldTransform(field), bad / int(np.prod(grid.shape)), worst
