"""Instance optimization: it finds known maps, never spoils a start, stops, can be stopped, and does not fold."""

import pytest
import torch
import torch.nn.functional as F

from CLMorphCore import losses
from CLMorphCore.errors import Cancelled, SettingError
from CLMorphCore.instance_optimization import (
    InstanceOptimization,
    Millimetres,
    by_noise,
    in_voxels,
    levels_of,
    noise_of,
    optimize,
)
from CLMorphCore.spatial import gaussian, integrate, jacobian_determinant, resize_field, taper, warp

SHAPE = (37, 45, 41)


def texture(seed=0):
    noise = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(seed))
    image = sum(layer / layer.std() for layer in (gaussian(noise, (sd,) * 3) for sd in (1.5, 4.0)))
    return image / image.std()


def known_map(size=1.5, seed=1):
    noise = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    return integrate(taper(size * F.interpolate(noise, size=SHAPE, mode="trilinear", align_corners=True), 8))


@pytest.fixture(scope="module")
def pair():
    """(fixed, moving, u) with fixed = moving ∘ (id + u)."""
    moving, true = texture(), known_map()
    return warp(moving, true, padding="border"), moving, true


def still(shape=SHAPE):
    return torch.zeros(1, 3, *shape)


def error(found, true):
    inside = (slice(None), slice(None), slice(6, -6), slice(6, -6), slice(6, -6))
    return (resize_field(found, SHAPE) - true)[inside].square().sum(1).sqrt().mean().item()


@pytest.mark.parametrize(("similarity", "left"), [("lncc", 0.15), ("mind", 0.4)])
def test_a_known_map_is_found_from_zero(pair, similarity, left):
    fixed, moving, true = pair
    found = optimize(fixed, moving, still(), InstanceOptimization(40, similarity))
    assert error(found.displacement, true) < left * error(still(), true)
    assert jacobian_determinant(found.displacement).min() > 0


def test_mind_finds_the_map_between_images_of_another_contrast(pair):
    fixed, moving, true = pair
    found = optimize(-(fixed.abs() ** 1.5) * fixed.sign(), moving, still(), InstanceOptimization(40, "mind"))
    assert error(found.displacement, true) < 0.45 * error(still(), true)


@pytest.mark.parametrize("quality", [1.0, 0.9, 0.3, -1.0])
def test_from_any_start_the_images_never_become_less_alike(pair, quality):
    fixed, moving, true = pair
    start = quality * true
    found = optimize(fixed, moving, start, InstanceOptimization(2))
    # On the answer's grid, where the start is compared too: going there costs a little of a perfect start.
    before, after = (
        losses.local_correlation(fixed, warp(moving, resize_field(u, SHAPE), padding="border"), 5).item()
        for u in (resize_field(start, found.displacement.shape[2:]), found.displacement)
    )
    assert after <= before + 1e-6


def test_no_steps_leave_the_start_as_it_is(pair):
    fixed, moving, true = pair
    found = optimize(fixed, moving, true, InstanceOptimization(0))
    assert found.steps == 0 and torch.equal(found.displacement, resize_field(true, found.displacement.shape[2:]))


def test_it_stops_by_itself_where_nothing_improves(pair):
    _, moving, _ = pair
    found = optimize(moving, moving, still(), InstanceOptimization(200))
    assert found.steps <= 40 and not found.displacement.any()


def test_it_stops_by_itself_when_it_is_done(pair):
    fixed, moving, _ = pair
    assert optimize(fixed, moving, still(), InstanceOptimization(2000)).steps < 600


def test_progress_grows_from_zero_to_one_and_may_stop_it(pair):
    fixed, moving, _ = pair
    told = []
    optimize(
        fixed, moving, still(), InstanceOptimization(5), progress=lambda step, fraction: told.append((step, fraction))
    )
    fractions = [fraction for _, fraction in told]
    assert {step for step, _ in told} == {"refinement"} and fractions == sorted(fractions)
    assert fractions[0] == 0 and fractions[-1] == pytest.approx(1)

    def cancel(step, fraction):
        if fraction > 0.3:
            raise Cancelled

    with pytest.raises(Cancelled):
        optimize(fixed, moving, still(), InstanceOptimization(5), progress=cancel)


