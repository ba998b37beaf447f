"""A scan and an atlas on the network's grid: prepared once, aligned, matched by the network, optimized on the pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from .aligning.polish import NO_MASKS, Masks
from .aligning.prepared import MovingImage, PreparedAtlas, normalised
from .aligning.prepared import prepare as prepare
from .aligning.prepared import prepare_image as prepare_image
from .alignment import align, align_centres, closest_similarity
from .bundles.model import Model
from .errors import AlignmentError, InputError
from .geometry import Grid, crop_padding, foreground_box, linear_parts, resample
from .guidance.landmarks import Guidance, Landmarks
from .guidance.masks import WHOLE, checked_mask, counted_on, filled_pair, replaced
from .instance_optimization import InstanceOptimization, Millimetres, optimize
from .networks import Prediction, RegistrationNetwork
from .progress import Progress, Stopwatch, silent
from .similarity import local_correlation_map, signed_correlation_map
from .spatial import invert, remove_folds, resize_field, warp

FILLS = 1  # of what does not count, after the first
EXTRA_PASSES = 2  # after the first, for stacks of slices
MAX_FINE_VOXELS = 10_000_000  # of an instance optimization: 1 mm over a whole head
# Mean correlation in windows of so many voxels: T1 brains with a T1 atlas .38 to .56, FLAIR .11, T2 −.11 to −.15
CONTRAST_WINDOW, MIN_SAME_CONTRAST = 5, 0.25
MAX_SIZE_RATIO = 4.0  # of the cube roots of two foregrounds' boxes, a body and one organ of it, say


@dataclass(frozen=True)
class AlignedScan:
    """The fixed image, brought to the moving ones by an affine, on the network's grid.

    image       as it is stored, or replaced where it does not count; ``visible`` is the same without padding
    affine      fixed → moving, LPS, mm, and ``to_fixed``, its inverse
    adjustable  whether the affine, of centres and axes alone, may be adjusted to what the network finds
    tensor      (1, 1, D, H, W) normalised, and ``features`` by the ``network`` that knows its contrast
    mask        1 where the image counts, on its grid, or None for everywhere; ``counts`` is it on the network's grid
    landmarks   that pull an optimization, or None
    """

    image: sitk.Image
    visible: sitk.Image
    affine: sitk.Transform
    to_fixed: sitk.Transform
    adjustable: bool
    tensor: Tensor
    network: RegistrationNetwork
    features: Any
    mask: sitk.Image | None = None
    counts: Tensor | None = None
    landmarks: Landmarks | None = None


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
    shown = scan.tensor > scan.tensor.min()
    if scan.counts is not None:
        shown &= scan.counts > 0
    return local_correlation_map(scan.tensor, moving)[shown].mean().item()


@torch.inference_mode()
def align_scan(
    image: sitk.Image,
    prepared: PreparedAtlas,
    model: Model,
    *,
    affine: sitk.Transform | None = None,
    guidance: Guidance = Guidance(),  # noqa: B008, of a frozen class
    watch: Stopwatch | None = None,
    step: Callable[[], None] = lambda: None,
) -> AlignedScan:
    """The scan on the network's grid, after ``affine``, fixed → moving, or the model's own alignment.

    Raises AlignmentError where the moving image, brought there by it, lies beside the scan, and InputError for a mask
    that does not fit.
    """
    watch, mask, start = watch or Stopwatch(), guidance.mask, guidance.start
    if mask is not None:
        mask = checked_mask(mask, image)
        image = replaced(image, mask)
    with watch.step("affine"), _size_told(image, prepared.reference):
        step()
        # Estimated from moving to fixed: the samples then lie on the atlas, however the scan is stored.
        if affine is None:
            masks = prepared.moving[0].mask, mask
            back = None if start is None else start.GetInverse()
            to_fixed = first_alignment(prepared.reference, image, model, masks=masks, start=back, step=step)
        else:
            to_fixed = affine.GetInverse()
        _check_overlap(image, prepared.reference, to_fixed)
    with watch.step("network"), _size_told(image, prepared.reference):
        visible = crop_padding(image)
        adjustable = affine is None and start is None and model.config.data.alignment == "centres"
        forward = affine if affine is not None else to_fixed.GetInverse()
        counts = None if mask is None else counted_on(mask, prepared.grid, to_fixed).to(model.device)
        tensor = normalised(visible, prepared.grid, to_fixed, counts, model)
        network = _network_for(tensor, prepared.moving[0].tensor, model, (counts, prepared.moving[0].counts))
        features = network.features_of(tensor) if counts is None else None  # else of what is filled, in ``match``
    landmarks = guidance.landmarks
    return AlignedScan(
        image, visible, forward, to_fixed, adjustable, tensor, network, features, mask, counts, landmarks
    )


def _network_for(
    fixed: Tensor, moving: Tensor, model: Model, counts: Sequence[Tensor | None] = ()
) -> RegistrationNetwork:
    """The model's network that knows the contrast between two images, affinely aligned and normalised."""
    other, shown = model.other_contrasts, (fixed > fixed.min()) & (moving > moving.min())
    for each in counts:
        shown = shown if each is None else shown & (each > 0)
    if other is None or not shown.any():
        return model.network
    alike = signed_correlation_map(fixed, moving, CONTRAST_WINDOW)[shown].mean()
    return other if alike < MIN_SAME_CONTRAST else model.network


