"""The folder that the engine writes, read and checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .errors import NodeError
from .geometry import LPS_TO_RAS, coarser_grid, ijk_to_ras, inverted, sampled, spacing_and_direction, tapered
from .words import _

NEEDED = ("warped", "jacobian")  # of the images, whatever was asked for
SAME_GRID_MM = 0.005  # NIfTI keeps a grid in single precision


class EngineOutput:
    """What the engine made of one image, and the atlas or moving image that it warped.

    `labels` (None where nothing was labelled), `warped`, `jacobian`, `uncertainty` (None where the model gives none):
    arrays (k, j, i) on the patient's grid; `transform`, `affine`: LPS transforms,
    patient -> atlas; `inverse`: atlas -> patient, None where the model gives none; `transform_path`: the file;
    `atlas`: image; `report`: dictionary of report.json.
    Raises NodeError where a file is missing or lies on another grid than size (i, j, k) and matrix (4, 4) say.
    """

    def __init__(self, folder: Path, atlas_image: Path, size: tuple[int, int, int], matrix: np.ndarray) -> None:
        self.size, self.matrix = size, matrix
        self.transform_path = _existing(folder / "transform.h5")
        self.report = json.loads(_existing(folder / "report.json").read_text(encoding="utf-8"))
        self.transform = _read(sitk.ReadTransform, self.transform_path)
        self.affine = _read(sitk.ReadTransform, folder / "affine.h5")
        inverse = folder / "inverse.h5"
        self.inverse = _read(sitk.ReadTransform, inverse) if inverse.exists() else None
        self.warped, self.jacobian = (self._on_patient_grid(folder / f"{name}.nii.gz") for name in NEEDED)
        self.labels, self.uncertainty = (
            self._on_patient_grid(path) if path.exists() else None
            for path in (folder / "labels.nii.gz", folder / "uncertainty.nii.gz")
        )
        self.atlas = _read(sitk.ReadImage, atlas_image)

    def _on_patient_grid(self, path: Path) -> np.ndarray:
        image = _read(sitk.ReadImage, path)
        ends = np.diag([*np.subtract(self.size, 1), 1])  # of the three axes, and the first voxel
        ends[3] = 1
        if image.GetSize() != self.size or np.abs((ijk_to_ras(image) - self.matrix) @ ends).max() > SAME_GRID_MM:
            refused = _(
                "{file} lies on another grid than the volume: size {found} and {wanted}; "
                "was the volume changed during the run? Run it again"
            )
            raise NodeError(refused.format(file=path.name, found=image.GetSize(), wanted=self.size))
        return sitk.GetArrayFromImage(image)

    def field_for_display(self, resolution: float) -> sitk.Image:
        """Displacements by which the atlas, laid onto the patient by the affine, moves to where it ends; LPS, mm."""
        grid = coarser_grid(self.size, self.matrix, resolution)
        if self.inverse is not None:
            return sampled(sitk.CompositeTransform([self.inverse, self.affine]), *grid)
        pull = sitk.CompositeTransform([self.affine.GetInverse(), self.transform])
        return inverted(tapered(sampled(pull, *grid)))

    def affine_warped(self) -> np.ndarray:
        """Atlas resampled onto the patient's grid by the affine alone; (k, j, i)."""
        lps = LPS_TO_RAS @ self.matrix
        spacing, direction = spacing_and_direction(lps)
        grid = (self.size, self.affine, sitk.sitkLinear, lps[:3, 3].tolist(), spacing.tolist(), direction.ravel())
        return sitk.GetArrayFromImage(sitk.Resample(self.atlas, *grid))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise NodeError(_("the results have no {file}: the run did not finish; run it again").format(file=path.name))
    return path


def _read(reader: Callable[[str], Any], path: Path) -> Any:
    try:
        return reader(str(_existing(path)))
    except RuntimeError as error:
        raise NodeError(_("{file} is damaged, ITK cannot read it: run it again").format(file=path.name)) from error
