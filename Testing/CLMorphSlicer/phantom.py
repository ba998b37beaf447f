"""A patient and an atlas of smooth shapes, a deformation known exactly, and the folder that the engine would write.

All analytic fields live in LPS, mm. The atlas grid runs towards left (LAS), as the common brain templates do.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

STRUCTURES = (
    {"value": 1, "name": "Body", "color": "#d8a24f", "terminology": ""},
    {"value": 2, "name": "Anterior hippocampus", "color": "#d8654f", "terminology": "SCT^5366008^Hippocampus"},
    {"value": 5, "name": "Ventricle", "color": "#4f8fd8", "terminology": "SCT^35764002^Brain ventricle"},
)
# label value -> centre and radii of an ellipsoid of the atlas, mm
SHAPES = {1: ((0, 0, 0), (44, 52, 40)), 2: ((18, 8, 4), (11, 16, 9)), 5: ((-16, -6, 6), (9, 18, 12))}
GRIDS = {
    "RAS": ((60, 70, 56), (2.0, 2.0, 2.0), np.diag([-1.0, -1.0, 1.0])),
    "LAS": ((60, 70, 56), (2.0, 2.0, 2.0), np.diag([1.0, -1.0, 1.0])),
    "oblique": ((64, 72, 60), (2.0, 1.8, 2.0), sitk.Euler3DTransform((0, 0, 0), 0.2, -0.3, 0.4)),
    "anisotropic": ((100, 110, 24), (1.2, 1.2, 5.0), np.eye(3)),
}
COARSE = {"coarse": ((30, 35, 28), (4.0, 4.0, 4.0), np.diag([-1.0, -1.0, 1.0]))}  # for what does not look closely


def grid(name: str) -> sitk.Image:
    """An empty image on one of GRIDS or COARSE, its centre at (5, -8, 12) LPS mm."""
    size, spacing, direction = {**GRIDS, **COARSE}[name]
    if isinstance(direction, sitk.Transform):
        direction = np.reshape(direction.GetMatrix(), (3, 3))
    image = sitk.Image(size, sitk.sitkInt16)
    image.SetSpacing(spacing)
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin((np.array([5.0, -8.0, 12.0]) - direction @ (np.subtract(size, 1) * spacing / 2)).tolist())
    return image


@cache
def atlas() -> tuple[sitk.Image, sitk.Image]:
    """(image, labels) of the atlas, 2 mm."""
    image = sitk.Image((64, 72, 60), sitk.sitkUInt8)
    image.SetSpacing((2.0, 2.0, 2.0))
    image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
    image.SetOrigin((-63.0, 71.0, -59.0))
    k, j, i = np.indices(image.GetSize()[::-1])
    x, y, z = -63.0 + 2.0 * i, 71.0 - 2.0 * j, -59.0 + 2.0 * k
    labels = np.zeros(x.shape, np.uint8)
    for value, (centre, radii) in SHAPES.items():
        inside = sum(((c - c0) / r) ** 2 for c, c0, r in zip((x, y, z), centre, radii, strict=True)) < 1.0
        labels[inside] = value
    intensity = np.choose(np.searchsorted([0, 1, 2, 5], labels), [10.0, 420.0, 760.0, 180.0])
    intensity += 40.0 * np.cos(x / 7.0) * np.cos(y / 9.0) * np.cos(z / 8.0) * (labels > 0)
    return _like(intensity.astype(np.float32), image), _like(labels, image)


def _like(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    made = sitk.GetImageFromArray(array)
    made.CopyInformation(image)
    return made


def affine() -> sitk.AffineTransform:
    """Patient -> atlas, LPS mm: a turn of 5 degrees, 6 % of scale, a shift."""
    turn, scale = sitk.Euler3DTransform((0, 0, 0), 0.03, -0.05, np.deg2rad(5.0)), np.diag([1.06, 0.97, 1.03])
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((np.reshape(turn.GetMatrix(), (3, 3)) @ scale).ravel().tolist())
    transform.SetTranslation((-4.0, 9.0, -11.0))
    return transform


def deformation(amplitude_mm: float = 7.0) -> sitk.DisplacementFieldTransform:
    """Atlas space -> atlas space: two smooth bumps on a grid of 3 mm, zero at its border. 25 mm and more folds."""
    size, spacing, origin = (56, 60, 52), 3.0, np.array([-82.5, -88.5, -76.5])
    points = np.moveaxis(np.indices(size[::-1])[::-1], 0, -1) * spacing + origin
    field = np.zeros(points.shape)
    for centre, width, way in (((20, 5, 0), 18.0, (1.0, 0.5, 0.3)), ((-20, -15, 5), 15.0, (-0.4, 0.8, -0.6))):
        distance = np.sum((points - centre) ** 2, axis=-1)
        field += amplitude_mm * np.exp(-distance / (2.0 * width**2))[..., None] * np.array(way)
    inner = np.zeros(size[::-1])
    inner[1:-1, 1:-1, 1:-1] = 1.0
    image = sitk.GetImageFromArray(field * inner[..., None], isVector=True)
    image.SetSpacing((spacing,) * 3)
    image.SetOrigin(origin.tolist())
    return sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64))


def transform(amplitude_mm: float = 7.0) -> sitk.CompositeTransform:
    """T = D o A: a point of the patient -> the point of the atlas."""
    return sitk.CompositeTransform([deformation(amplitude_mm), affine()])


@cache
def patient(grid_name: str, amplitude_mm: float = 7.0) -> sitk.Image:
    """The atlas, warped onto a patient's grid."""
    return _as_int16(sitk.Resample(atlas()[0], grid(grid_name), transform(amplitude_mm), sitk.sitkLinear, 0.0))


