"""Registering two images: one transform in physical space, T = D ∘ A, from fixed to moving."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from .atomic import atomic_folder
from .bundles.model import Model, affine_model
from .errors import InputError
from .geometry import (
    Grid,
    chain,
    displacement_transform,
    linear_parts,
    pasted,
    reach,
    resample,
    resample_labels,
    to_image,
    without_zeros,
)
from .guidance.initial import check_one_start, inverse_of, jacobian_through, landmarks_before, seen_through, split
from .guidance.landmarks import Guidance, Landmarks
from .guidance.masks import checked_mask
from .instance_optimization import InstanceOptimization
from .io.checksums import seal
from .io.outputs import check_results
from .io.transforms import write_transform
from .matching import Match, PreparedAtlas, align_scan, match, prepare_image, unlike_sizes
from .progress import Progress, Stopwatch, part, silent
from .spatial import folding_fraction, jacobian_determinant, refine_inverse, resize_field

TRANSFORMS, OPTIONAL = ("transform.h5", "affine.h5", "inverse.h5"), ("inverse.h5",)
MIRRORS = "the affine mirrors: what is left in one image lies right in the other; check that this is meant"
REPORT = "report.json"  # of the verb that made them, where one did
MAX_INVERSE_VOXELS = 2_000_000  # up to which an inverse is finer than the map: a file of 7 MB
MAX_SHIFT_MM, MAX_SHIFT_VOXELS = 0.01, 0.01  # by which rounding may displace a point, the lesser of the two
WARPED_BITS, JACOBIAN_BITS = 12, 9  # of these images that files keep: ± 0.02 % and ± 0.2 % of a value


@dataclass(frozen=True)
class Registration:
    """The map from fixed to moving, LPS, mm: warped(p) = moving(transform(p)).

    transform   T = D ∘ A, an ITK composite transform; ``inverse`` is T⁻¹, or None where the network gives none
    affine      A alone
    grid        of the fixed image
    jacobian    determinant of D (without the affine) on the network's grid or, after an optimization, on its finer one,
                in the moving image's space, and
    folding_fraction  the share of its voxels that are not above zero
    similarity  mean local normalised cross-correlation over the foreground: after the affine, after the deformation
    optimization_steps  on this pair after the network, at all resolutions
    duration_s  of the steps so far: ``affine``, ``network`` and, if there was one, ``refinement``
    unlike      that the two images are of sizes that those of one organ do not have; empty where they are not
    """

    transform: sitk.CompositeTransform
    inverse: sitk.CompositeTransform | None
    affine: sitk.Transform
    grid: Grid
    jacobian: sitk.Image
    folding_fraction: float
    similarity: tuple[float, float]
    optimization_steps: int
    duration_s: dict[str, float]
    unlike: str = ""

    def warp(self, image: sitk.Image, *, labels: bool = False, affine_only: bool = False) -> sitk.Image:
        """An image in the moving image's space, resampled once, onto the fixed image's own grid."""
        image = without_zeros(image)
        most = 0.0 if affine_only else self._most_moved_mm
        whole = slice(0, self.grid.shape[0]), slice(0, self.grid.shape[1]), slice(0, self.grid.shape[2])
        place = whole if math.isinf(most) else reach(self.grid, Grid.of(image), self.affine, most)
        transform, part = self.affine if affine_only else self.transform, self.grid.part(place)
        if labels:
            return pasted(resample_labels(image, part, transform), self.grid, place)
        return pasted(resample(image, part, transform, outside=0.0), self.grid, place)

    def jacobian_on_fixed(self) -> sitk.Image:
        """The determinant of the deformation on the fixed image's grid; 1 outside of the network's grid."""
        place = reach(self.grid, Grid.of(self.jacobian), self.affine)
        part = resample(self.jacobian, self.grid.part(place), self.affine, outside=1.0)
        return pasted(part, self.grid, place, outside=1.0)

    @cached_property
    def _most_moved_mm(self) -> float:
        """The greatest length of the deformation's displacements; ∞ after an initial transform that bends too."""
        if self.transform.GetNumberOfTransforms() > 2:
            return math.inf
        field = sitk.DisplacementFieldTransform(self.transform.GetNthTransform(0)).GetDisplacementField()
        return float(np.sqrt(np.square(sitk.GetArrayViewFromImage(field)).sum(axis=-1).max()))

    def warnings(self) -> list[str]:
        """What is doubtful about the map itself: an affine that was given may mirror, the images differ in size."""
        return [MIRRORS] * bool(np.linalg.det(linear_parts(self.affine)[0]) < 0) + [self.unlike] * bool(self.unlike)

    def save(self, folder: Path) -> None:
        """Writes transform.h5, affine.h5 and, where there is one, inverse.h5, all or none.

        OutputError where that fails, or would replace what is not as an earlier run has written it.
        """
        check_results(folder, TRANSFORMS, certificates=[REPORT], optional=OPTIONAL, record=REPORT)
        with atomic_folder(folder, optional=OPTIONAL, certificate=REPORT) as temporary:
            self.write(temporary)
            seal(temporary, folder, TRANSFORMS, REPORT)

    def write(self, folder: Path, prefix: str = "") -> None:
        """Writes the files of ``save`` as one part of what becomes of ``folder``, which is nobody's yet."""
        write_transform(self.transform, folder / f"{prefix}transform.h5")
        write_transform(chain(self.affine), folder / f"{prefix}affine.h5")
        if self.inverse is not None:
            write_transform(self.inverse, folder / f"{prefix}inverse.h5")


