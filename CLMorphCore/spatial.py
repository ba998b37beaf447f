"""Dense transformations on voxel grids as pure functions; the first line of each docstring is its equation.

Fields are tensors (B, 3, D, H, W) in voxels with components (z, y, x); images are (B, C, D, H, W). Voxel centres lie
at integer coordinates, so a zero displacement is the identity exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Interpolation = Literal["bilinear", "nearest"]  # bilinear: trilinear in 3D
Padding = Literal["zeros", "border"]  # what lies outside of an image: zero, or its nearest voxel

MIN_DETERMINANT = 0.1  # of the Jacobian, in Newton's steps
MAX_STEP = 2.0  # voxels
MIN_UNFOLDED = 0.02  # determinant that ``remove_folds`` leaves: positive whatever the rounding
MIN_POINTS = 8192  # of an image that are worth a thread of their own,
MAX_PARTS = 8  # and how many have one: in training each has a gradient of the whole image, until they are summed
MAX_ROUNDS, MAX_FOLDED = 100, 0.01  # rounds of ``remove_folds``; fraction of voxels that it can mend


def identity_grid(shape: Sequence[int], *, like: Tensor) -> Tensor:
    """x: the voxel coordinates (1, 3, D, H, W) of a grid of that shape, components (z, y, x)."""
    axes = [torch.arange(n, dtype=like.dtype, device=like.device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def _normalised(points: Tensor, shape: Sequence[int]) -> Tensor:
    """2x / (n − 1) − 1: voxel coordinates (B, 3, …) → ``grid_sample`` coordinates (B, …, 3), components (x, y, z)."""
    scale = torch.tensor([2.0 / max(n - 1, 1) for n in shape], dtype=points.dtype, device=points.device)
    unit = points * scale.view(1, 3, *[1] * (points.ndim - 2)) - 1.0
    return unit.flip(1).movedim(1, -1)


def sample(image: Tensor, points: Tensor, *, mode: Interpolation = "bilinear", padding: Padding = "zeros") -> Tensor:
    """image(p) at voxel coordinates p.

    image (B, C, D, H, W); points (B, 3, D', H', W') → (B, C, D', H', W'). ``mode`` is ``bilinear`` (trilinear in 3D)
    or ``nearest``; ``padding`` is what lies outside: ``zeros`` or, with ``border``, the nearest voxel.
    """
    grid = _normalised(points, image.shape[2:])
    # Coordinates keep their precision: under mixed precision the image is cast to theirs, never the other way round.
    image = image.to(grid.dtype)
    parts = _parts(image, grid)
    if parts == 1:
        return F.grid_sample(image, grid, mode=mode, padding_mode=padding, align_corners=True)
    # On a CPU torch gives each image of a batch one thread: of one image all but one would wait.
    channels, count, shape = image.shape[1], math.prod(grid.shape[1:4]), grid.shape[1:4]
    grid = F.pad(grid.reshape(count, 3), (0, 0, 0, -count % parts)).view(parts, 1, 1, -1, 3)
    image = image.expand(parts, -1, -1, -1, -1)
    found = F.grid_sample(image, grid, mode=mode, padding_mode=padding, align_corners=True)
    return found.movedim(0, 1).reshape(1, channels, -1)[..., :count].reshape(1, channels, *shape)


def _parts(image: Tensor, grid: Tensor) -> int:
    """How many batches the points of a grid (B, D, H, W, 3) are sampled in, side by side."""
    if image.device.type != "cpu" or len(image) > 1:
        return 1
    return max(1, min(math.prod(grid.shape[1:4]) // MIN_POINTS, torch.get_num_threads(), MAX_PARTS))


def warp(
    image: Tensor, displacement: Tensor, *, mode: Interpolation = "bilinear", padding: Padding = "zeros"
) -> Tensor:
    """w(x) = image(x + u(x)), on the grid of the displacement u.

    image (B, C, D, H, W), displacement (B, 3, D, H, W) in voxels → (B, C, D, H, W).
    """
    points = displacement + identity_grid(displacement.shape[2:], like=displacement)
    return sample(image, points, mode=mode, padding=padding)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """w = second ∘ first: w(x) = first(x) + second(x + first(x)), displacements (B, 3, D, H, W) in voxels.

    Beyond the border a field is extended by its nearest value; zeros would bend every path that leaves the grid.
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


