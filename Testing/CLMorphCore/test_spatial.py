"""The transformations on voxel grids, against slices, analytic fields and each other."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from CLMorphCore.spatial import (
    compose,
    convolve,
    folding_fraction,
    gaussian,
    halve,
    identity_grid,
    integrate,
    invert,
    jacobian_determinant,
    refine_inverse,
    remove_folds,
    resize_field,
    sample,
    taper,
    warp,
)

SHAPE = (20, 24, 28)


def smooth_field(size_voxels, seed=0, shape=SHAPE):
    """A random field (1, 3, *shape) of that standard deviation, smooth, zero at the border."""
    coarse = torch.randn(1, 3, 5, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    field = torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)
    return taper(size_voxels * field, 6)


@pytest.fixture
def image():
    return torch.rand(2, 1, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_zero_displacement_is_the_identity_exactly(image):
    zero = torch.zeros(2, 3, *SHAPE)
    assert torch.equal(warp(image.double(), zero.double()).float(), image)
    assert torch.equal(warp(image, zero, mode="nearest"), image)
    # Single precision holds coordinates near the far face to 1e-6 voxels.
    torch.testing.assert_close(warp(image, zero), image, rtol=0, atol=3e-6)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("shift", [-3, 1, 4])
def test_integer_shift_along_each_axis_is_a_slice(image, axis, shift):
    displacement = torch.zeros(2, 3, *SHAPE)
    displacement[:, axis] = shift
    warped = warp(image, displacement)
    n = SHAPE[axis]
    inside, source = slice(max(0, -shift), min(n, n - shift)), slice(max(0, shift), min(n, n + shift))
    index = [slice(None)] * 5
    expected = list(index)
    index[axis + 2], expected[axis + 2] = inside, source
    torch.testing.assert_close(warped[tuple(index)], image[tuple(expected)], rtol=0, atol=2e-6)


def test_outside_of_an_image_lies_zero(image):
    displacement = torch.full((2, 3, *SHAPE), 100.0)
    assert warp(image, displacement).abs().max() == 0


def test_a_constant_velocity_integrates_to_itself():
    velocity = torch.tensor([2.5, -1.0, 0.75]).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE).contiguous()
    torch.testing.assert_close(integrate(velocity), velocity, rtol=0, atol=2e-6)


def test_exp_v_and_exp_minus_v_cancel():
    velocity = smooth_field(0.5)
    both = compose(integrate(velocity), integrate(-velocity))
    assert integrate(velocity).abs().max() > 1
    # What is left is the interpolation of a field that bends within a few voxels.
    assert both.abs().mean() < 0.003 and both.abs().max() < 0.1


def test_a_refined_inverse_undoes_the_displacement():
    velocity = smooth_field(0.5)
    displacement = integrate(velocity)
    refined = refine_inverse(integrate(-velocity), displacement)
    both = compose(refined, displacement).abs()
    assert both.mean() < 1e-5 and both.max() < 5e-3


def test_a_linear_velocity_integrates_to_the_matrix_exponential():
    matrix = 0.05 * torch.tensor([[0.2, -1.0, 0.1], [0.8, 0.1, 0.0], [0.0, 0.3, -0.4]], dtype=torch.float64)
    align_centres = identity_grid(SHAPE, like=matrix) - torch.tensor([(n - 1) / 2 for n in SHAPE]).view(1, 3, 1, 1, 1)
    velocity = torch.einsum("ij,bjdhw->bidhw", matrix, align_centres)
    expected = torch.einsum("ij,bjdhw->bidhw", torch.matrix_exp(matrix) - torch.eye(3), align_centres)
    middle = (..., slice(6, -6), slice(6, -6), slice(6, -6))  # paths from further out leave the grid
    torch.testing.assert_close(integrate(velocity, 10)[middle], expected[middle], rtol=0, atol=5e-3)


def test_composing_with_the_identity_changes_nothing():
    field, zero = smooth_field(1.0), torch.zeros(1, 3, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(compose(field, zero), field)
    torch.testing.assert_close(compose(zero, field), field)


def test_composition_is_warping_twice():
    first, second = smooth_field(0.8, 1), smooth_field(0.8, 2)
    ramp = identity_grid(SHAPE, like=first)[:, :1]  # linear, so that interpolating it is exact
    torch.testing.assert_close(
        warp(ramp, compose(first, second), padding="border"),
        warp(warp(ramp, second, padding="border"), first, padding="border"),
        atol=1e-9,
        rtol=0,
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-0.3, 0.3), min_size=9, max_size=9))
def test_determinant_of_an_affine_field(entries):
    matrix = torch.tensor(entries, dtype=torch.float64).view(3, 3)
    field = torch.einsum("ij,bjdhw->bidhw", matrix, identity_grid((6, 7, 8), like=matrix))
    expected = torch.linalg.det(torch.eye(3) + matrix).expand(1, 1, 6, 7, 8)
    torch.testing.assert_close(jacobian_determinant(field), expected, atol=1e-9, rtol=0)


def test_a_mirrored_axis_folds_everywhere_and_the_identity_nowhere():
    grid = identity_grid(SHAPE, like=torch.zeros(1))
    mirrored = torch.zeros(1, 3, *SHAPE)
    mirrored[:, 1] = -2 * grid[:, 1]
    assert folding_fraction(jacobian_determinant(mirrored)) == 1.0
    assert folding_fraction(jacobian_determinant(torch.zeros(1, 3, *SHAPE))) == 0.0


def test_a_resized_field_moves_the_same_corners():
    scale = torch.tensor([0.1, -0.2, 0.05]).view(1, 3, 1, 1, 1)
    coarse = scale * identity_grid((5, 6, 7), like=scale)
    fine = resize_field(coarse, (9, 16, 25))
    torch.testing.assert_close(fine, scale * identity_grid((9, 16, 25), like=scale), atol=1e-5, rtol=0)


def test_a_tapered_field_vanishes_at_every_face_and_stays_inside():
    field = taper(torch.ones(1, 3, *SHAPE), 4)
    for axis in (2, 3, 4):
        assert field.select(axis, 0).abs().max() == 0 and field.select(axis, -1).abs().max() < 1e-12
    assert torch.equal(field[..., 4:-4, 4:-4, 4:-4], torch.ones(1, 3, *(n - 8 for n in SHAPE)))


def test_sampling_keeps_the_coordinates_precision_for_half_precision_images():
    image = torch.rand(1, 1, *SHAPE).bfloat16()
    shifted = warp(image, torch.full((1, 3, *SHAPE), 0.001))
    assert shifted.dtype == torch.float32
    assert not torch.equal(shifted, image.float())


def test_convolve_is_torch_s_convolution_with_zeros_outside():
    image, kernel = torch.randn(1, 2, 5, 6, 7, generator=torch.Generator().manual_seed(0)), [0.2, 0.5, -0.3]
    for axis in range(3):
        shape = [3 if a == axis else 1 for a in range(3)]
        weights = torch.tensor(kernel).view(1, 1, *shape).repeat(2, 1, 1, 1, 1)
        expected = F.conv3d(image, weights, padding=[s // 2 for s in shape], groups=2)
        torch.testing.assert_close(convolve(image, kernel, axis), expected)


def test_a_gaussian_keeps_what_is_flat_and_has_its_standard_deviation():
    flat = torch.ones(1, 3, 15, 15, 15)
    torch.testing.assert_close(gaussian(flat, (1.0, 1.5, 2.0))[..., 7, 7, 7], torch.ones(1, 3))
    point = torch.zeros(1, 1, 3, 3, 31)
    point[..., 1, 1, 15] = 1
    spread, x = gaussian(point, (0.0, 0.0, 2.0))[0, 0, 1, 1], torch.arange(31) - 15
    assert (spread * x**2).sum().sqrt().item() == pytest.approx(2.0, rel=0.02)


def test_doubling_a_field_is_interpolation_and_halving_takes_it_back():
    field = torch.randn(1, 3, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    shape = (9, 6, 13)
    doubled = resize_field(field, shape)
    scale = torch.tensor([2.0, 1.0, 2.0]).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(doubled, scale * F.interpolate(field, size=shape, mode="trilinear", align_corners=True))
    ramp = torch.arange(9.0).view(1, 1, 9, 1, 1).expand(1, 3, 9, 6, 13)
    torch.testing.assert_close(halve(ramp, (5, 6, 7))[:, :, 1:-1, :, 1:-1], ramp[:, :, 2:-2:2, :, 2:-2:2])


def test_a_map_that_stretches_strongly_is_inverted():
    x = identity_grid((24, 24, 24), like=torch.zeros(1))
    offset = x - 11.5
    bump = torch.exp(-offset.square().sum(1, keepdim=True) / 18)
    displacement = taper(1.6 * bump * offset, 4)  # stretches 2.6 times at the centre, where plain iteration diverges
    assert jacobian_determinant(displacement).max() > 8
    inverse = invert(displacement)
    assert compose(inverse, displacement).abs().max() < 2e-2


@given(seed=st.integers(0, 99), size=st.floats(0.5, 4.0), voxel=st.tuples(*(st.integers(6, n - 7) for n in SHAPE)))
@settings(max_examples=15, deadline=None)
def test_a_fold_is_smoothed_away_and_the_map_elsewhere_stays(seed, size, voxel):
    field = smooth_field(0.2, seed)
    field[(0, seed % 3, *voxel)] += size
    found = remove_folds(torch.cat([field, smooth_field(0.2, seed)]))
    assert jacobian_determinant(found).min() >= 0.02
    assert torch.equal(found[1:], smooth_field(0.2, seed)), "what does not fold stays, whatever its neighbours do"
    distance = (identity_grid(SHAPE, like=field) - field.new_tensor(voxel).view(1, 3, 1, 1, 1)).abs().amax(dim=1)
    assert torch.equal(found[0, :, distance[0] > 5], field[0, :, distance[0] > 5])


def test_folds_beside_a_face_go_and_the_face_stays():
    field = torch.zeros(1, 3, *SHAPE)
    field[0, 0, 1, 10, 10] = -1.5
    assert folding_fraction(jacobian_determinant(field)) > 0
    found = remove_folds(field)
    assert jacobian_determinant(found).min() >= 0.02 and found[0, :, 0].abs().max() == 0


def test_a_map_that_folds_everywhere_is_not_mended():
    mirrored = -2 * identity_grid(SHAPE, like=torch.zeros(1))
    assert torch.equal(remove_folds(mirrored), mirrored)


@pytest.mark.parametrize("scale", [0.6, 2.0])
def test_an_inverse_may_lie_on_another_grid_than_its_map(scale):
    field = integrate(smooth_field(2.0))
    shape = [round(scale * (n - 1)) + 1 for n in SHAPE]
    found = refine_inverse(resize_field(integrate(-smooth_field(2.0)), shape), field, iterations=4)
    there = identity_grid(shape, like=field) + found
    ratio = field.new_tensor([(n - 1) / (m - 1) for n, m in zip(SHAPE, shape, strict=True)]).view(1, 3, 1, 1, 1)
    left = found * ratio + sample(field, there * ratio, padding="border")
    assert found.abs().max() > 1 and left.abs().mean() < 1e-5 and left.abs().max() < 0.02


@pytest.fixture
def five_threads():
    torch.set_num_threads(5)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_one_image_is_sampled_by_all_threads_as_by_one(five_threads, mode, padding):
    rng = torch.Generator().manual_seed(3)
    image = torch.rand(1, 2, *SHAPE, generator=rng, requires_grad=True)
    points = (33 * torch.rand(1, 3, 37, 41, 43, generator=rng) - 2).requires_grad_()
    weights = torch.rand(1, 2, 37, 41, 43, generator=rng)
    by_threads = []
    for threads in (1, 5):
        torch.set_num_threads(threads)
        found = sample(image, points, mode=mode, padding=padding)
        by_threads.append((found, *torch.autograd.grad((found * weights).sum(), (image, points))))
    assert torch.equal(by_threads[0][0], by_threads[1][0])
    for one, other in zip(*by_threads, strict=True):
        torch.testing.assert_close(one, other)
