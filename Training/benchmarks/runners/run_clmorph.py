"""``clmorph register`` with a model: a shipped one, or any other by its folder. Output: transform.h5, inverse.h5."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from runner import Job, run


def register(job: Job) -> None:
    from CLMorphCore import __version__, commands  # noqa: F401  torch and ITK come with it
    from CLMorphCore.cli import main

    job.imported(__version__)
    code = main(
        [
            "register",
            job.fixed,
            job.moving,
            "--model",
            job.settings["model"],
            "--affine",
            "none",
            "--device",
            "cpu",
            "--threads",
            str(job.threads),
            "--progress",
            "none",
            "-o",
            str(job.output),
            *job.settings["arguments"],
        ]
    )
    if code:
        sys.exit(code)
    report = json.loads((job.output / "report.json").read_text(encoding="utf-8"))
    job.seconds = sum(report["duration_s"].values())  # without reading files and weights, and without writing


if __name__ == "__main__":
    run(register)