def first_alignment(
    fixed: sitk.Image,
    moving: sitk.Image,
    model: Model | None = None,
    *,
    masks: Masks = NO_MASKS,
    start: sitk.Transform | None = None,
    step: Callable[[], None] = lambda: None,
) -> sitk.AffineTransform:
    """A: fixed → moving, LPS, mm, as the model saw its pairs in training: affinely aligned, or by their centres.

    From ``start`` on, a linear map, which takes the place of an alignment of centres.
    """
    if model is not None and model.config.data.alignment == "centres":
        return align_centres(fixed, moving) if start is None else _linear(start)
    return align(fixed, moving, masks=masks, start=start, step=step)


@contextmanager
def _size_told(image: sitk.Image, reference: sitk.Image) -> Iterator[None]:
    """An InputError within says, too, where two images are of sizes that no affine of one organ brings together."""
    try:
        yield
    except InputError as error:
        if not (remark := unlike_sizes(image, reference)):
            raise
        raise type(error)(f"{remark}; {error.problem}", error.remedy) from None


def unlike_sizes(image: sitk.Image, reference: sitk.Image) -> str:
    """That two images' foregrounds differ in size as those of one organ do not; empty where they do not."""
    own, its = (np.subtract(*foreground_box(each)[::-1]) for each in (image, reference))
    ratio = float(np.prod(own / its)) ** (1 / 3)
    if 1 / MAX_SIZE_RATIO < ratio < MAX_SIZE_RATIO:
        return ""
    fixed, moving = (" × ".join(f"{mm:.3g}" for mm in each) for each in (own, its))
    return (
        f"the fixed image's (the scan's) foreground is {fixed} mm and the moving one's (the atlas') {moving} mm: "
        "another organ or species, or other units in a header"
    )


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
    counts = None if scan.mask is None else counted_on(scan.mask, grid, scan.to_fixed).to(model.device)
    tensor = normalised(scan.visible, grid, scan.to_fixed, counts, model)
    return replace(scan, tensor=tensor, counts=counts, features=scan.network.features_of(tensor))


