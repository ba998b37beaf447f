"""Log-Jacobians against closed forms, on an oblique and left-handed grid."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_cohort import GROWN_MM, growth, oblique_atlas, write_result

from CLMorphCore.errors import InputError
from CLMorphCore.geometry import Grid
from CLMorphCore.morphometry.volumes import log_jacobian, read_inverse, read_scan, volume_map, working_grid


@pytest.fixture(scope="module")
def atlas():
    return oblique_atlas()


def scaled(scale):
    """Scan → atlas, of a scan that is the atlas magnified about a point."""
    affine = sitk.AffineTransform(3)
    affine.SetCenter((3.0, -4.0, 5.0))
    affine.Scale(1 / scale)
    return affine


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.25])
def test_a_magnified_scan_is_larger_by_three_logarithms_everywhere(atlas, tmp_path, scale):
    grid = Grid.of(atlas.image)
    scan = read_scan(write_result(tmp_path / "a", atlas, np.zeros((*grid.shape, 3)), scaled(scale)))
    inverse = read_inverse(scan)
    assert inverse.affine_ratio == pytest.approx(scale**3)
    working = working_grid(grid, 6.0)
    total = volume_map(inverse, grid, working, 6.0, relative=False)
    assert np.abs(total - 3 * np.log(scale)).max() < 1e-5
    assert np.abs(volume_map(inverse, grid, working, 6.0, relative=True)).max() < 1e-5
    plain = read_scan(write_result(tmp_path / "b", atlas, np.zeros((*grid.shape, 3))))
    whole, relative = scan.volumes_ml(), scan.volumes_ml(inverse.affine_ratio)
    for value, ml in plain.volumes_ml().items():
        assert whole[value] == pytest.approx(ml * scale**3) and relative[value] == pytest.approx(ml)


def test_a_place_that_grows_is_above_zero_there_by_the_known_amount(atlas, tmp_path):
    grid = Grid.of(atlas.image)
    shape = np.array(grid.shape)
    centre = grid.points_mm(np.array([shape // 2]))[0]
    scan = read_scan(write_result(tmp_path / "a", atlas, growth(grid, centre, 0.2), scaled(1.1)))
    found = log_jacobian(read_inverse(scan).transform, grid)
    slope = 0.2 * np.exp(-(2.0**2) / (2 * GROWN_MM**2))  # of differences over ± 2 mm; 0.2 itself at c
    assert found[tuple(shape // 2)] == pytest.approx(3 * np.log(1 + slope) + 3 * np.log(1.1), abs=1e-3)
    assert np.unravel_index(found.argmax(), found.shape) == tuple(shape // 2)


def test_against_itk_on_a_straight_grid(tmp_path):
    """ITK's own filter, which knows no direction."""
    atlas = oblique_atlas()
    for image in (atlas.image, atlas.labels):
        image.SetDirection(np.eye(3).ravel().tolist())
    grid = Grid.of(atlas.image)
    centre = grid.points_mm(np.array([[9, 14, 11]]))[0]
    moved = growth(grid, centre, -0.25)
    scan = read_scan(write_result(tmp_path / "a", atlas, moved))
    field = sitk.GetImageFromArray(moved, isVector=True)
    field.CopyInformation(atlas.image)
    itk = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))
    inner = (slice(1, -1),) * 3
    assert np.abs(log_jacobian(read_inverse(scan).transform, grid) - np.log(itk))[inner].max() < 1e-5


def test_the_working_grid_covers_the_atlas_with_voxels_of_half_the_width(atlas):
    grid = Grid.of(atlas.image)
    working = working_grid(grid, 8.0)
    assert max(working.spacing_mm) <= 4.0 and np.prod(working.size) < np.prod(grid.size) / 6
    last = [each.points_mm(np.array([each.shape]) - 1.0) for each in (grid, working)]
    assert np.allclose(*last) and working.origin_mm == grid.origin_mm
    assert working_grid(grid, 0.0).size == grid.size


def test_results_that_lack_a_file_end_in_one_line(atlas, tmp_path):
    whole = write_result(tmp_path / "a", atlas, np.zeros((*Grid.of(atlas.image).shape, 3)))
    with pytest.raises(InputError, match=r"nowhere is no folder; expected a folder of clmorph segment"):
        read_scan(tmp_path / "nowhere")
    for name in ("report.json", "inverse.h5"):
        kept = (whole / name).read_bytes()
        (whole / name).unlink()
        with pytest.raises(InputError, match=f"a lacks {name}"):
            read_scan(whole)
        (whole / name).write_bytes(kept)
    kept = (whole / "inverse.h5").read_bytes()
    (whole / "inverse.h5").write_bytes(kept[: len(kept) // 2])
    with pytest.raises(InputError, match=r"inverse.h5 cannot be read") as raised:
        read_inverse(read_scan(whole))
    assert "\n" not in str(raised.value)
    (whole / "left_transform.h5").write_bytes(b"")
    with pytest.raises(InputError, match=r"a lacks left_inverse\.h5"):  # of two sides each has its own
        read_scan(whole)
