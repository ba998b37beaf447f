"""Images and label maps along transforms, against ITK; and the verb apply of images."""

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from made_up_transforms import GRIDS, TURN, smooth_field, spline

from CLMorphCore import InputError, Step, apply
from CLMorphCore.geometry import Grid
from CLMorphCore.io.displacement_fields import read_any
from CLMorphCore.io.images import read_file

ITKS = {"linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline, "nearest": sitk.sitkNearestNeighbor}
OTHER = GRIDS["oblique"]


def array(image):
    return sitk.GetArrayFromImage(image)


def blank(grid):
    made = sitk.Image(grid.size, sitk.sitkFloat32)
    made.SetSpacing(grid.spacing_mm)
    made.SetOrigin(grid.origin_mm)
    made.SetDirection(grid.direction)
    return made


def labels_of(image):
    return sitk.Cast(image > 110, sitk.sitkUInt16) * 2 + sitk.Cast(image > 130, sitk.sitkUInt16) * 3


@pytest.mark.parametrize("interpolation", ITKS)
def test_an_image_is_what_itk_resamples(interpolation, image, grid):
    chain = [smooth_field(grid), TURN, spline(OTHER)]
    ours = apply(image, chain, OTHER, interpolation=interpolation)
    theirs = sitk.Resample(image, blank(OTHER), sitk.CompositeTransform(chain), ITKS[interpolation], 0.0)
    assert Grid.of(ours) == OTHER and array(ours).std() > 1
    assert np.abs(array(ours) - array(theirs)).max() < 1e-3


def test_labels_take_the_largest_weight_and_keep_their_type(image, grid):
    labels, field = labels_of(image), smooth_field(grid)
    ours = apply(labels, field, OTHER, interpolation="labels")
    theirs = sitk.Resample(labels, blank(OTHER), field, sitk.sitkLabelLinear, 0.0)
    assert ours.GetPixelID() == sitk.sitkUInt16 and set(np.unique(array(ours))) == {0, 2, 5}
    assert (array(ours) != array(theirs)).mean() < 1e-3


def test_an_image_there_and_back_by_the_inverse_is_itself_but_for_interpolation(image, grid):
    field = smooth_field(grid)
    back = apply(apply(image, field, interpolation="cubic"), Step(field, inverse=True), interpolation="cubic")
    inner = (slice(3, -3),) * 3
    moved = np.abs(array(apply(image, field)) - array(image))[inner].max()
    assert np.abs(array(back) - array(image))[inner].max() < 0.05 * moved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interpolation": "linaer"}, "did you mean linear"),
        ({"image": sitk.Image((4, 4, 4), sitk.sitkVectorFloat32, 3)}, "3 numbers per voxel"),
        ({"image": sitk.Image((4, 4), sitk.sitkFloat32)}, "2 dimensions"),
    ],
)
def test_wrong_use_is_one_line(change, message, image):
    with pytest.raises(InputError, match=message):
        apply(**{"image": image, "transforms": TURN} | change)


@pytest.fixture
def files(tmp_path, image, grid):
    """The image, its labels, another grid, and transforms of every kind of file."""
    sitk.WriteImage(image, str(tmp_path / "image.nii.gz"))
    sitk.WriteImage(labels_of(image), str(tmp_path / "labels.nrrd"))
    sitk.WriteImage(blank(OTHER), str(tmp_path / "grid.mha"))
    sitk.WriteTransform(spline(grid), str(tmp_path / "spline.tfm"))
    sitk.WriteTransform(TURN.GetInverse(), str(tmp_path / "back.mat"))
    field = sitk.Cast(smooth_field(grid).GetDisplacementField(), sitk.sitkVectorFloat32)
    for ending in ("nii.gz", "nii", "nrrd", "mha"):
        sitk.WriteImage(field, str(tmp_path / f"field.{ending}"))
    sitk.WriteTransform(smooth_field(grid), str(tmp_path / "field.h5"))
    return tmp_path


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "nrrd", "mha", "h5"])
def test_the_command_does_what_the_library_does(ending, files, clmorph, image, grid):
    out = files / "out" / "moved.nii.gz"
    words = ["-t", files / f"field.{ending}", "--inverse-of", files / "back.mat", "-t", files / "spline.tfm"]
    ran = clmorph("apply", files / "image.nii.gz", *words, "-o", out, "--reference", files / "grid.mha")
    assert ran.code == 0, ran.err
    expected = apply(image, [spline(grid), TURN, smooth_field(grid)], OTHER)
    assert np.abs(array(read_file(out)) - array(expected)).max() < 0.01
    assert {p.name for p in out.parent.iterdir()} == {"moved.nii.gz"}


