"""ANTsPy's ``registration``, deformable stage only. Output: warp.nii.gz, inverse_warp.nii.gz (ITK fields, LPS, mm)."""

from __future__ import annotations

import shutil
from pathlib import Path

from runner import Job, run

IDENTITY = (1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)  # of an affine transform


def register(job: Job) -> None:
    import ants  # pyright: ignore[reportMissingImports]

    job.imported(ants.__version__)
    fixed, moving = ants.image_read(job.fixed), ants.image_read(job.moving)
    with job.registering():
        result = ants.registration(
            fixed,
            moving,
            type_of_transform=job.settings["type_of_transform"],
            random_seed=1,
            outprefix=str(job.output / "ants_"),
        )
    for name, key in (("warp", "fwdtransforms"), ("inverse_warp", "invtransforms")):
        for path in result[key]:
            if path.endswith("Warp.nii.gz"):
                shutil.move(path, job.output / f"{name}.nii.gz")
            elif (ants.read_transform(path).parameters != IDENTITY).any():
                raise RuntimeError(f"expected a deformation alone, got {Path(path).name} beside it")


if __name__ == "__main__":
    run(register)
