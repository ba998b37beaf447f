"""Affine alignment of two images in millimetres: by mutual information, on SimpleITK's optimisers, then polished."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import SimpleITK as sitk

from .aligning.polish import NO_MASKS, Masks, polished
from .errors import InputError
from .geometry import Grid, crop_padding, foreground_box, grid_over, linear_parts, reach, resample
from .guidance.masks import WHOLE
from .io.itk import reason
from .progress import deferred

WORKING_VOXELS = 56  # of the longest side while aligning: more took longer and found the same twelve parameters
# Of the working images' voxels: slices farther apart than so many leave local correlation nothing but what lies between
# them, which is interpolated (hearts: affine Dice .36 → .32). A polish that moves a corner by more, or keeps less of
# the information, has found something else: good ones moved up to 1.5, three pairs of crops more, and kept .957; on
# hearts they moved 15 and kept .74.
MAX_SLICE_VOXELS = 2.0
MAX_POLISH_VOXELS = 1.5
MIN_INFORMATION = 0.95
TURN_VOXELS = 80  # of the longest side of what turns are tried on: 3 mm of a head


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


def align(
    fixed: sitk.Image,
    moving: sitk.Image,
    *,
    masks: Masks = NO_MASKS,
    start: sitk.Transform | None = None,
    step: Callable[[], None] = lambda: None,
) -> sitk.AffineTransform:
    """A: the affine map fixed → moving (LPS, mm) of largest Mattes mutual information, polished by local correlation.

    Starts from the images' centres and from their centres of mass, goes on with the better one, first rigid, then
    with all twelve parameters, or at once with these from ``start``, a linear map. ``masks`` say where each image, on
    its grid, counts. ``step`` is called at every iteration and may raise to stop (cancel). InputError where no start
    leads anywhere.
    """
    slices_mm = max(*fixed.GetSpacing(), *moving.GetSpacing())
    fixed, moving = _working(fixed), _working(moving)
    masks = _working_mask(masks[0], fixed), _working_mask(masks[1], moving)
    affine = sitk.AffineTransform(3)
    if start is None:
        rigid = _rigid(fixed, moving, masks, step)
        affine.SetCenter(rigid.GetCenter())
        affine.SetMatrix(rigid.GetMatrix())
        affine.SetTranslation(rigid.GetTranslation())
    else:
        centre = Grid.of(fixed).corners_mm().mean(axis=0)
        matrix, offset = linear_parts(start)
        affine.SetCenter(centre.tolist())
        affine.SetMatrix(matrix.ravel().tolist())
        affine.SetTranslation((offset + matrix @ centre - centre).tolist())
    best = sitk.AffineTransform(_optimise(fixed, moving, affine, AFFINE, step, masks)[0])
    found = sitk.AffineTransform(best.GetMatrix(), best.GetTranslation(), best.GetCenter())
    if slices_mm > MAX_SLICE_VOXELS * max(*fixed.GetSpacing(), *moving.GetSpacing()):
        return found
    finer = polished(fixed, moving, found, masks=masks, step=step)
    return finer if _agree(fixed, moving, found, finer, masks) else found


def _working_mask(mask: sitk.Image | None, working: sitk.Image) -> sitk.Image | None:
    """A mask on the grid of a working image: 1 where that is interpolated from counted voxels alone."""
    return None if mask is None else resample(mask, Grid.of(working)) > WHOLE


def _agree(
    fixed: sitk.Image,
    moving: sitk.Image,
    found: sitk.AffineTransform,
    finer: sitk.AffineTransform,
    masks: Masks = NO_MASKS,
) -> bool:
    """Whether the second is the first made more exact: no corner lies far off, nor is information lost."""
    spacing = min(*fixed.GetSpacing(), *moving.GetSpacing())
    corners = Grid.of(fixed).corners_mm().tolist()
    moved = max(math.dist(found.TransformPoint(p), finer.TransformPoint(p)) for p in corners)
    before, after = (_information(fixed, moving, each, masks) for each in (found, finer))
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


def _information(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform, masks: Masks = NO_MASKS) -> float:
    """Mattes mutual information of fixed and the moving image seen through the transform; 0 where they do not meet."""
    method = _method(masks)
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


def _rigid(fixed: sitk.Image, moving: sitk.Image, masks: Masks, step: Callable[[], None]) -> sitk.Euler3DTransform:
    """The better one of the rigid maps found from two starts, or that of the one start that leads anywhere."""
    found, failed = [], []
    for mode in (sitk.CenteredTransformInitializerFilter.GEOMETRY, sitk.CenteredTransformInitializerFilter.MOMENTS):
        try:
            with _itk_errors():
                start = sitk.CenteredTransformInitializer(fixed, moving, sitk.Euler3DTransform(), mode)
            found.append(_optimise(fixed, moving, sitk.Euler3DTransform(start), RIGID, step, masks))
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
        why = f"the images do not overlap or have too little contrast ({reason(str(error))})"
        if "minimum of four pixels" in str(error):
            why = (
                "one of the images is too thin for it in some direction, or has too little contrast (what it shows has "
                "fewer than 4 voxels there)"
            )
        raise InputError(
            f"the affine alignment failed: {why}; pass `affine`, a transform of your own or none"
        ) from None


def _method(masks: Masks) -> sitk.ImageRegistrationMethod:
    """Mattes mutual information where both images count."""
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfWorkUnits(1)  # several sum in an order of chance, and every run ends a little elsewhere
    method.SetMetricAsMattesMutualInformation(32)
    if masks[0] is not None:
        method.SetMetricFixedMask(masks[0])
    if masks[1] is not None:
        method.SetMetricMovingMask(masks[1])
    return method


def _optimise(
    fixed: sitk.Image,
    moving: sitk.Image,
    start: sitk.Transform,
    stage: _Stage,
    step: Callable[[], None],
    masks: Masks = NO_MASKS,
) -> tuple[sitk.Transform, float]:
    """The transform found from ``start``, and its metric (lower is better)."""
    method = _method(masks)
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
