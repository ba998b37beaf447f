"""PDD-Net: Heinrich, Closing the Gap between Deep and Conventional Image Registration, MICCAI 2019.

Siamese features f, m at half resolution; control points x at every fourth voxel; a dense, discrete space of
displacements d around each. The dissimilarity of every pair of them is

    C(x, d) = mean over channels of (f(x) − m(x + d))²,

the mean-field inference alternates between the two spaces: a min-convolution over displacements (the lower envelope of
the costs with a quadratic penalty, approximated by min- and average-pooling), then an average over neighbouring control
points, and

    C_{i+1} = a_i · C + b_i · mean_x(min_d(C_i)),    p(d | x) = softmax(−C_N),    u(x) = Σ_d p(d | x) · d,

with learned a_i, b_i > 0. u is enlarged trilinearly and smoothed. There is no inverse.

Simplified: a small dilated convolutional network takes the place of the OBELISK features, whose sampling positions are
learned; control points and displacements have steps of 4 and 2 voxels instead of fixed numbers (29³ and 15³) per image;
the training is unsupervised, by the similarity of the warped image, where the paper adds labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...spatial import box_mean, taper
from ..blocks import NORMS, Conv3d, Norm, conv_block, full_precision, initialise
from ..contract import RegistrationNetwork, System, TrainingPrediction
from ..halvings import Halvings

SHARPNESS = 10.0  # of the softmax before training: of unrelated features C is about 2


@dataclass(frozen=True)
class PDDNetConfig:
    """Settings of the network; memory and time grow with the product of ``capture_voxels``."""

    channels: int = 16  # of the features
    dilations: tuple[int, ...] = (1, 2, 4)  # of the convolutions at half resolution
    capture_voxels: tuple[int, int, int] = (8, 8, 8)  # largest displacement
    iterations: int = 2  # of the mean-field inference
    norm: Norm = "instance"  # of each convolution
    flat_levels: int = 0  # first halvings, in the plane alone: for slices much thicker than voxels are wide


class PDDNet(RegistrationNetwork):
    """(fixed, moving), each (B, 1, D, H, W) → Prediction."""

    def __init__(self, config: PDDNetConfig) -> None:
        super().__init__()
        self.halvings = Halvings(3, config.flat_levels)
        # Spacing of features and of displacements, in voxels; spacing of control points, in features.
        self.step, self.control = self.halvings.strides
        captured = config.capture_voxels
        self.radius = tuple(-(-reach // step) for reach, step in zip(captured, self.step, strict=True))
        self.features = _features(config, self.step)
        initialise(self)
        self.inference = MeanField(config.iterations)

    def forward(self, fixed: Tensor, moving: Tensor) -> TrainingPrediction:
        # Padded by one voxel at the far faces, so that control points lie on voxels 0, 4, 8, … and on the last one.
        both = F.pad(torch.cat([fixed, moving]), (0, 1, 0, 1, 0, 1 if self.divisor[0] > 1 else 0), mode="replicate")
        of_fixed, of_moving = self.features(both).float().chunk(2)
        cost = dissimilarity(of_fixed, of_moving, self.radius, self.control)
        probability = self.inference(cost, self.radius).softmax(dim=1)
        with full_precision(cost):
            field = torch.einsum("bkzyx,kc->bczyx", probability, self._displacements(cost))
        whole = F.interpolate(field, size=both.shape[2:], mode="trilinear", align_corners=True)
        width = tuple(n + 1 - n % 2 for n in self.divisor)  # the distance of control points
        smooth = box_mean(box_mean(whole, width), width)[:, :, : fixed.shape[2], : fixed.shape[3], : fixed.shape[4]]
        return TrainingPrediction(taper(smooth, self.halvings.taper_width()))

    def _displacements(self, like: Tensor) -> Tensor:
        """All displacements (K, 3), voxels of the image, components (z, y, x), in the order of the costs."""
        axes = [
            torch.arange(-r, r + 1, dtype=like.dtype, device=like.device) * step
            for r, step in zip(self.radius, self.step, strict=True)
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).view(-1, 3)


class MeanField(nn.Module):
    """Costs (B, K, D, H, W) → −C_N, of the same shape: the equations above; K runs over (2r + 1)³ displacements."""

    def __init__(self, iterations: int) -> None:
        super().__init__()
        weights = torch.ones(iterations, 2)
        weights[-1] *= SHARPNESS
        self.log_weights = nn.Parameter(weights.log())

    def forward(self, cost: Tensor, radius: tuple[int, ...]) -> Tensor:
        current = cost
        for own, neighbours in self.log_weights.exp():
            current = own * cost + neighbours * _average(_average(lower_envelope(current, radius)))
        return -current


def dissimilarity(fixed: Tensor, moving: Tensor, radius: tuple[int, ...], control: tuple[int, ...]) -> Tensor:
    """C(x, d) = mean_c (f_c(x) − m_c(x + d))²: features (B, C, D, H, W) → (B, K, …) at every ``control``-th voxel.

    K = ∏ (2 · radius + 1) displacements in voxels of the features, z slowest; the moving features are extended by their
    nearest value. Computed slice by slice of control points, again in the backward pass, so that memory holds the costs
    but never the shifted features.
    """
    points = fixed[:, :, :: control[0], :: control[1], :: control[2]]
    padded = F.pad(moving, [r for r in reversed(radius) for _ in range(2)], mode="replicate")
    slices = []
    for z in range(points.shape[2]):
        around = padded[:, :, z * control[0] : z * control[0] + 2 * radius[0] + 1]
        arguments = points[:, :, z], around, radius, control
        # Without gradients there is nothing to recompute, and checkpoint takes seconds to load.
        slices.append(
            checkpoint(_slice_cost, *arguments, use_reentrant=False)
            if torch.is_grad_enabled()
            else _slice_cost(*arguments)
        )
    return torch.stack(slices, dim=2)


def lower_envelope(cost: Tensor, radius: tuple[int, ...]) -> Tensor:
    """min_e (C(x, e) + |d − e|²), roughly: minimum over the 27 nearest displacements, then twice their average."""
    batch, count, *points = cost.shape
    space = cost.movedim(1, -1).reshape(-1, 1, *(2 * r + 1 for r in radius))
    space = _average(_average(-F.max_pool3d(-space, 3, stride=1, padding=1)))
    return space.view(batch, *points, count).movedim(-1, 1)


def _slice_cost(fixed: Tensor, moving: Tensor, radius: tuple[int, ...], control: tuple[int, ...]) -> Tensor:
    """(B, C, h, w) control points of a slice and (B, C, 2r + 1, H, W) around it → (B, K, h, w)."""
    shifted = moving.unfold(3, 2 * radius[1] + 1, control[1]).unfold(4, 2 * radius[2] + 1, control[2])
    difference = shifted.movedim(2, 4) - fixed[..., None, None, None]  # (B, C, h, w, dz, dy, dx)
    return difference.square().mean(dim=1).flatten(3).movedim(-1, 1)


def _average(volume: Tensor) -> Tensor:
    return box_mean(volume, 3)


def _features(config: PDDNetConfig, stride: tuple[int, int, int]) -> nn.Sequential:
    """(B, 1, D, H, W) → (B, channels, D/2, H/2, W/2): strided, then dilated convolutions, features normalised."""
    width = config.channels
    layers = [conv_block(1, width, stride=stride, norm=config.norm)]
    for dilation in config.dilations:
        layers.append(
            nn.Sequential(
                Conv3d(width, width, 3, padding=dilation, dilation=dilation),
                NORMS[config.norm](width),
                nn.LeakyReLU(0.2, inplace=True),
            )
        )
    return nn.Sequential(*layers, Conv3d(width, width, 1), NORMS[config.norm](width))


SYSTEM = System(
    PDDNetConfig,
    PDDNet,
    {
        "loss": {"similarity": "lncc", "regulariser": "diffusion", "smooth": 0.5, "contrast": 0.0},
        "training": {"batch_size": 1, "learning_rate": 1e-3, "schedule": "cosine"},
    },
)
