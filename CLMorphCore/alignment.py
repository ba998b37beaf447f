"""Affine alignment of two images in millimetres, on SimpleITK's optimisers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .geometry import foreground_box, grid_over, resample, without_frame
from .itk_files import read_transform

WORKING_VOXELS = 56  # of the longest side while aligning: more took longer and found the same twelve parameters


@dataclass(frozen=True)
class _Stage:
    """One run of the optimiser: image pyramid and step."""

    shrink: tuple[int, ...]
    smoothing_voxels: tuple[float, ...]
    iterations: int


RIGID = _Stage((4, 2), (2.0, 1.0), 80)
AFFINE = _Stage((2, 1), (1.0, 0.5), 100)


def align(fixed: sitk.Image, moving: sitk.Image, *, step: Callable[[], None] = lambda: None) -> sitk.AffineTransform:
    """A: the affine map fixed → moving (LPS, mm) of largest Mattes mutual information.

    Starts from the images' centres and from their centres of mass, goes on with the better one, first rigid, then
    with all twelve parameters. ``step`` is called at every iteration and may raise to stop (cancel).
    """
    fixed, moving = _working(fixed), _working(moving)
    starts = [_centred(fixed, moving, mode) for mode in (sitk.CenteredTransformInitializerFilter.GEOMETRY,
                                                         sitk.CenteredTransformInitializerFilter.MOMENTS)]
    rigid = min((_optimise(fixed, moving, start, RIGID, step) for start in starts), key=lambda found: found[1])[0]
    affine = sitk.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    best = _optimise(fixed, moving, affine, AFFINE, step)[0]
    return sitk.AffineTransform(best.GetMatrix(), best.GetTranslation(), best.GetCenter())


def read_affine(path: str | Path) -> sitk.Transform:
    """A linear transform fixed → moving from a file that ITK reads; InputError otherwise."""
    if not Path(path).exists():
        raise InputError(f"--affine {path} does not exist; expected none, or a transform file (.h5, .tfm, .mat)")
    transform = read_transform(Path(path))
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise InputError(f"--affine {path} holds a {transform.GetDimension()}D {transform.GetName()}; expected a "
                         "linear 3D transform from the image to the atlas")
    try:
        transform.GetInverse()
    except RuntimeError:
        raise InputError(f"--affine {path} has no inverse; expected a matrix with a determinant that is not "
                         "zero") from None
    return transform


def _working(image: sitk.Image) -> sitk.Image:
    """The image's foreground on an anatomically aligned, isotropic grid: the same for every storage order of a scan.

    The grid ends where the foreground ends: a dark rim around a scan that is cut out of a body would be an edge, and
    the rims of two cut-outs would be aligned instead of what is in them.
    """
    image = sitk.DICOMOrient(without_frame(image), "LPS")  # the same sums in the same order, whatever the storage
    lower, upper = foreground_box(image)
    spacing = max(float((upper - lower).max()) / WORKING_VOXELS, min(image.GetSpacing()))
    # A single voxel of a million times the rest would leave one bin of the histogram for everything else.
    low, high = np.percentile(sitk.GetArrayViewFromImage(image), (0.1, 99.9)).tolist()
    image = sitk.Clamp(sitk.Cast(image, sitk.sitkFloat32), sitk.sitkFloat32, low, high)
    for axis, own in enumerate(image.GetSpacing()):
        if spacing > 1.5 * own:  # fine detail would alias on the coarser grid
            image = sitk.RecursiveGaussian(image, 0.4 * spacing, direction=axis)
    return resample(image, grid_over(lower, upper, [spacing] * 3, margin_voxels=0, divisor=1))


def _centred(fixed: sitk.Image, moving: sitk.Image, mode: int) -> sitk.Euler3DTransform:
    return sitk.Euler3DTransform(sitk.CenteredTransformInitializer(fixed, moving, sitk.Euler3DTransform(), mode))


def _optimise(fixed: sitk.Image, moving: sitk.Image, start: sitk.Transform, stage: _Stage,
              step: Callable[[], None]) -> tuple[sitk.Transform, float]:
    """The transform found from ``start``, and its metric (lower is better)."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.5, seed=1)  # jittered samples: without a seed every run differs
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, stage.iterations, relaxationFactor=0.6,
                                                    gradientMagnitudeTolerance=1e-5)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(stage.shrink)
    method.SetSmoothingSigmasPerLevel(stage.smoothing_voxels)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(type(start)(start), inPlace=True)
    stopped: list[BaseException] = []
    method.AddCommand(sitk.sitkIterationEvent, lambda: _guarded(step, method, stopped))
    try:
        found = method.Execute(fixed, moving)
    except RuntimeError as error:
        raise InputError("the affine alignment failed: the images do not overlap or have too little contrast "
                         f"({str(error).splitlines()[-1].strip()}); pass --affine FILE or --affine none") from None
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
