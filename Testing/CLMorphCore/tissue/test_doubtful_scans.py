"""Scans whose grey values tell little: the atlas' labels with a warning; or much, in whatever unit."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_tissue import ball, dice, expectation_of, image_of, votes_of

from CLMorphCore.geometry import Grid
from CLMorphCore.matching import align_scan, match, prepare
from CLMorphCore.segmentation import segment
from CLMorphCore.tissue.labels import Unfit, tissue_labels
from CLMorphCore.tissue.priors import atlas_voxels, carried
from CLMorphCore.tissue.shares import PADDING, label_boxes, shares_of, single_vote


@pytest.mark.parametrize(
    "values",
    [
        lambda truth: np.full(truth.shape, 7.0),
        lambda truth: np.where(truth, 1.0, 0.0),
        lambda truth: np.zeros(truth.shape),
    ],
    ids=["constant", "two values", "zero"],
)
def test_a_scan_without_grey_values_is_unfit(values):
    truth = ball((20, 20, 20), 10)
    with pytest.raises(Unfit, match="grey values"):
        tissue_labels(
            image_of(values(truth)),
            expectation_of(shares_of(votes_of(truth))),
            [(1,), (-2,)],
            exponent=0.5,
            device="cpu",
        )


def test_a_scan_that_is_half_blank_is_unfit():
    truth = ball((20, 20, 20), 10)
    values = np.where(truth, 60.0, 30.0) + np.random.default_rng(4).normal(0, 4, truth.shape)
    expected, tissues = expectation_of(shares_of(votes_of(truth))), [(1,), (PADDING - 1,)]
    tissue_labels(image_of(values), expected, tissues, exponent=0.35, device="cpu")
    values[:, :, :21] = 0.0
    with pytest.raises(Unfit, match="clipped, or blank"):
        tissue_labels(image_of(values), expected, tissues, exponent=0.35, device="cpu")


def test_what_the_atlas_is_sure_of_is_not_lost():
    """Where a structure has the grey values of its surroundings, and another one its own, nothing sensible is left."""
    truth = ball((20, 20, 20), 10)
    rng = np.random.default_rng(4)
    scan = image_of(np.where(truth, 60.0, 60.0) + rng.normal(0, 8, truth.shape))
    found = tissue_labels(
        scan, expectation_of(shares_of(votes_of(truth))), [(1,), (PADDING - 1,)], exponent=0.35, device="cpu"
    )
    assert dice(found.labels, truth) > 0.9


@pytest.mark.parametrize("factor", [2.0**-93, 1e-9, 1e10, 2.0**80])
def test_the_unit_of_the_intensities_changes_nothing(factor, atlas, phantom, model):
    """A diffusivity in m²/s is 1e-9: neither what is added against a division by zero nor a square of it may matter."""
    usual, scaled = (
        segment(phantom.image * one, model, tissue="on", affine=sitk.AffineTransform(3)) for one in (1.0, factor)
    )
    assert scaled.report.tissue.used, scaled.report.warnings
    assert np.mean(sitk.GetArrayFromImage(usual.labels) != sitk.GetArrayFromImage(scaled.labels)) < 1e-4
    for one, other in zip(usual.report.tissue.classes, scaled.report.tissue.classes, strict=True):
        assert (other.mean, other.sd) == pytest.approx((factor * one.mean, factor * one.sd), rel=1e-3)


def test_a_hot_voxel_is_not_what_tissues_are_measured_by(atlas, phantom, model):
    place = np.argwhere(sitk.GetArrayViewFromImage(phantom.labels) == 1)[0]
    values = sitk.GetArrayFromImage(phantom.image)
    values[tuple(place)] = 1e9
    hot = sitk.GetImageFromArray(values)
    hot.CopyInformation(phantom.image)
    usual, found = (
        segment(one, model, tissue="on", affine=sitk.AffineTransform(3)).report.tissue for one in (phantom.image, hot)
    )
    for one, other in zip(usual.classes, found.classes, strict=True):
        assert other.mean == pytest.approx(one.mean, rel=0.1) and other.sd < 2 * one.sd


def test_a_mask_that_leaves_one_value_of_the_scan_leaves_the_atlas_labels(atlas, phantom, model):
    values = sitk.GetArrayFromImage(phantom.image)
    half = values.shape[2] // 2
    values[:, :, :half] = 0
    scan, mask = (sitk.GetImageFromArray(each) for each in (values, (values == 0).astype(np.uint8)))
    for one in (scan, mask):
        one.CopyInformation(phantom.image)
    boxes = label_boxes(shares_of([single_vote(atlas.image, atlas.labels)]), (1.0,) * 3)
    shape = Grid.of(atlas.labels).shape

    def expected(grid, step):
        found = match(align_scan(phantom.image, ready, model, affine=sitk.AffineTransform(3)), ready, model)
        return carried(boxes, atlas_voxels(found, grid, Grid.of(atlas.labels), step), shape)

    ready = prepare(model, [atlas])
    groups = [(1,), (2,), (3,), *((-n,) for n in range(1, 5))]
    with pytest.raises(Unfit, match="grey values"):
        tissue_labels(scan, expected, groups, exponent=0.5, device="cpu", mask=mask)


def test_a_degenerate_scan_keeps_the_atlas_labels_with_a_warning(atlas, phantom, model):
    values = sitk.GetArrayFromImage(phantom.image)
    two = sitk.GetImageFromArray((values > np.median(values)).astype(np.float32))
    two.CopyInformation(phantom.image)
    off, on = (segment(two, model, tissue=tissue) for tissue in ("off", "on"))
    assert (sitk.GetArrayFromImage(on.labels) == sitk.GetArrayFromImage(off.labels)).all()
    assert any("grey values" in warning for warning in on.report.warnings) and not on.report.tissue.used


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (lambda scan: np.random.default_rng(0).normal(100, 10, scan.shape), "do not differ"),
        (lambda scan: np.minimum(scan, np.percentile(scan[scan > scan.min()], 10)), "clipped"),
    ],
    ids=["noise", "clipped"],
)
def test_noise_and_a_clipped_scan_keep_the_atlas_labels_with_a_warning(values, words, atlas, phantom, model):
    scan = sitk.GetImageFromArray(values(sitk.GetArrayFromImage(phantom.image)).astype(np.float32))
    scan.CopyInformation(phantom.image)
    off, on = (segment(scan, model, tissue=tissue) for tissue in ("off", "on"))
    assert (sitk.GetArrayFromImage(on.labels) == sitk.GetArrayFromImage(off.labels)).all()
    assert any(words in warning for warning in on.report.warnings) and not on.report.tissue.used
