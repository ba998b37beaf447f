"""What a mask leaves out has no influence: on nothing, to the last bit, and what is far from it stays as it was."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import off_grid

from CLMorphCore.alignment import align
from CLMorphCore.errors import InputError
from CLMorphCore.geometry import Grid, linear_parts, placed
from CLMorphCore.guidance.masks import checked_mask, continued, filled, filled_pair, replaced
from CLMorphCore.instance_optimization import InstanceOptimization
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.registration import register
from CLMorphCore.segmentation import segment
from CLMorphCore.similarity import LocalCorrelation, Mind, mind

STEPS = InstanceOptimization(2)


def ball(image, centre, radius_mm):
    """(D, H, W): the voxels around a voxel (z, y, x)."""
    grid = Grid.of(image)
    index = np.indices(grid.shape).reshape(3, -1).T
    middle = grid.points_mm(np.array([centre], float))
    return (np.linalg.norm(grid.points_mm(index) - middle, axis=1) < radius_mm).reshape(grid.shape)


def with_values(image, where, values):
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    array[where] = values
    return placed(array, Grid.of(image))


def mask_without(where, image):
    return placed((~where).astype(np.uint8), Grid.of(image))


@pytest.fixture(scope="module")
def lesion(phantom):
    """The phantom with a bright ball at one of its ends, the ball, and the mask without it."""
    place = ball(phantom.image, (8, 12, 10), 5.0)
    bright = 3 * float(sitk.GetArrayViewFromImage(phantom.image).max())
    return (
        with_values(phantom.image, place, bright),
        place,
        mask_without(ball(phantom.image, (8, 12, 10), 6.0), phantom.image),
    )


def same(first, second):
    arrays = [sitk.GetArrayFromImage(each) for each in (first, second)]
    return np.array_equal(*arrays)


def test_whatever_lies_where_it_does_not_count_the_segmentation_is_the_same(phantom, model, lesion):
    _, place, mask = lesion
    noise = np.random.default_rng(0).normal(0, 5000, int(place.sum()))
    found = [
        segment(image, model, mask=mask, optimization=STEPS, tissue="on")
        for image in (phantom.image, with_values(phantom.image, place, noise))
    ]
    for other in found[1:]:
        assert same(found[0].labels, other.labels)
        assert found[0].registration.transform.GetParameters() == other.registration.transform.GetParameters()
        assert found[0].report.quality == other.report.quality


def test_whatever_the_moving_image_shows_where_it_does_not_count_the_map_is_the_same(phantom, atlas, model, lesion):
    scan, _, mask = lesion
    maps = [
        register(atlas.image, image, model, moving_mask=mask, optimization=STEPS) for image in (scan, phantom.image)
    ]
    assert maps[0].transform.GetParameters() == maps[1].transform.GetParameters()


def test_a_lesion_moves_nothing_where_it_does_not_count(atlas):
    """The atlas with noise, and with a lesion between two of its parts: the true map is the identity."""
    noise = np.random.default_rng(0).normal(0, 20, Grid.of(atlas.image).shape)
    place, around = (ball(atlas.image, (16, 14, 18), radius) for radius in (5.0, 6.5))
    healthy = sitk.GetArrayFromImage(atlas.image) + noise * (sitk.GetArrayFromImage(atlas.image) > 0)
    scan = with_values(placed(healthy.astype(np.float32), Grid.of(atlas.image)), place, 2000.0)
    options = {"affine": sitk.AffineTransform(3), "optimization": InstanceOptimization(15)}
    kept, lost = (
        register(scan, atlas.image, mask=mask, **options) for mask in (mask_without(around, atlas.image), None)
    )
    inside = Grid.of(scan).points_mm(np.argwhere(around)[::7])

    def moved_mm(found):
        moved = np.array([found.transform.TransformPoint(point) for point in inside.tolist()])
        return np.linalg.norm(moved - inside, axis=1).mean()

    assert moved_mm(kept) < 0.3 and moved_mm(kept) < 0.3 * moved_mm(lost)
    agree = [dice_per_label(found.warp(atlas.labels, labels=True), atlas.labels) for found in (kept, lost)]
    assert min(agree[0].values()) >= 0.97 and min(agree[0].values()) > min(agree[1].values())


def test_the_affine_alignment_does_not_see_what_does_not_count(fine_atlas):
    atlas = fine_atlas
    motion = sitk.Euler3DTransform()
    motion.SetRotation(0.1, -0.05, 0.12)
    motion.SetTranslation((3.0, -4.0, 2.0))
    fixed = sitk.Resample(atlas.image, atlas.image, motion)
    spoiled = with_values(fixed, ball(fixed, (6, 6, 6), 13.0), 2000.0)
    mask = mask_without(ball(fixed, (6, 6, 6), 14.5), fixed)
    corners = Grid.of(atlas.image).corners_mm()

    def error(found):
        matrix, offset = linear_parts(found)
        true, shift = linear_parts(motion)
        return np.linalg.norm(corners @ (matrix - true).T + offset - shift, axis=1).max()

    assert error(align(replaced(spoiled, mask), atlas.image, masks=(mask, None))) < 1.0
    back = align(atlas.image, replaced(spoiled, mask), masks=(None, mask))
    assert error(back.GetInverse()) < 1.5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_weighted_similarities_have_the_gradient_of_their_value(seed):
    generator = torch.Generator().manual_seed(seed)
    fixed, moving = (torch.randn(1, 1, 9, 8, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    weights = torch.zeros_like(fixed)
    weights[..., 3:6, 3:5, 3:4] = 1
    for similarity, image in (
        (LocalCorrelation(fixed, 3, weights), moving),
        (Mind(mind(fixed), weights), mind(moving)),
    ):
        _, slope = similarity(image)
        direction = torch.randn(image.shape, generator=generator, dtype=torch.float64)
        ahead, behind = (similarity(image + sign * 1e-5 * direction)[0] for sign in (1, -1))
        assert ((ahead - behind) / 2e-5).item() == pytest.approx((slope * direction).sum().item(), rel=1e-4, abs=1e-7)


def test_holes_are_continued_and_what_is_open_becomes_padding():
    _, y, x = np.indices((20, 24, 22)).astype(np.float32)
    image = sitk.GetImageFromArray(100 + 2 * x + y)
    counts = np.ones((20, 24, 22), np.uint8)
    counts[8:12, 9:13, 9:13] = 0  # a hole
    counts[:, :3] = 0  # and what is open
    mask = sitk.GetImageFromArray(counts)
    values = sitk.GetArrayFromImage(replaced(with_values(image, counts == 0, -1e6), mask))
    true = sitk.GetArrayFromImage(image)
    assert (values[:, :3] == true[counts > 0].min()).all()
    assert np.array_equal(values[counts > 0], true[counts > 0])
    assert np.abs(values - true)[8:12, 9:13, 9:13].max() < 6


def test_a_continuation_keeps_what_is_known_and_a_constant():
    known = (torch.rand(1, 1, 9, 10, 11) > 0.7).float()
    values = torch.rand(1, 1, 9, 10, 11)
    found = continued(values, known)
    assert torch.equal(found[known > 0], values[known > 0])
    assert found.min() >= values[known > 0].min() and found.max() <= values[known > 0].max()


@pytest.mark.parametrize("contrast", [lambda v: v, lambda v: 2 - v, lambda v: v**2])
def test_filled_with_what_the_other_image_shows_whatever_its_contrast(contrast):
    other = torch.rand(1, 1, 24, 24, 24)
    counts = torch.ones_like(other)
    counts[..., 8:16, 8:16, 8:16] = 0
    own = torch.where(counts > 0, contrast(other), 77.0)
    found = filled(own, other, counts)
    assert (found - contrast(other)).abs().max() < 0.08
    both = filled_pair(own, torch.where(counts.flip(2) > 0, other, -50.0), counts, counts.flip(2))
    assert all(each.min() > -0.1 and each.max() < 2.1 for each in both[:1])


def test_bad_masks_end_in_one_line(phantom):
    image = phantom.image
    whole = np.ones(Grid.of(image).shape, np.uint8)
    empty, one = np.zeros_like(whole), np.zeros_like(whole)
    one[:2, :2, :2] = 1
    for array, words in ((empty, "is empty"), (one, "leaves 8 voxels")):
        with pytest.raises(InputError, match=words):
            checked_mask(placed(array, Grid.of(image)), image)
    with pytest.raises(InputError, match="another grid"):
        checked_mask(off_grid(placed(whole, Grid.of(image))), image)


def test_the_commands_take_masks(clmorph, scan, tiny_model, phantom, lesion, tmp_path):
    spoiled, _, mask = lesion
    sitk.WriteImage(spoiled, tmp_path / "scan.nii.gz")
    sitk.WriteImage(mask, tmp_path / "mask.nii.gz")
    sitk.WriteImage(off_grid(mask), tmp_path / "other.nii.gz")
    options = "--model", tiny_model, "--mask", tmp_path / "mask.nii.gz", "-o"
    ran = clmorph("segment", tmp_path / "scan.nii.gz", *options, tmp_path / "out")
    assert ran.code == 0, ran.err
    atlas = tiny_model / "atlases" / "ellipsoids" / "image.nii.gz"
    ran = clmorph("register", tmp_path / "scan.nii.gz", atlas, *options, tmp_path / "pair")
    assert ran.code == 0, ran.err
    found, twin = (
        json.loads((tmp_path / name / "report.json").read_text(encoding="utf-8")) for name in ("out", "pair")
    )
    assert found["similarity"]["affine"] == pytest.approx(twin["similarity"]["affine"], abs=1e-3)
    ran = clmorph(
        "register", atlas, tmp_path / "scan.nii.gz", "--model", tiny_model,
        "--moving-mask", tmp_path / "other.nii.gz", "-o", tmp_path / "bad",
    )  # fmt: skip
    assert ran.code == 2 and "--moving-mask" in ran.err and ran.err.count("\n") == 1
    assert not (tmp_path / "bad").exists()
