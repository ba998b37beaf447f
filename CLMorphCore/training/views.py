"""Random views of a scan: the same anatomy as another sequence, coil or protocol would show it.

A network that sees views while its losses see the scans themselves learns what does not depend on contrast, and two
views of one scan are the positive pair that contrastive learning is made for (SimCLR: Chen et al., ICML 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..network_input import normalise
from ..spatial import gaussian, resize_image

KNOTS = 8  # of a curve of intensities: fluid, grey and white matter lie two or three apart
MAX_LOG_BIAS, BIAS_NODES = 0.4, 4  # the standard deviation of the nodes' logarithm, nodes along an axis
MAX_BLUR_VOXELS = 0.47  # standard deviation, in every direction; of a grid of 1.5 mm these are 0.7 and
MAX_SLICE_VOXELS = 4.0  # 6 mm, as people's scans have them
MAX_NOISE = 0.06  # standard deviation, of the range of the intensities
SD_OF_SLICE = 1 / 3.46  # a box of width 1 has the standard deviation 1/√12


def view(image: Tensor, rng: torch.Generator, *, spacing_mm: Sequence[float]) -> Tensor:
    """noise + blur(bias · curve(image)), normalised as a network's input is: (1, 1, D, H, W) → the same shape.

    The curve lies between none and a random one, which may invert; in half of the views one axis is blurred as thick
    slices are. Voxels at the image's minimum, its background, stay the darkest. ``spacing_mm`` is (z, y, x). A
    function of the generator's state; the noise depends on the image's device too.
    """
    inside = image > image.min()
    if not inside.any():
        return image
    low, high = image[inside].min(), image.max()
    changed = curve((image - low).clamp_min(0) / (high - low).clamp_min(1e-6), rng)
    nodes = MAX_LOG_BIAS * torch.rand((), generator=rng) * torch.randn((1, 1, *[BIAS_NODES] * 3), generator=rng)
    changed = changed * resize_image(nodes.to(image), image.shape[2:]).exp()
    changed = _blurred(changed, inside.to(image), _blur_mm(rng, min(spacing_mm)), spacing_mm)
    changed = changed + MAX_NOISE * torch.rand((), generator=rng).item() * _noise(changed, rng)
    return normalise(torch.where(inside, changed, changed[inside].min()))


def curve(image: Tensor, rng: torch.Generator) -> Tensor:
    """(1 − a)·x + a·r(x) for x in 0…1: r is linear between random values at equidistant knots, a uniform in 0…1."""
    values = torch.rand(KNOTS, generator=rng)
    strength = torch.rand((), generator=rng)
    values = ((1 - strength) * torch.linspace(0, 1, KNOTS) + strength * values).to(image)
    position = image * (KNOTS - 1)
    knot = position.floor().clamp(0, KNOTS - 2)
    fraction, index = position - knot, knot.long()
    return (1 - fraction) * values[index] + fraction * values[index + 1]


def _blur_mm(rng: torch.Generator, voxel_mm: float) -> list[float]:
    """Standard deviations (z, y, x): a little everywhere and, in half of the views, a slice's thickness on one axis."""
    everywhere, slice_share, thick = (torch.rand((), generator=rng).item() for _ in range(3))
    axis = int(torch.randint(3, (), generator=rng))
    of_slice = SD_OF_SLICE * MAX_SLICE_VOXELS * voxel_mm * slice_share if thick < 0.5 else 0.0
    return [max(MAX_BLUR_VOXELS * voxel_mm * everywhere, of_slice if a == axis else 0.0) for a in range(3)]


def _blurred(image: Tensor, inside: Tensor, blur_mm: Sequence[float], spacing_mm: Sequence[float]) -> Tensor:
    """G ∗ (image · inside) / G ∗ inside: the background does not bleed in, it was cut off after the scan."""
    sd_voxels = [mm / spacing for mm, spacing in zip(blur_mm, spacing_mm, strict=True)]
    return gaussian(image * inside, sd_voxels) / gaussian(inside, sd_voxels).clamp_min(1e-3)


def _noise(like: Tensor, rng: torch.Generator) -> Tensor:
    """N(0, 1) at every voxel, drawn where the image lies: on a CPU it would take longer than the training's step."""
    seed = int(torch.randint(2**62, (), generator=rng))
    there = torch.Generator(like.device).manual_seed(seed)
    return torch.randn(like.shape, generator=there, device=like.device, dtype=like.dtype)
