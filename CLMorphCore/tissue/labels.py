"""argmaxₖ w_k · prior_k(x) · p(I(x) | tissue of k)^T: labels where the scan shows their tissue."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import counted
from ..geometry import Grid
from .classes import Unfit, distances
from .expectation import Expectation
from .mixture import TINY, Mixture, fit
from .pieces import without_crumbs
from .prepared import PreparedTissue
from .priors import Prior
from .settings import TissueSettings
from .shares import DARKEST, PADDING, label_type

SLAB_VOXELS = 2_000_000  # that are in memory at once, by their labels' probabilities
SAMPLES = 300_000  # voxels that the tissues are fitted to
COARSE_VOXELS = 200_000  # of the lattice on which it is looked where there are labels
MIN_PRIOR = 1e-3  # of all structures together, below which a voxel is background
OUTLIER = 1e-5  # density, per standard deviation of the scan, of an intensity that no tissue explains
MIN_VALUES = 16  # grey values, below which there are no Gaussians
MAX_CLIPPED = 1 / 3  # of structures, and of what is around them, that have the scan's least or greatest grey value
MIN_DISTANCE = 0.05  # of some two tissues (Bhattacharyya): 0.01 in noise, 1.5 and more in hippocampi and hearts
UNITS = 64.0  # of the intensities, in their standard deviation
TAIL, FAR = 0.01, 10.0  # share of values beyond either end of the range, and how many of it a value may lie outside
MAX_QUANTILE = 100_000  # values that the range is found from
SPARSE = 1001  # every so many voxels are looked at first
MIN_VOXELS = 64  # of a structure, or of all, below which nothing is concluded from it
MIN_KEPT = 0.2  # of a structure's voxels, and
MIN_AGREEMENT = 0.6  # Dice of all labels together, below which the scan is not trusted
MAX_COUNTED = 1 << 16  # greatest label up to which labels are counted at their own place
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class TissueLabels:
    """What the atlas and the scan say together, on the scan's grid.

    labels        (D, H, W), whole numbers
    expected      what the atlas says alone
    disagreement  share of the atlas' votes, 0…1, for another label than ``expected``
    tissues       groups of labels, in the order of the mixture's Gaussians
    """

    labels: np.ndarray
    expected: np.ndarray
    disagreement: np.ndarray
    tissues: tuple[tuple[int, ...], ...]
    mixture: Mixture


def followed(
    image: sitk.Image,
    expected: Expectation,
    tissue: PreparedTissue,
    settings: TissueSettings,
    *,
    device: str,
    mask: sitk.Image | None = None,
) -> TissueLabels:
    """The labels of a scan as a model's settings say; Unfit, too, where all of its tissues look alike."""
    found = tissue_labels(
        image,
        expected,
        tissue.groups,
        exponent=settings.exponent,
        background=settings.background,
        dark_background=settings.dark_background,
        device=device,
        mask=mask,
    )
    _check_told_apart(found)
    return found