def _as_int16(image: sitk.Image) -> sitk.Image:
    return sitk.Cast(sitk.Round(image), sitk.sitkInt16)


def write_engine_output(folder: Path, image_path: Path, amplitude_mm: float = 7.0) -> Path:
    """Write what the engine would for the image at `image_path`; returns the path of the atlas image."""
    folder.mkdir(parents=True)
    image, (atlas_image, atlas_labels) = sitk.ReadImage(str(image_path)), atlas()
    bend, whole = deformation(amplitude_mm), transform(amplitude_mm)
    inverse = sitk.CompositeTransform([affine().GetInverse(), _inverse(bend)])
    labels = sitk.Resample(atlas_labels, image, whole, sitk.sitkNearestNeighbor, 0)
    sitk.WriteImage(labels, str(folder / "labels.nii.gz"))
    sitk.WriteImage(sitk.Resample(atlas_image, image, whole, sitk.sitkLinear, 0.0), str(folder / "warped.nii.gz"))
    determinant = sitk.DisplacementFieldJacobianDeterminant(bend.GetDisplacementField())
    sitk.WriteImage(sitk.Resample(determinant, image, affine(), sitk.sitkLinear, 1.0), str(folder / "jacobian.nii.gz"))
    doubt = sitk.GradientMagnitude(sitk.Cast(labels > 0, sitk.sitkFloat32))
    sitk.WriteImage(sitk.Clamp(doubt, sitk.sitkFloat32, 0.0, 1.0), str(folder / "uncertainty.nii.gz"))
    for name, written in (("transform", whole), ("inverse", inverse), ("affine", affine())):
        sitk.WriteTransform(written, str(folder / f"{name}.h5"))
    (folder / "report.json").write_text(json.dumps(_report(image_path, labels)), encoding="utf-8")
    (folder / "report.html").write_text("<html></html>", encoding="utf-8")
    atlas_path = folder.parent / "atlas.nii.gz"
    sitk.WriteImage(atlas_image, str(atlas_path))
    return atlas_path


def add_brain(folder: Path) -> None:
    """Turn what `segment` would write into what it does of a head: with the brain's mask, and what the report says."""
    labels = sitk.ReadImage(str(folder / "labels.nii.gz"))
    mask = sitk.Cast(labels > 0, sitk.sitkUInt8)
    sitk.WriteImage(mask, str(folder / "brain_mask.nii.gz"))
    voxel_ml = float(np.prod(mask.GetSpacing())) / 1000.0
    report = json.loads((folder / "report.json").read_text("utf-8"))
    volume_ml = round(float(sitk.GetArrayViewFromImage(mask).sum() * voxel_ml), 4)
    report["brain"] = {"method": "extracted", "volume_ml": volume_ml, "source": "deepbet 1.0.2"}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")


