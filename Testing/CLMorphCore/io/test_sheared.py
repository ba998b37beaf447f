"""Axes that are not at right angles: straightened where that moves little, refused where it moves much; or no axes."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from made_up import placement

from CLMorphCore.errors import FileError
from CLMorphCore.io.images import read_file, read_image, warnings_of, write_image
from CLMorphCore.io.volume import shift_voxels

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def sheared(ending, cosine, folder):
    """A file of 40 × 50 × 60 voxels whose second axis leans towards the first; its placement, LPS."""
    path, spacing = folder / f"a.{ending}", np.array([1.0, 1.5, 2.0])
    axes = np.array([[1.0, cosine, 0.0], [0.0, np.sqrt(1 - cosine**2), 0.0], [0.0, 0.0, 1.0]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = axes * spacing, (-20.0, 5.0, 7.0)
    voxels = np.random.default_rng(0).integers(0, 999, (60, 50, 40)).astype(np.int16)
    if ending == "nii":
        image = nib.Nifti1Image(voxels.T, LPS @ matrix)
        image.set_sform(LPS @ matrix, 2)
        image.set_qform(None, 0)
        nib.save(image, path)
    else:
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing(spacing.tolist())
        image.SetDirection(axes.ravel().tolist())
        image.SetOrigin(matrix[:3, 3].tolist())
        sitk.WriteImage(image, str(path))
    return path, matrix


@pytest.mark.parametrize("ending", ["nii", "nrrd", "mha"])
def test_a_slight_shear_is_straightened_about_the_centre_and_told(ending, tmp_path):
    path, matrix = sheared(ending, 0.05, tmp_path)
    found = read_image(path)
    here = placement(found)
    axes = here[:3, :3] / found.GetSpacing()
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    centre = np.array([19.5, 24.5, 29.5, 1.0])
    assert np.allclose(here @ centre, matrix @ centre, atol=1e-3)
    voxels, mm = shift_voxels((40, 50, 60), matrix, here)
    assert 0.5 < voxels < 1.5
    (said,) = warnings_of(found)
    assert "its axes are sheared" in said and f"by up to {mm:.3g} mm ({voxels:.3g} voxels)" in said
    labels = sitk.Cast(found, sitk.sitkUInt8)
    write_image(labels, tmp_path / "labels.nii.gz", scan=found)
    again = read_file(tmp_path / "labels.nii.gz")
    assert np.allclose(placement(again), here, atol=1e-3)  # on the grid that was taken
    if ending == "nii":  # and on the scan in programs that take a sheared sform as it is
        written = nib.load(tmp_path / "labels.nii.gz")
        assert np.allclose(written.affine, nib.load(path).affine, atol=1e-4)
        assert np.allclose(LPS @ written.get_qform(), here, atol=1e-3)


@pytest.mark.parametrize("ending", ["nii", "nrrd", "mha"])
def test_a_shear_is_said_nothing_of_where_it_moves_nothing_and_refused_where_it_moves_much(ending, tmp_path):
    path, matrix = sheared(ending, 2e-3, tmp_path)
    found = read_image(path)
    assert shift_voxels((40, 50, 60), matrix, placement(found))[0] < 0.1 and warnings_of(found) == ()
    path, _ = sheared(ending, 0.26, tmp_path)
    with pytest.raises(FileError, match=r"has sheared axes \(direction .*; expected axes at right angles; resample"):
        read_image(path)


def test_an_mgh_file_whose_axes_are_no_directions_is_refused(tmp_path):
    nib.save(
        nib.MGHImage(np.arange(120, dtype=np.int16).reshape(4, 5, 6), np.diag([-1.0, 1.0, 1.0, 1.0])),
        tmp_path / "a.mgh",
    )
    content = bytearray((tmp_path / "a.mgh").read_bytes())
    content[42:46] = np.array([5.0], ">f4").tobytes()
    (tmp_path / "a.mgh").write_bytes(content)
    with pytest.raises(FileError, match="its axes have length 5, 1, 1; expected length 1"):
        read_file(tmp_path / "a.mgh")
