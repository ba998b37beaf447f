"""Manifests with every fault named, and volumes on the network's grid."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_up import off_grid

from CLMorphCore.bundles.atlas import read_structures
from CLMorphCore.errors import InputError
from CLMorphCore.geometry import Grid
from CLMorphCore.io.manifest import Subject, choose, read_manifest
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.network_input import network_grid
from CLMorphCore.training.batches import prepare


@pytest.fixture
def manifest(tmp_path):
    """Writes a manifest beside three (empty) image files a, b, c and labels l."""
    for name in "abcl":
        (tmp_path / f"{name}.nii.gz").write_bytes(b"")

    def write(text):
        (tmp_path / "data.csv").write_text(text, encoding="utf-8")
        return tmp_path / "data.csv"

    return write


def test_paths_are_relative_to_the_manifest(manifest, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    found = read_manifest(
        manifest(f"subject,image,labels,split\n A ,a.nii.gz, l.nii.gz ,train\nB,{tmp_path}/b.nii.gz,,test\n")
    )
    assert found == [
        Subject("A", tmp_path / "a.nii.gz", tmp_path / "l.nii.gz", "train"),
        Subject("B", tmp_path / "b.nii.gz", None, "test"),
    ]


def test_labels_may_be_missing_and_columns_in_any_order(manifest):
    found = read_manifest(manifest("\ufeffsplit,image,subject\nvalidation,a.nii.gz,A\n"))
    assert [(s.name, s.split, s.labels) for s in found] == [("A", "validation", None)]


def test_a_folder_of_images_is_for_training(manifest, tmp_path):
    manifest("not an image")
    assert [(s.name, s.split) for s in read_manifest(tmp_path)] == [(name, "train") for name in "abcl"]


def test_splits_and_labels_are_chosen():
    subjects = [Subject("a", "x", None, "train"), Subject("b", "x", "l", "train"), Subject("c", "x", "l", "test")]
    assert [s.name for s in choose(subjects, "train")] == ["a", "b"]
    assert [s.name for s in choose(subjects, "train", labelled=True)] == ["b"]


def test_every_fault_of_every_row_is_named_at_once(manifest):
    with pytest.raises(InputError) as caught:
        read_manifest(
            manifest(
                "subject,image,labels,split\nA,a.nii.gz,,train\nA,b.nii.gz,x.nii.gz,tset\n,c.nii.gz,,\n"
                "D,,,train\nE,y.nii.gz,,test\n"
            )
        )
    for fault in (
        "subject 'A' appears twice",
        "subject 'A' has split 'tset', expected train, validation, test",
        "labels of subject 'A' not found",
        "x.nii.gz",
        "row 3 has no subject",
        "subject '' has split ''",
        "subject 'D' has no image",
        "image of subject 'E' not found",
        "y.nii.gz",
    ):
        assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("count", "said"), [(2, "twice"), (3, "3 times")])
def test_a_subject_that_appears_again_is_named_once(count, said, manifest):
    with pytest.raises(InputError) as caught:
        read_manifest(manifest("subject,image,labels,split\n" + "s,a.nii.gz,,train\n" * count), files=False)
    assert str(caught.value).count("subject 's' appears") == 1 and f"subject 's' appears {said}" in str(caught.value)


def test_a_long_list_of_faults_is_cut(manifest):
    rows = "".join(f"{n},none.nii.gz,,train\n" for n in range(50))
    with pytest.raises(InputError, match=r"'19' not found: \S+; and 30 more$"):
        read_manifest(manifest("subject,image,labels,split\n" + rows))


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "lacks the column subject, image, split; expected subject, image, labels, split"),
        ("subject,image,split\n", "has no rows; expected one for each subject"),
        ("subject,image,lables,split\n", "unknown column 'lables'; did you mean labels"),
        ("subject;image;labels;split\n", "unknown column"),
    ],
)
def test_what_is_no_manifest_is_refused(text, said, manifest):
    with pytest.raises(InputError, match=said):
        read_manifest(manifest(text))


def test_the_networks_grid_covers_the_foreground_with_a_margin(atlas):
    grid = network_grid(atlas.image, (3.0, 2.5, 2.0), margin_voxels=(3, 3, 3), divisor=(8, 8, 8))
    assert grid.spacing_mm == (2.0, 2.5, 3.0) and all(n % 8 == 0 for n in grid.size)
    assert grid.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    inside = np.argwhere(sitk.GetArrayViewFromImage(atlas.image) > 50)[:, ::-1]
    points = inside @ Grid.of(atlas.image).to_mm().T + np.array(atlas.image.GetOrigin())
    box = grid.corners_mm()
    margin = 3 * np.array(grid.spacing_mm)
    assert (points.min(axis=0) >= box.min(axis=0) + margin - 1e-6).all()
    assert (points.max(axis=0) <= box.max(axis=0) - margin + 1e-6).all()


def test_a_spacing_of_zero_is_the_references_own(atlas):
    thick = sitk.PermuteAxes(atlas.image, (2, 0, 1))  # the same object, its axes in another order
    thick.SetSpacing((6.0, 1.5, 1.5))
    grid = network_grid(thick, (0.0, 0.0, 0.0), margin_voxels=(1, 1, 1), divisor=(1, 1, 1))
    assert grid.spacing_mm == (1.5, 1.5, 6.0)
    grid = network_grid(thick, (0.0, 0.0, 2.0), margin_voxels=(1, 1, 1), divisor=(1, 1, 1))
    assert grid.spacing_mm == (2.0, 1.5, 6.0)


def test_a_spacing_of_zero_is_coarser_where_the_grid_would_be_too_large(monkeypatch):
    image = sitk.GetImageFromArray(np.random.default_rng(0).uniform(1, 2, (40, 20, 30)).astype(np.float32))
    image.SetSpacing((0.5, 1.0, 1.0))
    monkeypatch.setattr("CLMorphCore.network_input.MAX_VOXELS", 3000)
    free, given = (
        network_grid(image, spacing, margin_voxels=(0, 0, 0), divisor=(1, 1, 1))
        for spacing in ((0.0, 0.0, 0.0), (0.0, 0.0, 0.5))
    )
    np.testing.assert_allclose(free.spacing_mm, (1.0, 2.0, 2.0), rtol=0.03)  # an eighth of the voxels
    assert given.spacing_mm[0] == 0.5 and np.prod(given.size) < 1.25 * 3000  # sides are rounded up


def test_a_subject_is_prepared_in_the_references_place(scan, phantom, atlas):
    grid = network_grid(atlas.image, (2.0, 2.0, 2.0), margin_voxels=(2, 2, 2), divisor=(4, 4, 4))
    subject = Subject("p", scan, scan.with_name("labels.nii.gz"), "train")
    steps = []
    volume = prepare(subject, atlas.image, grid, alignment="affine", step=lambda: steps.append(1))
    assert volume.image.shape == volume.labels.shape == (1, 1, *grid.shape) and steps
    reference = prepare(Subject("r", scan, None, "train"), atlas.image, grid, alignment="given")
    assert reference.labels is None
    expected = sitk.Resample(atlas.labels, _on(grid), sitk.Transform(), sitk.sitkNearestNeighbor)
    found = sitk.GetImageFromArray(volume.labels[0, 0].byte().numpy())
    found.CopyInformation(expected)
    assert min(dice_per_label(found, expected).values()) > 0.7  # aligned, and not beside it by the scan's turn


def test_labels_on_another_grid_are_refused_before_the_alignment(scan, phantom, atlas, tmp_path, monkeypatch):
    sitk.WriteImage(off_grid(phantom.labels), str(tmp_path / "l.nii.gz"))
    monkeypatch.setattr("CLMorphCore.training.batches.align", lambda *_, **__: pytest.fail("aligned first"))
    grid = network_grid(atlas.image, (4.0, 4.0, 4.0), margin_voxels=(2, 2, 2), divisor=(4, 4, 4))
    with pytest.raises(InputError, match=r"labels \S+l.nii.gz lie on another grid than \S+scan.nii.gz"):
        prepare(Subject("p", scan, tmp_path / "l.nii.gz", "train"), atlas.image, grid, alignment="affine")


def _on(grid):
    image = sitk.Image(grid.size, sitk.sitkUInt8)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    return image


@pytest.mark.parametrize("name", ["x" * 256, "ä" * 128, "a\x1b[2J", "nul\0"])
def test_a_subject_that_no_folder_can_be_called_is_a_fault_of_its_row(name, manifest):
    with pytest.raises(InputError, match=r"subject .* has more than 255 bytes or letters .*a name that a folder can"):
        read_manifest(manifest(f"subject,image,split\nB,b.nii.gz,train\n{name},a.nii.gz,train\n"))
    long = "x" * 255
    assert read_manifest(manifest(f"subject,image,split\n{long},a.nii.gz,train\n"))[0].name == long


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_a_table_that_is_separated_by_something_else_is_told_so(mark, name, manifest, tmp_path):
    said = f"its cells are separated by {name}, expected commas; save it as CSV with commas"
    with pytest.raises(InputError, match=said):
        read_manifest(manifest("subject,image,split\nA,a.nii.gz,train\n".replace(",", mark)))
    (tmp_path / "names.csv").write_text("value,name\n1,A\n".replace(",", mark))
    with pytest.raises(InputError, match=said):
        read_structures(tmp_path / "names.csv")


@pytest.mark.parametrize("value", ["1_0", "\u0661", "1.0", "1e1", "0x1", "", " ", "one", "++1", "\u00b2"])
def test_a_label_is_written_in_digits(value, tmp_path):
    (tmp_path / "names.csv").write_text(f"value,name\n{value},A\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"names\.csv cannot be read as a table of labels \(ValueError: .*\); expected"
    ):
        read_structures(tmp_path / "names.csv")
    (tmp_path / "names.csv").write_text("value,name\n +07 ,A\n")
    assert read_structures(tmp_path / "names.csv")[0].value == 7


def test_a_table_of_labels_without_its_columns_says_which(tmp_path):
    (tmp_path / "names.csv").write_text("label,names\n1,A\n")
    with pytest.raises(InputError, match=r"it lacks the column value and name\); expected a CSV with the columns"):
        read_structures(tmp_path / "names.csv")


def test_a_column_that_comes_twice_is_refused(manifest, tmp_path):
    with pytest.raises(InputError, match=r"has the column image twice; expected subject, image"):
        read_manifest(manifest("subject,image,image,split\nA,a.nii.gz,b.nii.gz,train\n"))
    (tmp_path / "names.csv").write_text("value,name,name\n1,A,B\n")
    with pytest.raises(InputError, match=r"names\.csv has the column 'name' twice"):
        read_structures(tmp_path / "names.csv")


@pytest.mark.parametrize("row", ["1,A\x1b[2J,,", "1,A,,SCT^1\0^A", "1,\u202eA,,"])
def test_a_label_is_called_by_letters_that_can_be_printed(row, tmp_path):
    (tmp_path / "names.csv").write_text(f"value,name,color,terminology\n{row}\n", encoding="utf-8")
    with pytest.raises(InputError, match="label 1 has letters that cannot be printed"):
        read_structures(tmp_path / "names.csv")
    (tmp_path / "names.csv").write_text("value,name\n1,A\u00a0b \u6f22\n", encoding="utf-8")
    assert read_structures(tmp_path / "names.csv")[0].name == "A\u00a0b \u6f22"


def test_a_folder_gives_every_format_that_is_read_and_nothing_hidden(tmp_path):
    endings = ("nii", "nii.gz", "nrrd", "nhdr", "mha", "mhd", "hdr", "mgz", "mgh", "MGZ")
    for n, ending in enumerate(endings):
        (tmp_path / f"{n}.{ending}").write_text("x")
    for other in ("._0.nii.gz", ".hidden.nii", "v.raw", "6.img", "notes.txt"):
        (tmp_path / other).write_text("x")
    assert [s.image.name for s in read_manifest(tmp_path)] == [f"{n}.{e}" for n, e in enumerate(endings)]
