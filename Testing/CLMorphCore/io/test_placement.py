"""Where labels lie, held against nibabel's and ITK's readings of random headers: right, warned of or refused."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from made_up import placement
from scipy.spatial.transform import Rotation

from CLMorphCore.errors import FileError
from CLMorphCore.io.images import read_file, warnings_of, write_image
from CLMorphCore.io.volume import shift_voxels

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
TYPES = ("u1", "i2", "i4", "f4", "f8", "i1", "u2", "u4")
often = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def is_near(matrix, other):
    """Whether two placements are the same but for the rounding of their largest number to single precision."""
    return np.allclose(matrix, other, atol=1e-3 * max(1.0, np.abs(other).max() / 100))


def by_itk(path):
    """ITK's own placement of a file, and None where it reads none or has more axes."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return None
    return placement(image) if image.GetDimension() == 3 else None


@st.composite
def placements(draw):
    """A 4×4 from voxel to RAS in mm: any rotation, mirrored or not, any sane spacing and origin."""
    angles = draw(st.lists(st.sampled_from([0.0, 0.0, 90.0, 180.0, 12.0, -33.0]), min_size=3, max_size=3))
    spacing = draw(st.lists(st.sampled_from([0.5, 1.0, 1.25, 3.0]), min_size=3, max_size=3))
    mirror = draw(st.sampled_from([1.0, -1.0]))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing * [mirror, 1, 1]
    matrix[:3, 3] = draw(st.lists(st.sampled_from([0.0, -40.5, 17.25, 130.0]), min_size=3, max_size=3))
    return matrix


@st.composite
def nifti_files(draw):
    """(image of nibabel, ending): forms with any codes that agree or not, units, axes of one, types, byte orders."""
    sides = draw(st.permutations([4, 5, 6]))
    ones = draw(st.sampled_from([(), (), (1,), (1, 1)]))
    kind = np.dtype(draw(st.sampled_from("<>")) + draw(st.sampled_from(TYPES)))
    voxels = np.arange(120).reshape(sides + list(ones)).astype(kind)
    matrix = draw(placements())
    klass = draw(st.sampled_from([nib.Nifti1Image, nib.Nifti1Image, nib.Nifti2Image]))
    image = klass(voxels, matrix, klass.header_class(endianness=kind.str[0] if kind.str[0] in "<>" else "<"))
    image.set_data_dtype(kind)
    other = matrix.copy()
    change = draw(st.sampled_from(["same", "same", "shift", "turn", "size"]))
    if change == "shift":
        other[:3, 3] += draw(st.sampled_from([0.01, 0.4, 30.0]))
    elif change == "turn":
        other[:3, :3] = Rotation.from_euler("z", 12, degrees=True).as_matrix() @ other[:3, :3]
    elif change == "size":
        other[:3, :3] *= 0.8
    image.set_sform(matrix, draw(st.sampled_from([0, 1, 2, 4])), update_affine=False)
    image.set_qform(other, draw(st.sampled_from([0, 1, 2])), update_affine=False)
    image.header.set_xyzt_units(draw(st.sampled_from(["unknown", "mm", "mm", "mm", "micron", "meter"])))
    return image, draw(st.sampled_from([".nii", ".nii.gz", ".hdr"]))


def saved(image, folder, ending):
    """Writes an image as its header stands: nibabel itself would correct the forms."""
    header = image.header.copy()
    header["vox_offset"] = 0 if ending == ".hdr" else header.single_vox_offset
    header, voxels = bytes(header.binaryblock), np.asarray(image.dataobj).tobytes(order="F")
    path = folder / f"scan{ending}"
    if ending == ".hdr":
        path.write_bytes(header.replace(b"n+1\0", b"ni1\0").replace(b"n+2\0", b"ni2\0"))
        path.with_suffix(".img").write_bytes(voxels)
    else:
        content = header + bytes(4) + voxels
        path.write_bytes(gzip.compress(content, 1) if ending.endswith(".gz") else content)
    return path


