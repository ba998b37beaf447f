"""``clmorph register --frames``: an image follows the motion of a series, one interpolation from its own voxels."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_heart import COUNT, ES, FIRST, beating

from CLMorphCore import InstanceOptimization, register_series
from CLMorphCore.errors import InputError
from CLMorphCore.metrics import dice_per_label

QUICK = InstanceOptimization(12)


def test_labels_follow_the_heart_in_every_frame_along_one_transform_each(cine, heart):
    atlas = beating(FIRST)
    frames = [FIRST + 1, ES + 1]
    found = register_series(
        cine.series, atlas.image, heart, frames=frames, affine=sitk.AffineTransform(3), following=QUICK
    )
    carried = found.warp(atlas.labels, labels=True)
    assert (found.key, list(carried)) == (FIRST, [FIRST, ES])
    assert dice_per_label(carried[FIRST], cine.truth[FIRST])[3] > 0.97
    assert dice_per_label(carried[ES], cine.truth[ES])[3] > 0.9
    assert dice_per_label(atlas.labels, cine.truth[ES])[3] < 0.8  # without following
    point = (2.0, 30.0, 12.0)
    first = found.transforms[ES].TransformPoint(point)
    itk = sitk.Resample(atlas.image, cine.series.frames[ES], found.transforms[ES], sitk.sitkLinear)
    assert np.allclose(sitk.GetArrayFromImage(itk), sitk.GetArrayFromImage(found.warp(atlas.image)[ES]), atol=1e-3)
    assert np.linalg.norm(np.subtract(first, point)) < 15


def test_the_command_writes_warped_images_and_labels_of_each_frame(cine_file, heart_folder, clmorph, tmp_path):
    atlas = heart_folder / "atlases" / "ellipsoids"
    image, labels = (next(atlas.glob(f"{name}*")) for name in ("image", "labels.n"))
    words = ("register", cine_file, image, "--moving-labels", labels, "--model", heart_folder, "--refine", "3")
    done = clmorph(*words, "--affine", "none", "--frames", "3,1", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    scan = sitk.ReadImage(str(cine_file))
    for name in ("warped", "labels"):
        found = sitk.ReadImage(str(tmp_path / "out" / f"{name}.nii.gz"))
        assert found.GetSize() == (*scan.GetSize()[:3], 2)
        assert found.GetOrigin()[:3] == pytest.approx(scan.GetOrigin()[:3])
    assert sitk.ReadTransform(str(tmp_path / "out" / "transform.h5")).GetDimension() == 3
    series = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["series"]
    assert (series["registered"], series["warped"], series["count"]) == (3, [1, 3], COUNT)


def test_one_frame_is_registered_as_an_image_and_none_is_told_of_the_option(cine_file, heart_folder, clmorph, tmp_path):
    image = next((heart_folder / "atlases" / "ellipsoids").glob("image*"))
    words = ("register", cine_file, image, "--model", heart_folder, "--affine", "none", "-o", tmp_path / "out")
    done = clmorph(*words)
    assert done.code == 2 and "give --frames" in done.err and not (tmp_path / "out").exists()
    done = clmorph(*words, "--frames", "2")
    assert done.code == 0, done.err
    assert sitk.ReadImage(str(tmp_path / "out" / "warped.nii.gz")).GetDimension() == 3
    tree = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert tree["fixed"].endswith("cine.nii.gz, frame 2") and "series" not in tree


def test_phases_that_labels_without_names_do_not_tell_are_refused(cine, heart):
    with pytest.raises(InputError, match=r"asks for ed or es, which are found .* in clmorph segment"):
        register_series(cine.series, beating(0).image, heart, frames="ed,es")
