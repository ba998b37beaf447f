"""Registering two images: one transform in physical space, T = D ∘ A, from fixed to moving."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from .alignment import align, align_centres, closest_similarity
from .bundles.model import Model
from .errors import InputError
from .geometry import (
    Grid,
    chain,
    crop_padding,
    displacement_transform,
    linear_parts,
    resample,
    resample_labels,
    to_image,
)
from .instance_optimization import InstanceOptimization, optimize
from .io.transforms import write_transform
from .network_input import network_grid, network_input
from .networks import Prediction
from .progress import Progress, Stopwatch, part, silent
from .similarity import local_correlation_map
from .spatial import folding_fraction, invert, jacobian_determinant, refine_inverse, remove_folds, resize_field, warp

MAX_FINE_VOXELS = 10_000_000  # that a refinement looks at: 1 mm over a whole head
MAX_INVERSE_VOXELS = 2_000_000  # up to which an inverse is finer than the map: a file of 50 MB
EXTRA_PASSES = 2  # after the first, at stacks of slices


@dataclass(frozen=True)
class Pair:
    """Two images on the network's grid, (1, 1, D, H, W), normalised; the fixed one was brought there by the affine.

    ``features`` are what the network made of each of them, for whoever matches them again.
    """

    grid: Grid
    fixed: Tensor
    moving: Tensor
    features: tuple[Any, Any]

    def similarity(self, displacement: Tensor | None = None) -> float:
        """Mean local normalised cross-correlation over the fixed foreground, the moving image as it is or warped."""
        moving = self.moving if displacement is None else warp(self.moving, displacement)
        return local_correlation_map(self.fixed, moving)[self.fixed > self.fixed.min()].mean().item()


@dataclass(frozen=True)
class Registration:
    """The map from fixed to moving, LPS, mm: warped(p) = moving(transform(p)).

    transform   T = D ∘ A, an ITK composite transform; ``inverse`` is T⁻¹, or None where the network gives none
    affine      A alone
    grid        of the fixed image, and
    shown       the part of it that is no empty frame
    jacobian    determinant of D (without the affine) on the network's grid or, refined, on the refinement's, in the
                moving image's space
    similarity  mean local normalised cross-correlation over the foreground: after the affine, after the deformation
    duration_s  of the steps ``affine``, ``network`` and, if there was one, ``refinement``
    pair        what the network saw, and
    displacement  (1, 3, D, H, W) the map on its grid: its answer, refined or not
    unrefined   (1, 3, D, H, W) its own answer, the same as the displacement where nothing was refined
    classes     labels of the fixed image by a supervised network, on its grid in the moving image's space, or None;
                such a network deforms nothing, T is then A
    refinement_steps  taken on the pair after the network, at all resolutions
    """

    transform: sitk.CompositeTransform
    inverse: sitk.CompositeTransform | None
    affine: sitk.Transform
    grid: Grid
    shown: Grid
    jacobian: sitk.Image
    folding_fraction: float
    similarity: tuple[float, float]
    duration_s: dict[str, float]
    pair: Pair
    displacement: Tensor
    unrefined: Tensor
    classes: sitk.Image | None = None
    refinement_steps: int = 0

    def warp(self, image: sitk.Image, *, labels: bool = False, affine_only: bool = False) -> sitk.Image:
        """An image in the moving image's space, resampled once, onto the fixed image's own grid."""
        transform = self.affine if affine_only else self.transform
        if labels:
            return resample_labels(image, self.grid, transform)
        return resample(image, self.grid, transform, outside=0.0)

    def label(self, moving_labels: sitk.Image) -> sitk.Image:
        """Labels on the fixed image's own grid: the moving image's, warped, or a supervised network's classes."""
        if self.classes is None:
            return self.warp(moving_labels, labels=True)
        return resample_labels(self.classes, self.grid, self.affine)

    def jacobian_on_fixed(self) -> sitk.Image:
        """The determinant of the deformation on the fixed image's grid; 1 outside of the network's grid."""
        return resample(self.jacobian, self.grid, self.affine, outside=1.0)

    def save(self, folder: Path) -> None:
        """Writes transform.h5, affine.h5 and, where there is one, inverse.h5."""
        write_transform(self.transform, folder / "transform.h5")
        write_transform(chain(self.affine), folder / "affine.h5")
        if self.inverse is not None:
            write_transform(self.inverse, folder / "inverse.h5")