def register(
    fixed: sitk.Image,
    moving: sitk.Image | PreparedAtlas,
    model: Model | None = None,
    *,
    affine: sitk.Transform | None = None,
    optimization: InstanceOptimization | None = None,
    mask: sitk.Image | None = None,
    moving_mask: sitk.Image | None = None,
    moving_labels: sitk.Image | None = None,
    landmarks: Landmarks | None = None,
    initial: sitk.Transform | None = None,
    progress: Progress = silent,
) -> Registration:
    """The map that warps ``moving`` onto ``fixed``: the network's answer, optimized on this pair, or not.

    ``moving`` is an image, or what ``prepare`` or ``prepare_image`` made of it once for many scans; of several prepared
    atlases the first. ``affine`` maps fixed to moving (LPS, mm) and takes the place of the built-in alignment. The
    network works in the moving image's space, on a grid of the spacing it was trained with. Without a model the affine
    alignment is what is optimized, by default as ``InstanceOptimization()`` says.

    ``mask`` and ``moving_mask``, of an image that is not prepared, are above zero where the images count, each on its
    image's grid: what they leave out has no influence. ``landmarks`` start the affine alignment, where none is given,
    and pull an optimization. ``initial``, a transform of any kind from fixed to moving, is where the alignment begins,
    which goes on from its affine part; what it bends besides is in the result as it is. ``moving_labels`` help to align
    stacks of slices, by a model that wants it. Raises AlignmentError for images that do not overlap, InputError for
    masks that do not fit, and whatever ``progress`` raises.
    """
    if model is None:
        model, optimization = affine_model(), optimization or InstanceOptimization()
    watch = Stopwatch()
    with watch.step("network"):
        check_one_start(affine, initial)
        start, residual = (None, None) if initial is None else split(initial, Grid.of(fixed))
        prepared = _prepared(model, moving, moving_labels, moving_mask, residual)
    known = Guidance(mask, landmarks if residual is None else landmarks_before(landmarks, residual), start)
    scan = align_scan(
        fixed, prepared, model, affine=affine, guidance=known, watch=watch, step=lambda: progress("affine", 0.0)
    )
    progress("network", 0.05 if optimization else 0.5)
    found = match(scan, prepared, model, optimization=optimization, watch=watch, progress=part(progress, 0.1, 0.95))
    registration = registration_of(found, watch)
    if residual is not None:
        registration = _after(residual, registration, Grid.of(prepared.reference))
    progress("network", 1.0)
    return registration


def _prepared(
    model: Model,
    moving: sitk.Image | PreparedAtlas,
    labels: sitk.Image | None,
    mask: sitk.Image | None,
    residual: sitk.Transform | None,
) -> PreparedAtlas:
    """The moving image as it is seen through R, prepared; InputError where it is so already, and something is asked."""
    if isinstance(moving, PreparedAtlas):
        if mask is not None or residual is not None or labels is not None:
            raise InputError(
                "`moving_mask`, `moving_labels` or an `initial` that bends is given with what is prepared already; "
                "expected the moving image itself"
            )
        return moving
    if mask is not None:
        mask = checked_mask(mask, moving, "`moving_mask`")
    if residual is not None:
        moving = seen_through(moving, residual)
        labels, mask = (one and seen_through(one, residual, labels=True) for one in (labels, mask))
    return prepare_image(model, moving, labels, mask)


def _after(residual: sitk.CompositeTransform, found: Registration, moving: Grid) -> Registration:
    """R ∘ T of a registration T with the moving image as it is seen through R."""
    jacobian = jacobian_through(residual, found.jacobian, found.transform.GetNthTransform(0))
    determinants = sitk.GetArrayViewFromImage(jacobian)
    return replace(
        found,
        transform=chain(residual, found.transform),
        inverse=None if found.inverse is None else chain(found.inverse, inverse_of(residual, moving)),
        jacobian=jacobian,
        folding_fraction=float((determinants <= 0).mean()),
    )


@torch.inference_mode()
def registration_of(found: Match, watch: Stopwatch) -> Registration:
    """What was found on the network's grid as a map between images, in mm, with the times that ``watch`` took."""
    with watch.step("network"):
        determinant, backward = jacobian_determinant(found.displacement), None
        if found.inverse is not None:
            inverse = _exact_inverse(found.displacement, found.inverse)
            backward = chain(found.scan.to_fixed, _in_mm(inverse, found.grid.with_shape(inverse.shape[2:])))
        transform, similarity = transform_of(found), found.similarity()
    return Registration(
        transform=transform,
        inverse=backward,
        affine=found.scan.affine,
        grid=Grid.of(found.scan.image),
        jacobian=to_image(determinant, found.field_grid),
        folding_fraction=folding_fraction(determinant),
        similarity=similarity,
        optimization_steps=found.steps,
        duration_s=dict(watch.seconds),
        unlike=unlike_sizes(found.scan.image, found.moving.image),
    )


def transform_of(found: Match) -> sitk.CompositeTransform:
    """T = D ∘ A of a match, fixed → moving, LPS, mm."""
    return chain(_in_mm(found.displacement, found.field_grid), found.scan.affine)


def _in_mm(displacement: Tensor, grid: Grid) -> sitk.DisplacementFieldTransform:
    """D, rounded to a power of two so that a file of it is small and holds it exactly: all results are of this map."""
    most = min(MAX_SHIFT_MM, MAX_SHIFT_VOXELS * min(grid.spacing_mm))
    return displacement_transform(displacement, grid, step_mm=2.0 ** math.floor(math.log2(most * 2 / math.sqrt(3))))


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
