"""SimpleITK's diffeomorphic demons on a pyramid. Output: warp.nii.gz (ITK field, LPS, mm)."""

from __future__ import annotations

from typing import Any

from runner import Job, run

MINIMUM_SIDE = 16  # voxels: a shorter axis is not halved


def register(job: Job) -> None:
    import SimpleITK as sitk

    job.imported(sitk.Version.VersionString())
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(job.threads)
    fixed, moving = (sitk.ReadImage(path, sitk.sitkFloat32) for path in (job.fixed, job.moving))
    with job.registering():
        field = demons(sitk, fixed, moving, **job.settings)
    sitk.WriteImage(field, str(job.output / "warp.nii.gz"))


def demons(sitk: Any, fixed: Any, moving: Any, shrink: list[int], iterations: list[int], sigma_voxels: float) -> Any:
    """The displacement field after the last level; histograms are matched first, as the demons' force asks for."""
    moving = sitk.HistogramMatching(moving, fixed, 256, 15, True)
    method = sitk.DiffeomorphicDemonsRegistrationFilter()
    method.SetSmoothDisplacementField(True)
    method.SetStandardDeviations(sigma_voxels)
    field = sitk.Image(fixed.GetSize(), sitk.sitkVectorFloat64)
    field.CopyInformation(fixed)
    for factor, steps in zip(shrink, iterations, strict=True):
        coarse_fixed, coarse_moving = (coarse(sitk, image, factor) for image in (fixed, moving))
        method.SetNumberOfIterations(steps)
        field = method.Execute(coarse_fixed, coarse_moving, sitk.Resample(field, coarse_fixed))
    return field


def coarse(sitk: Any, image: Any, factor: int) -> Any:
    """The image smoothed and shrunk along the axes that stay long enough."""
    factors = [factor if n >= factor * MINIMUM_SIDE else 1 for n in image.GetSize()]
    sigmas = [0.5 * f * s if f > 1 else 0.0 for f, s in zip(factors, image.GetSpacing(), strict=True)]
    for axis, sigma in enumerate(sigmas):
        if sigma:
            image = sitk.RecursiveGaussian(image, sigma, direction=axis)
    return sitk.Shrink(image, factors)


if __name__ == "__main__":
    run(register)
