"""Vote shares: how often each label was found at a voxel of an atlas, and the background's tissues told apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FileError
from ..io.files import check_file, short
from ..spatial import gaussian

NONE = 0  # no vote
PADDING = -1  # background of exactly the image's minimum
BACKGROUND_TISSUES = 3  # of the rest, from dark to bright: -2, -3, -4
DARKEST = PADDING - 1
# Background nearer to a label than this, the lesser of the two, is what its tissues are found from.
NEAR_MM, NEAR_SHARE = 20.0, 0.5  # the latter of the image's longest side: a mouse's is 19 mm
KEPT_VOXELS = 5  # around the structures, beyond which nothing is kept: farther than any smoothing reaches
EM_ROUNDS = 40
MAX_SAMPLES = 100_000
ONE = 255  # a share of one, as it is stored
BLOCK = 4  # voxels along the sides of the blocks by which it is known where a label has no share


@dataclass(frozen=True)
class LabelShare:
    """The share of one label within the box of voxels where it has any: ``start`` (z, y, x), (D, H, W) uint8 of ONE.

    ``label`` is a structure's value, or below zero a tissue of the background.
    """

    label: int
    start: tuple[int, int, int]
    share: np.ndarray


@dataclass(frozen=True)
class LabelShares:
    """The shares of all labels on an atlas' grid of a shape (z, y, x), and how many voted."""

    shape: tuple[int, int, int]
    voters: int
    each: tuple[LabelShare, ...]


@dataclass(frozen=True)
class LabelBox:
    """As LabelShare, 0…1 and smoothed, ready to be carried onto a scan.

    ``reached`` is whether the label has a share, trilinearly, anywhere within each of the atlas' blocks around the box.
    """

    label: int
    start: tuple[int, int, int]
    share: Tensor
    reached: Tensor


WHOLE = (slice(None),) * 3


def shares_of(votes: Iterable[np.ndarray], within: tuple[slice, ...] = WHOLE) -> LabelShares:
    """Shares of votes (D, H, W) each, which are labels, tissues of the background below zero, or NONE.

    Of the part ``within`` the grid. They are gone through several times, and may come from a file one by one.
    """
    structures, voters = np.zeros((), bool), 0
    for vote in votes:
        structures, voters = structures | (vote[within] > 0), voters + 1
    near = _near(structures)
    extents = joined([extents_of(np.where(near, vote[within], NONE)) for vote in votes])
    each = []
    for label, box in sorted(extents.items()):
        place = tuple(slice(*ends) for ends in box)
        count = np.zeros(near[place].shape, np.int32)
        for vote in votes:
            count += vote[within][place] == label
        count[~near[place]] = 0
        start = box[0][0], box[1][0], box[2][0]
        each.append(LabelShare(label, start, np.rint(count * (ONE / voters)).astype(np.uint8)))
    z, y, x = near.shape
    return LabelShares((z, y, x), voters, tuple(each))


def _near(structures: np.ndarray) -> np.ndarray:
    """Where a structure is at most KEPT_VOXELS away along each axis."""
    near = sitk.GetImageFromArray(structures.astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.BinaryDilate(near, [KEPT_VOXELS] * 3, sitk.sitkBox)) > 0


Extent = list[tuple[int, int]]  # first and one past last index along z, y and x


def extents_of(labels: np.ndarray) -> dict[int, Extent]:
    """The box of each label that occurs in (D, H, W), but NONE."""
    where = np.nonzero(labels != NONE)
    values, index = np.unique(labels[where], return_inverse=True)
    ends = []
    for axis, n in enumerate(labels.shape):
        there = np.bincount(where[axis] * len(values) + index, minlength=n * len(values)).reshape(n, -1) > 0
        ends.append((there.argmax(axis=0).tolist(), (n - there[::-1].argmax(axis=0)).tolist()))
    return {v: [(low[i], high[i]) for low, high in ends] for i, v in enumerate(values.tolist())}