@often
@given(nifti_files())
def test_a_nifti_file_lies_where_nibabel_and_itk_put_it_or_it_is_said(tmp_path_factory, given_file):
    image, ending = given_file
    path = saved(image, tmp_path_factory.mktemp("nifti"), ending)
    plain = nib.load(path)
    found = read_file(path)
    here, said = placement(found), " ".join(warnings_of(found))
    voxels = np.asarray(plain.dataobj).reshape(plain.shape[:3])
    assert np.array_equal(sitk.GetArrayViewFromImage(found).T, voxels)
    # nibabel leaves the unit to its users: a placement in millimetres, or in the header's unit.
    unit = {"micron": 0.001, "meter": 1000.0}.get(image.header.get_xyzt_units()[0], 1.0)
    in_unit = np.diag([unit, unit, unit, 1.0]) @ LPS @ plain.affine
    unit_taken = unit != 1.0 and shift_voxels(plain.shape[:3], here, in_unit)[0] < 0.15
    theirs = {"nibabel": in_unit if unit_taken else LPS @ plain.affine, "itk": by_itk(path)}
    for reading in theirs.values():
        if reading is not None and shift_voxels(plain.shape[:3], here, reading)[0] > 0.15:
            assert "taken" in said, (here, reading)
    if image.header["sform_code"] > 0 and not said and not unit_taken:
        assert np.allclose(here, LPS @ image.get_sform(), atol=1e-3)
    if not (image.header["sform_code"] > 0 or image.header["qform_code"] > 0):
        assert "no orientation" in said
    # What is written on this grid lies on the scan, whoever reads the two.
    labels = sitk.Cast(found, sitk.sitkUInt8)
    write_image(labels, path.with_name("labels.nii.gz"), scan=found)
    written = path.with_name("labels.nii.gz")
    if "by pixdim" not in said:  # there the labels' voxel size is the one that was taken
        assert is_near(nib.load(written).affine, plain.affine)
        if theirs["itk"] is not None:
            assert is_near(by_itk(written), theirs["itk"])
    assert is_near(placement(read_file(written)), here)


NRRD_SPACES = {
    "left-posterior-superior": (1, 1),
    "LPS": (1, 1),
    "right-anterior-superior": (-1, -1),
    "RAS": (-1, -1),
    "left-anterior-superior": (1, -1),
}


@st.composite
def nrrd_texts(draw):
    """Header and voxels of a NRRD file: any space, axes of one with any kind and place, encodings, byte orders."""
    sides, matrix = list(draw(st.permutations([4, 5, 6]))), draw(placements())
    space = draw(st.sampled_from([*NRRD_SPACES, None, "scanner-xyz"]))
    at, kind = draw(st.integers(0, 3)), draw(st.sampled_from(["", "list", "vector", "time"]))
    vectors = [f"({','.join(repr(float(n)) for n in column)})" for column in matrix[:3, :3].T]
    kinds, sizes = ["domain"] * 3, [str(n) for n in sides]
    if kind:
        vectors.insert(at, draw(st.sampled_from(["none", "(nan,nan,nan)"])))
        kinds.insert(at, kind)
        sizes.insert(at, "1")
    type_ = draw(st.sampled_from(["short", "float", "uint16", "unsigned char", "double"]))
    dtype = {"short": "i2", "float": "f4", "uint16": "u2", "unsigned char": "u1", "double": "f8"}[type_]
    order, encoding = draw(st.sampled_from("<>")), draw(st.sampled_from(["raw", "gzip"]))
    voxels = np.arange(120).reshape(sides[::-1]).astype(order + dtype)
    lines = [
        "NRRD0004",
        "# a comment",
        f"type: {type_}",
        f"dimension: {len(sizes)}",
        f"space: {space}" if space else "space dimension: 3",
        f"sizes: {' '.join(sizes)}",
        f"space directions: {' '.join(vectors)}",
        f"kinds: {' '.join(kinds)}",
        f"endian: {'little' if order == '<' else 'big'}",
        f"encoding: {encoding}",
        f"space origin: ({','.join(repr(float(n)) for n in matrix[:3, 3])})",
        "key:=value with: colons",
    ]
    content = voxels.tobytes() if encoding == "raw" else gzip.compress(voxels.tobytes())
    return "\n".join(lines).encode() + b"\n\n" + content, matrix, space, voxels, not kind