def test_what_a_start_knows_is_not_smoothed_away(pair):
    """However much the change is smoothed, it is an improvement of the start; smoothing the whole map loses more."""
    fixed, moving, true = pair
    start = 0.8 * true
    left = {}
    for smoothed in ("change", "map"):
        settings = InstanceOptimization(20, smooth_map_voxels=3.0, smoothed=smoothed)
        left[smoothed] = error(optimize(fixed, moving, start, settings).displacement, true)
    assert left["change"] < error(start, true) and left["change"] < 0.7 * left["map"]


@pytest.mark.parametrize("sd", [0.05, 0.2])
def test_noise_is_measured_where_there_is_an_image(sd):
    """Of white noise on something smooth; not around it, not where it was extended, not across thick slices."""
    noise = sd * torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(5))
    ramp = torch.linspace(-1, 1, SHAPE[2]).expand(1, 1, *SHAPE)
    image = ramp + noise
    assert noise_of(image) == pytest.approx(sd, rel=0.1)
    assert noise_of(F.pad(image, (6,) * 6, value=-9.0)) == pytest.approx(sd, rel=0.1)
    assert noise_of(F.pad(image, (6,) * 6, mode="replicate")) == pytest.approx(sd, rel=0.1)
    steps = torch.arange(SHAPE[0]).view(-1, 1, 1) % 2
    assert noise_of(image + steps, (6.0, 1.0, 1.0)) == pytest.approx(sd, rel=0.1)


@pytest.mark.parametrize("image", [torch.zeros(1, 1, 9, 9, 9), torch.ones(1, 1, 1, 2, 2), torch.rand(1, 1, 1, 1, 1)])
def test_an_image_without_noise_to_measure_has_none(image):
    assert noise_of(image) == 0


def test_the_noisier_the_images_the_smoother_the_change():
    clean, between, noisy = (by_noise(InstanceOptimization(), noise) for noise in (0.0, 0.1, 9.0))
    assert clean.smooth_map_voxels < between.smooth_map_voxels < noisy.smooth_map_voxels
    assert (clean.window_voxels, noisy.window_voxels) == (5, 9)
    chosen = InstanceOptimization(smooth_map_voxels=0.0, smooth_step_voxels=2.0, window_voxels=3)
    assert by_noise(chosen, 9.0) == chosen, "what is asked for stays"


def test_noise_is_not_followed():
    """Two scans of one thing, each with its own noise: it moves less than what suits clean scans would."""
    chance = torch.Generator().manual_seed(1)
    first, second = (texture() + 0.5 * torch.randn(1, 1, *SHAPE, generator=chance) for _ in range(2))
    sizes = []
    for chosen in (None, 0.35):
        found = optimize(first, second, still(), InstanceOptimization(20, smooth_map_voxels=chosen))
        sizes.append(found.displacement.square().mean().item())
    assert sizes[0] < 0.5 * sizes[1]


def test_the_map_is_the_identity_on_the_faces(pair):
    fixed, moving, _ = pair
    found = optimize(fixed, moving, still(), InstanceOptimization(5)).displacement
    assert found.abs().max() > 0.5
    for axis in (2, 3, 4):
        assert not found.select(axis, 0).any() and not found.select(axis, -1).any()


def test_a_start_on_another_grid_is_taken_as_the_same_map(pair):
    fixed, moving, true = pair
    coarse = resize_field(true, (19, 23, 21))
    assert error(optimize(fixed, moving, coarse, InstanceOptimization(1)).displacement, true) < 0.3


def test_levels_halve_what_is_long_and_leave_slices_alone():
    brain = levels_of((159, 191, 159), (1.0, 1.0, 1.0))
    assert [(level.image, level.field) for level in brain] == [
        ((40, 48, 40), (40, 48, 40)),
        ((80, 96, 80), (80, 96, 80)),
        ((159, 191, 159), (80, 96, 80)),
    ]
    assert levels_of((159, 191, 159), (1.0, 1.0, 1.0), every_voxel=True)[-1].field == (159, 191, 159)
    assert brain[-1].spacing_mm == (2.0, 2.0, 2.0) and brain[-1].voxels_along(1.5) == (1.5, 1.5, 1.5)
    heart = levels_of((13, 129, 121), (10.0, 1.5, 1.5))
    assert [level.field for level in heart] == [(13, 33, 31), (13, 65, 61), (13, 65, 61)]
    assert heart[-1].voxels_along(1.0) == pytest.approx((0.3, 1.0, 1.0))
    assert [level.image for level in levels_of((20, 20, 20), (1.0, 1.0, 1.0))] == [(20, 20, 20)]
    assert levels_of((48, 48, 48), (1.0, 1.0, 1.0))[-1].field == (48, 48, 48), "only odd sides have every second voxel"