def _answered(scan: AlignedScan, moving: MovingImage) -> tuple[Prediction, AlignedScan, MovingImage]:
    """The network's answer, and both images as it saw them: what does not count is filled by the other image.

    The filling follows the answer FILLS times, so that it asks for no displacement of its own.
    """
    network, answer, whole = scan.network, None, (scan, moving)
    if scan.counts is None and moving.counts is None:
        return network.match(scan.features, moving.features_by(network)), scan, moving
    for _ in range(1 + FILLS):
        maps = (answer.displacement, answer.inverse) if answer else (None, None)
        fixed, other = filled_pair(whole[0].tensor, whole[1].tensor, scan.counts, moving.counts, *maps)
        scan = replace(scan, tensor=fixed, features=network.features_of(fixed))
        moving = replace(moving, tensor=other, _features={} if moving.counts is not None else moving._features)
        answer = network.match(scan.features, moving.features_by(network))
    assert answer is not None
    return answer, scan, moving


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
    watch, own = watch or Stopwatch(), prepared.moving[index]
    with watch.step("network"):
        prediction, scan, moving = _answered(scan, own) if start is None else (Prediction(start), scan, own)
        if scan.adjustable and (labels := own.labels) is not None:
            for _ in range(EXTRA_PASSES if prediction.inverse is not None else 0):
                nearer = _similarity_of(prediction, prepared.grid, labels)
                to_fixed = _linear(sitk.CompositeTransform([scan.to_fixed, nearer]))
                scan = replace(scan, to_fixed=to_fixed, affine=to_fixed.GetInverse())
                scan = _on_grid(scan, prepared.grid, model)
                prediction, scan, moving = _answered(scan, own)
        answer = prediction.displacement
        found = Match(scan, moving, prepared.grid, answer, answer, prediction.inverse)
    if optimization is None:
        return found
    with watch.step("refinement"):
        return optimized(found, model, optimization, progress=progress)


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
    """The settings as the model wants them, where they leave it open; its fineness and its end in any case.

    The window is that of the local correlation it was trained with, unless its ``[refinement]`` says another.
    """
    own, loss = model.config.refinement, model.config.loss
    trained = max(loss.window_voxels) if loss.similarity == "lncc" else None
    smoothing, step = settings.smooth_map_voxels, settings.smooth_step_voxels
    return replace(
        settings,
        every_voxel=own.every_voxel,
        smoothed=settings.smoothed or own.smoothed,
        ends=own.ends,
        smooth_map_voxels=_length(own.smooth_map_mm, own.smooth_map_voxels) if smoothing is None else smoothing,
        smooth_step_voxels=_length(own.smooth_step_mm, own.smooth_step_voxels) if step is None else step,
        window_voxels=settings.window_voxels or _length(own.window_mm, own.window_voxels) or trained,
    )


def _length(mm: float, voxels: float) -> float | None:
    """What a ``[refinement]`` says in mm, or else in voxels; None where it leaves it open."""
    return Millimetres(mm) if mm else voxels or None


@torch.inference_mode()
def optimized(found: Match, model: Model, settings: InstanceOptimization, *, progress: Progress = silent) -> Match:
    """The match after an optimization on the images themselves; as it is where that has no steps.

    They are taken as finely as the moving one is stored, at most twice as finely as the network does. The inverse,
    where there is one, comes on that finer grid, the displacement on its own or the network's, whichever is finer.
    """
    if settings.steps == 0:
        return found
    grid = found.grid.with_shape(fine_shape(found.grid, found.moving.image))
    fixed, moving, weights = _finely(found, grid, model)
    result = optimize(
        fixed,
        moving,
        found.answer,
        for_model(settings, model),
        spacing_mm=grid.voxel_mm,
        weights=weights,
        pull=None if found.scan.landmarks is None else found.scan.landmarks.on_grid(grid, found.scan.affine),
        progress=progress,
    )
    shape, inverse = found.grid.shape, None
    finer = result.displacement.shape[2:].numel() > math.prod(shape)
    displacement = remove_folds(result.displacement if finer else resize_field(result.displacement, shape))
    if found.inverse is not None:  # a first guess, for Newton's steps on the finer grid
        inverse = resize_field(invert(resize_field(displacement, shape)), grid.shape)
    return replace(found, displacement=displacement, inverse=inverse, steps=result.steps)


def _finely(found: Match, grid: Grid, model: Model) -> tuple[Tensor, Tensor, Tensor | None]:
    """Scan and moving image on a grid, filled where they do not count, and 1 where both count, or None."""
    scan, moving, shape = found.scan, found.moving, grid.shape
    counts = None if scan.mask is None else counted_on(scan.mask, grid, scan.to_fixed).to(model.device)
    others = None if moving.mask is None else counted_on(moving.mask, grid).to(model.device)
    fixed = normalised(scan.visible, grid, scan.to_fixed, counts, model)
    image = normalised(moving.visible, grid, None, others, model)
    if counts is None and others is None:
        return fixed, image, None
    forward = resize_field(found.answer, shape)
    backward = None if found.inverse is None else resize_field(found.inverse, shape)
    fixed, image = filled_pair(fixed, image, counts, others, forward, backward)
    weights = torch.ones_like(fixed) if counts is None else counts
    if others is not None:
        weights = weights * (warp(others, forward, padding="border") > WHOLE).float()
    return fixed, image, weights


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
