"""A scan and an atlas on the network's grid: prepared once, aligned, matched by the network, optimized on the pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from .alignment import align, align_centres, closest_similarity
from .bundles.atlas import Atlas
from .bundles.model import Model
from .errors import AlignmentError
from .geometry import Grid, check_same_grid, crop_padding, linear_parts, placed, resample
from .instance_optimization import InstanceOptimization, optimize
from .network_input import network_grid, normalised_on
from .networks import Prediction, RegistrationNetwork
from .progress import Progress, Stopwatch, silent
from .similarity import local_correlation_map, signed_correlation_map
from .spatial import invert, remove_folds, resize_field, warp
from .tissue.prepared import PreparedTissue, prepare_tissue
from .tissue.settings import OFF, TissueSettings

EXTRA_PASSES = 2  # after the first, for stacks of slices
MAX_FINE_VOXELS = 10_000_000  # of an instance optimization: 1 mm over a whole head
# Mean correlation in windows of so many voxels: T1 brains with a T1 atlas .38 to .56, FLAIR .11, T2 −.11 to −.15
CONTRAST_WINDOW, MIN_SAME_CONTRAST = 5, 0.25


@dataclass(frozen=True)
class MovingImage:
    """One moving image as the network needs it.

    image     as it is stored, and ``labels`` on its grid, or None
    visible   the image without padding
    tensor    (1, 1, D, H, W) on the network's grid, normalised
    """

    image: sitk.Image
    labels: sitk.Image | None
    visible: sitk.Image
    tensor: Tensor
    _features: dict[RegistrationNetwork, Any] = field(default_factory=dict, repr=False)

    def features_by(self, network: RegistrationNetwork) -> Any:
        """A network's features of the tensor, computed when they are first asked for."""
        if network not in self._features:
            self._features[network] = network.features_of(self.tensor)
        return self._features[network]


@dataclass(frozen=True)
class PreparedAtlas:
    """One atlas, or several in one space, as the network needs them: made once, used for every scan.

    grid       the network's
    reference  what a scan is aligned with: the atlas' image, or the average of several
    moving     the images, with
    atlases    the atlases that they are of, in the same order; empty where an image alone was prepared
    settings   of the tissue model, and ``device``, where it computes
    """

    grid: Grid
    reference: sitk.Image
    moving: tuple[MovingImage, ...]
    atlases: tuple[Atlas, ...] = ()
    settings: TissueSettings = OFF
    device: str = "cpu"

    @cached_property
    def tissue(self) -> PreparedTissue:
        """Where the atlases expect which label; found when it is first asked for."""
        return prepare_tissue(self.atlases, self.settings, self.device)


def prepare(model: Model, atlases: Sequence[Atlas]) -> PreparedAtlas:
    """The atlases as ``register`` and ``segment`` need them.

    Raises InputError unless they lie on one grid, as ``build_each`` makes them: one grid means one space, in which the
    affine alignment of a scan with one of them is that with all.
    """
    first = atlases[0]
    for other in atlases[1:]:
        check_same_grid(first.image, other.image, names=(f"atlas {first.name}", f"voxels of atlas {other.name}"))
    reference = first.image if len(atlases) == 1 else _average([atlas.image for atlas in atlases])
    grid = _grid_over(reference, model)
    moving = tuple(_moving_image(atlas.image, atlas.labels, grid, model) for atlas in atlases)
    return PreparedAtlas(grid, reference, moving, tuple(atlases), model.tissue, model.device)


def prepare_image(model: Model, image: sitk.Image, labels: sitk.Image | None = None) -> PreparedAtlas:
    """A moving image that is no atlas as ``register`` needs it, with labels on its grid or without."""
    grid = _grid_over(image, model)
    return PreparedAtlas(grid, image, (_moving_image(image, labels, grid, model),))


def _grid_over(reference: sitk.Image, model: Model) -> Grid:
    data = model.config.data
    return network_grid(reference, data.spacing_mm, margin_voxels=data.margin_voxels, divisor=model.network.divisor)


