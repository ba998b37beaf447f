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
        (meta, ["TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = 1 2 3", "ElementSpacing = 1 2 3"], ()),
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
