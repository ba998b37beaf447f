"""One transform in physical space: T = D ∘ A, with its inverse, on any grid."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from made_up import match_images

from CLMorphCore import matching
from CLMorphCore.bundles.config import RefinementConfig
from CLMorphCore.bundles.model import affine_model, load_model
from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.errors import Cancelled
from CLMorphCore.geometry import Grid, chain, displacement_transform
from CLMorphCore.instance_optimization import InstanceOptimization, Millimetres
from CLMorphCore.matching import fine_shape, for_model, prepare, prepare_image
from CLMorphCore.metrics import dice_per_label, inverse_consistency
from CLMorphCore.networks import Prediction, RegistrationNetwork
from CLMorphCore.progress import Stopwatch
from CLMorphCore.registration import register, registration_of
from CLMorphCore.spatial import integrate, taper


class KnownField(RegistrationNetwork):
    """A network that answers with one smooth diffeomorphism, whatever it is shown."""

    divisor = (8, 8, 8)

    def __init__(self):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, fixed, moving):
        noise = torch.randn(1, 3, 5, 5, 5, generator=torch.Generator().manual_seed(0))
        velocity = taper(
            1.2 * torch.nn.functional.interpolate(noise, size=fixed.shape[2:], mode="trilinear", align_corners=True), 6
        )
        return Prediction(integrate(velocity), integrate(-velocity))


class KnownShift(KnownField):
    """A network that moves everything by three voxels along z and y, whatever it is shown."""

    def forward(self, fixed, moving):
        shift = torch.zeros(1, 3, *fixed.shape[2:])
        shift[:, :2] = 3.0
        return Prediction(shift, -shift)


@pytest.fixture(scope="module")
def model(tiny_model):
    return replace(load_model(tiny_model), network=KnownField())


@pytest.fixture(scope="module")
def phantom(atlas):
    return make_phantom(atlas, seed=3)


@pytest.fixture(scope="module")
def found(model, atlas, phantom):
    return register(phantom.image, atlas.image, model)


def points_in(image, count=200, share=0.6):
    corners = Grid.of(image).corners_mm()
    centre, half = corners.mean(0), np.ptp(corners, axis=0) / 2 * share
    return np.random.default_rng(0).uniform(centre - half, centre + half, (count, 3)).tolist()


def test_the_network_is_really_used(found, phantom):
    moved = [
        np.subtract(found.transform.TransformPoint(p), found.affine.TransformPoint(p)) for p in points_in(phantom.image)
    ]
    assert np.linalg.norm(moved, axis=1).max() > 1.0


def test_warping_is_resampling_through_the_saved_transform(found, atlas, phantom, tmp_path):
    found.save(tmp_path)
    expected = sitk.Resample(
        sitk.Cast(atlas.image, sitk.sitkFloat32),
        phantom.image,
        sitk.ReadTransform(str(tmp_path / "transform.h5")),
        sitk.sitkLinear,
        0.0,
    )
    np.testing.assert_allclose(
        sitk.GetArrayFromImage(found.warp(atlas.image))[4:-4, 4:-4, 4:-4],
        sitk.GetArrayFromImage(expected)[4:-4, 4:-4, 4:-4],
        atol=1e-2,
    )
    labels = sitk.Resample(
        atlas.labels, phantom.image, sitk.ReadTransform(str(tmp_path / "transform.h5")), sitk.sitkLabelLinear, 0
    )
    warped = found.warp(atlas.labels, labels=True)
    assert (sitk.GetArrayFromImage(warped) == sitk.GetArrayFromImage(labels)).all()
    assert Grid.of(warped) == Grid.of(phantom.image)
    assert warped.GetPixelID() == atlas.labels.GetPixelID()


@pytest.mark.parametrize("scale", [1.0, 0.02])
def test_the_map_is_the_networks_to_a_hundredth_of_a_millimetre_and_of_a_voxel(model, atlas, phantom, scale):
    images = [sitk.Image(each) for each in (phantom.image, atlas.image)]
    for image in images:
        image.SetSpacing([scale * n for n in image.GetSpacing()])
        image.SetOrigin([scale * n for n in image.GetOrigin()])
    small = replace(model, config=replace(model.config, data=replace(model.config.data, spacing_mm=(0.0, 0.0, 0.0))))
    prepared = prepare_image(small, images[1])
    match = matching.match(matching.align_scan(images[0], prepared, small), prepared, small)
    found = registration_of(match, Stopwatch())
    exact = chain(displacement_transform(match.displacement, match.field_grid), match.scan.affine)
    points = points_in(images[0])
    off = [np.subtract(found.transform.TransformPoint(p), exact.TransformPoint(p)) for p in points]
    most = np.linalg.norm(off, axis=1).max()
    assert 0 < most <= 0.01 and most <= 0.01 * min(match.field_grid.spacing_mm)


def test_saved_transforms_are_small(found, tmp_path):
    found.save(tmp_path)
    for name, transform, index in (("transform", found.transform, 0), ("inverse", found.inverse, 1)):
        field = sitk.DisplacementFieldTransform(transform.GetNthTransform(index)).GetDisplacementField()
        assert (tmp_path / f"{name}.h5").stat().st_size < 6 * field.GetNumberOfPixels() + 20_000  # bytes, not 24


def test_the_saved_inverse_undoes_the_saved_transform(found, phantom, tmp_path):
    found.save(tmp_path)
    forward, backward = (sitk.ReadTransform(str(tmp_path / f"{name}.h5")) for name in ("transform", "inverse"))
    error = [
        np.linalg.norm(np.subtract(backward.TransformPoint(forward.TransformPoint(p)), p))
        for p in points_in(phantom.image)
    ]
    assert np.mean(error) < 0.1 and np.max(error) < 0.5


def test_the_jacobian_is_that_of_the_deformation_alone(found, phantom):
    jacobian = found.jacobian_on_fixed()
    assert Grid.of(jacobian) == Grid.of(phantom.image)
    step, to_patient = 0.5, found.affine.GetInverse()
    for p in points_in(phantom.image, count=20, share=0.4):
        there = np.array(found.affine.TransformPoint(p))
        columns = []
        for axis in np.eye(3):
            starts = [to_patient.TransformPoint((there + s * step * axis).tolist()) for s in (-1, 1)]
            ends = [found.transform.TransformPoint(p) for p in starts]
            columns.append(np.subtract(ends[1], ends[0]) / (2 * step))
        index = jacobian.TransformPhysicalPointToIndex(p)
        assert jacobian[index] == pytest.approx(np.linalg.det(np.array(columns).T), abs=0.15)


def test_a_given_affine_takes_the_place_of_the_alignment(model, atlas, phantom):
    given = sitk.AffineTransform(3)
    given.SetTranslation((1.0, 2.0, 3.0))
    found = register(phantom.image, atlas.image, model, affine=given)
    assert found.affine.TransformPoint((0.0, 0.0, 0.0)) == (1.0, 2.0, 3.0)


def test_without_an_inverse_none_is_written(model, atlas, phantom, tmp_path):
    class OneWay(KnownField):
        def forward(self, fixed, moving):
            return Prediction(super().forward(fixed, moving).displacement)

    found = register(phantom.image, atlas.image, replace(model, network=OneWay()), affine=sitk.AffineTransform(3))
    found.save(tmp_path)
    assert found.inverse is None and not (tmp_path / "inverse.h5").exists()


def test_zero_displacement_is_the_affine_map(model, atlas, phantom):
    class Still(KnownField):
        def forward(self, fixed, moving):
            zero = torch.zeros(1, 3, *fixed.shape[2:])
            return Prediction(zero, zero)

    found = register(phantom.image, atlas.image, replace(model, network=Still()))
    for p in points_in(phantom.image, count=20):
        np.testing.assert_allclose(found.transform.TransformPoint(p), found.affine.TransformPoint(p), atol=1e-9)
    assert found.folding_fraction == 0 and found.similarity[0] == pytest.approx(found.similarity[1], abs=1e-6)


@pytest.fixture(scope="module")
def by_optimisation(atlas, phantom):
    return register(phantom.image, atlas.image, affine_model(), optimization=InstanceOptimization(20))


def test_refinement_alone_registers_without_a_model(by_optimisation, atlas, phantom):
    found = by_optimisation
    before, after = found.similarity
    assert found.optimization_steps > 0 and after > before + 0.05 and found.folding_fraction == 0
    assert set(found.duration_s) == {"affine", "network", "refinement"}
    dice = [
        np.nanmean(
            list(
                dice_per_label(found.warp(atlas.labels, labels=True, affine_only=affine_only), phantom.labels).values()
            )
        )
        for affine_only in (True, False)
    ]
    assert dice[1] > dice[0] + 0.03


def test_the_inverse_undoes_what_was_refined(by_optimisation, phantom, tmp_path):
    by_optimisation.save(tmp_path)
    forward, backward = (sitk.ReadTransform(str(tmp_path / f"{name}.h5")) for name in ("transform", "inverse"))
    assert inverse_consistency(forward, backward, phantom.image, 3.0).mean_mm < 0.1


def test_refinement_goes_on_from_the_network(model, found, atlas, phantom):
    refined = register(phantom.image, atlas.image, model, optimization=InstanceOptimization(10))
    assert refined.similarity[1] > found.similarity[1] and refined.inverse is not None
    assert found.optimization_steps == 0 and "refinement" not in found.duration_s


def test_where_every_voxel_moves_what_lies_between_the_networks_voxels_is_kept(model, atlas, phantom):
    coarse = replace(model.config.data, spacing_mm=(3.0, 3.0, 3.0))
    fine = replace(model, config=replace(model.config, data=coarse, refinement=RefinementConfig(every_voxel=True)))
    found = register(
        phantom.image, atlas.image, fine, affine=sitk.AffineTransform(3), optimization=InstanceOptimization(3)
    )
    match = match_images(
        phantom.image, atlas.image, fine, affine=sitk.AffineTransform(3), optimization=InstanceOptimization(3)
    )
    grid, size = match.grid, fine_shape(match.grid, atlas.image)[::-1]
    assert match.on_grid.shape[2:] == grid.shape and min(m - n for m, n in zip(size, grid.size, strict=True)) > 5
    field = sitk.DisplacementFieldTransform(found.transform.GetNthTransform(0)).GetDisplacementField()
    assert field.GetSize() == size == found.jacobian.GetSize()
    assert inverse_consistency(found.transform, found.inverse, phantom.image, 3.0).mean_mm < 0.15


def test_what_was_refined_does_not_fold(fine_atlas, monkeypatch):
    atlas, phantom = fine_atlas, make_phantom(fine_atlas, seed=3, deformation_mm=1.5)
    fluid = InstanceOptimization(30, step_voxels=3.0, smooth_step_voxels=0.3, smooth_map_voxels=0.0)

    def folding():
        found = register(phantom.image, atlas.image, affine_model(), affine=sitk.AffineTransform(3), optimization=fluid)
        return found.folding_fraction

    assert folding() == 0
    monkeypatch.setattr(matching, "remove_folds", lambda displacement: displacement)
    assert folding() > 0, "these settings do fold"


def test_refinement_of_a_network_without_an_inverse_gives_none(model, atlas, phantom):
    class OneWay(KnownField):
        def forward(self, fixed, moving):
            return Prediction(super().forward(fixed, moving).displacement)

    one_way = replace(model, network=OneWay())
    assert register(phantom.image, atlas.image, one_way, optimization=InstanceOptimization(1)).inverse is None


def test_refinement_can_be_cancelled(atlas, phantom):
    def cancel(step, fraction):
        if step == "refinement":
            raise Cancelled

    with pytest.raises(Cancelled):
        register(
            phantom.image,
            atlas.image,
            affine_model(),
            affine=sitk.AffineTransform(3),
            optimization=InstanceOptimization(5),
            progress=cancel,
        )


@pytest.mark.parametrize(
    ("spacing_mm", "size"),
    [
        (1.0, (159, 191, 175)),  # twice as fine as the network's grid, as the image is
        (0.5, (159, 191, 175)),  # no finer
        (2.0, (79, 95, 87)),
        (5.0, (79, 95, 87)),  # no coarser; odd
    ],
)
def test_an_optimization_is_as_fine_as_the_image_is_stored(spacing_mm, size):
    image = sitk.Image(8, 8, 8, sitk.sitkFloat32)
    image.SetSpacing([spacing_mm] * 3)
    assert fine_shape(Grid((80, 96, 88), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0)), image) == size[::-1]
    huge = fine_shape(Grid((160, 160, 160), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0)), image)
    assert np.prod(huge) < 1.02 * 10_000_000 and min(huge) >= 159


def test_an_optimization_is_as_the_models_refinement_says_where_it_is_left_open(model):
    own = RefinementConfig(smoothed="map", smooth_map_voxels=0.6, smooth_step_voxels=1.5, window_voxels=7)
    chosen = replace(model, config=replace(model.config, refinement=own))
    found = for_model(InstanceOptimization(), chosen)
    assert (found.smoothed, found.smooth_map_voxels, found.smooth_step_voxels) == ("map", 0.6, 1.5)
    assert found.window_voxels == 7
    own = RefinementConfig(smooth_map_voxels=0.6, smooth_map_mm=0.1, window_mm=1.5)
    in_mm = for_model(InstanceOptimization(), replace(model, config=replace(model.config, refinement=own)))
    assert in_mm.smooth_map_voxels == Millimetres(0.1) and isinstance(in_mm.window_voxels, Millimetres)
    asked = InstanceOptimization(smoothed="change", smooth_map_voxels=0.0, smooth_step_voxels=0.5, window_voxels=11)
    assert for_model(asked, chosen) == asked
    by_default = for_model(
        InstanceOptimization(), replace(model, config=replace(model.config, refinement=RefinementConfig()))
    )
    assert (by_default.smoothed, by_default.smooth_map_voxels) == ("change", None), "by noise"


def test_an_optimization_takes_the_window_that_the_model_was_trained_with(tiny_model):
    model = load_model(tiny_model)
    loss = replace(model.config.loss, similarity="lncc", window_voxels=(15, 15, 5))
    trained = replace(model, config=replace(model.config, loss=loss))
    assert for_model(InstanceOptimization(), trained).window_voxels == 15
    assert for_model(InstanceOptimization(window_voxels=7), trained).window_voxels == 7
    assert not for_model(InstanceOptimization(), trained).every_voxel
    assert (
        for_model(
            InstanceOptimization(), replace(model, config=replace(model.config, loss=replace(loss, similarity="mse")))
        ).window_voxels
        is None
    )


@pytest.fixture(scope="module")
def by_centres(tiny_model):
    """A model that was trained on patients whose images had their centres together."""
    model = replace(load_model(tiny_model), network=KnownShift())
    return replace(model, config=replace(model.config, data=replace(model.config.data, alignment="centres")))


def shift_mm(found, centre):
    return np.subtract(found.transform.TransformPoint(centre.tolist()), centre)


def test_a_model_trained_by_centres_aligns_the_centres(by_centres, atlas):
    far, centre = sitk.Image(atlas.image), Grid.of(atlas.image).corners_mm().mean(axis=0)
    far.SetOrigin(np.add(far.GetOrigin(), (40.0, -300.0, 7.0)).tolist())
    found = register(far, atlas.image, by_centres)
    _, along_y, along_z = 3.0 * np.array(prepare(by_centres, [atlas]).grid.spacing_mm)
    shift = shift_mm(found, np.add(centre, (40.0, -300.0, 7.0)))
    np.testing.assert_allclose(shift, (-40.0, 300.0 + along_y, along_z - 7.0), atol=1e-6)


def test_extra_passes_start_where_the_last_one_put_the_labels_in_their_slices(by_centres, atlas):
    centre = Grid.of(atlas.image).corners_mm().mean(axis=0)
    once, thrice, given = (
        shift_mm(register(atlas.image, moving, by_centres, affine=affine), centre)
        for moving, affine in (
            (atlas.image, None),
            (prepare(by_centres, [atlas]), None),
            (prepare(by_centres, [atlas]), sitk.AffineTransform(3)),
        )
    )
    assert min(once[1:]) > 1
    axes = np.array(atlas.labels.GetDirection()).reshape(3, 3)
    np.testing.assert_allclose(thrice, once + 2 * axes @ ((1, 1, 0) * (axes.T @ once)), atol=1e-3)
    np.testing.assert_allclose(given, once, atol=1e-6)  # an affine that is given is kept