@torch.inference_mode()
def _moving_image(image: sitk.Image, labels: sitk.Image | None, grid: Grid, model: Model) -> MovingImage:
    visible = crop_padding(image)
    moving = MovingImage(image, labels, visible, normalised_on(visible, grid).to(model.device))
    moving.features_by(model.network)
    return moving


def _average(images: Sequence[sitk.Image]) -> sitk.Image:
    """The mean of images on one grid, each scaled so that 0…1 is its minimum … 99th percentile."""
    total = np.zeros(Grid.of(images[0]).shape, np.float32)
    for image in images:
        values = sitk.GetArrayFromImage(image).astype(np.float32)
        low = values.min()
        total += (values - low) / (np.percentile(values[values > low], 99) - low)
    return placed(total / len(images), Grid.of(images[0]))


@dataclass(frozen=True)
class AlignedScan:
    """The fixed image, brought to the moving ones by an affine, on the network's grid.

    image       as it is stored, and ``visible``, the same without padding
    affine      fixed → moving, LPS, mm, and ``to_fixed``, its inverse
    adjustable  whether the affine, of centres and axes alone, may be adjusted to what the network finds
    tensor      (1, 1, D, H, W) normalised, and ``features`` by the ``network`` that knows its contrast
    """

    image: sitk.Image
    visible: sitk.Image
    affine: sitk.Transform
    to_fixed: sitk.Transform
    adjustable: bool
    tensor: Tensor
    network: RegistrationNetwork
    features: Any


@dataclass(frozen=True)
class Match:
    """What the network, and an optimization after it, found for a scan and one moving image; for use inside the engine.

    grid          the network's
    answer        (1, 3, D, H, W) the network's own displacement, in voxels of its grid
    displacement  the same, or after an optimization the optimized one, on the network's grid or a finer one that spans
                  the same corners, in voxels of it
    inverse       of the displacement, on a grid of these corners too, not yet exact; None where the network has none
    steps         of the optimization, at all resolutions
    """

    scan: AlignedScan
    moving: MovingImage
    grid: Grid
    answer: Tensor
    displacement: Tensor
    inverse: Tensor | None
    steps: int = 0

    @property
    def field_grid(self) -> Grid:
        """The grid of ``displacement``."""
        return self.grid.with_shape(self.displacement.shape[2:])

    @cached_property
    def on_grid(self) -> Tensor:
        """``displacement`` on the network's grid, (1, 3, D, H, W)."""
        return resize_field(self.displacement, self.grid.shape)

    def similarity(self) -> tuple[float, float]:
        """Mean local normalised cross-correlation over the scan's foreground, before and after the deformation."""
        warped = warp(self.moving.tensor, self.on_grid)
        return similarity(self.scan, self.moving.tensor), similarity(self.scan, warped)


def similarity(scan: AlignedScan, moving: Tensor) -> float:
    """Mean local normalised cross-correlation of a scan and an image on its grid, over the scan's foreground."""
    return local_correlation_map(scan.tensor, moving)[scan.tensor > scan.tensor.min()].mean().item()


@torch.inference_mode()
def align_scan(
    image: sitk.Image,
    prepared: PreparedAtlas,
    model: Model,
    *,
    affine: sitk.Transform | None = None,
    watch: Stopwatch | None = None,
    step: Callable[[], None] = lambda: None,
) -> AlignedScan:
    """The scan on the network's grid, after ``affine``, fixed → moving, or the model's own alignment.

    Raises AlignmentError where the moving image, brought there by it, lies beside the scan.
    """
    watch = watch or Stopwatch()
    with watch.step("affine"):
        step()
        # Estimated from moving to fixed: the samples then lie on the atlas, however the scan is stored.
        if affine is None:
            to_fixed = first_alignment(prepared.reference, image, model, step=step)
        else:
            to_fixed = affine.GetInverse()
        _check_overlap(image, prepared.reference, to_fixed)
    with watch.step("network"):
        visible = crop_padding(image)
        adjustable = affine is None and model.config.data.alignment == "centres"
        forward = affine if affine is not None else to_fixed.GetInverse()
        tensor = normalised_on(visible, prepared.grid, to_fixed).to(model.device)
        network = _network_for(tensor, prepared.moving[0].tensor, model)
        features = network.features_of(tensor)
    return AlignedScan(image, visible, forward, to_fixed, adjustable, tensor, network, features)


