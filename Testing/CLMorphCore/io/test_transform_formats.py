"""Files that --affine is given: ITK's under any name, others called by name with what to do."""

import gzip

import numpy as np
import pytest
import scipy.io
import SimpleITK as sitk

from CLMorphCore.errors import FileError
from CLMorphCore.io.transforms import read_affine, read_transform

AFFINE = sitk.AffineTransform([1, 0.1, 0, -0.1, 1, 0, 0, 0, 0.9], [1, 2, 3])


@pytest.fixture
def files(tmp_path):
    """The same transform in every format of ITK: ending → bytes."""
    found = {}
    for ending in ("h5", "mat", "tfm"):
        sitk.WriteTransform(AFFINE, str(tmp_path / f"made.{ending}"))
        found[ending] = (tmp_path / f"made.{ending}").read_bytes()
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.TFM", "tfm"),
        ("a.Txt", "tfm"),
        ("a.MAT", "mat"),
        ("a.H5", "h5"),
        ("a", "tfm"),
        ("a.h5", "tfm"),
        ("a.tfm", "h5"),
        ("a.xfm", "mat"),
        ("0GenericAffine.mat", "mat"),
    ],
)
@pytest.mark.parametrize("read", [read_affine, read_transform])
def test_a_transform_of_itk_is_read_whatever_it_is_called(read, name, kind, files, tmp_path):
    (tmp_path / name).write_bytes(files[kind])
    found = read(tmp_path / name)
    assert found.TransformPoint((7.0, 8.0, 9.0)) == pytest.approx(AFFINE.TransformPoint((7.0, 8.0, 9.0)))


def test_what_c3d_and_itk_snap_write_is_read(tmp_path):
    numbers = "Parameters: 1 0 0 0 1 0 0 0 1 1 2 3\nFixedParameters: 0 0 0\n"
    for name in ("MatrixOffsetTransformBase_double_3_3", "AffineTransform_float_3_3"):
        text = f"#Insight Transform File V1.0\n#Transform 0\nTransform: {name}\n{numbers}"
        (tmp_path / "a.txt").write_text(text)
        assert read_affine(tmp_path / "a.txt").TransformPoint((0.0, 0.0, 0.0)) == pytest.approx((1, 2, 3))


def matlab(version, folder):
    scipy.io.savemat(folder / "made.mat", {"x": np.eye(3)}, format=version)
    return (folder / "made.mat").read_bytes()


ROWS = b"1 0 0 1\n0 1.0 0 -2e1\n0 0 1 3\n0 0 0 1\n"
OTHERS = {
    "cut.h5": (lambda f, d: f["h5"][:3000], r"it is cut off, \d+ bytes are missing\); .*copy it again"),
    "short.h5": (lambda f, d: f["h5"][:20], "it is cut off, or its superblock"),
    "empty.tfm": (lambda f, d: b"", r"is empty \(0 bytes\); .*; copy it again"),
    "packed.tfm.gz": (lambda f, d: gzip.compress(f["tfm"]), "is packed with gzip; .*; unpack it"),
    "packed.mat": (lambda f, d: gzip.compress(f["mat"]), "is packed with gzip"),
    "packed.h5": (lambda f, d: gzip.compress(f["h5"]), "is packed with gzip"),
    "a.xfm": (
        lambda f, d: b"MNI Transform File\nTransform_Type = Linear;\nLinear_Transform =\n" + ROWS[:-9] + b";\n",
        "is a transform of MINC; .*; convert it with lta_convert --inmni",
    ),
    "a.lta": (
        lambda f, d: b"# by someone\ntype      = 1\nnxforms   = 1\n",
        r"FreeSurfer \(LTA\); .*lta_convert --inlta",
    ),
    "fsl.mat": (lambda f, d: ROWS, "four rows of four numbers, .*c3d_affine_tool: .*-fsl2ras -oitk"),
    "greedy.txt": (lambda f, d: b"\n".join(ROWS.splitlines()), "four rows of four numbers"),
    "TransformParameters.0.txt": (
        lambda f, d: b'(Transform "EulerTransform")\n',
        "elastix' parameters; .*OutputFileName",
    ),
    "v5.mat": (lambda f, d: matlab("5", d), "a file of MATLAB 5, ITK's are of version 4"),
    "v4.mat": (lambda f, d: matlab("4", d), "its matrices are not a transform's"),
    "bom.tfm": (lambda f, d: b"\xef\xbb\xbf" + f["tfm"], "begins with a byte order mark, .*save it as plain text"),
    "wide.txt": (lambda f, d: f["tfm"].decode().encode("utf-16"), "begins with a byte order mark"),
    "image.h5": (lambda f, d: b"\x89PNG\r\n\x1a\n" + bytes(99), "is an image; .*; give a linear transform"),
    "field.nii": (lambda f, d: bytes(344) + b"n+1\0" + bytes(99), "is an image; .*displacement field"),
    "page.tfm": (lambda f, d: b"<!DOCTYPE html>", "is a web page"),
    "lfs.h5": (lambda f, d: b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
    "noise": (lambda f, d: bytes(range(200)), "does not begin as any transform file does"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_transform_of_itk_is_called_what_it_is(name, files, tmp_path):
    make, said = OTHERS[name]
    (tmp_path / name).write_bytes(make(files, tmp_path))
    for read in (read_affine, read_transform):
        with pytest.raises(FileError, match=said) as caught:
            read(tmp_path / name)
        text = str(caught.value)
        assert name in text and "\n" not in text and "b'" not in text and len(text) < 600


def test_a_long_name_is_cut_and_the_option_still_named(tmp_path):
    with pytest.raises(FileError) as caught:
        read_affine(tmp_path / ("x" * 5000))
    text = caught.value.text({"affine": "--affine"})
    assert text.startswith("--affine /") and len(text) < 700 and "`" not in text and "too long" in text


@pytest.mark.parametrize("name", ["warp.nii.gz", "warp.h5"])
def test_a_packed_image_is_called_an_image_and_not_only_packed(name, tmp_path):
    field = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.float32), isVector=True)
    sitk.WriteImage(field, str(tmp_path / "a.nii.gz"))
    (tmp_path / "a.nii.gz").rename(tmp_path / name)
    with pytest.raises(FileError, match=r"is an image; expected .*; give a linear transform"):
        read_affine(tmp_path / name)