@torch.inference_mode()
def tissue_labels(
    image: sitk.Image,
    expected: Expectation,
    tissues: Sequence[Sequence[int]],
    *,
    exponent: float,
    device: str,
    background: float = 1.0,
    dark_background: float = 1.0,
    mask: sitk.Image | None = None,
) -> TissueLabels:
    """The labels of a scan by what an atlas expects and what the scan shows.

    ``tissues`` are groups of labels with one Gaussian each; labels below zero are the background's. ``exponent`` T
    weighs the intensities, ``background`` what is no structure and ``dark_background`` the darkest of that, as
    ``TissueSettings`` says. Where ``mask``, on the scan's grid, is 0 intensities count for nothing: labels there are
    what the atlas expects alone. Raises Unfit for a scan whose intensities tell no tissues apart.
    """
    grid, group = Grid.of(image), {label: n for n, labels in enumerate(tissues) for label in labels}
    place = _where_structures_are(expected, grid)
    values = torch.from_numpy(sitk.GetArrayFromImage(image)[place].astype(np.float32)).to(device)
    counts = torch.ones_like(values, dtype=torch.bool) if mask is None else _mask_at(mask, place).to(device)
    counted = values if mask is None else values[counts]
    if not counted.numel():
        raise Unfit("nothing of its structures counts by the mask")
    # Sorting all is worth it only where a few of them do not show enough.
    if all(len(torch.unique(some)) < MIN_VALUES for some in (counted.flatten()[::SPARSE], counted)):
        raise Unfit(f"the scan has fewer than {MIN_VALUES} grey values there")
    unit, spread = _measured(values, counted)
    mixture = _fitted(values, counts, expected, grid.part(place), group, len(tissues))
    kind = label_type(max(group))
    labels, alone = np.zeros(grid.shape, kind), np.zeros(grid.shape, kind)
    disagreement = np.zeros(grid.shape, np.float32)
    z, y, x = _unit_axes(values)
    depth = max(1, SLAB_VOXELS // values[0].numel())
    weighed = _Weighed(mixture, exponent, OUTLIER / spread, background, dark_background)
    for start in range(0, len(values), depth):
        rows = slice(start, min(start + depth, len(values)))
        slab = (slice(place[0].start + rows.start, place[0].start + rows.stop), place[1], place[2])
        shown = mixture.corrected(values[rows], z[rows], y, x)
        priors = list(expected(grid.part(slab), 1))
        best, first, share = _likeliest(shown, priors, group, weighed)
        best = torch.where(counts[rows], best, first)
        labels[slab], alone[slab] = best.cpu().numpy(), first.cpu().numpy()
        disagreement[slab] = 1 - share.clamp(0, 1).cpu().numpy()
    labels = without_crumbs(labels, alone)
    _check(labels, alone)
    mixture = replace(mixture, mean=unit * mixture.mean.cpu().double(), sd=unit * mixture.sd.cpu().double())
    return TissueLabels(labels, alone, disagreement, tuple(tuple(each) for each in tissues), mixture)


def _check_told_apart(found: TissueLabels) -> None:
    """Unfit where the Gaussians of all tissues but padding are much the same, as those of noise are."""
    own = [n for n, labels in enumerate(found.tissues) if PADDING not in labels]
    mean, sd = (each.cpu().double().numpy()[own] for each in (found.mixture.mean, found.mixture.sd))
    moments = np.stack([np.ones_like(mean), mean, sd**2], axis=1)
    if len(own) > 1 and max(float(distances(one, moments).max()) for one in moments) < MIN_DISTANCE:
        raise Unfit("its tissues do not differ by their grey values")


def _measured(values: Tensor, counted: Tensor) -> tuple[float, float]:
    """The unit that the values are brought to, in place, and the standard deviation of those that count in it.

    Values farther from nearly all others than FAR times their range are drawn to there: one hot voxel must not be what
    the widths of all tissues are measured by. The unit is a power of two, so that nothing is rounded: UNITS to twice as
    many are one standard deviation, and no square of an intensity overflows, nor is any lost beside a small constant.
    """
    some = counted.flatten()[:: max(1, counted.numel() // MAX_QUANTILE)].cpu().double()  # which not every device has
    low, high = (float(torch.quantile(some, share)) for share in (TAIL, 1 - TAIL))
    if high > low:
        reach = FAR * (high - low)
        values.clamp_(low - reach, high + reach)
        counted = counted.clamp(low - reach, high + reach)
    spread = float(counted.cpu().double().std())
    unit = 2.0 ** math.floor(math.log2(spread / UNITS))
    values.div_(unit)
    return unit, spread / unit


def _check(labels: np.ndarray, alone: np.ndarray) -> None:
    """Unfit where the intensities take away what the atlas is sure of."""
    before, after, both = _counts(alone, labels, alone[alone == labels])
    if (lost := np.flatnonzero((before >= MIN_VOXELS) & (after < MIN_KEPT * before))).size:
        raise Unfit(f"{counted(len(lost), 'structure')} would be lost")
    if 2 * both.sum() < MIN_AGREEMENT * (before.sum() + after.sum()):
        raise Unfit("its labels would have little in common with the atlas'")


def _counts(*arrays: np.ndarray) -> list[np.ndarray]:
    """How often labels above zero occur in each array, at one place for each label; labels may be any numbers."""
    positive = [array[array > 0] for array in arrays]
    if max((int(each.max()) for each in positive if each.size), default=0) <= MAX_COUNTED:  # much faster
        return [np.bincount(each, minlength=MAX_COUNTED + 1) for each in positive]
    counted = [np.unique(each, return_counts=True) for each in positive]
    values = np.unique(np.concatenate([found for found, _ in counted]))
    counts = [np.zeros(len(values), np.int64) for _ in arrays]
    for total, (found, count) in zip(counts, counted, strict=True):
        total[np.searchsorted(values, found)] = count
    return counts


def _where_structures_are(expected: Expectation, grid: Grid) -> Box:
    """The box of voxels where any structure may be; Unfit where there is none."""
    step = max(1, round((np.prod(grid.shape) / COARSE_VOXELS) ** (1 / 3)))
    total = _total(expected(grid, step), tuple(-(-n // step) for n in grid.shape))
    there = total.cpu().numpy() > MIN_PRIOR if total is not None else np.zeros((1, 1, 1), bool)
    if not there.any():
        raise Unfit("no structure lies in it")
    ends = []
    for axis, n in enumerate(grid.shape):
        marked = np.flatnonzero(there.any(axis=tuple(a for a in range(3) if a != axis)))
        ends.append(slice(max(0, (int(marked[0]) - 1) * step), min(n, (int(marked[-1]) + 1) * step + 1)))
    z, y, x = ends
    return z, y, x


def _total(priors: Iterable[Prior], shape: Sequence[int]) -> Tensor | None:
    total = None
    for prior in priors:
        total = prior.probability.new_zeros(tuple(shape)) if total is None else total
        if prior.label > 0:
            total[prior.place] += prior.probability
    return total


def _mask_at(mask: sitk.Image, place: Box) -> Tensor:
    return torch.from_numpy(sitk.GetArrayFromImage(mask)[place] > 0)


def _fitted(
    values: Tensor, counts: Tensor, expected: Expectation, grid: Grid, group: dict[int, int], count: int
) -> Mixture:
    step = max(1, round((values.numel() / SAMPLES) ** (1 / 3)))
    thin = values[::step, ::step, ::step]
    prior, structures = thin.new_zeros(count, *thin.shape), torch.zeros_like(thin)
    for one in expected(grid, step):
        prior[group[one.label]][one.place] += one.probability
        if one.label > 0:
            structures[one.place] += one.probability
    inside = (structures > MIN_PRIOR) & counts[::step, ::step, ::step]
    if int(inside.sum()) < MIN_VOXELS:
        raise Unfit("its structures are too small there")
    _check_clipped(thin[inside], structures[inside])
    places = torch.stack([axis.expand(thin.shape)[inside] for axis in _unit_axes(thin)])
    return fit(thin[inside], prior[:, inside], places, bias=bool(values.min() >= 0), voxels_each=step**3)


def _check_clipped(values: Tensor, structures: Tensor) -> None:
    """Unfit where values (N,) are one at the end of the greys, in structures of a probability (N,) and around them."""
    around = 1 - structures.clamp(0, 1)
    for end in (values.min(), values.max()):
        shares = [float(one[values == end].sum() / one.sum().clamp_min(TINY)) for one in (structures, around)]
        if min(shares) > MAX_CLIPPED:
            raise Unfit("its structures and what is around them have one grey value in common: it is clipped, or blank")


def _unit_axes(values: Tensor) -> list[Tensor]:
    """−1…1 along z, y and x, to be broadcast."""
    axes = []
    for axis, n in enumerate(values.shape):
        line = torch.linspace(-1, 1, n, dtype=values.dtype, device=values.device) if n > 1 else values.new_zeros(1)
        axes.append(line.view([-1 if a == axis else 1 for a in range(3)]))
    return axes


@dataclass(frozen=True)
class _Weighed:
    """The tissues' likelihoods and what weighs them."""

    mixture: Mixture
    exponent: float
    outlier: float
    background: float
    dark_background: float

    def factor_of(self, label: int) -> float:
        """Of a label of the background, beside ``background``."""
        return self.dark_background if label >= DARKEST else 1.0

    def likelihood(self, tissue: int, values: Tensor) -> Tensor:
        """(p(I | tissue) + p(I | outlier))^T."""
        return self.mixture.density(tissue, values).add_(self.outlier).pow_(self.exponent)


def _likeliest(
    values: Tensor, priors: Sequence[Prior], group: dict[int, int], weighed: _Weighed
) -> tuple[Tensor, Tensor, Tensor]:
    """The labels of the highest posterior, those of the highest prior, and the latter's share."""
    labels, alone = (torch.zeros(values.shape, dtype=torch.int64, device=values.device) for _ in range(2))
    best, background, most, structures = (torch.zeros_like(values) for _ in range(4))
    by_tissue: dict[int, list[Prior]] = {}
    for prior in priors:
        by_tissue.setdefault(group[prior.label], []).append(prior)
    for tissue, members in by_tissue.items():
        around, inner = _around([prior.place for prior in members])
        likelihood = weighed.likelihood(tissue, values[around])
        for prior, place in zip(members, inner, strict=True):
            score = prior.probability * likelihood[place]
            if prior.label < 0:
                background[prior.place] += weighed.factor_of(prior.label) * score
                continue
            structures[prior.place] += prior.probability
            _raise(best[prior.place], labels[prior.place], score, prior.label)
            _raise(most[prior.place], alone[prior.place], prior.probability, prior.label)
    rest = 1 - structures
    labels[background * weighed.background >= best] = 0
    alone[rest >= most] = 0
    return labels, alone, torch.maximum(most, rest)


def _around(places: Sequence[Box]) -> tuple[Box, list[Box]]:
    """The box around boxes, and each of them within it."""
    z, y, x = (
        slice(min(each.start for each in axis), max(each.stop for each in axis)) for axis in zip(*places, strict=True)
    )
    low = z.start, y.start, x.start
    inner = [tuple(slice(s.start - n, s.stop - n) for s, n in zip(place, low, strict=True)) for place in places]
    return (z, y, x), [(a, b, c) for a, b, c in inner]


def _raise(highest: Tensor, labels: Tensor, score: Tensor, label: int) -> None:
    """The label where its score is higher than any before, in place."""
    labels.masked_fill_(score > highest, label)
    torch.maximum(highest, score, out=highest)
