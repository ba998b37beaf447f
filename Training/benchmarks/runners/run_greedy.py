"""Greedy's deformable mode. Output: warp.nii.gz, inverse_warp.nii.gz (ITK fields, LPS, mm).

The warp is saved without Greedy's rounding to a tenth of a voxel (``-wp 0``); its inverse is computed after the clock
has stopped.
"""

from __future__ import annotations

from importlib.metadata import version

from runner import Job, run


def register(job: Job) -> None:
    import SimpleITK as sitk
    from picsl_greedy import Greedy3D

    job.imported(version("picsl_greedy"))
    fixed, moving = (sitk.ReadImage(path, sitk.sitkFloat32) for path in (job.fixed, job.moving))
    greedy, common = Greedy3D(), f"-d 3 -threads {job.threads} -V 0 -wp 0"
    with job.registering():
        greedy.execute(f"{common} {job.settings['options']} -i fixed moving -o warp", fixed=fixed, moving=moving,
                       warp=None)
    greedy.execute(f"{common} -iw warp inverse_warp", inverse_warp=None)
    for name in ("warp", "inverse_warp"):
        sitk.WriteImage(greedy[name], str(job.output / f"{name}.nii.gz"))


if __name__ == "__main__":
    run(register)
