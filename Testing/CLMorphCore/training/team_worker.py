"""One process of a team: ``python team_worker.py JOBS.json``, each job [settings, folder, resume], on made-up volumes.

In double precision, where what is rounded otherwise does not grow: Adam's steps are as long for a gradient that is
nothing but rounding as for any other.
"""

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

from CLMorphCore.bundles.config import from_dict
from CLMorphCore.training.batches import Dataset, Volume
from CLMorphCore.training.loop import fit, follow
from CLMorphCore.training.processes import joined


def volumes(count: int = 5) -> list[Volume]:
    rng = torch.Generator().manual_seed(0)
    coarse = torch.randn((count, 1, 5, 5, 5), generator=rng)
    return [
        Volume(str(n), F.interpolate(image[None], size=(12, 12, 12), mode="trilinear"), None)
        for n, image in enumerate(coarse)
    ]


def main(jobs: list[tuple[dict, str, bool]]) -> None:
    torch.set_default_dtype(torch.float64)
    torch.float32, torch.Tensor.float = torch.float64, torch.Tensor.double
    with joined("cpu") as team:
        if not team.leads:
            return follow(team)
        data = Dataset(None, volumes(), [])
        for tree, folder, resume in jobs:
            fit(from_dict(tree), data, Path(folder), device=team.device, resume=resume, team=team)
        team.shared(None)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
