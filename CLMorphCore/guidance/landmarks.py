"""Landmarks seen in both images: they start the affine alignment, pull an optimization, and tell the error in mm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid
from ..spatial import sample

MIN_RIGID, MIN_AFFINE = 3, 8  # pairs, from which on a rotation, and stretches, are found; fewer say a shift
MIN_SPREAD = 0.02  # of landmarks, of their widest extent: below it they lie on a line, or in a plane
ROUNDS = 50  # of the robust fit
TUNING, TO_SD = 4.685, 1.4826  # of Tukey's biweight: 95 % as exact as least squares on normal errors; of a median
NOISE_MM, NOISE_SHARE = 0.25, 0.01  # to which landmarks are seen at best; or of their widest extent, of small animals
# Shares of the longest side of what is registered. A mean square error of so many mm costs as much as a similarity of
# 1, and a landmark takes along what is around it, as far as a Gaussian of this standard deviation reaches.
COSTLY, REACH = 0.1, 1 / 16
Kind = Literal["shift", "rigid", "affine"]
Map = Callable[[Sequence[float]], Sequence[float]]


@dataclass(frozen=True)
class Landmarks:
    """Pairs of points, (N, 3) each, LPS, mm, one in the fixed image and the same place in the moving one.

    ``matched_by`` is how the pairs were found, ``alone`` are the names that have no partner, ``names_differ`` is said
    where both have names that were of no use.
    """

    names: tuple[str, ...]
    fixed_mm: np.ndarray
    moving_mm: np.ndarray
    matched_by: Literal["name", "order"] = "order"
    alone: tuple[str, ...] = ()
    names_differ: bool = False

    def notes(self) -> list[str]:
        """What to know of the matching: names that do not count, or could not be used."""
        said = [f"landmarks without a partner do not count: {', '.join(self.alone)}"] if self.alone else []
        if self.names_differ:
            said.append("the landmarks' names differ between the files, or are not unique; they were matched by order")
        return said

    def doubts(self, fixed: Grid, moving: Grid, to_moving: Map) -> list[str]:
        """What speaks against landmarks after a registration: they lie outside of their images, or farther apart."""
        outside = [
            int(np.count_nonzero(~_within(*each))) for each in ((self.fixed_mm, fixed), (self.moving_mm, moving))
        ]
        said = [
            f"{count} of {len(self.names)} landmarks lie outside of the {name} image; are they another image's, or in "
            "another space (RAS, LPS)?"
            for count, name in zip(outside, ("fixed", "moving"), strict=True)
            if count
        ]
        before, after = self.errors_mm(lambda point: point).mean(), self.errors_mm(to_moving).mean()
        if after > max(1.1 * before, before + self.noise_mm):
            said.append(
                f"the landmarks lie {after:.2f} mm apart after the registration, {before:.2f} mm before; are the two "
                "files exchanged, or their points in another order?"
            )
        return said

    @property
    def noise_mm(self) -> float:
        """How exactly they can be set at best."""
        extent = float(np.ptp(self.fixed_mm, axis=0).max())
        return min(NOISE_MM, NOISE_SHARE * extent) if extent > 0 else NOISE_MM

    def errors_mm(self, to_moving: Map) -> np.ndarray:
        """|T(p) − q| of each pair, (N,)."""
        moved = [to_moving(point) for point in self.fixed_mm.tolist()]
        return np.linalg.norm(np.array(moved).reshape(-1, 3) - self.moving_mm, axis=1)

    def on_grid(self, grid: Grid, affine: sitk.Transform) -> Pull:
        """What pulls a displacement on a grid of the moving image's space, after an affine fixed → moving."""
        start = np.array([affine.TransformPoint(point) for point in self.fixed_mm.tolist()])
        back = np.linalg.inv(grid.to_mm()).T
        points, targets = ((place - np.array(grid.origin_mm)) @ back for place in (start, self.moving_mm))
        inside = np.all((points >= 0) & (points <= np.array(grid.size) - 1), axis=1)
        _, weights = fitted(self)
        return Pull(points[inside, ::-1], targets[inside, ::-1], weights[inside], grid.shape, grid.voxel_mm)


def _within(points_mm: np.ndarray, grid: Grid) -> np.ndarray:
    """Which points (N, 3) lie in a grid's voxels."""
    voxels = (points_mm - np.array(grid.origin_mm)) @ np.linalg.inv(grid.to_mm()).T
    return np.all((voxels >= -0.5) & (voxels <= np.array(grid.size) - 0.5), axis=1)