def _network_for(fixed: Tensor, moving: Tensor, model: Model) -> RegistrationNetwork:
    """The model's network that knows the contrast between two images, affinely aligned and normalised."""
    other, shown = model.other_contrasts, (fixed > fixed.min()) & (moving > moving.min())
    if other is None or not shown.any():
        return model.network
    alike = signed_correlation_map(fixed, moving, CONTRAST_WINDOW)[shown].mean()
    return other if alike < MIN_SAME_CONTRAST else model.network


def first_alignment(
    fixed: sitk.Image, moving: sitk.Image, model: Model | None = None, *, step: Callable[[], None] = lambda: None
) -> sitk.AffineTransform:
    """A: fixed → moving, LPS, mm, as the model saw its pairs in training: affinely aligned, or by their centres."""
    if model is not None and model.config.data.alignment == "centres":
        return align_centres(fixed, moving)
    return align(fixed, moving, step=step)


def _check_overlap(image: sitk.Image, reference: sitk.Image, to_fixed: sitk.Transform) -> None:
    corners = np.array(
        [
            image.TransformPhysicalPointToContinuousIndex(to_fixed.TransformPoint(point))
            for point in Grid.of(reference).corners_mm().tolist()
        ]
    )
    if (corners.max(axis=0) < -0.5).any() or (corners.min(axis=0) > np.array(image.GetSize()) - 0.5).any():
        raise AlignmentError(
            "the fixed image (the scan) does not overlap the moving one (the atlas) after the affine; "
            "expected an affine that maps the former's points to the latter's (LPS, mm)",
            "check `affine`",
        )


def _on_grid(scan: AlignedScan, grid: Grid, model: Model) -> AlignedScan:
    """The scan with its tensor and features renewed, after its affine has changed."""
    tensor = normalised_on(scan.visible, grid, scan.to_fixed).to(model.device)
    return replace(scan, tensor=tensor, features=scan.network.features_of(tensor))


@torch.inference_mode()
def match(
    scan: AlignedScan,
    prepared: PreparedAtlas,
    model: Model,
    *,
    index: int = 0,
    optimization: InstanceOptimization | None = None,
    start: Tensor | None = None,
    watch: Stopwatch | None = None,
    progress: Progress = silent,
) -> Match:
    """The network's answer for the scan and the prepared image number ``index``, optimized on this pair, or not.

    ``start`` is a displacement on the network's grid that takes the place of its answer; there is no inverse then.

    An adjustable alignment is followed by EXTRA_PASSES further passes, each after the similarity transform, within the
    slices' planes, nearest to where the last pass put the moving image's labels.
    """
    watch, moving = watch or Stopwatch(), prepared.moving[index]
    with watch.step("network"):
        prediction = (
            Prediction(start)
            if start is not None
            else scan.network.match(scan.features, moving.features_by(scan.network))
        )
        if scan.adjustable and moving.labels is not None:
            for _ in range(EXTRA_PASSES if prediction.inverse is not None else 0):
                nearer = _similarity_of(prediction, prepared.grid, moving.labels)
                to_fixed = _linear(sitk.CompositeTransform([scan.to_fixed, nearer]))
                scan = replace(scan, to_fixed=to_fixed, affine=to_fixed.GetInverse())
                scan = _on_grid(scan, prepared.grid, model)
                prediction = scan.network.match(scan.features, moving.features_by(scan.network))
        answer = prediction.displacement
        found = Match(scan, moving, prepared.grid, answer, answer, prediction.inverse)
    if optimization is None or optimization.steps == 0:
        return found
    with watch.step("refinement"):
        return _optimized(found, optimization, model, progress)


