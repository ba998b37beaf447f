"""ConvexAdam on MIND features. Output: displacement_ijk.npy (X, Y, Z, 3), in voxels along i, j, k of the file."""

from __future__ import annotations

from importlib.metadata import version

from runner import Job, run


def register(job: Job) -> None:
    import numpy as np
    import SimpleITK as sitk
    import torch
    from convexAdam.convex_adam_MIND import convex_adam_pt  # pyright: ignore[reportMissingImports]

    job.imported(version("convexadam"))
    torch.set_num_threads(job.threads)
    fixed, moving = (
        sitk.GetArrayFromImage(sitk.ReadImage(path)).T.astype(np.float32) for path in (job.fixed, job.moving)
    )
    with job.registering():
        # Half precision, the default, is for graphics cards.
        displacement = convex_adam_pt(fixed.copy(), moving.copy(), dtype=torch.float32, **job.settings)
    np.save(job.output / "displacement_ijk.npy", displacement)


if __name__ == "__main__":
    run(register)