@dataclass(frozen=True)
class Guidance:
    """What is known of a scan before it is registered: where it counts, landmarks, and the affine to begin with."""

    mask: sitk.Image | None = None
    landmarks: Landmarks | None = None
    initial: sitk.Transform | None = None

    @property
    def start(self) -> sitk.Transform | None:
        """The affine map fixed → moving with which the alignment begins; None: with the images' own."""
        if self.initial is not None or self.landmarks is None:
            return self.initial
        return fitted(self.landmarks)[0]


@dataclass(frozen=True)
class Pull:
    """E(u) = Σᵢ wᵢ |pᵢ + u(pᵢ) − qᵢ|² / C², in mm, of points and targets (N, 3), voxels (z, y, x) of a grid.

    C is COSTLY times the grid's longest side, the weights' sum is 1.
    """

    points: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    shape: tuple[int, int, int]
    voxel_mm: tuple[float, float, float]

    def __call__(self, displacement: Tensor) -> tuple[float, Tensor]:
        """E, and −∂E/∂u spread by a Gaussian of REACH, for u (1, 3, D, H, W) between the same corners, in voxels."""
        sides = displacement.shape[2:]
        ratio = np.array([(n - 1) / max(m - 1, 1) for n, m in zip(sides, self.shape, strict=True)])
        voxel = np.array(self.voxel_mm) / ratio
        longest = max(n * mm for n, mm in zip(self.shape, self.voxel_mm, strict=True))
        if not len(self.points) or self.weights.sum() <= 0:
            return 0.0, torch.zeros_like(displacement)
        points = self.points * ratio
        at = displacement.new_tensor(points).T[None, :, :, None, None]
        moved = sample(displacement, at, padding="border")[0, :, :, 0, 0].T.cpu().double().numpy()
        off = (self.targets * ratio - points - moved) * voxel
        weights = self.weights[:, None] / (self.weights.sum() * (COSTLY * longest) ** 2)
        force = 2 * weights * off * voxel
        bells = [
            _bells(points[:, axis], n, REACH * longest / mm)
            for axis, (n, mm) in enumerate(zip(sides, voxel.tolist(), strict=True))
        ]
        z, y, x = (displacement.new_tensor(bell) for bell in bells)
        rows = (displacement.new_tensor(force).T[:, :, None] * z).transpose(1, 2).reshape(-1, len(points))
        spread = rows @ (y[:, :, None] * x[:, None, :]).flatten(1)
        return float((weights * off**2).sum()), spread.view(1, 3, *sides)


def _bells(centres: np.ndarray, count: int, sd: float) -> np.ndarray:
    """(N, count): a Gaussian of unit area about each centre, at voxels 0 … count − 1."""
    return np.exp(-0.5 * ((np.arange(count) - centres[:, None]) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))


def paired(
    fixed_mm: np.ndarray,
    moving_mm: np.ndarray,
    fixed_names: Sequence[str] = (),
    moving_names: Sequence[str] = (),
    placed: tuple[Sequence[bool], Sequence[bool]] | None = None,
) -> Landmarks:
    """Pairs by name, where all points of both have one of their own and some are the same, otherwise by order.

    ``placed``: which points of each list have a place, where some have none: they keep their number in the order, and
    what has no place in one list is no pair. InputError where there are no pairs, or by order not as many points in
    both.
    """
    named = [len(names) > 0 and all(names) and len(set(names)) == len(names) for names in (fixed_names, moving_names)]
    common = [name for name in fixed_names if name in set(moving_names)]
    if all(named) and common:
        rows = [[list(names).index(name) for name in common] for names in (fixed_names, moving_names)]
        alone = tuple(sorted(set(fixed_names) ^ set(moving_names)))
        return Landmarks(tuple(common), fixed_mm[rows[0]], moving_mm[rows[1]], "name", alone)
    own = placed or ([True] * len(fixed_mm), [True] * len(moving_mm))
    both = _places_of_both(*own)
    if both is None:
        unplaced = any(not all(each) for each in own)
        lists = f" (lists of {len(own[0])} and {len(own[1])}, with those that have no place)" if unplaced else ""
        raise InputError(
            f"`landmarks` are {len(fixed_mm)} in the fixed image and {len(moving_mm)} in the moving one{lists}, "
            "without names in common; expected as many in both, in the same order",
            "give both the same names, or leave out what only one has",
        )
    # of each list: number in its order -> row among those that have a place
    fixed_rows, moving_rows = ({at: row for row, at in enumerate(np.flatnonzero(each).tolist())} for each in own)
    called = {at: fixed_names[row] if named[0] else str(at + 1) for at, row in fixed_rows.items()}
    called |= {
        at: moving_names[row] if named[1] else str(at + 1) for at, row in moving_rows.items() if at not in called
    }
    differ = all(len(names) > 0 and all(names) for names in (fixed_names, moving_names))
    return Landmarks(
        tuple(called[at] for at in both),
        fixed_mm[[fixed_rows[at] for at in both]],
        moving_mm[[moving_rows[at] for at in both]],
        alone=tuple(called[at] for at in sorted(called) if at not in both),
        names_differ=differ,
    )


