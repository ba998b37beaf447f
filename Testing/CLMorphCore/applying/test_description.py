"""The verb transform: what is printed, and chains composed, inverted and converted, against ITK."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_transforms import GRIDS, TURN, smooth_field, spline

from CLMorphCore.applying.description import jacobian_of
from CLMorphCore.applying.maps import map_points
from CLMorphCore.io.displacement_fields import read_any


@pytest.fixture
def files(tmp_path, grid):
    """A field, a spline, a rotation and a matrix."""
    sitk.WriteTransform(smooth_field(grid), str(tmp_path / "field.h5"))
    sitk.WriteTransform(spline(grid), str(tmp_path / "spline.tfm"))
    sitk.WriteTransform(TURN, str(tmp_path / "turn.mat"))
    sitk.WriteTransform(sitk.AffineTransform([-1, 0, 0, 0, 2, 0, 0, 0, 1], [1, 2, 3]), str(tmp_path / "matrix.txt"))
    reference = sitk.Image(grid.size, sitk.sitkUInt8)
    reference.SetSpacing(grid.spacing_mm)
    reference.SetOrigin(grid.origin_mm)
    reference.SetDirection(grid.direction)
    sitk.WriteImage(reference, str(tmp_path / "grid.mha"))
    return tmp_path


def by_itk(transform, points):
    return np.array([transform.TransformPoint(p) for p in points.tolist()])


def test_what_is_printed(files, grid, clmorph):
    field = smooth_field(grid)
    ran = clmorph("transform", files / "field.h5", files / "matrix.txt", files / "spline.tfm")
    assert ran.code == 0, ran.err
    assert "1. DisplacementFieldTransform" in ran.out and "3. BSplineTransform" in ran.out
    vectors = sitk.GetArrayFromImage(field.GetDisplacementField())
    assert f"largest displacement {np.linalg.norm(vectors, axis=-1).max():.4g} mm" in ran.out
    assert "volume × 2, it mirrors" in ran.out and "t 1\n" in ran.out
    assert "folding in 0.0000%" in ran.out and " × ".join(map(str, grid.size)) in ran.out


def test_the_jacobian_is_that_of_the_map_in_millimetres(grid):
    field = smooth_field(grid, amplitude_mm=40.0)  # ITK's own filter takes a field's axes for the patient's
    voxels = np.random.default_rng(0).integers(1, np.array(grid.shape) - 1, (200, 3))
    steps = np.eye(3)
    moved = [
        by_itk(field, grid.points_mm(voxels + d)) - by_itk(field, grid.points_mm(voxels - d)) for d in steps.tolist()
    ]
    straight = [grid.points_mm(d[None]) - grid.points_mm(-d[None]) for d in steps]
    expected = np.linalg.det(np.stack(moved, axis=-1)) / np.linalg.det(np.stack(straight, axis=-1))
    found = jacobian_of(field.GetDisplacementField())[0, 0].numpy()[tuple(voxels.T)]
    assert np.abs(found - expected).max() < 1e-6 and (found <= 0).any()


@pytest.mark.parametrize("out", ["o.h5", "o.nii.gz", "o.nii", "o.nrrd", "o.mha"])
def test_a_chain_is_written_as_one(out, files, grid, points, clmorph):
    chain = [smooth_field(grid), spline(grid), TURN]
    words = [files / name for name in ("turn.mat", "spline.tfm", "field.h5")]  # points go through the first one first
    ran = clmorph("transform", *words, "-o", files / out)
    assert ran.code == 0, ran.err
    found, expected = read_any(files / out), by_itk(sitk.CompositeTransform(chain), points)
    if out == "o.h5":
        assert np.abs(by_itk(found, points) - expected).max() < 1e-3
        return
    voxels = grid.points_mm(np.random.default_rng(0).integers(1, np.array(grid.shape) - 1, (200, 3)).astype(float))
    assert np.abs(map_points(voxels, found)[0] - by_itk(sitk.CompositeTransform(chain), voxels)).max() < 1e-3


@pytest.mark.parametrize("out", ["o.tfm", "o.txt", "o.mat", "o.h5"])
def test_a_linear_chain_and_its_inverse_are_one_matrix(out, files, points, clmorph):
    ran = clmorph("transform", files / "matrix.txt", "--inverse-of", files / "turn.mat", "--inverse", "-o", files / out)
    assert ran.code == 0, ran.err
    there = by_itk(read_any(files / out), points)
    matrix = sitk.AffineTransform([-1, 0, 0, 0, 2, 0, 0, 0, 1], [1, 2, 3])
    assert np.abs(by_itk(TURN.GetInverse(), by_itk(matrix, there)) - points).max() < 1e-6


@pytest.mark.parametrize("name", ["field.h5", "spline.tfm"])
@pytest.mark.parametrize("out", ["o.h5", "o.nii.gz"])
def test_an_inverse_is_exact_at_voxels_and_its_error_between_them_is_said(name, out, files, grid, clmorph):
    made = smooth_field(grid) if name == "field.h5" else spline(grid)
    ran = clmorph("transform", f"[{files / name},1]", "--reference", files / "grid.mha", "-o", files / out)
    assert ran.code == 0, ran.err
    voxels = grid.points_mm(np.random.default_rng(0).integers(1, np.array(grid.shape) - 1, (300, 3)).astype(float))
    back = by_itk(made, map_points(voxels, read_any(files / out))[0])
    assert np.abs(back - voxels).max() < 2e-3
    if out == "o.h5":
        said = float(ran.out.split("by up to ")[1].split()[0])
        between = grid.points_mm(np.random.default_rng(1).uniform(1, np.array(grid.shape) - 2, (2000, 3)))
        off = np.linalg.norm(by_itk(made, by_itk(read_any(files / out), between)) - between, axis=1).max()
        assert 0.1 * said < off < 2 * said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("field.h5 -o o.mat", "DisplacementFieldTransform, which is not linear"),
        ("turn.mat -o o.nii.gz", "give --reference GRID"),
        ("turn.mat -o turn.mat", "is there already"),
        ("turn.mat -o o.xfm", "expected a file that ends in"),
        ("turn.mat --reference grid.mha", "--reference is given without --output"),
        ("grid.mha", "1 numbers per voxel"),
        ("nothing.h5", "does not exist"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(words, message, files, clmorph, monkeypatch):
    monkeypatch.chdir(files)
    before = sorted(files.iterdir())
    ran = clmorph("transform", *words.split())
    assert ran.code == 2 and message in ran.err and ran.err.count("\n") == 1, ran.err
    assert sorted(files.iterdir()) == before


def test_that_a_transform_folds_whose_inverse_is_taken_is_said(tmp_path, clmorph):
    grid = GRIDS["oblique"]
    for strength, folds in ((1.5, False), (25.0, True)):
        sitk.WriteTransform(smooth_field(grid, 1, strength), str(tmp_path / "t.h5"))
        (tmp_path / "p.csv").write_text("{},{},{}\n".format(*grid.points_mm(np.array([[6, 6, 6]]))[0]))
        ran = clmorph(
            "apply", tmp_path / "p.csv", "--inverse-of", tmp_path / "t.h5", "-o", tmp_path / f"{strength}.csv"
        )
        assert ran.code == 0 and ("folds in" in ran.err) is folds
        ran = clmorph("apply", tmp_path / "p.csv", "-t", tmp_path / "t.h5", "-o", tmp_path / f"on{strength}.csv")
        assert ran.code == 0 and "folds" not in ran.err


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("ThinPlateSplineKernelTransform_double_3_3", "it holds a ThinPlateSplineKernelTransform, a kind that is not"),
        ("ComposeScaleSkewVersor3DTransform_double_3_3", "it holds a kind of transform that SimpleITK does not know"),
        ("Euler2DTransform_double_2_2", "holds a 2D Euler2DTransform; expected a 3D transform"),
    ],
)
def test_a_transform_that_is_not_read_is_called_by_its_kind(kind, said, tmp_path, clmorph):
    numbers, fixed = ("0 0 0", "0 0") if "2D" in kind else ("0 0 0 " * (4 if "Compose" in kind else 2), "0 0 0")
    if "Compose" in kind:
        numbers = "0 0 0 0 0 0 1 1 1 0 0 0"
    lines = (
        "#Insight Transform File V1.0",
        f"Transform: {kind}",
        f"Parameters: {numbers}",
        f"FixedParameters: {fixed}",
    )
    (tmp_path / "t.tfm").write_text("\n".join(lines) + "\n")
    ran = clmorph("transform", tmp_path / "t.tfm")
    assert ran.code == 2 and said in ran.err and "t.tfm" in ran.err and ran.err.count("\n") == 1, ran.err
