"""FireANTs' greedy registration, on the CPU. Output: warp.nii.gz, inverse_warp.nii.gz (ITK fields, LPS, mm)."""

from __future__ import annotations

from importlib.metadata import version

from runner import Job, run


def register(job: Job) -> None:
    import torch
    from fireants.io import BatchedImages, Image
    from fireants.registration.greedy import GreedyRegistration

    job.imported(version("fireants"))
    torch.set_num_threads(job.threads)
    fixed, moving = (BatchedImages([Image.load_file(path, device="cpu")]) for path in (job.fixed, job.moving))
    with job.registering():
        registration = GreedyRegistration(fixed_images=fixed, moving_images=moving, progress_bar=False, **job.settings)
        registration.optimize()
    for name, inverse in (("warp", False), ("inverse_warp", True)):
        registration.save_as_ants_transforms([str(job.output / f"{name}.nii.gz")], save_inverse=inverse)


if __name__ == "__main__":
    run(register)
