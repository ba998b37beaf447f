"""Files become images that can be used, or a reason; intensities become comparable ones."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as some
from made_up import write_series

from CLMorphCore.errors import InputError
from CLMorphCore.geometry import check_same_grid
from CLMorphCore.io.images import check_image, read_file, read_image, read_labels, write_image
from CLMorphCore.network_input import normalise

ENDINGS = ("nii", "nii.gz", "nrrd", "mha", "mhd", "hdr")


@pytest.fixture
def image():
    made = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(7, 8, 9)).astype(np.float32))
    made.SetSpacing((0.5, 1.5, 2.0))
    made.SetOrigin((-3.0, 20.0, 7.0))
    return made


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_is_read_in_its_place(ending, image, tmp_path):
    sitk.WriteImage(image, str(tmp_path / f"a.{ending}"))
    found = read_image(tmp_path / f"a.{ending}")
    assert np.array_equal(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(image))
    assert found.GetSpacing() == image.GetSpacing() and found.GetOrigin() == image.GetOrigin()


@pytest.mark.parametrize("kind", [sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkUInt32, sitk.sitkInt64, sitk.sitkFloat64])
def test_every_type_of_voxel_is_an_image(kind, image, tmp_path):
    sitk.WriteImage(sitk.Cast(sitk.Abs(image) * 10, kind), str(tmp_path / "a.nii.gz"))
    assert read_image(tmp_path / "a.nii.gz").GetPixelID() == kind


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha"])
@pytest.mark.parametrize("keep", [0.05, 0.5, -1])
def test_a_cut_file_is_refused(ending, keep, image, tmp_path):
    path = tmp_path / f"a.{ending}"
    sitk.WriteImage(image, str(path))
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if keep < 0 else int(keep * len(whole))])
    with pytest.raises(InputError, match=r"(cut off|cannot be read).*expected a complete"):
        read_file(path)


def test_a_damaged_gzip_stream_is_refused(image, tmp_path):
    sitk.WriteImage(image, str(tmp_path / "a.nii"))
    packed = bytearray(gzip.compress((tmp_path / "a.nii").read_bytes()))
    packed[-6] ^= 1  # its checksum
    (tmp_path / "a.nii.gz").write_bytes(packed)
    with pytest.raises(InputError, match="expected a complete"):
        read_file(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("value, ending", [(np.nan, "nii.gz"), (np.inf, "nii"), (-np.inf, "mha"), (np.nan, "nrrd")])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_voxels_that_are_no_numbers_are_counted(value, ending, kind, image, tmp_path):
    values = sitk.GetArrayFromImage(image).astype(kind)
    values[0, 0, 0] = values[6, 7, 8] = value
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"a.{ending}"))
    with pytest.raises(InputError, match="has 2 voxels that are NaN or infinite; expected finite"):
        read_image(tmp_path / f"a.{ending}")


def test_a_big_endian_nifti_file_is_read_right(tmp_path):
    values = np.arange(24, dtype=">f4").reshape(2, 3, 4)
    header = np.zeros(
        1,
        dtype=[
            ("size", ">i4"),
            ("a", "S36"),
            ("dim", ">i2", 8),
            ("b", "S14"),
            ("datatype", ">i2"),
            ("bitpix", ">i2"),
            ("c", "S2"),
            ("pixdim", ">f4", 8),
            ("offset", ">f4"),
            ("rest", "S232"),
            ("magic", "S4"),
            ("end", "S4"),
        ],
    )
    header["size"], header["dim"], header["datatype"], header["bitpix"] = 348, (3, 4, 3, 2, 1, 1, 1, 1), 16, 32
    header["pixdim"], header["offset"], header["magic"] = (1,) * 8, 352, b"n+1"
    (tmp_path / "a.nii").write_bytes(header.tobytes() + values.tobytes())
    assert np.array_equal(sitk.GetArrayFromImage(read_image(tmp_path / "a.nii")), values)


def test_a_single_volume_stored_as_4d_is_an_image(image, tmp_path):
    sitk.WriteImage(sitk.JoinSeries([image]), str(tmp_path / "a.nii.gz"))
    assert read_image(tmp_path / "a.nii.gz").GetSize() == image.GetSize()


def test_a_dicom_series_of_even_slices_is_read_in_its_place(image, tmp_path):
    write_series(tmp_path / "a", image)
    found = read_image(tmp_path / "a")
    assert found.GetSize() == image.GetSize() and found.GetOrigin() == pytest.approx(image.GetOrigin())
    assert found.GetSpacing() == pytest.approx(image.GetSpacing())


@pytest.mark.parametrize(
    ("order", "shift_mm", "said"),
    [
        ([0, 1, 4, 5, 6], (0, 0, 0), r"2 slices are missing between 9 and 15 mm in .*; expected equal steps; copy"),
        ([0, 1, 2, 3, 4, 6], (0, 0, 0), "1 slice is missing between 15 and 19 mm"),
        ([*range(7), *range(7)], (0, 0, 0), "7 of 14 slices of .* share a position .*: several volumes; expected one"),
        ([0, 0], (0, 0, 0), "1 of 2 slices of .* share a position"),
        (None, (0.0, 0.3, 0.0), "shifted against each other by 1.8 mm over the stack .*; expected .*; resample"),
    ],
)
def test_a_dicom_series_that_is_no_even_stack_is_refused(order, shift_mm, said, image, tmp_path):
    write_series(tmp_path / "a", image, order, shift_mm=shift_mm)
    with pytest.raises(InputError, match=said):
        read_image(tmp_path / "a")


def test_a_dicom_series_without_places_is_refused(image, tmp_path):
    write_series(tmp_path / "a", image)
    for file in (tmp_path / "a").iterdir():  # the tag becomes another one
        file.write_bytes(file.read_bytes().replace(b"\x20\x00\x32\x00", b"\x20\x00\x31\x00"))
    with pytest.raises(InputError, match=r"do not tell their place \(tag 0020\|0032\); expected .*; give"):
        read_image(tmp_path / "a")


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_sheared_axes_are_refused(ending, image, tmp_path):
    image.SetDirection((1, 0, 0, 0, 1, 0.26, 0, 0, 0.966))
    sitk.WriteImage(image, str(tmp_path / f"a.{ending}"))
    with pytest.raises(InputError, match=r"sheared axes \(direction 1, .*; expected axes at right angles; resample"):
        read_image(tmp_path / f"a.{ending}")


def test_whole_numbers_stored_as_floats_are_labels(image, tmp_path):
    labels = sitk.Round(sitk.Abs(image))
    sitk.WriteImage(labels, str(tmp_path / "a.nii.gz"))
    found = read_labels(tmp_path / "a.nii.gz")
    assert "integer" in found.GetPixelIDTypeAsString()
    assert np.array_equal(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(labels))


def test_large_labels_are_kept_and_too_large_ones_refused(image, tmp_path):
    for kind in (sitk.sitkFloat64, sitk.sitkUInt32, sitk.sitkInt64):
        ones = sitk.Cast(image > 0, kind)
        sitk.WriteImage(ones * (2**32 - 1), str(tmp_path / "a.nrrd"))
        assert sitk.GetArrayFromImage(read_labels(tmp_path / "a.nrrd")).max() == 2**32 - 1
    sitk.WriteImage(ones * 2**32, str(tmp_path / "a.nrrd"))
    with pytest.raises(InputError, match="hold the value 4294967296; expected at most 4294967295; give"):
        read_labels(tmp_path / "a.nrrd")


@pytest.mark.parametrize("change", ["SetOrigin", "SetSpacing", "SetDirection", "size"])
def test_another_grid_is_refused_and_rounding_is_not(change, image):
    for size, same in ((1e-6, True), (0.02, False)):
        other = image[:-1, :, :] if change == "size" else sitk.Image(image)
        if change == "SetDirection":
            other.SetDirection((np.cos(size), -np.sin(size), 0, np.sin(size), np.cos(size), 0, 0, 0, 1))
        elif change != "size":
            getattr(other, change)([v + size for v in getattr(image, change.replace("Set", "Get"))()])
        if same and change != "size":
            check_same_grid(image, other, names=("image", "labels"))
        else:
            with pytest.raises(InputError, match=r"labels lie on another grid than image: size .*; resample"):
                check_same_grid(image, other, names=("image", "labels"))


def test_an_image_without_contrast_is_refused(image):
    with pytest.raises(InputError, match="scan is constant"):
        check_image(image * 0 + 3, "scan")
    check_image(image, "scan")


def test_a_written_image_is_complete(image, tmp_path):
    write_image(image, tmp_path / "a.nii.gz")
    assert np.array_equal(sitk.GetArrayFromImage(read_file(tmp_path / "a.nii.gz")), sitk.GetArrayViewFromImage(image))
    with pytest.raises(InputError, match=r"cannot write .*; choose a place"):
        write_image(image, tmp_path / "none" / "a.nii.gz")


@given(some.lists(some.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False), min_size=8))
def test_an_image_of_fewer_digits_is_near_and_keeps_signs_and_zeros(tmp_path_factory, values):
    values = np.array(values, np.float32)
    values[np.abs(values) < 1e-30] = 0  # below there are fewer digits to keep
    path = tmp_path_factory.mktemp("bits") / "a.nii.gz"
    write_image(sitk.GetImageFromArray(values.reshape(1, 1, -1)), path, bits=9)
    read = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).ravel()
    assert (np.sign(read) == np.sign(values)).all()
    assert (np.abs(read - values) <= 2.0**-9 * np.abs(values)).all()


def test_fewer_digits_pack_better_and_whole_numbers_keep_theirs(tmp_path):
    smooth = sitk.SmoothingRecursiveGaussian(sitk.AdditiveGaussianNoise(sitk.Image(40, 40, 40, sitk.sitkFloat32)), 4.0)
    sizes = []
    for bits in (24, 9):
        write_image(smooth, tmp_path / "a.nii.gz", bits=bits)
        sizes.append((tmp_path / "a.nii.gz").stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]
    labels = sitk.Cast(sitk.PhysicalPointSource(sitk.sitkVectorFloat64, [9, 9, 9]), sitk.sitkVectorFloat64)
    labels = sitk.Cast(sitk.VectorIndexSelectionCast(labels, 0) + 70_000, sitk.sitkInt32)
    write_image(labels, tmp_path / "b.nii.gz", bits=9)
    read = sitk.ReadImage(str(tmp_path / "b.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(labels))


def test_normalised_foreground_has_zero_mean_and_unit_variance():
    tensor = torch.zeros(1, 1, 20, 20, 20)
    inside = torch.rand(1, 1, 10, 10, 10, generator=torch.Generator().manual_seed(0)) * 50 + 100
    tensor[..., 5:15, 5:15, 5:15] = inside
    found = normalise(tensor)[..., 5:15, 5:15, 5:15]
    assert found.mean().item() == pytest.approx(0, abs=1e-4) and found.std().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("change", [lambda x: 3 * x + 7, lambda x: x - 1000, lambda x: 1e-3 * x])
def test_normalising_forgets_scale_and_offset(change):
    tensor = torch.rand(1, 1, 12, 12, 12, generator=torch.Generator().manual_seed(1)) * 100
    assert torch.allclose(normalise(change(tensor)), normalise(tensor), atol=1e-3)


def test_padding_and_single_bright_voxels_do_not_decide():
    tensor = torch.rand(1, 1, 12, 12, 12, generator=torch.Generator().manual_seed(2)) * 100 + 1
    padded = torch.nn.functional.pad(tensor, (4, 4, 4, 4, 4, 4))
    padded[..., 0, 0, 0] = 0
    found = normalise(padded)[..., 4:-4, 4:-4, 4:-4]
    spiked = padded.clone()
    spiked[..., 8, 8, 8] = 1e6
    assert torch.allclose(normalise(torch.nn.functional.pad(padded, (3,) * 6))[..., 7:-7, 7:-7, 7:-7], found, atol=1e-5)
    changed = normalise(spiked)[..., 4:-4, 4:-4, 4:-4]
    changed[..., 4, 4, 4] = found[..., 4, 4, 4]
    assert torch.allclose(changed, found, atol=0.01)


def test_two_valued_images_can_be_normalised():
    tensor = torch.zeros(1, 1, 8, 8, 8)
    tensor[..., 2:6, 2:6, 2:6] = 1
    assert normalise(7 * tensor).unique().tolist() == [-1, 0]
