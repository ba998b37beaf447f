"""Labels become regions as the table says, and a table that says nothing sensible is refused."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from CLMorphCore.errors import InputError
from Training.recipes.regions import Region, read_regions, relabel

HEAD = "value,region,name\n"


def table(folder, text):
    path = folder / "regions.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_of_one_region_come_together(tmp_path):
    path = table(tmp_path, HEAD + "2003,1,Frontal\n7,2,Temporal\n1003,1,Frontal\n")
    assert read_regions(path) == (Region(1, "Frontal", (1003, 2003)), Region(2, "Temporal", (7,)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("value,name\n1,A\n", "value,region,name"),
        (HEAD + "one,1,A\n", "value,region,name"),
        (HEAD + "1\n", "value,region,name"),
        (HEAD, "no label"),
        (HEAD + "0,1,A\n", "above zero"),
        (HEAD + "1,1,A\n1,2,B\n", "label 1 twice"),
        (HEAD + "1,1,A\n2,3,B\n", "without gaps"),
        (HEAD + "1,0,A\n", "without gaps"),
        (HEAD + "1,1,A\n2,1,B\n", "one name"),
        (HEAD + "1,1,A\n2,2,A\n", "one name"),
        (HEAD + "1,1,\n", "one name"),
    ],
)
def test_a_table_that_does_not_fit_is_told_in_one_line(text, told, tmp_path):
    with pytest.raises(InputError, match=told) as raised:
        read_regions(table(tmp_path, text))
    assert "\n" not in str(raised.value) and "regions.csv" in str(raised.value)


def test_a_missing_table_is_told(tmp_path):
    with pytest.raises(InputError, match="expected a CSV"):
        read_regions(tmp_path / "none.csv")


@given(
    labels=st.lists(st.integers(0, 9), min_size=8, max_size=8),
    kind=st.sampled_from((np.uint8, np.int16, np.uint32)),
    of=st.dictionaries(st.integers(1, 9), st.integers(1, 3), min_size=1),
)
def test_each_voxel_gets_its_labels_region_and_other_labels_none(labels, kind, of):
    image = sitk.GetImageFromArray(np.array(labels, kind).reshape(2, 2, 2))
    image.SetSpacing((1.0, 2.0, 3.0))
    regions = [Region(n, str(n), tuple(v for v, k in of.items() if k == n)) for n in (1, 2, 3)]
    found = relabel(image, regions)
    assert sitk.GetArrayFromImage(found).ravel().tolist() == [of.get(v, 0) for v in labels]
    assert found.GetSpacing() == image.GetSpacing() and found.GetPixelID() == sitk.sitkUInt8


def test_an_image_of_intensities_is_refused():
    with pytest.raises(InputError, match="whole numbers"):
        relabel(sitk.Image(2, 2, 2, sitk.sitkFloat32), [Region(1, "A", (1,))])
