"""VTN, the Volume Tweening Network of Zhao, Lau, Luo, Chang and Xu, IEEE JBHI 24(5), 2020 (arXiv:1902.05020).

An affine stage, then a cascade of dense stages. Each takes the fixed image and the moving image warped by the current
map u, predicts a field f and updates the map: u ← f ⋆ u, (f ⋆ u)(x) = f(x) + u(x + f(x)) (equation 3); it is always the
original moving image that is warped. The affine stage regresses A and b of f(x) = A (x − c) + b, c the grid's centre.

The loss: 1 − correlation of the fixed image with the moving one as warped after every stage (equation 7; those before
the last are ``coarse``), the squared differences of each dense stage's field (``regularised``), and for the affine
stage (``penalty``) L_ortho = −6 + Σ (λ² + λ⁻²) over the singular values λ of I + A, L_det = (det(I + A) − 1)².

The border: an affine field does not vanish there, while beyond its grid a map is taken as the identity. So the field of
every stage is tapered: compositions of maps that are the identity at the border are the identity there too, and the
next stage gets the image as it is really warped and can correct it. A stage that moves the border by more than 2.5
voxels folds within the margin of 4 voxels, which is background in volumes that have one; in volumes that were aligned
affinely, stages move it by less.

Simplified: four halvings instead of six and fewer channels, one prediction per dense stage, at half the resolution as
the paper's last but one; the invertibility loss is omitted. Geometry is in voxels: on an anisotropic grid, rotations
incur a small penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...spatial import compose, identity_grid, taper, warp
from ..blocks import FieldUNet, Norm, StridedEncoder, check_field_level, full_precision, initialise
from ..contract import RegistrationNetwork, System, TrainingPrediction
from ..halvings import Halvings


@dataclass(frozen=True)
class VtnConfig:
    """Settings of the network."""

    channels: tuple[int, ...] = (16, 32, 64, 128)  # of every stage's encoder, half the image's resolution first
    decoder: tuple[int, ...] = (64, 64, 32, 16)  # of the dense stages, coarsest first; any further ones at the finest
    cascades: int = 2  # dense stages
    norm: Norm = "none"  # of each convolution
    field_level: int = 1  # level at which the dense stages predict; 0 is the image's resolution
    flat_levels: int = 0  # first halvings, in the plane alone: for slices much thicker than voxels are wide

    def __post_init__(self) -> None:
        check_field_level(self.field_level, self.channels)


class Vtn(RegistrationNetwork):
    """(fixed, moving), each (B, 1, D, H, W) → Prediction."""

    def __init__(self, config: VtnConfig) -> None:
        super().__init__()
        self.halvings = Halvings(len(config.channels) + 1, config.flat_levels)
        self.affine = AffineStage(config.channels, self.halvings, norm=config.norm)
        self.dense = nn.ModuleList(
            FieldUNet(config.channels, config.decoder, self.halvings, norm=config.norm, field_level=config.field_level)
            for _ in range(config.cascades)
        )

    def forward(self, fixed: Tensor, moving: Tensor) -> TrainingPrediction:
        matrix, shift = self.affine(fixed, moving)
        steps = [self._fade(affine_field(matrix, shift, fixed.shape[2:]))]
        maps = list(steps)
        for stage in self.dense:
            steps.append(self._fade(stage(fixed, warp(moving, maps[-1], padding="border"))))
            maps.append(compose(steps[-1], maps[-1]))
        return TrainingPrediction(
            maps[-1], coarse=tuple(maps[-2::-1]), regularised=torch.cat(steps[1:]), penalty=affine_penalty(matrix)
        )

    def _fade(self, field: Tensor) -> Tensor:
        return taper(field, self.halvings.taper_width())


class AffineStage(nn.Module):
    """(fixed, moving) → A (B, 3, 3) and b (B, 3) in voxels, zero at the start: from features pooled to 2×2×2.

    b is regressed in halves of the sides, so that each of the twelve numbers moves the corners about equally far.
    """

    def __init__(self, channels: Sequence[int], halvings: Halvings, *, norm: Norm) -> None:
        super().__init__()
        self.encoder = StridedEncoder([2, *channels], halvings, norm=norm)
        self.head = nn.Linear(8 * channels[-1], 12)
        initialise(self)
        nn.init.normal_(self.head.weight, 0.0, 1e-5)

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        coarsest = self.encoder(torch.cat([fixed, moving], dim=1))[-1]
        numbers = self.head(F.adaptive_avg_pool3d(coarsest, 2).flatten(1)).float()
        half = torch.tensor([n / 2 for n in fixed.shape[2:]], device=numbers.device)
        return numbers[:, :9].view(-1, 3, 3), numbers[:, 9:] * half


def affine_field(matrix: Tensor, shift: Tensor, shape: torch.Size) -> Tensor:
    """f(x) = A (x − c) + b with c the grid's centre: (B, 3, 3), (B, 3) in voxels → (B, 3, *shape)."""
    centre = torch.tensor([(n - 1) / 2 for n in shape], dtype=matrix.dtype, device=matrix.device)
    offset = identity_grid(shape, like=matrix)[0] - centre.view(3, 1, 1, 1)
    with full_precision(matrix):
        return torch.einsum("bij,jdhw->bidhw", matrix, offset) + shift.view(-1, 3, 1, 1, 1)


def affine_penalty(matrix: Tensor) -> Tensor:
    """L_ortho + L_det, mean over (B, 3, 3): zero where I + A is a rotation.

    Sums over singular values are Frobenius norms: Σ λ² = |I + A|², Σ λ⁻² = |(I + A)⁻¹|².
    """
    whole = matrix + torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    stretch = whole.pow(2).sum((1, 2)) + torch.linalg.inv(whole).pow(2).sum((1, 2)) - 6.0
    return (stretch + (torch.linalg.det(whole) - 1.0) ** 2).mean()


# Weights of the sums over stages: ours are means over stages and components, hence the factors 2 (coarse) and 2 · 3.
SYSTEM = System(
    VtnConfig,
    Vtn,
    {
        "loss": {
            "similarity": "ncc",
            "coarse": 2.0,
            "regulariser": "diffusion",
            "smooth": 6.0,
            "penalty": 0.1,
            "contrast": 0.0,
        },
        "training": {"batch_size": 4, "learning_rate": 1e-4, "decay_factor": 1.0},
    },
)
