"""FireANTs' greedy registration, on the CPU, with images of at least 32 voxels along each axis, as it wants them.

Output: warp.nii.gz, inverse_warp.nii.gz (ITK fields, LPS, mm), on the padded grid.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from runner import Job, run

MINIMUM_SIDE = 32  # voxels; with less it stops, "ground truth has differing shape from pred"


def register(job: Job) -> None:
    import torch
    from fireants.io import BatchedImages  # pyright: ignore[reportMissingImports]
    from fireants.registration.greedy import GreedyRegistration  # pyright: ignore[reportMissingImports]

    job.imported(version("fireants"))
    torch.set_num_threads(job.threads)
    fixed, moving = (BatchedImages([padded(path)]) for path in (job.fixed, job.moving))
    with job.registering():
        registration = GreedyRegistration(fixed_images=fixed, moving_images=moving, progress_bar=False, **job.settings)
        registration.optimize()
    for name, inverse in (("warp", False), ("inverse_warp", True)):
        registration.save_as_ants_transforms([str(job.output / f"{name}.nii.gz")], save_inverse=inverse)


def padded(path: str) -> Any:
    """An image with its border repeated on both sides of the axes that are too short."""
    import SimpleITK as sitk
    from fireants.io import Image  # pyright: ignore[reportMissingImports]

    image = sitk.ReadImage(path, sitk.sitkFloat32)
    lacking = [max(0, MINIMUM_SIDE - n) for n in image.GetSize()]
    lower = [n // 2 for n in lacking]
    upper = [n - low for n, low in zip(lacking, lower, strict=True)]
    return Image(sitk.ZeroFluxNeumannPad(image, lower, upper), device="cpu")


if __name__ == "__main__":
    run(register)