@torch.inference_mode()
def register(
    fixed: sitk.Image,
    moving: sitk.Image,
    model: Model,
    *,
    affine: sitk.Transform | None = None,
    moving_labels: sitk.Image | None = None,
    optimization: InstanceOptimization | None = None,
    progress: Progress = silent,
) -> Registration:
    """Registers ``moving`` to ``fixed`` with the model's network, whose answer is then refined on this pair, or not.

    ``affine`` maps fixed to moving and takes the place of the built-in alignment. The network works in the moving
    image's space, on a grid of the spacing it was trained with. Where the built-in alignment is by centres alone,
    as for stacks of slices, ``moving_labels`` say what is to lie right: EXTRA_PASSES further
    passes follow, each after the similarity transform in the slices' planes nearest to where the last one put them.
    """
    watch = Stopwatch()
    again = EXTRA_PASSES if affine is None and moving_labels is not None and model.config.by_centres else 0
    with watch.step("affine"):
        affine, to_fixed = affine_pair(fixed, moving, affine, model, lambda: progress("affine", 0.0))
    with watch.step("network"):
        progress("network", 0.05 if optimization else 0.5)
        data = model.config.data
        grid = network_grid(moving, data.spacing_mm, margin_voxels=data.margin_voxels, divisor=model.network.divisor)
        of_moving = network_input(moving, grid).to(model.device)
        features_of_moving = model.network.features_of(of_moving)
        of_fixed, features, prediction = _evaluated(fixed, grid, to_fixed, features_of_moving, model)
        for _ in range(again if prediction.inverse is not None else 0):
            to_fixed = _after(to_fixed, _similarity_of(prediction, grid, moving_labels))
            of_fixed, features, prediction = _evaluated(fixed, grid, to_fixed, features_of_moving, model)
            affine = to_fixed.GetInverse()
        pair, answer, steps = Pair(grid, of_fixed, of_moving, (features, features_of_moving)), prediction, 0
    if optimization is not None:
        with watch.step("refinement"):
            prediction, steps = refined(
                prediction, pair, fixed, moving, to_fixed, optimization, model, part(progress, 0.1, 0.95)
            )
    with watch.step("network"):
        found = registration_of(prediction, pair, fixed, affine, to_fixed, model)
        found = replace(found, unrefined=answer.displacement, refinement_steps=steps)
        progress("network", 1.0)
    found.duration_s.update(watch.seconds)
    return found


def _evaluated(
    fixed: sitk.Image, grid: Grid, to_fixed: sitk.Transform, features_of_moving: Any, model: Model
) -> tuple[Tensor, Any, Prediction]:
    """The fixed image on the network's grid, its features, and the network's answer."""
    of_fixed = network_input(fixed, grid, to_fixed).to(model.device)
    features = model.network.features_of(of_fixed)
    return of_fixed, features, model.network.match(features, features_of_moving)


