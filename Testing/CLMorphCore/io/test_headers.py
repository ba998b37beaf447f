"""Text headers that place a scan in older ways, partly or in other units: where they say, or it is told."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.errors import FileError
from CLMorphCore.io.images import read_file, warnings_of

VOXELS = np.arange(120, dtype="<i2").reshape(6, 5, 4)


def nrrd(folder, *lines):
    """A NRRD file of 4 × 5 × 6 voxels with these further fields."""
    known = ["NRRD0004", "type: short", "dimension: 3", "sizes: 4 5 6", "endian: little", "encoding: gzip"]
    path = folder / "a.nrrd"
    path.write_bytes("\n".join([*known, *lines]).encode() + b"\n\n" + gzip.compress(VOXELS.tobytes()))
    return path


def meta(folder, *lines):
    """A MetaImage of 4 × 5 × 6 voxels with these further keys."""
    known = ["ObjectType = Image", "NDims = 3", "DimSize = 4 5 6", "ElementType = MET_SHORT"]
    path = folder / "a.mha"
    path.write_bytes("\n".join([*known, *lines, "ElementDataFile = LOCAL"]).encode() + b"\n" + VOXELS.tobytes())
    return path


@pytest.mark.parametrize(
    ("lines", "origin", "spacing"),
    [
        (["spacings: 1 2 3", "axis mins: 10 20 30"], (10.5, 21, 31.5), (1, 2, 3)),
        (["spacings: 1 2 3", "axis mins: 10 20 30", "centers: node node node"], (10, 20, 30), (1, 2, 3)),
        (["spacings: 1 2 3", "axismins: 10 20 30", "centerings: cell node cell"], (10.5, 20, 31.5), (1, 2, 3)),
        (["axis mins: 10 20 30", "axis maxs: 18 30 48"], (11, 21, 31.5), (2, 2, 3)),
        (["axis mins: 0 0 0", "axis maxs: 6 8 10", "centers: node node node"], (0, 0, 0), (2, 2, 2)),
    ],
)
def test_axes_that_begin_and_end_somewhere_place_the_scan(lines, origin, spacing, tmp_path):
    path = nrrd(tmp_path, *lines)
    found = read_file(path)
    assert found.GetOrigin() == pytest.approx(origin) and found.GetSpacing() == pytest.approx(spacing)
    assert not any("no origin" in said or "no voxel size" in said for said in warnings_of(found))
    if "spacings" in lines[0]:
        assert sitk.ReadImage(str(path)).GetOrigin() == pytest.approx(origin)  # ITK's reading


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["spacings: 1 2 3", "axis mins: 10 20"], "its axis mins are 2 of 3"),
        (["spacings: 1 2 3", "axis mins: 1 x 2"], "number 2 of its axis mins is 'x'"),
        (["axis mins: 0 0 0", "axis maxs: 6 -8 10"], "its axis maxs are not above its axis mins"),
    ],
)
def test_ends_of_axes_that_make_no_sense_are_refused(lines, said, tmp_path):
    with pytest.raises(FileError, match=said):
        read_file(nrrd(tmp_path, *lines))


META = ["TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = 1 2 3", "ElementSpacing = 1 2 3"]
LPS = ["space: left-posterior-superior", "space directions: (1,0,0) (0,2,0) (0,0,3)"]


@pytest.mark.parametrize(
    ("make", "lines", "said"),
    [
        (nrrd, [*LPS, "space origin: (1,2,3)"], ()),
        (nrrd, LPS, ("no origin; its first voxel was taken at",)),
        (nrrd, ["spacings: 1 2 3"], ("names no space", "no origin")),
        (nrrd, ["spacings: 1 2 3", "axis mins: nan 2 3"], ("names no space", "no origin")),
        (nrrd, [*LPS, "space origin: (1,2,3)", 'space units: "mm" "mm" "mm"'], ()),
        (nrrd, [*LPS, "space origin: (1,2,3)", 'space units: "um" "um" "um"'], ("unit is um; its numbers were taken",)),
        (nrrd, [*LPS, "space origin: (1,2,3)", 'units: "cm" "cm" "cm"'], ("unit is cm; its numbers were taken",)),
        (nrrd, [*LPS, "space origin: (1,2,3)", "spacings: 1 2 3.0001"], ()),
        (
            nrrd,
            [*LPS, "space origin: (1,2,3)", "spacings: 2 2 3"],
            ("1 × 2 × 3 mm large by its space directions, which were taken, and 2 × 2 × 3 mm by its spacings",),
        ),
        (meta, META, ()),
        (meta, [*META, "DistanceUnits = mm"], ()),
        (meta, [*META, "DistanceUnits = um"], ("unit is um; its numbers were taken",)),
        (meta, ["TransformMatrix = 1 0 0 0 1 0 0 0 1", "ElementSpacing = 1 2 3"], ("no origin",)),
        (meta, ["TransformMatrix = 1 0 0 0 1 0 0 0 1", "Position = 1 2 3"], ("no voxel size",)),
        (meta, ["Origin = 1 2 3", "ElementSpacing = 1 2 3"], ("no orientation",)),
        (meta, ["ElementSpacing = 1 2 3"], ("no orientation", "no origin")),
    ],
)
def test_what_a_header_leaves_out_is_told(make, lines, said, tmp_path):
    found = warnings_of(read_file(make(tmp_path, *lines)))
    assert len(found) == len(said)
    for expected in said:
        assert any(expected in one for one in found)


def test_the_size_of_an_element_is_their_distance_where_no_other_is_given(tmp_path):
    path = meta(tmp_path, "Offset = 1 2 3", "TransformMatrix = 1 0 0 0 1 0 0 0 1", "ElementSize = 2 2 2")
    found = read_file(path)
    assert found.GetSpacing() == (2, 2, 2) == sitk.ReadImage(str(path)).GetSpacing()


def test_what_is_told_of_a_header_holds_nothing_that_a_terminal_obeys(tmp_path, caplog):
    path = nrrd(tmp_path, *LPS[1:], "space: \x1b[31mscanner", "space origin: (1,2,3)")
    path = path.rename(tmp_path / "a\x1b[2J.nrrd")
    (said,) = warnings_of(read_file(path))
    assert "\x1b" not in said + caplog.text and "a\\x1b[2J.nrrd: " in said


# --- where the voxels are


def test_text_may_have_commas_and_lie_in_another_file(tmp_path):
    for mark in (" ", ", ", "\n"):
        path = nrrd(tmp_path, *LPS, "space origin: (1,2,3)")
        text = mark.join(map(str, VOXELS.ravel()))
        head = path.read_bytes().partition(b"\n\n")[0].replace(b"encoding: gzip", b"encoding: text")
        path.write_bytes(head + b"\n\n" + text.encode())
        assert np.array_equal(sitk.GetArrayFromImage(read_file(path)), VOXELS)
        (tmp_path / "v.txt").write_text(text)
        path.write_bytes(head + b"\ndata file: v.txt\n\n")
        assert np.array_equal(sitk.GetArrayFromImage(read_file(path)), VOXELS)
    path.write_bytes(head + b"\ndata file: none.txt\n\n")
    with pytest.raises(FileError, match=r"none\.txt does not exist; expected the voxels of a\.nrrd"):
        read_file(path)


@pytest.mark.parametrize(("encoding", "surplus"), [("text", "3 numbers"), ("hex", "6 bytes")])
@pytest.mark.parametrize("where", ["behind the header", "in another file"])
def test_voxels_in_digits_that_are_too_many_are_told_of(encoding, surplus, where, tmp_path):
    path = nrrd(tmp_path, *LPS, "space origin: (1,2,3)")
    head = path.read_bytes().partition(b"\n\n")[0].replace(b"encoding: gzip", f"encoding: {encoding}".encode())
    array = np.append(VOXELS.ravel(), [1, 2, 3]).astype(VOXELS.dtype)
    for whole in (array[:-3], array):
        text = " ".join(map(str, whole)) if encoding == "text" else whole.tobytes().hex()
        (tmp_path / "v.txt").write_text(text)
        path.write_bytes(head + (b"\n\n" + text.encode() if where != "in another file" else b"\ndata file: v.txt\n\n"))
        found = read_file(path)
        assert np.array_equal(sitk.GetArrayViewFromImage(found), VOXELS)
        said = f"a.nrrd: it holds {surplus} more than its header tells of, which were ignored"
        assert warnings_of(found) == (() if len(whole) < len(array) else (said,))


@pytest.mark.parametrize(("pattern", "order"), [("s%d.raw 0 5 1", 1), ("s%d.raw 5 0 -1", -1)])
def test_files_of_slices_are_counted_up_or_down(pattern, order, tmp_path):
    for n in range(6):
        (tmp_path / f"s{n}.raw").write_bytes(VOXELS[::order][n].tobytes())
    lines = [*LPS, "space origin: (1,2,3)", f"data file: {pattern}"]
    path = nrrd(tmp_path, *lines)
    head = path.read_bytes().partition(b"\n\n")[0].replace(b"encoding: gzip", b"encoding: raw")
    path.write_bytes(head + b"\n\n")
    assert np.array_equal(sitk.GetArrayFromImage(read_file(path)), VOXELS)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), sitk.GetArrayFromImage(read_file(path)))


def test_a_header_that_names_itself_as_its_voxels_is_refused(tmp_path):
    """Its own letters would be the first voxels."""
    path = nrrd(tmp_path, *LPS, "space origin: (1,2,3)", "data file: a.nrrd")
    path.write_bytes(path.read_bytes().replace(b"encoding: gzip", b"encoding: raw") + VOXELS.tobytes())
    with pytest.raises(FileError, match="names itself as the file of its voxels"):
        read_file(path)
    path = meta(tmp_path, "Offset = 1 2 3", "ElementSpacing = 1 1 1")
    path.write_bytes(path.read_bytes().replace(b"LOCAL", b"a.mha"))
    with pytest.raises(FileError, match="names itself as the file of its voxels"):
        read_file(path)


@pytest.mark.parametrize("skip", [-2, -5])
def test_bytes_cannot_be_skipped_backwards(skip, tmp_path):
    with pytest.raises(FileError, match=f"its byte skip is {skip}"):
        read_file(nrrd(tmp_path, *LPS, f"byte skip: {skip}"))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([*META, "Position = 9 9 9"], "two values of Offset"),
        ([*META, "Offset = 9 9 9"], "two values of Offset"),
        ([*META, "Orientation = 0 1 0 1 0 0 0 0 1"], "two values of TransformMatrix"),
        (
            [*META, "BinaryDataByteOrderMSB = False", "ElementByteOrderMSB = True"],
            "two values of BinaryDataByteOrderMSB",
        ),
        ([*META, "HeaderSize = -7"], "its HeaderSize is -7"),
    ],
)
def test_a_metaimage_that_contradicts_itself_is_refused(lines, said, tmp_path):
    with pytest.raises(FileError, match=said):
        read_file(meta(tmp_path, *lines))
    assert warnings_of(read_file(meta(tmp_path, *META, "Position = 1 2 3"))) == ()


def test_long_numbers_of_eight_bytes_are_not_read_as_two_of_four(tmp_path):
    path = meta(tmp_path, *META)
    head = path.read_bytes()[: -VOXELS.nbytes].replace(b"MET_SHORT", b"MET_LONG")
    path.write_bytes(head + VOXELS.astype("<i4").tobytes())
    assert np.array_equal(sitk.GetArrayFromImage(read_file(path)), VOXELS)
    path.write_bytes(head + VOXELS.astype("<i8").tobytes())
    with pytest.raises(FileError, match="its MET_LONG have 4 bytes, and there are 8 for each of its voxels"):
        read_file(path)


@pytest.mark.parametrize("ending", ["mhd", "nhdr"])
def test_surplus_bytes_of_a_raw_file_may_lie_before_its_voxels_and_it_is_said(ending, tmp_path):
    (tmp_path / "v.raw").write_bytes(b"a header" + VOXELS.tobytes())
    for skip, count in ((False, 1), (True, 0)):
        if ending == "mhd":
            path = meta(tmp_path, *META, *["HeaderSize = 8"] * skip)
            path.write_bytes(path.read_bytes()[: -VOXELS.nbytes].replace(b"LOCAL", b"v.raw"))
        else:
            path = nrrd(tmp_path, *LPS, "space origin: (1,2,3)", "data file: v.raw", *["byte skip: 8"] * skip)
            path.write_bytes(path.read_bytes().replace(b"encoding: gzip", b"encoding: raw"))
        found = read_file(path)
        assert len(warnings_of(found)) == count
        assert all("where they lie before the voxels, the header needs a" in said for said in warnings_of(found))
        assert np.array_equal(sitk.GetArrayViewFromImage(found), VOXELS) == skip
