"""Names with letters that ITK's file names lack, as on Windows: read and written all the same."""

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.errors import InputError
from CLMorphCore.io import itk, names
from CLMorphCore.io.images import read_image
from CLMorphCore.io.transforms import read_affine, read_transform, write_transform


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """ITK that opens no file with other letters than ASCII's, in this process, where it can be watched."""

    def only_ascii(function):
        def call(*arguments, **named):
            for argument in arguments:
                if isinstance(argument, str) and not argument.isascii():
                    raise RuntimeError(f"cannot open {argument}")
            return function(*arguments, **named)

        return call

    monkeypatch.setattr(names, "NARROW", True)
    monkeypatch.setattr(itk, "interpreter", lambda: None)
    for name in ("ReadImage", "ReadTransform", "WriteTransform"):
        monkeypatch.setattr(sitk, name, only_ascii(getattr(sitk, name)))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "Jürgen Łoś" / "扫描"
    made.mkdir(parents=True)
    return made


@pytest.mark.parametrize("ending", [".h5", ".tfm"])
def test_transforms_are_written_and_read(ending, folder):
    affine = sitk.AffineTransform([1, 0.1, 0, -0.1, 1, 0, 0, 0, 0.9], [1, 2, 3])
    field = sitk.DisplacementFieldTransform(sitk.Image(5, 5, 5, sitk.sitkVectorFloat64))
    write_transform(sitk.CompositeTransform([affine]), folder / f"ä{ending}")
    assert read_affine(folder / f"ä{ending}").TransformPoint((1, 2, 3)) == pytest.approx(
        affine.TransformPoint((1, 2, 3))
    )
    write_transform(sitk.CompositeTransform([field, affine]), folder / "ö.h5")
    assert read_transform(folder / "ö.h5").GetName() == "CompositeTransform"
    assert {path.name for path in folder.iterdir()} == {f"ä{ending}", "ö.h5"}


@pytest.mark.parametrize("ending", [".vtk", ".tif", ".nii.gz", ".nrrd", ".mha"])
def test_images_are_read(ending, folder, tmp_path):
    values = np.random.default_rng(0).integers(0, 90, (6, 7, 8)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"a{ending}"))
    (tmp_path / f"a{ending}").rename(folder / f"ß{ending}")
    assert np.array_equal(sitk.GetArrayFromImage(read_image(folder / f"ß{ending}")), values)


def test_the_temporary_folder_may_be_below_such_a_name_too(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    (tmp_path / "public").mkdir()
    monkeypatch.setenv("PUBLIC", str(tmp_path / "public"))
    affine = sitk.CompositeTransform([sitk.AffineTransform(3)])
    write_transform(affine, folder / "ä.h5")
    assert read_affine(folder / "ä.h5").GetMatrix() == sitk.AffineTransform(3).GetMatrix()
    assert not list((tmp_path / "public").iterdir()) and [path.name for path in folder.iterdir()] == ["ä.h5"]


def test_where_there_is_no_place_it_is_one_line(folder, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    for name in names.PLACES:
        monkeypatch.delenv(name, raising=False)
    write_transform(sitk.CompositeTransform([sitk.AffineTransform(3)]), folder / "ä.h5")  # which is not ITK's to write
    assert (folder / "ä.h5").exists()
    (folder / "a.tfm").write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        "Parameters: 1 0 0 0 1 0 0 0 1 0 0 0\nFixedParameters: 0 0 0\n"
    )
    with pytest.raises(InputError, match="no folder with a name of ASCII letters") as error:
        read_affine(folder / "a.tfm")
    assert "\n" not in str(error.value)