def test_the_whole_chain_inverted_and_antss_brackets(files, clmorph, image, grid):
    for n, words in enumerate(
        (
            ["--inverse", "-t", files / "field.h5", files / "spline.tfm"],
            ["-t", f"[{files / 'spline.tfm'},1]", f"[{files / 'field.h5'},1]"],
        )
    ):
        ran = clmorph("apply", files / "image.nii.gz", *words, "-o", files / f"{n}.nrrd")
        assert ran.code == 0, ran.err
    expected = apply(image, [Step(smooth_field(grid), inverse=True), Step(spline(grid), inverse=True)])
    for n in range(2):
        assert np.abs(array(sitk.ReadImage(str(files / f"{n}.nrrd"))) - array(expected)).max() < 0.01


def test_labels_by_the_command(files, clmorph, image, grid):
    out = files / "moved.nii.gz"
    ran = clmorph("apply", files / "labels.nrrd", "--labels", "-t", files / "field.h5", "-o", out)
    assert ran.code == 0, ran.err
    expected = apply(labels_of(image), smooth_field(grid), interpolation="labels")
    assert (array(read_file(out)) == array(expected)).all() and read_file(out).GetPixelID() == sitk.sitkUInt16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("image.nii.gz -o o.nii.gz", "no transform is given"),
        ("image.nii.gz -t field.h5 -o image.nii.gz", "is there already"),
        ("image.nii.gz -t field.h5 -o out.png", "expected a file that ends in"),
        ("image.nii.gz -t image.nii.gz -o o.nii.gz", "1 numbers per voxel; expected a transform file, or"),
        ("image.nii.gz -t nothing.h5 -o o.nii.gz", "does not exist"),
        ("image.nii.gz -t flat.mat --inverse -o o.nii.gz", "has no inverse"),
        ("image.nii.gz --labels -t field.h5 -o o.nii.gz", "fractional values"),
        ("labels.nrrd --labels --interpolation linear -t field.h5 -o o.nii.gz", "expected labels or nearest"),
        ("image.nii.gz -t field.h5 -o o.nii.gz --points-space RAS", "--points-space is given with an image"),
    ],
)
def test_wrong_use_of_the_command_is_one_line(words, message, files, clmorph, monkeypatch):
    monkeypatch.chdir(files)
    sitk.WriteTransform(sitk.AffineTransform([0.0] * 9, [0.0] * 3), "flat.mat")
    before = {p.name: p.read_bytes() for p in files.iterdir()}
    ran = clmorph("apply", *words.split())
    assert ran.code == 2 and message in ran.err and ran.err.count("\n") == 1, ran.err
    assert {p.name: p.read_bytes() for p in files.iterdir()} == before


@pytest.mark.parametrize("name", ["field.nii.gz", "field.nii", "field.nrrd", "field.mha"])
def test_a_field_that_is_cut_off_is_refused(name, files):
    content = (files / name).read_bytes()
    (files / name).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(InputError, match="cannot be read"):
        read_any(files / name)


def test_a_field_with_a_wrong_checksum_is_refused(files):
    content = bytearray(gzip.decompress((files / "field.nii.gz").read_bytes()))
    packed = bytearray(gzip.compress(bytes(content)))
    packed[-6] ^= 255
    (files / "field.nii.gz").write_bytes(packed)
    with pytest.raises(InputError, match="cannot be read"):
        read_any(files / "field.nii.gz")