@often
@given(nrrd_texts())
def test_a_nrrd_file_lies_where_its_space_says_and_where_itk_puts_it_or_it_is_said(tmp_path_factory, given_file):
    content, matrix, space, voxels, is_plain = given_file
    path = tmp_path_factory.mktemp("nrrd") / "a.nrrd"
    path.write_bytes(content)
    found = read_file(path)
    assert np.array_equal(sitk.GetArrayViewFromImage(found), voxels)
    signs = NRRD_SPACES.get(space)
    expected = np.diag([*(signs or (1, 1)), 1, 1]) @ matrix
    assert np.allclose(placement(found), expected, atol=1e-4)
    assert bool(warnings_of(found)) == (signs is None)
    if is_plain and signs is not None:
        assert np.allclose(by_itk(path), expected, atol=1e-4)


@often
@given(placements(), st.integers(0, 3), st.booleans(), st.booleans())
def test_a_metaimage_lies_where_itk_puts_it(tmp_path_factory, matrix, at, packed, has_one):
    image = sitk.GetImageFromArray(np.arange(120, dtype=np.int16).reshape(4, 5, 6))
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    path = tmp_path_factory.mktemp("meta") / "a.mha"
    sitk.WriteImage(image, str(path), useCompression=packed)
    expected = by_itk(path)
    if has_one:  # an axis of one anywhere, with a direction of its own
        path.write_bytes(with_axis_of_one(path.read_bytes(), at))
    found = read_file(path)
    assert np.allclose(placement(found), expected, atol=1e-6) and warnings_of(found) == ()
    assert np.array_equal(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(image))


def with_axis_of_one(content, at):
    """The same MetaImage with a further axis number ``at`` of one voxel."""
    head, _, voxels = content.partition(b"ElementDataFile = LOCAL\n")
    fields = dict(line.split(" = ") for line in head.decode().splitlines())
    axes = np.array(fields["TransformMatrix"].split(), object).reshape(3, 3)
    axes = np.insert(np.insert(axes, at, "0", axis=0), at, "0", axis=1)
    axes[at, at] = "1"
    fields |= {"NDims": "4", "TransformMatrix": " ".join(axes.ravel())}
    for key, value in (("DimSize", "1"), ("ElementSpacing", "7"), ("Offset", "9"), ("CenterOfRotation", "0")):
        words = fields[key].split()
        words.insert(at, value)
        fields[key] = " ".join(words)
    fields.pop("AnatomicalOrientation")
    return (
        "".join(f"{key} = {value}\n" for key, value in fields.items()).encode() + b"ElementDataFile = LOCAL\n" + voxels
    )


@often
@given(placements(), st.sampled_from([np.uint8, np.int16, np.int32, np.float32]))
@example(np.eye(4), np.int16)
def test_an_mgz_file_lies_where_nibabel_puts_it(tmp_path_factory, matrix, kind):
    path = tmp_path_factory.mktemp("mgh") / "a.mgz"
    voxels = np.arange(120).reshape(4, 5, 6).astype(kind)
    nib.save(nib.MGHImage(voxels, matrix), path)
    found = read_file(path)
    assert np.array_equal(sitk.GetArrayViewFromImage(found).T, voxels) and warnings_of(found) == ()
    assert np.allclose(placement(found), LPS @ nib.load(path).affine, atol=1e-3)


