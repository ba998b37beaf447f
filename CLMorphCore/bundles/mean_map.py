"""Maps from an average to many subjects without what they have in common, one of them in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..geometry import Grid, chain, placed
from ..io.scratch import ScratchRows


@dataclass(frozen=True)
class SubjectMaps:
    """Tᵢ = Aᵢ ∘ Dᵢ ∘ B, average → subject i, as ``maps[i]``; iterating makes one after another.

    affines   Aᵢ, in memory
    fields    (D, H, W, 3) of each Dᵢ, mm, LPS, on ``grid``, in a file; None where there are none
    before    B, of all
    """

    affines: Sequence[sitk.Transform]
    before: sitk.Transform
    fields: ScratchRows | None = None
    grid: Grid | None = None

    def __len__(self) -> int:
        return len(self.affines)

    def __iter__(self) -> Iterator[sitk.CompositeTransform]:
        return (self[n] for n in range(len(self)))

    def __getitem__(self, index: int) -> sitk.CompositeTransform:
        affine = self.affines[index]
        if self.fields is None or self.grid is None:
            return chain(affine, self.before)
        return chain(affine, _bent(self.fields[index].astype(np.float64), self.grid), self.before)


def unbiased(found: Iterable[sitk.Transform], count: int, grid: Grid) -> SubjectMaps:
    """T_i ∘ M⁻¹ with the mean map M: what remains has no common part, so the template drifts towards the mean shape.

    ``found`` are ``count`` maps A or A ∘ D, average → subject, the D on one grid; ``grid`` is the average's. Float32
    holds the D exactly, as registrations round them. OutputError where the disk has no room for them.
    """
    affines: list[sitk.Transform] = []
    fields = lattice = total = None
    for n, each in enumerate(found):
        affine, bent = _parts(each)
        affines.append(affine)
        if bent is None:
            continue
        field = sitk.DisplacementFieldTransform(bent).GetDisplacementField()
        vectors = sitk.GetArrayFromImage(field)
        if fields is None or total is None:
            fields = ScratchRows(count, vectors.shape, np.float32, "give fewer subjects")
            lattice, total = Grid.of(field), np.zeros_like(vectors)
        fields[n] = vectors
        total += vectors
    centre = grid.corners_mm().mean(axis=0).tolist()
    back = _mean_linear([sitk.AffineTransform(each) for each in affines], centre).GetInverse()
    if total is None or lattice is None:
        return SubjectMaps(affines, back)
    return SubjectMaps(affines, chain(_inverse(total / len(affines), lattice), back), fields, lattice)


def _parts(found: sitk.Transform) -> tuple[sitk.Transform, sitk.Transform | None]:
    """A and D of A ∘ D; no D where the map is linear."""
    if found.IsLinear():
        return found, None
    both = sitk.CompositeTransform(found)
    return both.GetNthTransform(0), both.GetNthTransform(1)


def _mean_linear(affines: Sequence[sitk.AffineTransform], centre: Sequence[float]) -> sitk.AffineTransform:
    """p ↦ c + mean(A_i) (p − c): the average matrix about the grid's centre.

    Not the average shift: where in a scanner the subjects lay would carry the template off its grid.
    """
    matrices = np.array([a.GetMatrix() for a in affines]).mean(axis=0)
    return sitk.AffineTransform(matrices.tolist(), (0.0, 0.0, 0.0), centre)


def _inverse(vectors: np.ndarray, grid: Grid) -> sitk.DisplacementFieldTransform:
    """The inverse of p ↦ p + v(p), vectors (D, H, W, 3) in mm on a grid."""
    field = placed(vectors, grid, vectors=True)
    return sitk.DisplacementFieldTransform(sitk.InvertDisplacementField(field, maximumNumberOfIterations=20))


def _bent(vectors: np.ndarray, grid: Grid) -> sitk.DisplacementFieldTransform:
    return sitk.DisplacementFieldTransform(placed(vectors, grid, vectors=True))
