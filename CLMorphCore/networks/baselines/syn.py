"""SyN: symmetric normalisation by ANTs, run through ANTsPy (extra ``peers``) on each pair; nothing is trained.

Avants, Epstein, Grossman and Gee, Medical Image Analysis 2008: both images move half-way along the flows of two
time-dependent velocities that maximise their local cross-correlation and are smoothed by a Gaussian at every step.
Greedy SyN, the deformable stage alone, from the identity, as ANTs' script ``antsRegistrationSyN`` sets it (windows of
radius 2, 100×70×50×20 iterations).

Only the bridge is ours: images are passed in voxels, so that ANTs' displacements are in voxels too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from ...errors import InputError
from ..contract import Capabilities, Prediction, RegistrationNetwork, System
from ..halvings import Halvings

SEED = 1
IDENTITY = (1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)  # parameters of an affine transform


@dataclass(frozen=True)
class SynConfig:
    """Settings of the optimisation."""

    # the second is faster and less exact
    transform: Literal["antsRegistrationSyN[so]", "antsRegistrationSyNQuick[so]"] = "antsRegistrationSyN[so]"


class Syn(RegistrationNetwork):
    """SyN by ANTs, which must be installed: symmetric normalisation on each pair (Avants et al., MedIA 2008)

    (fixed, moving), each (B, 1, D, H, W) → Prediction with the inverse map; no weights. InputError without ANTsPy.
    The same answer each time on one thread; ITK takes its number of threads from torch when ANTs is first imported.
    """

    halvings = Halvings(4)  # ANTs' coarsest grid must keep a few voxels

    def __init__(self, config: SynConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, fixed: Tensor, moving: Tensor) -> Prediction:
        ants = import_ants()
        pairs = [self._register(ants, f[0], m[0]) for f, m in zip(fixed, moving, strict=True)]
        displacement, inverse = (torch.stack(fields).to(fixed.device) for fields in zip(*pairs, strict=True))
        return Prediction(displacement, inverse)

    def _register(self, ants: ModuleType, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        """Displacement and inverse (3, D, H, W) of images (D, H, W); ANTs' first axis is our z."""
        images = [ants.from_numpy(x.float().cpu().numpy()) for x in (fixed, moving)]
        with TemporaryDirectory() as folder:
            found = ants.registration(
                *images, self.config.transform, initial_transform="Identity", random_seed=SEED, outprefix=f"{folder}/"
            )
            forward, backward = (_field(ants, found[key]) for key in ("fwdtransforms", "invtransforms"))
        return forward, backward


def import_ants() -> ModuleType:
    """The module ``ants`` of ANTsPy; InputError where it is not installed."""
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", str(torch.get_num_threads()))
    try:
        return import_module("ants")
    except ImportError:
        raise InputError(
            "syn needs the package antspyx, which is not installed; pip install antspyx==0.6.3, or choose "
            "another `model`, for instance lddmm"
        ) from None


def _field(ants: ModuleType, paths: list[str]) -> Tensor:
    """The one displacement field among the files of a transform, (3, D, H, W); beside it lies the identity."""
    (field,) = (path for path in paths if Path(path).name.endswith("Warp.nii.gz"))
    assert all((ants.read_transform(path).parameters == IDENTITY).all() for path in paths if path != field)
    return torch.from_numpy(ants.image_read(field).numpy()).float().movedim(-1, 0).contiguous()


SYSTEM = System(
    SynConfig,
    Syn,
    {
        "data": {"spacing_mm": (0.0, 0.0, 0.0)},
        "loss": {"similarity": "lncc", "regulariser": "diffusion", "contrast": 0.0},  # nothing is trained
    },
    trained=False,
    capabilities=lambda _: Capabilities(inverse=True),
)