def nifti(tmp_path, **fields):
    """A NIfTI file with both forms at an oblique place, and header fields changed as they stand in the file."""
    matrix = np.diag([1.0, 1.5, 2.0, 1.0])
    matrix[:3, 3] = (-20.0, 5.0, 7.0)
    image = nib.Nifti1Image(np.arange(120, dtype=np.float32).reshape(4, 5, 6), matrix)
    image.set_sform(matrix, 1)
    image.set_qform(matrix, 1)
    header = bytearray(image.header.binaryblock)
    view = np.ndarray((), image.header.template_dtype, header)
    for name, value in fields.items():
        name, _, place = name.partition("__")
        if place:
            view[name][int(place)] = value
        else:
            view[name] = value
    path = tmp_path / "a.nii"
    path.write_bytes(bytes(header) + bytes(4) + image.get_fdata(dtype=np.float32).tobytes(order="F"))
    return path


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"pixdim__1": -1.0}, r"voxels are -1 × 1.5 × 2 large \(pixdim\); expected sizes above zero; mend its header"),
        ({"pixdim__2": 0.0}, "1 × 0 × 2 large"),
        ({"pixdim__3": np.nan}, "1 × 1.5 × nan large"),
        ({"srow_x__0": np.nan, "qform_code": 0}, "its sform holds numbers that are not finite"),
        ({"qoffset_x": np.inf, "sform_code": 0}, "its qform holds numbers that are not finite"),
        ({"quatern_b": 2.0, "sform_code": 0}, "its qform is no rotation"),
        ({"srow_y__1": 0.0, "qform_code": 0}, "axes of no length or in one plane"),
        ({"dim__0": 0}, "tells of 0 dimensions"),
        ({"dim__1": -4}, "its size is -4 × 5 × 6; expected sides above zero"),
        ({"datatype": 1536}, "voxels are of type 1536, which is none that is read"),
        ({"datatype": 128}, r"type RGB with 3 components; expected one"),
        ({"dim__0": 4, "dim__4": 2}, r"has 4 dimensions, size \(4, 5, 6, 2\); expected a 3D image"),
        ({"vox_offset": -8.0}, "voxels begin at byte -8 by its header"),
        ({"vox_offset": np.nan}, "voxels begin at byte nan by its header"),
        ({"dim__1": 800, "dim__2": 800, "dim__3": 800}, "is cut off, at least 2047999520 bytes of its voxels"),
        ({"scl_slope": 2.0, "scl_inter": np.nan}, "its scl_inter is nan"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(fields, said, tmp_path):
    with pytest.raises(FileError, match=f"a.nii .*{said}"):
        read_file(nifti(tmp_path, **fields))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, None),
        ({"qoffset_x": -19.95}, None),
        ({"qoffset_x": 10.0}, r"disagree: the sform was taken, the qform lies up to 30 mm \(30 voxels\) away"),
        ({"srow_x__0": np.nan}, "its sform holds numbers that are not finite, or huge; the qform was taken"),
        ({"srow_x__1": 0.5}, r"its sform is sheared, by .* voxels at its corners; the qform was taken"),
        ({"quatern_b": 2.0}, "its qform is no rotation; the sform was taken"),
        ({"sform_code": 0, "qform_code": 0}, "no orientation .* left and right may be swapped"),
        ({"qform_code": 0, "pixdim__1": 0.5}, "1 × 1.5 × 2 mm large by its sform, which was taken, and 0.5 × "),
        ({"xyzt_units": 3}, "micrometres, the scan would be 0.004 × 0.0075 × 0.012 mm large; .* as millimetres"),
        ({"xyzt_units": 1}, r"unit is metres, the scan would be .* large; its numbers were taken as millimetres"),
        ({"scl_slope": 0.0, "scl_inter": 5.0}, None),
    ],
)
def test_a_doubtful_header_is_read_with_a_warning(fields, said, tmp_path, caplog):
    found = read_file(nifti(tmp_path, **fields))
    assert sitk.GetArrayViewFromImage(found).max() == 119
    if said is None:
        assert warnings_of(found) == () == tuple(caplog.messages)
    else:
        (warning,) = warnings_of(found)
        assert caplog.messages == [warning] and warning.startswith("a.nii: ")
        with pytest.raises(AssertionError, match=said):
            raise AssertionError(warning)


def test_a_scale_is_applied_and_a_unit_that_fits_is_taken(tmp_path):
    found = read_file(nifti(tmp_path, scl_slope=0.5, scl_inter=-3.0))
    assert sitk.GetArrayViewFromImage(found).max() == 119 * 0.5 - 3
    matrix = np.diag([900.0, 900.0, 900.0, 1.0])
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), matrix)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "b.nii")
    found = read_file(tmp_path / "b.nii")
    assert found.GetSpacing() == pytest.approx((0.9, 0.9, 0.9)) and warnings_of(found) == ()
    write_image(found, tmp_path / "c.nii.gz", scan=found)
    assert np.allclose(nib.load(tmp_path / "c.nii.gz").affine, matrix) and by_itk(tmp_path / "c.nii.gz")[0, 0] < 1


