"""What a registration shows of itself falls as it gets worse."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from made_up import match_images

from CLMorphCore.bundles.config import RefinementConfig
from CLMorphCore.geometry import Grid, resample
from CLMorphCore.instance_optimization import InstanceOptimization
from CLMorphCore.network_input import normalise
from CLMorphCore.quality.evidence import CHECKS, FEATURES, evidence, foreground_of
from CLMorphCore.quality.uncertainty import alternative_displacements

VALUES = (1, 2, 3)


@pytest.fixture(scope="module")
def seen_at(atlas, model):
    """Evidence about the atlas registered to an image by an affine."""

    def at(image, affine=None):
        found = match_images(image, atlas.image, model, affine=affine or sitk.AffineTransform(3))
        return evidence(found, atlas.labels, VALUES, alternative_displacements(model, found))

    return at


def check(found, name):
    return found.case[CHECKS.index(name)]


def feature(found, name):
    return found.structures[:, FEATURES.index(name)]


def test_a_scan_that_is_the_atlas_shows_nothing_wrong(seen_at, atlas):
    found = seen_at(atlas.image)
    assert found.values == VALUES and np.isfinite(found.structures).all() and np.isfinite(found.case).all()
    assert feature(found, "agreement").min() > 0.95 and feature(found, "correlation").min() > 0.9
    assert (
        check(found, "overlap") > 0.95
        and check(found, "size") == pytest.approx(0)
        and check(found, "orientation_margin") > 0
    )


@pytest.mark.parametrize("every_voxel", [False, True])
def test_a_refinement_leaves_the_evidence_that_of_the_networks_answer(atlas, phantom, model, every_voxel):
    coarse = replace(model.config.data, spacing_mm=(3.0, 3.0, 3.0))
    refining = RefinementConfig(every_voxel=every_voxel)
    model = replace(model, config=replace(model.config, data=coarse, refinement=refining))
    plain, refined = (
        match_images(phantom.image, atlas.image, model, affine=sitk.AffineTransform(3), optimization=settings)
        for settings in (None, InstanceOptimization(3))
    )
    assert not torch.equal(plain.displacement, refined.displacement)
    seen = [
        evidence(found, atlas.labels, VALUES, alternative_displacements(model, found)) for found in (plain, refined)
    ]
    np.testing.assert_allclose(seen[1].structures, seen[0].structures)
    np.testing.assert_allclose(seen[1].case, seen[0].case)


def test_noise_lowers_the_correlation_step_by_step(seen_at, atlas):
    likeness = []
    for sd in (0.0, 100.0, 300.0):
        noise = sitk.AdditiveGaussianNoise(atlas.image, sd, 0.0, seed=1)
        found = seen_at(noise)
        likeness.append((check(found, "correlation"), *feature(found, "correlation")))
    assert (np.diff(likeness, axis=0) < 0).all()


def test_a_shift_by_a_wrong_affine_lowers_correlation_and_overlap_step_by_step(seen_at, atlas):
    found = [seen_at(atlas.image, sitk.TranslationTransform(3, (mm, 0.0, 0.0))) for mm in (0.0, 4.0, 12.0)]
    for name in ("correlation", "correlation_affine", "overlap"):
        assert (np.diff([check(one, name) for one in found]) < 0).all(), name


def test_size_shape_and_rotation_of_the_affine(seen_at, atlas):
    centre = Grid.of(atlas.image).corners_mm().mean(axis=0).tolist()
    affine = sitk.AffineTransform(3)
    affine.SetCenter(centre)
    affine.Scale((1.2, 1.0, 1.0))
    affine.Rotate(0, 1, 0.5)
    found = seen_at(atlas.image, affine)
    assert check(found, "size") == pytest.approx(-np.log(1.2), abs=1e-6)
    assert check(found, "shape") == pytest.approx(-np.log(1.2), abs=1e-6)
    assert check(found, "rotation") == pytest.approx(-0.5, abs=1e-2)


def test_a_structure_outside_of_the_scan_is_seen(seen_at, atlas):
    grid = Grid.of(atlas.image)
    half = sitk.RegionOfInterest(atlas.image, [grid.size[0] // 2, *grid.size[1:]], [0, 0, 0])
    covered = feature(seen_at(half), "coverage")
    assert covered[0] == pytest.approx(1.0, abs=0.05) or covered[1] == pytest.approx(1.0, abs=0.05)
    assert covered.min() < 0.2


def test_where_a_part_of_the_scan_is_missing_coverage_falls(seen_at, atlas):
    whole, voxels = seen_at(atlas.image), sitk.GetArrayFromImage(atlas.image)
    voxels[:, :, voxels.shape[2] // 2 :] = voxels.min()
    half = sitk.GetImageFromArray(voxels)
    half.CopyInformation(atlas.image)
    assert check(whole, "coverage") > 0.95 and 0.3 < check(seen_at(half), "coverage") < 0.7


def test_a_mirrored_scan_has_a_negative_orientation_margin(seen_at, atlas):
    mirrored = sitk.GetImageFromArray(sitk.GetArrayFromImage(atlas.image)[:, ::-1].copy())
    mirrored.CopyInformation(atlas.image)
    assert check(seen_at(mirrored), "orientation_margin") < 0 < check(seen_at(atlas.image), "orientation_margin")


def test_structures_are_found_by_value_in_any_order(atlas, model):
    found = match_images(atlas.image, atlas.image, model, affine=sitk.AffineTransform(3))
    large = resample(atlas.labels, Grid.of(atlas.image), labels=True)
    large = sitk.Cast(large, sitk.sitkUInt16) * 500
    alternatives = [found.displacement + 0.5]
    straight, turned = (
        evidence(found, large, values, alternatives) for values in ((500, 1000, 1500), (1500, 500, 1000))
    )
    np.testing.assert_allclose(straight.structures[[2, 0, 1]], turned.structures)
    assert torch.is_tensor(alternatives[0])


def stripped(background):
    """A normalised ball in a background of values of a given kind: (tensor, the ball)."""
    generator = torch.Generator().manual_seed(0)
    z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, 32)] * 3, indexing="ij")
    ball = ((x**2 + y**2 + z**2) < 0.5)[None, None]
    noise = torch.randn(ball.shape, generator=generator)
    outside = {"clean": 0 * noise, "noise": 1.5 * noise, "ringing": -0.5 * noise**3}[background]
    return normalise(torch.where(ball, 110 + 20 * noise, outside)), ball


@pytest.mark.parametrize("background", ["clean", "noise", "ringing"])
def test_a_background_that_is_not_clean_is_none_of_the_foreground(background):
    tensor, ball = stripped(background)
    found = foreground_of(tensor)
    assert 2 * (found & ball).sum() / (found.sum() + ball.sum()) > 0.97


def test_a_scan_that_fills_its_field_is_all_foreground():
    tensor = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    assert (foreground_of(tensor) == (tensor > tensor.min())).all()
