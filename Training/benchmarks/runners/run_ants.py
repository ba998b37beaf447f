"""ANTsPy's ``registration``, deformable stage only. Output: warp.nii.gz, inverse_warp.nii.gz (ITK fields, LPS, mm)."""

from __future__ import annotations

import shutil
from pathlib import Path

from runner import Job, run


def register(job: Job) -> None:
    import ants

    job.imported(ants.__version__)
    fixed, moving = ants.image_read(job.fixed), ants.image_read(job.moving)
    with job.registering():
        found = ants.registration(fixed, moving, type_of_transform=job.settings["type_of_transform"], random_seed=1,
                                  outprefix=str(job.output / "ants_"))
    for name, key in (("warp", "fwdtransforms"), ("inverse_warp", "invtransforms")):
        fields = [path for path in found[key] if path.endswith("Warp.nii.gz")]
        others = [path for path in found[key] if path not in fields]
        if len(fields) != 1 or others:
            raise RuntimeError(f"expected one deformation from ANTs, got {[Path(p).name for p in found[key]]}")
        shutil.move(fields[0], job.output / f"{name}.nii.gz")


if __name__ == "__main__":
    run(register)