def joined(extents: Sequence[dict[int, Extent]]) -> dict[int, Extent]:
    """The box of each label around its boxes in several arrays."""
    labels = set().union(*extents)
    found = {label: [each[label] for each in extents if label in each] for label in labels}
    return {
        label: [(min(low for low, _ in ends), max(high for _, high in ends)) for ends in zip(*boxes, strict=True)]
        for label, boxes in found.items()
    }


def label_type(largest: int) -> type[np.int32] | type[np.int64]:
    """What holds labels up to the largest, and the background's tissues below zero."""
    return np.int32 if largest <= np.iinfo(np.int32).max else np.int64


def single_vote(image: sitk.Image, labels: sitk.Image) -> np.ndarray:
    """An image's labels with the tissues of its background below zero: (D, H, W).

    PADDING where the image has its minimum. The rest of the background is told apart by a mixture of Gaussians that is
    fitted to what lies near a label.
    """
    array = sitk.GetArrayViewFromImage(labels)
    votes = array.astype(label_type(int(array.max())))
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    background = votes == 0
    shown = background & (values > values.min())
    votes[background] = PADDING
    near = shown & (sitk.GetArrayFromImage(_distance_mm(labels)) < _near_mm(labels))
    samples = values[near if near.any() else shown]
    if len(samples):
        votes[shown] = PADDING - 1 - _brightest(values[shown], samples)
    return votes


def _near_mm(labels: sitk.Image) -> float:
    return min(NEAR_MM, NEAR_SHARE * max(n * mm for n, mm in zip(labels.GetSize(), labels.GetSpacing(), strict=True)))


def _distance_mm(labels: sitk.Image) -> sitk.Image:
    return sitk.SignedMaurerDistanceMap(labels > 0, squaredDistance=False, useImageSpacing=True)