def invert(displacement: Tensor, iterations: int = 10) -> Tensor:
    """w ← w − ½ [w + u(x + w)] from w = −u, then Newton's steps: w(x) = −u(x + w), both (B, 3, D, H, W).

    The damped fixed point converges where the map stretches less than fourfold (undamped: Chen et al., Medical Physics
    2008, below twofold).
    """
    inverse = -displacement
    for _ in range(iterations):
        inverse = inverse - 0.5 * compose(inverse, displacement)
    return refine_inverse(inverse, displacement, iterations=4)


def refine_inverse(inverse: Tensor, displacement: Tensor, iterations: int = 2) -> Tensor:
    """w ← w − J⁻¹ [w + u(x + w)], J = I + ∂u/∂x at x + w: Newton's steps from a near inverse w of u (B, 3, D, H, W).

    They also converge where the fixed point does not, where the map stretches strongly; the remaining error is that of
    interpolation. det J is taken as at least MIN_DETERMINANT, no step is longer than MAX_STEP. The two grids may differ
    if they span the same corners.
    """
    sides = zip(displacement.shape[2:], inverse.shape[2:], strict=True)
    unit = inverse.new_tensor([(n - 1) / max(m - 1, 1) for n, m in sides]).view(1, 3, 1, 1, 1)
    slopes = torch.cat([derivative(displacement, axis) for axis in range(3)], dim=1)  # ∂u/∂z, ∂u/∂y, ∂u/∂x
    known, grid = torch.cat([displacement, slopes], dim=1), identity_grid(inverse.shape[2:], like=inverse) * unit
    inverse = inverse * unit
    for _ in range(iterations):
        there = sample(known, grid + inverse, padding="border")
        error, (a, b, c) = inverse + there[:, :3], there[:, 3:].split(3, dim=1)  # columns of ∂u/∂x
        inverse = inverse - _solved(a, b, c, error).clamp(-MAX_STEP, MAX_STEP)
    return inverse / unit


def _solved(a: Tensor, b: Tensor, c: Tensor, right: Tensor) -> Tensor:
    """(I + [a b c])⁻¹ · right by Cramer's rule; all (B, 3, …)."""
    a, b, c = (
        column + column.new_tensor([float(n == m) for m in range(3)]).view(1, 3, 1, 1, 1)
        for n, column in enumerate((a, b, c))
    )
    rows = [_cross(b, c), _cross(c, a), _cross(a, b)]
    determinant = (a * rows[0]).sum(1, keepdim=True).clamp_min(MIN_DETERMINANT)
    return torch.cat([(row * right).sum(1, keepdim=True) for row in rows], dim=1) / determinant


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """a × b of the components; several times as fast as torch's own on fields."""
    return torch.stack([a[:, n - 2] * b[:, n - 1] - a[:, n - 1] * b[:, n - 2] for n in range(3)], dim=1)


def resize_field(field: Tensor, shape: Sequence[int]) -> Tensor:
    """u'(x) = s · u(x / s): the same map on a grid of another shape that spans the same corners; voxels rescale.

    field (B, 3, D, H, W) → (B, 3, *shape).
    """
    if tuple(shape) == tuple(field.shape[2:]):
        return field
    ratio = [(n - 1) / max(m - 1, 1) for n, m in zip(shape, field.shape[2:], strict=True)]
    scale = torch.tensor(ratio, dtype=field.dtype, device=field.device).view(1, 3, 1, 1, 1)
    if all(n in (m, 2 * m - 1) for n, m in zip(shape, field.shape[2:], strict=True)):
        return _doubled(field * scale, shape)
    return F.interpolate(field, size=tuple(shape), mode="trilinear", align_corners=True) * scale