def _places_of_both(fixed: Sequence[bool], moving: Sequence[bool]) -> list[int] | None:
    """The numbers, from 0, at which both lists have a place; None where there are none, or the lists do not fit.

    They do where they are as long, also without what has no place at their ends, as a point that is about to be placed.
    """
    ends = [int(np.flatnonzero(each)[-1]) + 1 if any(each) else 0 for each in (fixed, moving)]
    both = [at for at in range(min(ends)) if fixed[at] and moving[at]]
    return both if both and (len(fixed) == len(moving) or ends[0] == ends[1]) else None


def kind_of(landmarks: Landmarks) -> Kind:
    """The kind of map that so many landmarks, lying so, determine."""
    count = len(landmarks.names)
    extents = [
        np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
        for points in (landmarks.fixed_mm, landmarks.moving_mm)
    ]
    if count >= MIN_AFFINE and all(own[2] > MIN_SPREAD * own[0] for own in extents):
        return "affine"
    if count >= MIN_RIGID and all(own[1] > MIN_SPREAD * own[0] for own in extents):
        return "rigid"
    return "shift"


def fitted(landmarks: Landmarks) -> tuple[sitk.AffineTransform, np.ndarray]:
    """argmin Σ ρ(|A(p) − q|) over the maps of ``kind_of``, fixed → moving, and the weights (N,) of the pairs.

    Least squares, again and again with Tukey's biweight: a landmark that is set wrong loses its weight.
    """
    fixed, moving, kind = landmarks.fixed_mm, landmarks.moving_mm, kind_of(landmarks)
    weights = np.ones(len(fixed))
    if kind == "shift" and len(fixed) < MIN_RIGID:
        return _affine(np.eye(3), (moving - fixed).mean(axis=0)), weights
    matrix, offset = _least_squares(fixed, moving, weights, kind)
    noise = landmarks.noise_mm
    # Least absolute values first: the biweight keeps to what it begins with.
    for round_ in range(2 * ROUNDS):
        errors = np.linalg.norm(fixed @ matrix.T + offset - moving, axis=1)
        if round_ < ROUNDS:
            weights = 1 / np.maximum(errors, noise)
        else:
            scale = max(TO_SD * float(np.median(errors)), noise)
            weights = np.square(np.clip(1 - (errors / (TUNING * scale)) ** 2, 0, None))
        matrix, offset = _least_squares(fixed, moving, weights, kind)
    return _affine(matrix, offset), weights


def _affine(matrix: np.ndarray, offset: np.ndarray) -> sitk.AffineTransform:
    return sitk.AffineTransform(matrix.ravel().tolist(), offset.tolist())


def _least_squares(
    fixed: np.ndarray, moving: np.ndarray, weights: np.ndarray, kind: Kind
) -> tuple[np.ndarray, np.ndarray]:
    """M and t of the map p ↦ M p + t with the least Σ w |M p + t − q|²; a rotation after Kabsch (1976)."""
    share = weights[:, None] / weights.sum()
    centre, goal = (share * fixed).sum(axis=0), (share * moving).sum(axis=0)
    matrix = np.eye(3)
    if kind == "rigid":
        left, _, right = np.linalg.svd((share * (moving - goal)).T @ (fixed - centre))
        matrix = left @ np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))]) @ right
    elif kind == "affine":
        root = np.sqrt(share)
        matrix = np.linalg.lstsq(root * (fixed - centre), root * (moving - goal), rcond=None)[0].T
    return matrix, goal - matrix @ centre
