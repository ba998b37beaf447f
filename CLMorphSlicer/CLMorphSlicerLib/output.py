"""The folder that the engine writes, read and checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import SimpleITK as sitk

from .errors import NodeError
from .geometry import LPS_TO_RAS, coarser_grid, ijk_to_ras, inverted, sampled, spacing_and_direction, tapered
from .words import _

SAME_GRID_MM = 0.005  # NIfTI keeps a grid in single precision
SIDES = ("left", "right")


@dataclass(frozen=True)
class PatientGrid:
    """Where the patient's voxels lie: size (i, j, k), and RAS = matrix (4, 4) @ (i, j, k, 1), mm."""

    size: tuple[int, int, int]
    matrix: np.ndarray

    def read(self, path: Path) -> np.ndarray:
        """The voxels (k, j, i) of an image on this grid. Raises NodeError where it is missing or lies on another."""
        image = _read(sitk.ReadImage, path)
        self._check(image, path)
        return sitk.GetArrayFromImage(image)

    def read_frames(self, path: Path, count: int) -> np.ndarray:
        """The voxels (frame, k, j, i) of so many images on this grid, in one file. Raises NodeError as `read`."""
        image = _read(sitk.ReadImage, path)
        several = image.GetDimension() == 4
        found = image.GetSize()[3] if several else 1
        if found != count:
            refused = _("{file} has {found} frames, expected {count}: run it again")
            raise NodeError(refused.format(file=path.name, found=found, count=count))
        self._check(image[:, :, :, 0] if several else image, path)
        return sitk.GetArrayFromImage(image).reshape(count, *self.size[::-1])

    def _check(self, image: sitk.Image, path: Path) -> None:
        if image.GetDimension() != 3 or not on_one_grid(self, PatientGrid(image.GetSize(), ijk_to_ras(image))):
            refused = _(
                "{file} lies on another grid than the volume: size {found} and {wanted}; "
                "was the volume changed during the run? Run it again"
            )
            raise NodeError(refused.format(file=path.name, found=image.GetSize(), wanted=self.size))

    def read_if_there(self, path: Path) -> np.ndarray | None:
        return self.read(path) if path.exists() else None


class HasGrid(Protocol):
    """What has a size (i, j, k) and a matrix (4, 4) from there to RAS, mm."""

    @property
    def size(self) -> tuple[int, int, int]: ...
    @property
    def matrix(self) -> np.ndarray: ...


def on_one_grid(one: HasGrid, other: HasGrid) -> bool:
    """Whether voxels of the same indices lie on the same points."""
    ends = np.diag([*np.subtract(one.size, 1), 1])  # of the three axes, and the first voxel
    ends[3] = 1
    return one.size == other.size and bool(np.abs((one.matrix - other.matrix) @ ends).max() <= SAME_GRID_MM)


class Deformation:
    """How an atlas, or a moving image, was warped onto the patient.

    `warped`, `jacobian`: arrays (k, j, i) on the patient's grid; `transform`, `affine`: LPS transforms, patient ->
    atlas; `inverse`: atlas -> patient, None where the model gives none; `path`: the file of the transform; `atlas`: the
    image that was warped. Raises NodeError as `EngineOutput`.
    """

    def __init__(self, folder: Path, atlas_image: Path, grid: PatientGrid) -> None:
        self.grid = grid
        self.path = _existing(folder / "transform.h5")
        self.transform = _read(sitk.ReadTransform, self.path)
        self.affine = _read(sitk.ReadTransform, folder / "affine.h5")
        inverse = folder / "inverse.h5"
        self.inverse = _read(sitk.ReadTransform, inverse) if inverse.exists() else None
        self.warped, self.jacobian = (grid.read(folder / f"{name}.nii.gz") for name in ("warped", "jacobian"))
        self.atlas = _read(sitk.ReadImage, atlas_image)

    def field_for_display(self, resolution: float) -> sitk.Image:
        """Displacements by which the atlas, laid onto the patient by the affine, moves to where it ends; LPS, mm."""
        grid = coarser_grid(self.grid.size, self.grid.matrix, resolution)
        if self.inverse is not None:
            return sampled(sitk.CompositeTransform([self.inverse, self.affine]), *grid)
        pull = sitk.CompositeTransform([self.affine.GetInverse(), self.transform])
        return inverted(tapered(sampled(pull, *grid)))

    def affine_warped(self) -> np.ndarray:
        """Atlas resampled onto the patient's grid by the affine alone; (k, j, i)."""
        lps = LPS_TO_RAS @ self.grid.matrix
        spacing, direction = spacing_and_direction(lps)
        grid = (self.grid.size, self.affine, sitk.sitkLinear, lps[:3, 3].tolist(), spacing.tolist(), direction.ravel())
        return sitk.GetArrayFromImage(sitk.Resample(self.atlas, *grid))


class EngineOutput:
    """What the engine made of one image, and the atlas or moving image that it warped.

    `labels`, `uncertainty`, `brain_mask`: arrays (k, j, i) on the patient's grid, None where there are none of that
    kind; `report`: dictionary of report.json; `deformation`: None where an organ was found on both sides of a whole,
    and `side_transforms` then are the files of each side's own, patient -> atlas.
    Raises NodeError where a file is missing or lies on another grid than size (i, j, k) and matrix (4, 4) say.
    """

    def __init__(self, folder: Path, atlas_image: Path, size: tuple[int, int, int], matrix: np.ndarray) -> None:
        grid = PatientGrid(size, matrix)
        self.matrix = matrix
        self.report = json.loads(_existing(folder / "report.json").read_text(encoding="utf-8"))
        of_both_sides = bool(self.report.get("locator"))
        self.deformation = None if of_both_sides else Deformation(folder, atlas_image, grid)
        self.side_transforms = {side: _existing(folder / f"{side}_transform.h5") for side in SIDES if of_both_sides}
        for path in self.side_transforms.values():
            _read(sitk.ReadTransform, path)
        self.labels, self.uncertainty, self.brain_mask = (
            grid.read_if_there(folder / f"{name}.nii.gz") for name in ("labels", "uncertainty", "brain_mask")
        )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise NodeError(_("the results have no {file}: the run did not finish; run it again").format(file=path.name))
    return path


def _read(reader: Callable[[str], Any], path: Path) -> Any:
    try:
        return reader(str(_existing(path)))
    except RuntimeError as error:
        raise NodeError(_("{file} is damaged, ITK cannot read it: run it again").format(file=path.name)) from error
