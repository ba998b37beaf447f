"""Registering two images: one transform in physical space, T = D ∘ A, from fixed to moving."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk
import torch

from .alignment import align
from .data import network_grid, network_input
from .errors import CLMorphError
from .geometry import Grid, chain, displacement_transform, resample, resample_labels, to_image
from .itk_files import write_transform
from .losses import local_correlation_map
from .models import Model
from .networks import Prediction
from .progress import Progress, Stopwatch, silent
from .spatial import folding_fraction, jacobian_determinant, refine_inverse, warp


@dataclass(frozen=True)
class Registration:
    """The map from fixed to moving, LPS, mm: warped(p) = moving(transform(p)).

    transform   T = D ∘ A, an ITK composite transform; ``inverse`` is T⁻¹, or None where the network gives none
    affine      A alone
    grid        of the fixed image
    jacobian    determinant of D (without the affine) on the network's grid, in the moving image's space
    similarity  mean local normalised cross-correlation over the foreground: after the affine, after the deformation
    duration_s  of the steps ``affine`` and ``network``
    classes     labels of the fixed image by a supervised network, on its grid in the moving image's space, or None;
                such a network deforms nothing, T is then A
    """

    transform: sitk.CompositeTransform
    inverse: sitk.CompositeTransform | None
    affine: sitk.Transform
    grid: Grid
    jacobian: sitk.Image
    folding_fraction: float
    similarity: tuple[float, float]
    duration_s: dict[str, float]
    classes: sitk.Image | None = None

    def warp(self, image: sitk.Image, *, labels: bool = False, affine_only: bool = False) -> sitk.Image:
        """An image in the moving image's space, resampled once, onto the fixed image's own grid."""
        transform = self.affine if affine_only else self.transform
        if labels:
            return resample_labels(image, self.grid, transform)
        return resample(image, self.grid, transform, outside=0.0)

    def classes_on_fixed(self) -> sitk.Image:
        """The supervised network's labels, resampled once, onto the fixed image's own grid."""
        assert self.classes is not None
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
def register(fixed: sitk.Image, moving: sitk.Image, model: Model, *, affine: sitk.Transform | None = None,
             progress: Progress = silent) -> Registration:
    """Registers ``moving`` to ``fixed`` with the model's network.

    ``affine`` maps fixed to moving and takes the place of the built-in alignment. The network works in the moving
    image's space, on a grid of the spacing it was trained with.
    """
    watch = Stopwatch()
    with watch.step("affine"):
        progress("affine", 0.0)
        # Estimated from moving to fixed: the samples then lie on the atlas and do not depend on how the scan is stored.
        if affine is None:
            to_fixed = align(moving, fixed, step=lambda: progress("affine", 0.0))
            affine = to_fixed.GetInverse()
        else:
            to_fixed = affine.GetInverse()
    with watch.step("network"):
        progress("network", 0.5)
        data = model.config.data
        grid = network_grid(moving, data.spacing_mm, margin_voxels=data.margin_voxels, divisor=model.network.divisor)
        on_grid = [network_input(fixed, grid, to_fixed).to(model.device), network_input(moving, grid).to(model.device)]
        prediction = _predict(model, *on_grid, grid)
        determinant = jacobian_determinant(prediction.displacement)
        backward = None
        if prediction.inverse is not None:  # the network's own is exact on the levels it was made of, not between them
            inverse = refine_inverse(prediction.inverse, prediction.displacement)
            backward = chain(to_fixed, displacement_transform(inverse, grid))
        transform, classes = chain(displacement_transform(prediction.displacement, grid), affine), None
        if prediction.logits is not None:
            transform, backward = chain(affine), chain(to_fixed)
            classes = to_image(_classes(prediction.logits, model.network.label_values), grid)
        progress("network", 1.0)
    return Registration(
        transform=transform, inverse=backward, affine=affine, grid=Grid.of(fixed), jacobian=to_image(determinant, grid),
        folding_fraction=folding_fraction(determinant), similarity=_similarity(*on_grid, prediction.displacement),
        duration_s=watch.seconds, classes=classes)


def _classes(logits: torch.Tensor, label_values: tuple[int, ...]) -> torch.Tensor:
    """label_values[argmaxₖ logitsₖ]: (1, K, D, H, W) → (1, 1, D, H, W), int32."""
    return torch.tensor(label_values, dtype=torch.int32)[logits.argmax(dim=1, keepdim=True).cpu()]


def _predict(model: Model, fixed: torch.Tensor, moving: torch.Tensor, grid: Grid) -> Prediction:
    try:
        return model.network(fixed, moving)
    except torch.OutOfMemoryError:
        raise CLMorphError(f"the network's grid {grid.size} does not fit into the memory of {fixed.device}; "
                           "use --device cpu, or an atlas cropped to the organ") from None


def _similarity(fixed: torch.Tensor, moving: torch.Tensor, displacement: torch.Tensor) -> tuple[float, float]:
    """Mean local correlation over the fixed foreground, with the moving image as it is and warped."""
    inside = fixed > fixed.min()
    before, after = (local_correlation_map(fixed, image)[inside].mean().item()
                     for image in (moving, warp(moving, displacement)))
    return before, after
