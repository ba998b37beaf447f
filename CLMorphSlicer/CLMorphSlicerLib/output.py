"""The folder that the engine writes, read and checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import NodeError
from .geometry import LPS_TO_RAS, ijk_to_ras, spacing_and_direction

SAME_GRID_MM = 0.005  # NIfTI keeps a grid in single precision


class EngineOutput:
    """What the engine made of one image, and the atlas image that it warped.

    `labels`, `warped`, `jacobian`: arrays (k, j, i) on the patient's grid; `affine`, `inverse`: LPS transforms;
    `transform_path`: the file of the whole transform; `atlas`: image; `report`: dictionary of report.json.
    Raises NodeError where a file is missing or lies on another grid than size (i, j, k) and matrix (4, 4) say.
    """

    def __init__(self, folder: Path, atlas_image: Path, size: tuple[int, int, int], matrix: np.ndarray) -> None:
        self.size, self.matrix = size, matrix
        self.transform_path = _existing(folder / "transform.h5")
        self.report = json.loads(_existing(folder / "report.json").read_text(encoding="utf-8"))
        self.affine = sitk.ReadTransform(str(_existing(folder / "affine.h5")))
        self.inverse = sitk.ReadTransform(str(_existing(folder / "inverse.h5")))
        self.labels, self.warped, self.jacobian = (
            self._on_patient_grid(folder / f"{name}.nii.gz") for name in ("labels", "warped", "jacobian")
        )
        self.atlas = sitk.ReadImage(str(_existing(atlas_image)))

    def _on_patient_grid(self, path: Path) -> np.ndarray:
        image = sitk.ReadImage(str(_existing(path)))
        ends = np.diag([*np.subtract(self.size, 1), 1])  # of the three axes, and the first voxel
        ends[3] = 1
        if image.GetSize() != self.size or np.abs((ijk_to_ras(image) - self.matrix) @ ends).max() > SAME_GRID_MM:
            raise NodeError(
                f"{path.name} lies on another grid than the volume: size {image.GetSize()} and {self.size}; "
                "was the volume changed during the run? Run the segmentation again"
            )
        return sitk.GetArrayFromImage(image)

    def affine_warped(self) -> np.ndarray:
        """Atlas resampled onto the patient's grid by the affine alone; (k, j, i)."""
        lps = LPS_TO_RAS @ self.matrix
        spacing, direction = spacing_and_direction(lps)
        grid = (self.size, self.affine, sitk.sitkLinear, lps[:3, 3].tolist(), spacing.tolist(), direction.ravel())
        return sitk.GetArrayFromImage(sitk.Resample(self.atlas, *grid))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise NodeError(f"the results have no {path.name}: the run did not finish; run the segmentation again")
    return path
