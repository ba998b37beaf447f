"""One test subject's slices as a run sees them: what the pictures of labels, warped images and grids are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CLMorphCore.atomic import atomic_write
from CLMorphCore.errors import InputError
from CLMorphCore.reports import drawing
from CLMorphCore.reports.drawing import Frame, View

MOST_PIXELS = 256  # along the longest side
ALWAYS, OF_DEFORMATIONS = ("image", "expected", "labels"), ("warped", "displacement_mm")  # arrays of a plane


@dataclass(frozen=True)
class Plane:
    """An anatomical slice as it is drawn: rows go down, columns to the right (radiological convention).

    name             axial, coronal or sagittal
    pixel_mm         (row, column) spacing
    image            (rows, columns) the subject's image
    expected         (rows, columns) the subject's manual labels
    labels           (rows, columns) its labels by the system
    warped           (rows, columns) the atlas image warped onto the subject; None for a system that does not register
    displacement_mm  (2: down, right; rows, columns) in-plane p → A⁻¹(T(p)) − p, without the affine part; None likewise
    """

    name: str
    pixel_mm: tuple[float, float]
    image: np.ndarray
    expected: np.ndarray
    labels: np.ndarray
    warped: np.ndarray | None = None
    displacement_mm: np.ndarray | None = None


@dataclass(frozen=True)
class Example:
    """Three orthogonal planes of one test subject. They follow from its manual labels: the same for every system."""

    subject: str
    planes: tuple[Plane, ...]

    @classmethod
    def cut(
        cls,
        subject: str,
        image: sitk.Image,
        expected: sitk.Image,
        labels: sitk.Image,
        *,
        warped: sitk.Image | None = None,
        transform: sitk.Transform | None = None,
        affine: sitk.Transform | None = None,
    ) -> Example:
        """Slices through the fullest place of the manual labels.

        All images lie in the subject's space; ``warped`` is the atlas image on it; ``transform`` (subject → atlas,
        LPS, mm) and its affine part (default: the identity) give the displacement.
        """
        points = drawing.labelled_points_mm(expected)
        if not len(points):
            raise InputError(f"the labels of {subject} are empty; expected a labelled test subject for the pictures")
        bounds = drawing.bounds_mm(image)
        place = drawing.fullest_position(points, min(image.GetSpacing()))
        pixel_mm = max(min(image.GetSpacing()), float((bounds[1] - bounds[0]).max()) / MOST_PIXELS)
        frames = [drawing.frame(view, bounds, place, pixel_mm) for view in drawing.VIEWS]
        return cls(
            subject, tuple(_plane(where, image, expected, labels, warped, transform, affine) for where in frames)
        )

    def save(self, path: Path) -> None:
        """Writes one .npz, whole or not at all."""
        arrays: dict[str, np.ndarray] = {
            "subject": np.array(self.subject),
            "names": np.array([plane.name for plane in self.planes]),
        }
        for plane in self.planes:
            arrays[f"{plane.name}_pixel_mm"] = np.array(plane.pixel_mm)
            for kind in (*ALWAYS, *OF_DEFORMATIONS):
                values = getattr(plane, kind)
                if values is not None:
                    arrays[f"{plane.name}_{kind}"] = values
        with atomic_write(path) as temporary:
            np.savez_compressed(temporary, **arrays)  # pyright: ignore[reportArgumentType]  none is called allow_pickle

    @classmethod
    def load(cls, path: Path) -> Example:
        """The example of a file that ``save`` wrote; InputError for another one."""
        try:
            with np.load(path, allow_pickle=False) as file:
                stored = dict(file)
            return cls(str(stored["subject"]), tuple(_stored_plane(str(name), stored) for name in stored["names"]))
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"cannot read {path} as an example of a run ({error}); delete it and its row in runs.csv "
                "to run it again"
            ) from None


def _plane(
    where: Frame,
    image: sitk.Image,
    expected: sitk.Image,
    labels: sitk.Image,
    warped: sitk.Image | None,
    transform: sitk.Transform | None,
    affine: sitk.Transform | None,
) -> Plane:
    _, _, spacing, _ = where.grid()
    return Plane(
        name=where.view.name,
        pixel_mm=(spacing[1], spacing[0]),
        image=drawing.sample(image, where).astype(np.float32),
        expected=drawing.sample(expected, where, nearest=True).astype(np.int32),
        labels=drawing.sample(labels, where, nearest=True).astype(np.int32),
        warped=None if warped is None else drawing.sample(warped, where).astype(np.float32),
        displacement_mm=None if transform is None else _in_plane(where, transform, affine),
    )


def _in_plane(where: Frame, transform: sitk.Transform, affine: sitk.Transform | None) -> np.ndarray:
    """(2: down, right; rows, columns) of A⁻¹(T(p)) − p in mm."""
    size, origin, spacing, direction = where.grid()
    field = sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, size, origin, spacing, direction)
    columns, rows, _ = size
    axes = np.array(direction).reshape(3, 3)
    points = (
        np.array(origin)
        + np.arange(columns)[None, :, None] * spacing[0] * axes[:, 0]
        + np.arange(rows)[:, None, None] * spacing[1] * axes[:, 1]
    )
    moved = points + sitk.GetArrayFromImage(field)[0]
    if affine is not None:
        offset = np.array(affine.TransformPoint((0.0, 0.0, 0.0)))
        matrix = np.stack([affine.TransformPoint(axis) for axis in np.eye(3).tolist()], axis=1) - offset[:, None]
        moved = (moved - offset) @ np.linalg.inv(matrix).T
    return np.stack(
        [(moved - points) @ _axis(where.view, "down"), (moved - points) @ _axis(where.view, "right")]
    ).astype(np.float32)


def _axis(view: View, name: str) -> np.ndarray:
    return np.array(getattr(view, name), float)


def _stored_plane(name: str, stored: dict[str, np.ndarray]) -> Plane:
    down, right = (float(step) for step in stored[f"{name}_pixel_mm"])
    return Plane(
        name,
        (down, right),
        *(stored[f"{name}_{kind}"] for kind in ALWAYS),
        *(stored.get(f"{name}_{kind}") for kind in OF_DEFORMATIONS),
    )