def _similarity_of(prediction: Prediction, grid: Grid, labels: sitk.Image) -> sitk.AffineTransform:
    """The similarity transform nearest to the inverse deformation of the labelled voxels, in their slices' planes.

    In the moving image's space. Across thick slices the deformation is too uncertain to be followed.
    """
    inside = sitk.GetArrayFromImage(resample(labels, grid, labels=True)) > 0
    assert prediction.inverse is not None
    inverse = resize_field(prediction.inverse, grid.shape)[0].double().cpu().numpy()
    voxels = np.argwhere(inside)
    points, targets = grid.points_mm(voxels), grid.points_mm(voxels + inverse[:, inside].T)
    axes = np.array(labels.GetDirection()).reshape(3, 3)
    in_plane, shift = closest_similarity((points @ axes)[:, :2], (targets @ axes)[:, :2])
    matrix = np.eye(3)
    matrix[:2, :2] = in_plane
    return sitk.AffineTransform((axes @ matrix @ axes.T).ravel().tolist(), (axes[:, :2] @ shift).tolist())


def _linear(transform: sitk.Transform) -> sitk.AffineTransform:
    """A linear transform, a composite one for instance, as one affine."""
    matrix, offset = linear_parts(transform)
    return sitk.AffineTransform(matrix.ravel().tolist(), offset.tolist())


def for_model(settings: InstanceOptimization, model: Model) -> InstanceOptimization:
    """The settings as the model wants them, where they leave it open; its fineness in any case.

    The window is that of the local correlation it was trained with, unless its ``[refinement]`` says another.
    """
    own, loss = model.config.refinement, model.config.loss
    trained = max(loss.window_voxels) if loss.similarity == "lncc" else None
    smoothing, step = settings.smooth_map_voxels, settings.smooth_step_voxels
    return replace(
        settings,
        every_voxel=own.every_voxel,
        smoothed=settings.smoothed or own.smoothed,
        smooth_map_voxels=(own.smooth_map_voxels or None) if smoothing is None else smoothing,
        smooth_step_voxels=(own.smooth_step_voxels or None) if step is None else step,
        window_voxels=settings.window_voxels or own.window_voxels or trained,
    )


def _optimized(found: Match, settings: InstanceOptimization, model: Model, progress: Progress) -> Match:
    """The match after an optimization on the images themselves.

    They are taken as finely as the moving one is stored, at most twice as finely as the network does. The inverse,
    where there is one, comes on that finer grid, the displacement on its own or the network's, whichever is finer.
    """
    grid = found.grid.with_shape(fine_shape(found.grid, found.moving.image))
    device = found.answer.device
    result = optimize(
        normalised_on(found.scan.visible, grid, found.scan.to_fixed).to(device),
        normalised_on(found.moving.visible, grid).to(device),
        found.answer,
        for_model(settings, model),
        spacing_mm=grid.voxel_mm,
        progress=progress,
    )
    shape, inverse = found.grid.shape, None
    finer = result.displacement.shape[2:].numel() > math.prod(shape)
    displacement = remove_folds(result.displacement if finer else resize_field(result.displacement, shape))
    if found.inverse is not None:  # a first guess, for Newton's steps on the finer grid
        inverse = resize_field(invert(resize_field(displacement, shape)), grid.shape)
    return replace(found, displacement=displacement, inverse=inverse, steps=result.steps)


def fine_shape(grid: Grid, moving: sitk.Image) -> tuple[int, int, int]:
    """Voxels (z, y, x) of the grid between the same corners with about the moving image's spacing.

    From the grid's own number to twice as many, odd, as the optimization's coarser fields want it; in between where
    that would be more voxels than MAX_FINE_VOXELS.
    """
    sides = list(zip(grid.shape, grid.voxel_mm, Grid.of(moving).anatomical_voxel_mm(), strict=True))
    wanted = [min(max(s * (n - 1) / own + 1, n), 2 * n - 1) for n, s, own in sides]
    share = min(1.0, MAX_FINE_VOXELS / math.prod(wanted)) ** (1 / 3)
    z, y, x = (2 * round((max(n, w * share) + 1) / 2) - 1 for n, w in zip(grid.shape, wanted, strict=True))
    return z, y, x