def test_thick_slices_move_in_mm_not_in_voxels(pair):
    fixed, moving, _ = pair
    ratio = {}
    for thickness in (1.0, 6.0):
        u = optimize(fixed, moving, still(), InstanceOptimization(3), spacing_mm=(thickness, 1.0, 1.0)).displacement
        ratio[thickness] = (u[:, 0].abs().mean() / u[:, 1:].abs().mean()).item()
    assert ratio[6.0] < 0.5 * ratio[1.0]


def test_an_ascent_that_ends_early_finds_the_map_and_leaves_noise_alone(pair):
    """Of images with noise of their own: about as near to the true map as one that converges, and smoother."""
    fixed, moving, true = pair
    rng = torch.Generator().manual_seed(7)
    noisy = [image + 0.5 * torch.randn(1, 1, *SHAPE, generator=rng) for image in (fixed, moving)]
    left, rough = {}, {}
    for ends in ("converged", "early"):
        settings = InstanceOptimization(60, smoothed="map", ends=ends)
        found = optimize(*noisy, still(), settings)
        left[ends] = error(found.displacement, true)
        rough[ends] = jacobian_determinant(found.displacement).std().item()
    assert left["early"] < 0.4 * error(still(), true) and left["early"] < 1.2 * left["converged"]
    assert rough["early"] < 0.9 * rough["converged"]


def test_an_early_end_takes_no_more_steps_than_asked_for_and_never_spoils_a_start(pair):
    fixed, moving, true = pair
    few = optimize(fixed, moving, still(), InstanceOptimization(4, ends="early"))
    assert few.steps == 4 * len(levels_of(SHAPE, (1.0, 1.0, 1.0)))
    fine = optimize(fixed, moving, 0.5 * true, InstanceOptimization(4, ends="early"))
    assert fine.steps == 4 and error(fine.displacement, true) < 0.5 * error(still(), true), "at the finest alone"
    none = optimize(fixed, moving, true, InstanceOptimization(0, ends="early"))
    assert none.steps == 0 and torch.equal(none.displacement, resize_field(true, none.displacement.shape[2:]))
    same = optimize(moving, moving, still(), InstanceOptimization(20, ends="early"))
    assert not same.displacement.any(), "identical images stay where they are"


def test_lengths_in_mm_are_those_in_voxels_of_the_finest_grid(pair):
    fixed, moving, _ = pair
    mm = (1.2, 0.3, 0.3)  # slices four times as far apart: lengths in voxels are along the finest axis
    field_mm = min(levels_of(SHAPE, mm)[-1].spacing_mm)
    voxels = InstanceOptimization(3, smooth_map_voxels=0.5, smooth_step_voxels=1.5, window_voxels=7)
    lengths = InstanceOptimization(
        3,
        smooth_map_voxels=Millimetres(0.5 * field_mm),
        smooth_step_voxels=Millimetres(1.5 * field_mm),
        window_voxels=Millimetres(7 * 0.3),
    )
    found = [optimize(fixed, moving, still(), each, spacing_mm=mm).displacement for each in (voxels, lengths)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert found[0].abs().max() > 0.1


def test_a_length_in_mm_that_the_grid_has_not_is_told_with_what_it_has():
    settings = InstanceOptimization(window_voxels=Millimetres(2.0))
    with pytest.raises(SettingError, match=r"window is 2mm, 1 voxels of 2 mm; expected from 6 to 98 mm"):
        in_voxels(settings, 2.0, 4.0)
    assert in_voxels(InstanceOptimization(smooth_map_voxels=Millimetres(2.0)), 2.0, 4.0).smooth_map_voxels == 0.5