def _doubled(field: Tensor, shape: Sequence[int]) -> Tensor:
    """Linear interpolation n → 2n − 1 along the axes that differ, several times as fast as in general."""
    for axis, n in enumerate(shape, start=2):
        if n != field.shape[axis]:
            lower, upper = field.narrow(axis, 0, n // 2), field.narrow(axis, 1, n // 2)
            between = torch.stack([lower, 0.5 * (lower + upper)], dim=axis + 1).flatten(axis, axis + 1)
            field = torch.cat([between, field.narrow(axis, n // 2, 1)], dim=axis)
    return field


def resize_image(image: Tensor, shape: Sequence[int]) -> Tensor:
    """I'(x) = (G ∗ I)(x / s): an image on a grid of another shape that spans the same corners, without aliasing.

    image (B, C, D, H, W) → (B, C, *shape). G is a box as wide as the coarser voxel, so that averages stay.
    """
    if tuple(shape) == tuple(image.shape[2:]):
        return image
    factors = [max(1, round(n / m)) for n, m in zip(image.shape[2:], shape, strict=True)]
    if max(factors) > 1:  # an even window would shift the image by half a voxel
        image = box_mean(image, tuple(f + 1 - f % 2 for f in factors))
    return F.interpolate(image, size=tuple(shape), mode="trilinear", align_corners=True)


def convolve(image: Tensor, kernel: Sequence[float], axis: int) -> Tensor:
    """Σₖ wₖ I(x + k − r) along a spatial axis (0 = z, 1 = y, 2 = x), kernel of 2r + 1 weights; zero outside.

    As a sum of shifted images, which for a few weights takes a fifth of the time of a pooling or a convolution.
    """
    reach, side = len(kernel) // 2, image.shape[axis + 2]
    padding = [reach if a == 2 - axis else 0 for a in range(3) for _ in range(2)]
    padded = F.pad(image, padding)
    total = kernel[0] * padded.narrow(axis + 2, 0, side)
    for shift, weight in enumerate(kernel[1:], start=1):
        total.add_(padded.narrow(axis + 2, shift, side), alpha=weight)
    return total


def box_mean(image: Tensor, window_voxels: int | tuple[int, ...]) -> Tensor:
    """Mean of the window (D, H, W) around every voxel; windows shrink at the faces and are no wider than the image."""
    widths = (window_voxels,) * 3 if isinstance(window_voxels, int) else window_voxels
    for axis, (side, width) in enumerate(zip(image.shape[2:], widths, strict=True), start=2):
        reach = min(width, side - 1 + side % 2) // 2
        index = torch.arange(side, dtype=image.dtype, device=image.device)
        within = (index + reach).clamp(max=side - 1) - (index - reach).clamp(min=0) + 1
        image = convolve(image, [1.0] * (2 * reach + 1), axis - 2)
        image = image / within.view([-1 if a == axis else 1 for a in range(image.ndim)])
    return image


def gaussian(field: Tensor, sd_voxels: Sequence[float]) -> Tensor:
    """K ∗ u with a Gaussian of standard deviations (z, y, x), cut at three of them; zero outside."""
    for axis, sd in enumerate(sd_voxels):
        reach = math.ceil(3 * sd)
        weights = [math.exp(-0.5 * (k / sd) ** 2) for k in range(-reach, reach + 1)] if reach else [1.0]
        field = convolve(field, [weight / sum(weights) for weight in weights], axis)
    return field


def halve(field: Tensor, shape: Sequence[int]) -> Tensor:
    """Every second voxel along the axes that the shape halves (2n − 1 → n), after weights ¼, ½, ¼; no rescaling."""
    for axis, n in enumerate(shape):
        if n != field.shape[axis + 2]:
            field = convolve(field, (0.25, 0.5, 0.25), axis)
            field = field[(slice(None),) * (axis + 2) + (slice(None, None, 2),)]
    return field.contiguous()


def taper(field: Tensor, width: int | tuple[int, int, int]) -> Tensor:
    """u(x) · ∏ r(d(x) / width), r(t) = sin²(πt/2): fades to zero within ``width`` voxels (of each axis) of every face.

    A displacement that vanishes at the border of its grid is continuous with the identity outside, which is how ITK and
    Slicer extend a displacement field.
    """
    widths = (width,) * 3 if isinstance(width, int) else width
    for axis, (n, reach) in enumerate(zip(field.shape[2:], widths, strict=True), start=2):
        index = torch.arange(n, dtype=field.dtype, device=field.device)
        distance = torch.minimum(index, n - 1 - index)
        ramp = torch.sin((distance / reach).clamp(max=1.0) * (torch.pi / 2)) ** 2
        field = field * ramp.view([-1 if a == axis else 1 for a in range(field.ndim)])
    return field


def derivative(field: Tensor, axis: int) -> Tensor:
    """∂f/∂x along a spatial axis (0 = z, 1 = y, 2 = x): central differences, one-sided at the faces."""
    return torch.gradient(field, dim=axis + 2)[0]


def jacobian_determinant(displacement: Tensor) -> Tensor:
    """det(I + ∂u/∂x) in voxel space: (B, 3, D, H, W) → (B, 1, D, H, W); ≤ 0 is a fold."""
    (a, d, g), (b, e, h), (c, f, i) = (derivative(displacement, axis).unbind(1) for axis in range(3))
    a, e, i = a + 1, e + 1, i + 1
    return (a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))[:, None]


def folding_fraction(determinant: Tensor) -> float:
    """Fraction of voxels with a Jacobian determinant ≤ 0."""
    return (determinant <= 0).float().mean().item()


def remove_folds(displacement: Tensor, minimum: float = MIN_UNFOLDED) -> Tensor:
    """u ← mean of u over 3³ voxels around those with det(I + ∂u/∂x) < minimum, until there are none: (B, 3, D, H, W).

    Elsewhere, and on the faces of its grid, the map is unchanged. A map that folds in more than MAX_FOLDED of its
    voxels is beyond repair and returned as it is; there are at most MAX_ROUNDS rounds.
    """
    return torch.cat([_without_folds(one, minimum) for one in displacement.split(1)])


def _without_folds(displacement: Tensor, minimum: float) -> Tensor:
    folded = (jacobian_determinant(displacement)[0, 0] < minimum).nonzero()
    if not 0 < len(folded) <= MAX_FOLDED * displacement[0, 0].numel():
        return displacement
    field, shape = displacement[0].clone(), torch.tensor(displacement.shape[2:], device=folded.device)
    for _ in range(MAX_ROUNDS):
        near = _around(folded, shape)
        near = near[((near > 0) & (near < shape - 1)).all(dim=1)]  # faces are unchanged
        field[(slice(None), *near.T)] = _at(field, _blocks(near)).mean(dim=-1)
        changed = _around(near, shape)
        folded = changed[_determinants_at(field, changed, shape) < minimum]
        if len(folded) == 0:
            break
    return field[None]


def _blocks(voxels: Tensor) -> Tensor:
    """The 3³ voxels (N, 27, 3) around each of the voxels (N, 3)."""
    steps = torch.arange(-1, 2, device=voxels.device)
    return voxels[:, None] + torch.cartesian_prod(steps, steps, steps)


def _around(voxels: Tensor, shape: Tensor) -> Tensor:
    """The voxels (M, 3) and their neighbours on a grid of that shape, each once."""
    blocks = _blocks(voxels).flatten(0, 1)
    z, y, x = blocks[((blocks >= 0) & (blocks < shape)).all(dim=1)].T
    index = ((z * shape[1] + y) * shape[2] + x).unique()  # many times as fast as unique rows
    return torch.stack([index // (shape[1] * shape[2]), index // shape[2] % shape[1], index % shape[2]], dim=1)


def _at(field: Tensor, voxels: Tensor) -> Tensor:
    """Values (C, …) of a field (C, D, H, W) at voxels (…, 3)."""
    return field[(slice(None), *voxels.unbind(-1))]


def _determinants_at(field: Tensor, voxels: Tensor, shape: Tensor) -> Tensor:
    """``jacobian_determinant`` (N,) of a displacement (3, D, H, W) at voxels (N, 3) alone."""
    columns = []
    for axis in range(3):
        step = torch.zeros_like(shape)
        step[axis] = 1
        upper, lower = torch.minimum(voxels + step, shape - 1), (voxels - step).clamp(min=0)
        columns.append((_at(field, upper) - _at(field, lower)) / (upper - lower).sum(dim=1) + step[:, None])
    return (columns[0] * torch.linalg.cross(columns[1], columns[2], dim=0)).sum(dim=0)
