"""Each kind of output is read in its own convention, and measured as metrics.py and ITK measure."""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from CLMorphCore.errors import InputError
from CLMorphCore.geometry import Grid, chain, displacement_transform, resample_labels
from CLMorphCore.metrics import dice_per_label
from Training.benchmarks.fields import displacement_voxels, measure, read_itk_fields, read_transforms, read_voxels

GRID = Grid((9, 7, 5), (1.0, 1.5, 3.0), (10.0, -20.0, 30.0), (0.0, -1.0, 0.0, 0.8, 0.0, -0.6, 0.6, 0.0, 0.8))


def voxel_field(grid, seed=0):
    """(1, 3, D, H, W), components (z, y, x), in voxels."""
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 0.4, (1, 3, *grid.shape)))


def points(grid):
    """Indices (x, y, z) inside of the grid and their places in mm."""
    image = empty(grid)
    indices = [(1, 2, 3), (4, 3, 2), (7, 5, 1)]
    return [(index, image.TransformIndexToPhysicalPoint(index)) for index in indices]


def empty(grid):
    image = sitk.Image(grid.size, sitk.sitkUInt8)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction)
    return image


def expected_mm(field, index, point, grid):
    """p + R · diag(spacing) · u, with u's components put into the order x, y, z."""
    x, y, z = index
    return np.array(point) + grid.to_mm() @ field[0, :, z, y, x].numpy()[::-1]


def nifti_field(path, grid, vectors_mm):
    """A NIfTI-1 file of vectors, byte by byte: five dimensions, intent VECTOR, components in the last, RAS header.

    ``vectors_mm`` is (x, y, z, 3), as ANTs and Greedy write them: LPS, mm.
    """
    to_ras = np.diag([-1.0, -1.0, 1.0])
    matrix, origin = to_ras @ grid.to_mm(), to_ras @ np.array(grid.origin_mm)
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 5, *grid.size, 1, 3, 1, 1)
    struct.pack_into("<h", header, 68, 1007)
    struct.pack_into("<2h", header, 70, 64, 64)  # float64
    struct.pack_into("<8f", header, 76, 1.0, *grid.spacing_mm, 1.0, 1.0, 1.0, 1.0)
    struct.pack_into("<f", header, 108, 352.0)
    struct.pack_into("<B", header, 123, 2)  # mm
    struct.pack_into("<2h", header, 252, 0, 1)  # the sform gives the place
    for row in range(3):
        struct.pack_into("<4f", header, 280 + 16 * row, *matrix[row], origin[row])
    header[344:348] = b"n+1\0"
    path.write_bytes(gzip.compress(bytes(header) + vectors_mm.astype("<f8").tobytes(order="F")))


@pytest.mark.parametrize("name", ["warp", "inverse_warp"])
def test_warps_of_ants_and_greedy_are_lps_mm(name, tmp_path):
    field = voxel_field(GRID)
    vectors = np.einsum("ij,jzyx->xyzi", GRID.to_mm(), field[0].numpy()[::-1])
    for other in {"warp", name}:
        nifti_field(tmp_path / f"{other}.nii.gz", GRID, vectors)
    transform = read_itk_fields(tmp_path, GRID)[name == "inverse_warp"]
    for index, point in points(GRID):
        assert transform.TransformPoint(point) == pytest.approx(expected_mm(field, index, point, GRID), abs=1e-4)


def test_there_is_no_inverse_without_its_file(tmp_path):
    nifti_field(tmp_path / "warp.nii.gz", GRID, np.zeros((*GRID.size, 3)))
    assert read_itk_fields(tmp_path, GRID)[1] is None


def test_voxels_along_i_j_k(tmp_path):
    field = voxel_field(GRID)
    np.save(tmp_path / "displacement_ijk.npy", field[0].numpy()[::-1].T)
    transform, inverse = read_voxels(tmp_path, GRID)
    assert inverse is None
    for index, point in points(GRID):
        assert transform.TransformPoint(point) == pytest.approx(expected_mm(field, index, point, GRID), abs=1e-9)


def test_one_step_along_i_is_one_step_of_the_index(tmp_path):
    steps = np.zeros((*GRID.size, 3))
    steps[..., 0] = 1.0
    np.save(tmp_path / "displacement_ijk.npy", steps)
    transform, _ = read_voxels(tmp_path, GRID)
    for (x, y, z), point in points(GRID):
        assert transform.TransformPoint(point) == pytest.approx(
            empty(GRID).TransformIndexToPhysicalPoint((x + 1, y, z)), abs=1e-9
        )


