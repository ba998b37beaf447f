"""Greedy's deformable mode. Output: warp.nii.gz, inverse_warp.nii.gz (ITK fields, LPS, mm).

The warp is saved without Greedy's rounding to a tenth of a voxel (``-wp 0``); its inverse is computed after the clock
has stopped.
"""

from __future__ import annotations

import os
from importlib.metadata import version

from runner import Job, run


def register(job: Job) -> None:
    import SimpleITK as sitk
    from picsl_greedy import Greedy3D  # pyright: ignore[reportMissingImports]

    job.imported(version("picsl_greedy"))
    fixed, moving = (sitk.ReadImage(path, sitk.sitkFloat32) for path in (job.fixed, job.moving))
    greedy, common = Greedy3D(), f"-d 3 -threads {job.threads} -V 0 -wp 0"
    with job.registering():
        greedy.execute(
            f"{common} {job.settings['options']} -i fixed moving -o warp", fixed=fixed, moving=moving, warp=None
        )
    os.chdir(job.output)  # Greedy splits its command at spaces, which a folder's name may have
    sitk.WriteImage(greedy["warp"], "warp.nii.gz")
    greedy.execute(f"{common} -iw warp.nii.gz inverse_warp.nii.gz")


if __name__ == "__main__":
    run(register)
