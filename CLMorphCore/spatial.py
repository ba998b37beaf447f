"""Dense transformations on voxel grids as pure functions; the first line of each docstring is its equation.

Fields are tensors (B, 3, D, H, W) in voxels with components (z, y, x); images are (B, C, D, H, W). Voxel centres lie
at integer coordinates, so a zero displacement is the identity exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def identity_grid(shape: Sequence[int], *, like: Tensor) -> Tensor:
    """x: the voxel coordinates (1, 3, D, H, W) of a grid of that shape, components (z, y, x)."""
    axes = [torch.arange(n, dtype=like.dtype, device=like.device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def _normalised(points: Tensor, shape: Sequence[int]) -> Tensor:
    """2x / (n − 1) − 1: voxel coordinates (B, 3, …) → ``grid_sample`` coordinates (B, …, 3), components (x, y, z)."""
    scale = torch.tensor([2.0 / max(n - 1, 1) for n in shape], dtype=points.dtype, device=points.device)
    unit = points * scale.view(1, 3, *[1] * (points.ndim - 2)) - 1.0
    return unit.flip(1).movedim(1, -1)


def sample(image: Tensor, points: Tensor, *, mode: str = "bilinear", padding: str = "zeros") -> Tensor:
    """image(p) at voxel coordinates p.

    image (B, C, D, H, W); points (B, 3, D', H', W') → (B, C, D', H', W'). ``mode`` is ``bilinear`` (trilinear in 3D)
    or ``nearest``; outside the image lies zero or, with ``border``, its nearest voxel.
    """
    grid = _normalised(points, image.shape[2:])
    # Coordinates keep their precision: under mixed precision the image is raised to theirs, never the other way.
    return F.grid_sample(image.to(grid.dtype), grid, mode=mode, padding_mode=padding, align_corners=True)


def warp(image: Tensor, displacement: Tensor, *, mode: str = "bilinear", padding: str = "zeros") -> Tensor:
    """w(x) = image(x + u(x)), on the grid of the displacement u.

    image (B, C, D, H, W), displacement (B, 3, D, H, W) in voxels → (B, C, D, H, W).
    """
    points = displacement + identity_grid(displacement.shape[2:], like=displacement)
    return sample(image, points, mode=mode, padding=padding)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """w = second ∘ first: w(x) = first(x) + second(x + first(x)), displacements (B, 3, D, H, W) in voxels.

    Beyond the border a field goes on with its nearest value; zeros there would bend every path that leaves the grid.
    """
    return first + warp(second, first, padding="border")


def integrate(velocity: Tensor, steps: int = 7) -> Tensor:
    """u = exp(v) by scaling and squaring: u₀ = v / 2ⁿ, uₖ₊₁ = uₖ ∘ uₖ (Arsigny et al., MICCAI 2006).

    velocity (B, 3, D, H, W) in voxels → displacement of the same layout; ``integrate(-velocity)`` is its inverse.
    """
    displacement = velocity / 2**steps
    for _ in range(steps):
        displacement = compose(displacement, displacement)
    return displacement


def refine_inverse(inverse: Tensor, displacement: Tensor, iterations: int = 10) -> Tensor:
    """w ← w − [w + u(x + w)]: fixed-point steps from a near inverse w of the displacement u, both (B, 3, D, H, W).

    Converges where the field's slopes are below one (Chen et al., Medical Physics 2008); what is left is interpolation.
    """
    for _ in range(iterations):
        inverse = inverse - compose(inverse, displacement)
    return inverse


def resize_field(field: Tensor, shape: Sequence[int]) -> Tensor:
    """u'(x) = s · u(x / s): the same map on a grid of another shape that spans the same corners; voxels rescale.

    field (B, 3, D, H, W) → (B, 3, *shape).
    """
    if tuple(shape) == tuple(field.shape[2:]):
        return field
    ratio = [(n - 1) / max(m - 1, 1) for n, m in zip(shape, field.shape[2:], strict=True)]
    scale = torch.tensor(ratio, dtype=field.dtype, device=field.device).view(1, 3, 1, 1, 1)
    return F.interpolate(field, size=tuple(shape), mode="trilinear", align_corners=True) * scale


def resize_image(image: Tensor, shape: Sequence[int]) -> Tensor:
    """I'(x) = (G ∗ I)(x / s): an image on a grid of another shape that spans the same corners, without aliasing.

    image (B, C, D, H, W) → (B, C, *shape). G is a box as wide as the coarser voxel, so that averages stay.
    """
    if tuple(shape) == tuple(image.shape[2:]):
        return image
    factors = [max(1, round(n / m)) for n, m in zip(image.shape[2:], shape, strict=True)]
    if max(factors) > 1:
        # An even window would shift the image by half a voxel, and there is none wider than the image.
        odd = [min(f + 1 - f % 2, n - 1 + n % 2) for f, n in zip(factors, image.shape[2:], strict=True)]
        image = F.avg_pool3d(image, odd, stride=1, padding=[k // 2 for k in odd], count_include_pad=False)
    return F.interpolate(image, size=tuple(shape), mode="trilinear", align_corners=True)


def taper(field: Tensor, width: int | tuple[int, int, int]) -> Tensor:
    """u(x) · ∏ r(d(x) / width), r(t) = sin²(πt/2): fades to zero within ``width`` voxels (of each axis) of every face.

    A displacement that vanishes at the border of its grid goes on continuously as the identity outside, which is how
    ITK and Slicer read a displacement field.
    """
    widths = (width,) * 3 if isinstance(width, int) else width
    for axis, (n, reach) in enumerate(zip(field.shape[2:], widths, strict=True), start=2):
        index = torch.arange(n, dtype=field.dtype, device=field.device)
        distance = torch.minimum(index, n - 1 - index)
        ramp = torch.sin((distance / reach).clamp(max=1.0) * (torch.pi / 2)) ** 2
        field = field * ramp.view([-1 if a == axis else 1 for a in range(field.ndim)])
    return field


def derivative(field: Tensor, axis: int) -> Tensor:
    """∂f/∂x: central differences within, one-sided at the faces, along a spatial axis (0 = z, 1 = y, 2 = x)."""
    return torch.gradient(field, dim=axis + 2)[0]


def jacobian_determinant(displacement: Tensor) -> Tensor:
    """det(I + ∂u/∂x) in voxel space: (B, 3, D, H, W) → (B, 1, D, H, W); ≤ 0 is a fold."""
    rows = torch.stack([derivative(displacement, axis) for axis in range(3)], dim=2)  # (B, component, axis, …)
    (a, b, c), (d, e, f), (g, h, i) = (rows[:, k].unbind(1) for k in range(3))
    a, e, i = a + 1, e + 1, i + 1
    return (a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))[:, None]


def folding_fraction(determinant: Tensor) -> float:
    """Share of voxels with a Jacobian determinant ≤ 0."""
    return (determinant <= 0).float().mean().item()