def test_voxels_of_another_grid_are_refused(tmp_path):
    np.save(tmp_path / "displacement_ijk.npy", np.zeros((*GRID.shape, 3)))
    with pytest.raises(InputError, match="expected"):
        read_voxels(tmp_path, GRID)


def test_transform_files(tmp_path):
    there = displacement_transform(voxel_field(GRID), GRID)
    sitk.WriteTransform(chain(there), str(tmp_path / "transform.h5"))
    transform, inverse = read_transforms(tmp_path, GRID)
    assert inverse is None
    for _, point in points(GRID):
        assert transform.TransformPoint(point) == pytest.approx(there.TransformPoint(point), abs=1e-9)


def test_displacement_in_voxels_is_the_way_back():
    field = voxel_field(GRID)
    found = displacement_voxels(displacement_transform(field, GRID), GRID)
    assert torch.allclose(found, field, atol=1e-9)


def test_folding_and_jacobian_are_those_of_the_fixed_grid():
    """u = s·x along each axis has det J = (1 + s)³ wherever the voxels lie in the scanner."""
    grid = Grid((12, 12, 12), (2.0, 1.0, 3.0), (5.0, 5.0, 5.0), GRID.direction)
    labels = empty(grid) + 0
    labels[4:8, 4:8, 4:8] = 1
    linear = torch.stack(torch.meshgrid(*[torch.arange(12.0) - 5.5] * 3, indexing="ij"))[None].double()
    shrunk = measure((displacement_transform(-0.2 * linear, grid), None), sitk.AffineTransform(3), labels, labels, [1])
    assert shrunk.folding_fraction == 0 and shrunk.log_jacobian_sd == pytest.approx(0, abs=1e-9)
    folded = measure((displacement_transform(-1.5 * linear, grid), None), sitk.AffineTransform(3), labels, labels, [1])
    assert folded.folding_fraction == 1.0


def test_labels_are_warped_once_through_both_maps(data):
    """Against ITK: the labels through the affine after the deformation, and Dice counted on the arrays."""
    folder = data / "Task04_Hippocampus" / "labelsTr"
    fixed, moving = (sitk.ReadImage(str(folder / f"hippocampus_00{n}.nii.gz"), sitk.sitkInt32) for n in (1, 0))
    grid = Grid.of(fixed)
    affine = sitk.AffineTransform(3)
    affine.SetTranslation((1.0, -0.5, 0.7))
    deformation = displacement_transform(0.5 * voxel_field(grid), grid)
    warped = resample_labels(moving, grid, chain(affine, deformation))
    a, b = sitk.GetArrayFromImage(warped), sitk.GetArrayFromImage(fixed)
    dice = np.mean([2 * ((a == v) & (b == v)).sum() / ((a == v).sum() + (b == v).sum()) for v in (1, 2)])
    found = measure((deformation, None), affine, fixed, moving, [1, 2])
    assert found.dice == pytest.approx(dice)
    assert found.dice_affine == pytest.approx(
        np.mean(list(dice_per_label(resample_labels(moving, grid, affine), fixed, [1, 2]).values()))
    )
    assert np.isnan(found.inverse_error_mm) and found.structures == 2


def test_an_exact_inverse_has_no_error(data):
    labels = sitk.ReadImage(str(data / "Task04_Hippocampus/labelsTr/hippocampus_000.nii.gz"), sitk.sitkInt32)
    shift, back = sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), sitk.TranslationTransform(3, (-1.0, -2.0, -3.0))
    identity = sitk.AffineTransform(3)
    assert measure((shift, back), identity, labels, labels, [1, 2]).inverse_error_mm == pytest.approx(0, abs=1e-9)
    assert measure((shift, shift), identity, labels, labels, [1, 2]).inverse_error_mm == pytest.approx(2 * 14**0.5)


def test_a_field_that_is_not_finite_is_refused():
    field = voxel_field(GRID)
    field[0, 0, 2, 3, 4] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        measure((displacement_transform(field, GRID), None), sitk.AffineTransform(3), empty(GRID), empty(GRID), [1])