def test_what_register_warps_apply_warps_from_its_transform(place, tiny_model, clmorph, atlas, monkeypatch):
    monkeypatch.chdir(place)
    sitk.WriteImage(atlas.image, "atlas.nii.gz")
    sitk.WriteImage(atlas.labels, "atlas-labels.nii.gz")
    words = ["--model", tiny_model, "--moving-labels", "atlas-labels.nii.gz", "-o", "out"]
    assert clmorph("register", "scan.nii.gz", "atlas.nii.gz", *words).code == 0
    along = ["-t", "out/transform.h5", "--reference", "scan.nii.gz", "-o"]
    assert clmorph("apply", "atlas.nii.gz", *along, "warped.nii.gz").code == 0
    assert clmorph("apply", "atlas-labels.nii.gz", "--labels", *along, "labels-on-scan.nii.gz").code == 0
    warped, again = (array(read_file(place / name)) for name in ("out/warped.nii.gz", "warped.nii.gz"))
    assert np.abs(warped - again).max() <= 2.0**-12 * np.abs(warped).max() * 1.01 and warped.std() > 10
    labels, again = (array(read_file(place / name)) for name in ("out/labels.nii.gz", "labels-on-scan.nii.gz"))
    assert (labels == again).mean() > 0.9999 and len(np.unique(labels)) == 4


def test_an_image_of_vtk_is_an_image(files, clmorph, image):
    sitk.WriteImage(image, str(files / "image.vtk"))
    ran = clmorph("apply", files / "image.vtk", "-t", files / "field.h5", "-o", files / "out.nii.gz")
    assert ran.code == 0 and "holds no orientation" in ran.err


def test_vectors_are_refused_in_one_line(files, clmorph):
    ran = clmorph("apply", files / "field.nii.gz", "-t", files / "field.h5", "-o", files / "out.nii.gz")
    assert ran.code == 2 and ran.err.count("\n") == 1 and "expected one intensity per voxel" in ran.err
    assert not (files / "out.nii.gz").exists()


@pytest.mark.parametrize("words", [[], ["--inverse"], ["--interpolation", "nearest"], ["--reference", "grid.mha"]])
def test_each_frame_of_a_series_is_an_image_along_the_transform(words, files, clmorph, image, monkeypatch):
    monkeypatch.chdir(files)
    frames = [sitk.Cast(image * k + 3, sitk.sitkInt16) for k in (1, 2, 3, 5)]
    series = nibabel.Nifti1Image(
        np.stack([array(frame).T for frame in frames], axis=-1), nibabel.load("image.nii.gz").affine
    )
    series.header.set_zooms((*series.header.get_zooms()[:3], 0.75))
    series.header.set_xyzt_units("mm", "sec")
    nibabel.save(series, "series.nii.gz")
    ran = clmorph("apply", "series.nii.gz", "-t", "field.h5", "-o", "moved.nii.gz", *words)
    assert ran.code == 0 and not ran.err, ran.err
    found = nibabel.load("moved.nii.gz")
    assert found.shape[3] == 4 and found.header.get_zooms()[3] == 0.75
    assert found.header.get_xyzt_units() == ("mm", "sec")
    for n, frame in enumerate(frames):
        frame.CopyInformation(image)
        sitk.WriteImage(frame, f"frame{n}.nii.gz")
        assert clmorph("apply", f"frame{n}.nii.gz", "-t", "field.h5", "-o", f"moved{n}.nii.gz", *words).code == 0
        alone = nibabel.load(f"moved{n}.nii.gz")
        assert np.abs(alone.affine - found.affine).max() < 1e-4
        assert np.abs(alone.get_fdata() - found.get_fdata()[..., n]).max() < 0.02


def test_a_series_that_is_cut_off_is_refused(files, clmorph, image):
    series = sitk.JoinSeries([image] * 3)
    sitk.WriteImage(series, str(files / "series.nii"))
    content = (files / "series.nii").read_bytes()
    (files / "series.nii").write_bytes(content[:-2000])
    ran = clmorph("apply", files / "series.nii", "-t", files / "field.h5", "-o", files / "out.nii.gz")
    assert ran.code == 2 and "cannot be read" in ran.err and ran.err.count("\n") == 1
    (files / "series.nii").write_bytes(content)
    ran = clmorph("apply", files / "series.nii", "-t", files / "field.h5", "-o", files / "out.nrrd")
    assert ran.code == 2 and "has several frames; expected --output as .nii.gz" in ran.err