def _similarity_of(prediction: Prediction, grid: Grid, labels: sitk.Image) -> sitk.AffineTransform:
    """The similarity transform nearest to the inverse deformation of the labelled voxels, in their slices' planes.

    In the moving image's space. Across thick slices the deformation is too uncertain to be followed.
    """
    inside = sitk.GetArrayViewFromImage(resample(labels, grid, labels=True)) > 0
    inverse = resize_field(prediction.inverse, grid.shape)[0].double().cpu().numpy()
    voxels = np.argwhere(inside)
    points, targets = (
        at[:, ::-1] @ grid.to_mm().T + np.array(grid.origin_mm) for at in (voxels, voxels + inverse[:, inside].T)
    )
    axes = np.array(labels.GetDirection()).reshape(3, 3)
    in_plane, shift = closest_similarity((points @ axes)[:, :2], (targets @ axes)[:, :2])
    matrix = np.eye(3)
    matrix[:2, :2] = in_plane
    return sitk.AffineTransform((axes @ matrix @ axes.T).ravel().tolist(), (axes[:, :2] @ shift).tolist())


def _after(first: sitk.Transform, second: sitk.AffineTransform) -> sitk.AffineTransform:
    """first ∘ second of two linear transforms as one."""
    matrix, offset = linear_parts(sitk.CompositeTransform([first, second]))
    return sitk.AffineTransform(matrix.ravel().tolist(), offset.tolist())


def for_model(settings: InstanceOptimization, model: Model) -> InstanceOptimization:
    """The settings as the model wants them: its fineness, the window of the local correlation it was trained with."""
    loss, window = model.config.loss, settings.window_voxels
    if window is None and loss.similarity == "lncc":
        window = max(loss.window_voxels)
    return replace(settings, window_voxels=window, every_voxel=model.config.refinement.every_voxel)


def refined(
    prediction: Prediction,
    pair: Pair,
    fixed: sitk.Image,
    moving: sitk.Image,
    to_fixed: sitk.Transform,
    settings: InstanceOptimization,
    model: Model,
    progress: Progress = silent,
) -> tuple[Prediction, int]:
    """The network's answer after refinement on the images themselves, and the steps that took.

    The images are looked at as finely as the moving one is stored, at most twice as finely as the network does. The
    inverse, where there is one, comes on that finer grid, the displacement on its own or the network's, whichever is
    finer.
    """
    grid = pair.grid.between_its_corners(fine_size(pair.grid, moving))
    images = [network_input(*image).to(pair.fixed.device) for image in ((fixed, grid, to_fixed), (moving, grid))]
    found = optimize(
        *images,
        prediction.displacement,
        for_model(settings, model),
        spacing_mm=grid.spacing_mm[::-1],
        progress=progress,
    )
    shape, inverse = pair.grid.shape, None
    finer = found.displacement.shape[2:].numel() > math.prod(shape)
    displacement = remove_folds(found.displacement if finer else resize_field(found.displacement, shape))
    if prediction.inverse is not None:  # a first guess, for Newton's steps on the finer grid
        inverse = resize_field(invert(resize_field(displacement, shape)), grid.shape)
    return replace(prediction, displacement=displacement, inverse=inverse), found.steps


def fine_size(grid: Grid, moving: sitk.Image) -> tuple[int, ...]:
    """Voxels (x, y, z) of the grid between the same corners with about the moving image's spacing.

    From the grid's own number to twice as many, odd, as the refinement's coarser fields want it; in between where that
    would be more voxels than MAX_FINE_VOXELS.
    """
    wanted = [
        min(max(s * (n - 1) / own + 1, n), 2 * n - 1)
        for n, s, own in zip(grid.size, grid.spacing_mm, Grid.of(moving).anatomical_spacing_mm(), strict=True)
    ]
    share = min(1.0, MAX_FINE_VOXELS / math.prod(wanted)) ** (1 / 3)
    return tuple(2 * round((max(n, w * share) + 1) / 2) - 1 for n, w in zip(grid.size, wanted, strict=True))


def first_alignment(
    fixed: sitk.Image, moving: sitk.Image, model: Model | None = None, *, step: Callable[[], None] = lambda: None
) -> sitk.AffineTransform:
    """A: fixed → moving, LPS, mm, as the model saw its pairs in training: affinely aligned, or by their centres."""
    return (
        align_centres(fixed, moving)
        if model is not None and model.config.by_centres
        else align(fixed, moving, step=step)
    )


