"""Labels that are carried along, and of which nothing arrives."""

import json

import numpy as np
import SimpleITK as sitk


def with_labels(place, values):
    labels = sitk.ReadImage(str(place / "labels.nii.gz"))
    made = sitk.GetImageFromArray(values(sitk.GetArrayFromImage(labels)))
    made.CopyInformation(labels)
    sitk.WriteImage(made, str(place / "labels.nii.gz"))


def register(place, clmorph, fixed="scan.nii.gz"):
    images = place / fixed, place / "scan.nii.gz", "--moving-labels", place / "labels.nii.gz"
    return clmorph("register", *images, "--model", place / "model", "--affine", "none", "-o", place / "out")


def test_labels_without_any_are_refused(place, clmorph):
    with_labels(place, np.zeros_like)
    ran = register(place, clmorph)
    assert ran.code == 2 and ran.err.count("\n") == 1 and "are empty; expected at least one label" in ran.err
    assert not (place / "out").exists()


def test_labels_that_all_lie_outside_of_the_fixed_image_are_warned_of(place, clmorph):
    def corner(values):
        alone = np.zeros_like(values)
        alone[0, 0, 0] = 1
        return alone

    with_labels(place, corner)
    sitk.WriteImage(sitk.Crop(sitk.ReadImage(str(place / "scan.nii.gz")), [6] * 3, [6] * 3), str(place / "part.nii.gz"))
    ran = register(place, clmorph, "part.nii.gz")
    assert ran.code == 0 and ran.err.count("no voxel of the fixed image got a label") == 1
    warnings = json.loads((place / "out" / "report.json").read_text(encoding="utf-8"))["warnings"]
    assert any("no voxel of the fixed image" in warning for warning in warnings)


def test_labels_that_arrive_are_not_warned_of(place, clmorph):
    ran = register(place, clmorph)
    assert ran.code == 0 and "got a label" not in ran.err