def make_both_sides(folder: Path) -> None:
    """Turn what `segment` would write into what it does where another model has found both sides of a head.

    The right side's labels are those of the left one, mirrored, and above them.
    """
    add_brain(folder)
    labels = sitk.ReadImage(str(folder / "labels.nii.gz"))
    array = sitk.GetArrayFromImage(labels)
    array[array == 1] = 0
    mirrored = array[:, :, ::-1]
    both = np.where(array > 0, array, np.where(mirrored > 0, mirrored + 5, 0))
    sitk.WriteImage(_like(both.astype(np.uint8), labels), str(folder / "labels.nii.gz"))
    for name in ("warped.nii.gz", "jacobian.nii.gz", "transform.h5", "affine.h5", "inverse.h5"):
        (folder / name).unlink()
    shift = sitk.AffineTransform(3)
    for side, millimetres in (("left", 4.0), ("right", -4.0)):
        shift.SetTranslation((millimetres, 0.0, 0.0))
        written = sitk.CompositeTransform([deformation(), sitk.AffineTransform(shift)])
        sitk.WriteTransform(written, str(folder / f"{side}_transform.h5"))
        (folder / f"{side}_report.html").write_text("<html></html>", encoding="utf-8")
    report = json.loads((folder / "report.json").read_text("utf-8"))
    own = [each for each in report["structures"] if each["value"] != 1]
    report["structures"] = [
        {**each, "value": each["value"] + above, "name": f"{side} {each['name'][:1].lower()}{each['name'][1:]}"}
        for side, above in (("Left", 0), ("Right", 5))
        for each in own
    ]
    (folder / "report.json").write_text(json.dumps({**report, "locator": "brain 1.3"}), encoding="utf-8")


def make_registration_output(folder: Path, labelled: bool) -> None:
    """Turn what `segment` would write into what `register` does: other reports, and labels where they are given."""
    (folder / "uncertainty.nii.gz").unlink()
    (folder / "report.html").unlink()
    if not labelled:
        (folder / "labels.nii.gz").unlink()
    report = {
        "version": "0.2.0",
        "schema": 2,
        "fixed": "image.nii",
        "moving": "moving.nii",
        "model": "",
        "refinement_steps": 12,
        "folding_fraction": 0.0,
        "similarity": {"affine": 0.41, "warped": 0.67},
        "duration_s": {"total": 3.5},
    }
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")


def _inverse(bend: sitk.DisplacementFieldTransform) -> sitk.DisplacementFieldTransform:
    # v(x) = -u(x + v(x)), repeated; where the field folds there is no inverse, and any smooth one will do
    field = bend.GetDisplacementField()
    inverse = _negative(field)
    for _ in range(12):
        # the transform takes over the image that it is given
        there = sitk.DisplacementFieldTransform(sitk.Image(inverse))
        inverse = _negative(sitk.Resample(field, field, there, sitk.sitkLinear, 0.0))
    return sitk.DisplacementFieldTransform(inverse)


def _negative(field: sitk.Image) -> sitk.Image:
    negative = sitk.GetImageFromArray(-sitk.GetArrayFromImage(field), isVector=True)
    negative.CopyInformation(field)
    return negative


def _report(image_path: Path, labels: sitk.Image) -> dict:
    counts = np.bincount(sitk.GetArrayViewFromImage(labels).ravel(), minlength=6)
    voxel_ml = float(np.prod(labels.GetSpacing())) / 1000.0
    return {
        "version": "0.1.0",
        "image": str(image_path),
        "model": {"name": "phantom", "version": "1", "licence": "Apache-2.0", "commit": "0"},
        "atlas": {"name": "Phantom atlas"},
        "device": "cpu",
        "threads": 1,
        "refinement_steps": 0,
        "structures": [
            {**s, "volume_ml": counts[s["value"]] * voxel_ml, "quality": 0.8, "uncertainty": None} for s in STRUCTURES
        ],
        "quality": {"expected_dice": 0.8, "oddness": 1.5, "note": ""},
        "similarity": {"measure": "local normalised cross-correlation", "affine": 0.41, "warped": 0.67},
        "folding_fraction": 0.0,
        "duration_s": {
            "reading": 0.1,
            "affine": 1.0,
            "network": 2.0,
            "labels": 0.2,
            "report": 0.1,
            "writing": 0.1,
            "total": 3.5,
        },
        "warnings": [],
    }