def affine_pair(
    fixed: sitk.Image,
    moving: sitk.Image,
    affine: sitk.Transform | None,
    model: Model,
    step: Callable[[], None] = lambda: None,
) -> tuple[sitk.Transform, sitk.Transform]:
    """A and A⁻¹: the affine fixed → moving, ``affine`` where it is given, and its inverse.

    InputError where the moving image, brought there by it, lies beside the fixed one.
    """
    step()
    # Estimated from moving to fixed: the samples then lie on the atlas and do not depend on how the scan is stored.
    to_fixed = affine.GetInverse() if affine is not None else first_alignment(moving, fixed, model, step=step)
    corners = np.array(
        [
            fixed.TransformPhysicalPointToContinuousIndex(to_fixed.TransformPoint(point))
            for point in Grid.of(moving).corners_mm().tolist()
        ]
    )
    if (corners.max(axis=0) < -0.5).any() or (corners.min(axis=0) > np.array(fixed.GetSize()) - 0.5).any():
        raise InputError(
            "the fixed image (the scan) does not overlap the moving one (the atlas) after the affine; "
            "expected an affine that maps the former's points to the latter's (LPS, mm); check `affine`"
        )
    return (affine if affine is not None else to_fixed.GetInverse()), to_fixed


def registration_of(
    prediction: Prediction,
    pair: Pair,
    fixed: sitk.Image,
    affine: sitk.Transform,
    to_fixed: sitk.Transform,
    model: Model,
) -> Registration:
    """An answer about a pair as a map between images, in mm; of ``fixed`` the grids count."""
    determinant = jacobian_determinant(prediction.displacement)
    on_grid, backward = resize_field(prediction.displacement, pair.grid.shape), None
    if prediction.inverse is not None:
        inverse = _exact_inverse(prediction.displacement, prediction.inverse)
        size = inverse.shape[:1:-1]
        backward = chain(to_fixed, displacement_transform(inverse, pair.grid.between_its_corners(size)))
    return Registration(
        transform=chain(deformation(prediction, pair.grid), affine),
        inverse=backward,
        affine=affine,
        grid=Grid.of(fixed),
        shown=Grid.of(crop_padding(fixed)),
        jacobian=to_image(determinant, _field_grid(prediction, pair.grid)),
        folding_fraction=folding_fraction(determinant),
        duration_s={},
        pair=pair,
        similarity=(pair.similarity(), pair.similarity(on_grid)),
        displacement=on_grid,
        unrefined=on_grid,
    )


def _exact_inverse(displacement: Tensor, inverse: Tensor) -> Tensor:
    """The inverse, exact at the voxels of its grid or, where they are few, of one up to twice as fine.

    The network's is exact on the levels that it was made of, not between them; the inverse of a map that is linear
    between its voxels bends between its own, by a fifth of a voxel where much is moved.
    """
    shape = inverse.shape[2:]
    inverse = refine_inverse(inverse, displacement)
    factor = min((MAX_INVERSE_VOXELS / math.prod(shape)) ** (1 / 3), 2.0)
    if factor <= 1:
        return inverse
    fine = [round(factor * (n - 1)) + 1 for n in shape]
    return refine_inverse(resize_field(inverse, fine), displacement, iterations=1)


def _field_grid(prediction: Prediction, grid: Grid) -> Grid:
    """The grid of the prediction's displacement: the network's, or after a refinement a finer one of its corners."""
    shape = prediction.displacement.shape[2:]
    return grid if tuple(shape) == grid.shape else grid.between_its_corners(shape[::-1])


def deformation(prediction: Prediction, grid: Grid) -> sitk.DisplacementFieldTransform:
    """D, in mm, of a prediction on the network's grid or a finer one between its corners."""
    return displacement_transform(prediction.displacement, _field_grid(prediction, grid))