def _brightest(values: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """0…BACKGROUND_TISSUES − 1: the likeliest Gaussian, from dark to bright, of a mixture fitted to ``samples``."""
    x = samples[:: max(1, len(samples) // MAX_SAMPLES)].astype(np.float64)
    least = max(0.02 * float(x.std()), 1e-6)
    places = (np.arange(BACKGROUND_TISSUES) + 0.5) / BACKGROUND_TISSUES
    mean, sd = np.quantile(x, places)[:, None], np.full((BACKGROUND_TISSUES, 1), max(x.std() / 2, least))
    weight = np.full_like(mean, 1 / BACKGROUND_TISSUES)
    for _ in range(EM_ROUNDS):
        density = weight * np.exp(-0.5 * ((x - mean) / sd) ** 2) / sd + 1e-30
        density /= density.sum(axis=0)
        total = density.sum(axis=1, keepdims=True)
        mean = (density * x).sum(axis=1, keepdims=True) / total
        sd = np.sqrt((density * (x - mean) ** 2).sum(axis=1, keepdims=True) / total) + least
        weight = total / len(x)
    order = np.argsort(mean[:, 0])
    score = [np.log(weight[n]) - np.log(sd[n]) - 0.5 * ((values - mean[n]) / sd[n]) ** 2 for n in order]
    return np.argmax(score, axis=0)


def label_boxes(shares: LabelShares, smoothing_voxels: Sequence[float], device: str = "cpu") -> tuple[LabelBox, ...]:
    """The shares smoothed by a Gaussian of standard deviations (z, y, x), each in a box that is so much wider."""
    reach = [math.ceil(3 * sd) for sd in smoothing_voxels]
    boxes = []
    for one in shares.each:
        pads = [
            (min(first, r), min(whole - first - n, r))
            for first, n, whole, r in zip(one.start, one.share.shape, shares.shape, reach, strict=True)
        ]
        start = tuple(first - low for first, (low, _) in zip(one.start, pads, strict=True))
        tensor = torch.from_numpy(np.pad(one.share, pads)).to(device)[None, None].float() / ONE
        smooth = gaussian(tensor, smoothing_voxels)[0, 0]
        boxes.append(LabelBox(one.label, (start[0], start[1], start[2]), smooth, _reached(smooth, start)))
    return tuple(boxes)


def blocks_of(shape: Sequence[int]) -> list[int]:
    """How many blocks there are along each side: the first ends before voxel 0, the last is beyond all voxels."""
    return [(n - 1) // BLOCK + 2 for n in shape]


def block_of(voxels: Tensor, shape: Sequence[int]) -> Tensor:
    """The number of the block, of an atlas of a shape (z, y, x), in which continuous voxels (3, …) lie: int64."""
    counts = blocks_of(shape)
    z, y, x = (
        (along / BLOCK).floor_().add_(1).clamp_(0, n - 1).long() for along, n in zip(voxels, counts, strict=True)
    )
    return (z * counts[1] + y) * counts[2] + x


def blocks_reached(box: LabelBox, shape: Sequence[int]) -> Tensor:
    """Whether the label has a share there, for all blocks of an atlas of a shape, as ``block_of`` numbers them."""
    reached = torch.zeros(blocks_of(shape), dtype=torch.bool, device=box.share.device)
    z, y, x = (slice(low, low + n) for low, n in zip(map(_first_block, box.start), box.reached.shape, strict=True))
    reached[z, y, x] = box.reached
    return reached.flatten()


def _first_block(first: int) -> int:
    """That of the points between a box's first voxel and the one before, along one side."""
    return (first - 1) // BLOCK + 1


def _reached(share: Tensor, start: Sequence[int]) -> Tensor:
    """``LabelBox.reached`` of a share (D, H, W) whose box begins at ``start``."""
    padding: list[int] = []
    for first, n in zip(start, share.shape, strict=True):
        low, high = _first_block(first), (first + n - 1) // BLOCK + 1
        before = first - BLOCK * (low - 1)
        padding = [before, BLOCK * (high - low + 1) + 1 - before - n, *padding]  # F.pad begins with the last axis
    # A block's voxels, and the first ones of the next, whose share reaches into it.
    return F.max_pool3d(F.pad(share[None, None], padding), BLOCK + 1, BLOCK)[0, 0] > 0


def write_shares(path: Path, shares: LabelShares) -> None:
    """One compressed .npz of plain arrays."""
    np.savez_compressed(
        path,
        shape=np.array(shares.shape),
        voters=np.array(shares.voters),
        label=np.array([one.label for one in shares.each]),
        start=np.array([one.start for one in shares.each]),
        size=np.array([one.share.shape for one in shares.each]),
        share=np.concatenate([one.share.ravel() for one in shares.each]),
    )


def read_shares(path: Path) -> LabelShares:
    """What ``write_shares`` wrote; FileError for anything else."""
    check_file(path, "the vote shares of an atlas")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("shape", "voters", "label", "start", "size", "share")}
        return _checked(arrays)
    except MemoryError:
        raise
    except Exception as error:  # of a damaged archive zipfile, zlib and numpy raise their own
        raise FileError(
            f"{path} cannot be read as vote shares ({type(error).__name__}: {short(error)}); copy it again, "
            "or delete it: the atlas works without it"
        ) from None


def _checked(arrays: dict[str, np.ndarray]) -> LabelShares:
    """ValueError unless the arrays fit together."""
    shape, label, start, size = (arrays[name].astype(np.int64) for name in ("shape", "label", "start", "size"))
    voters, share = int(arrays["voters"]), arrays["share"]
    if shape.shape != (3,) or start.shape != (len(label), 3) or size.shape != start.shape or share.dtype != np.uint8:
        raise ValueError("arrays of other shapes")
    if voters < 1 or (start < 0).any() or (size < 1).any() or (start + size > shape).any():
        raise ValueError("boxes beyond the grid")
    volumes = size.prod(axis=1)
    if volumes.sum() != share.size:
        raise ValueError(f"{share.size} voxels where {volumes.sum()} are expected")
    parts = np.split(share, np.cumsum(volumes)[:-1])
    each = tuple(
        LabelShare(int(v), (int(z), int(y), int(x)), part.reshape(n))
        for v, (z, y, x), n, part in zip(label, start, size, parts, strict=True)
    )
    return LabelShares((int(shape[0]), int(shape[1]), int(shape[2])), voters, each)