def test_a_result_of_an_image_from_elsewhere_has_both_forms(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6), np.uint8))
    image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, -1))
    image.SetOrigin((3.0, 4.0, 5.0))
    moved = read_file(nifti(tmp_path))
    moved.SetOrigin((100.0, 0.0, 0.0))  # its header tells of another place now
    for scan, on in ((None, image), (image, image), (moved, moved)):
        write_image(sitk.Cast(on, sitk.sitkUInt8), tmp_path / "b.nii.gz", scan=scan)
        header = nib.load(tmp_path / "b.nii.gz").header
        assert header["qform_code"] > 0 and header["sform_code"] > 0
        for form in (header.get_qform(), header.get_sform(), LPS @ by_itk(tmp_path / "b.nii.gz")):
            assert np.allclose(form, LPS @ placement(on), atol=1e-4)


# --- axes of one, and axes that are not at right angles


@pytest.mark.parametrize("at", [[0], [1], [2], [0, 0], [0, 5], [3], [3, 4]])
@pytest.mark.parametrize("klass", [nib.Nifti1Image, nib.Nifti2Image])
def test_axes_of_one_are_dropped_wherever_they_are(klass, at, tmp_path):
    matrix = np.diag([1.0, 1.5, 2.0, 1.0])
    matrix[:3, 3] = (-20.0, 5.0, 7.0)
    voxels = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    more = voxels
    for place in at:
        more = np.expand_dims(more, min(place, more.ndim))
    image = klass(more, matrix)
    image.set_sform(matrix, 1)
    image.set_qform(matrix, 1)
    nib.save(image, tmp_path / "a.nii")
    found = read_file(tmp_path / "a.nii")
    assert np.array_equal(sitk.GetArrayViewFromImage(found).T, voxels)
    assert np.allclose(placement(found), LPS @ matrix)
    if min(at) > 2:
        assert warnings_of(found) == ()
    else:
        (said,) = warnings_of(found)
        assert f"its size is {more.shape}; the axes of one were dropped" in said
    write_image(found, tmp_path / "b.nii.gz", scan=found)
    assert np.allclose(nib.load(tmp_path / "b.nii.gz").affine, matrix)


@pytest.mark.parametrize(
    ("shape", "unit", "said"),
    [
        ((4, 5, 1, 6), "sec", r"has 4 dimensions, size \(4, 5, 1, 6\); expected a 3D image"),  # slices in time
        ((1, 4, 5, 6), "msec", "has 4 dimensions"),
        ((4, 5, 1, 1, 6), "unknown", "a vector with 6 components"),
        ((4, 5, 6, 1, 3), "unknown", "a vector with 3 components"),
        ((1, 1, 5, 6), "unknown", "has 4 dimensions"),
        ((2, 4, 5, 6), "unknown", "has 4 dimensions"),
    ],
)
def test_slices_in_time_and_vectors_are_no_volume(shape, unit, said, tmp_path):
    image = nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4))
    image.header.set_xyzt_units("mm", unit)
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(FileError, match=said):
        read_file(tmp_path / "a.nii")


@pytest.mark.parametrize("offset", [352, 0])
def test_voxels_that_begin_in_an_extension_are_refused(offset, tmp_path):
    path = nifti(tmp_path, vox_offset=offset)
    content = path.read_bytes()
    extension = np.array([32, 6], "<i4").tobytes() + b"a comment".ljust(24, b"\0")
    with_it = content[:348] + b"\1\0\0\0" + extension + content[352:]
    path.write_bytes(with_it)
    with pytest.raises(
        FileError, match=f"begin at byte {offset} by its header, inside of an extension that ends at 384"
    ):
        read_file(path)
    sound = bytearray(with_it)
    sound[108:112] = np.array([384], "<f4").tobytes()
    path.write_bytes(sound)
    assert sitk.GetArrayFromImage(read_file(path)).max() == 119
