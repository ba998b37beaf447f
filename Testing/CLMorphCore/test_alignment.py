"""Affine alignment in millimetres, against known maps."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from CLMorphCore.aligning.polish import polished
from CLMorphCore.alignment import _agree, _working, align, align_centres, closest_similarity
from CLMorphCore.errors import Cancelled, InputError
from CLMorphCore.geometry import Grid, resample
from CLMorphCore.io.transforms import read_affine


def known_map(atlas, degrees=12.0, scale=1.08, shift=(6.0, -9.0, 4.0)):
    """fixed → moving: rotated, scaled, shifted about the atlas' centre."""
    rotation = sitk.Euler3DTransform()
    rotation.SetRotation(math.radians(degrees), math.radians(-degrees / 2), math.radians(degrees / 3))
    matrix = np.array(rotation.GetMatrix()).reshape(3, 3) @ np.diag([scale, 1.0, 1 / scale])
    return sitk.AffineTransform(matrix.ravel().tolist(), shift, Grid.of(atlas.image).corners_mm().mean(0).tolist())


def scan_under(atlas, truth, grow=10):
    """The atlas image seen through a known map, on a larger grid, so that nothing is cut off."""
    g = Grid.of(atlas.image)
    origin = np.array(g.origin_mm) - g.to_mm() @ np.full(3, grow)
    larger = Grid(tuple(n + 2 * grow for n in g.size), g.spacing_mm, tuple(origin.tolist()), g.direction)
    background = float(sitk.GetArrayViewFromImage(atlas.image).min())
    return resample(atlas.image, larger, truth, outside=background)


def worst_error_mm(found, truth, atlas):
    labels = sitk.GetArrayFromImage(atlas.labels)
    index = np.argwhere(labels)[::50, ::-1].tolist()
    points = [truth.GetInverse().TransformPoint(atlas.labels.TransformIndexToPhysicalPoint(i)) for i in index]
    return max(math.dist(found.TransformPoint(p), truth.TransformPoint(p)) for p in points)


def test_finds_a_known_affine_map_within_half_a_voxel(atlas):
    truth = known_map(atlas)
    found = align(scan_under(atlas, truth), atlas.image)
    assert worst_error_mm(found, truth, atlas) < 0.5 * min(atlas.image.GetSpacing())


def test_a_head_far_away_and_turned_is_found(atlas):
    truth = known_map(atlas, degrees=25.0, shift=(80.0, -120.0, 60.0))
    fixed = scan_under(atlas, known_map(atlas, degrees=25.0, shift=(0.0, 0.0, 0.0)))
    moved = sitk.Image(fixed)
    linear = np.array(truth.GetMatrix()).reshape(3, 3)
    moved.SetOrigin((np.array(fixed.GetOrigin()) - np.linalg.solve(linear, [80.0, -120.0, 60.0])).tolist())
    assert worst_error_mm(align(moved, atlas.image), truth, atlas) < min(atlas.image.GetSpacing())


def test_the_storage_order_of_a_scan_changes_nothing(atlas):
    fixed = scan_under(atlas, known_map(atlas))
    found = [align(atlas.image, sitk.DICOMOrient(fixed, order)) for order in ("LPS", "RAS", "ASL")]
    points = np.random.default_rng(0).uniform(-20, 20, (20, 3)) + Grid.of(atlas.image).corners_mm().mean(0)
    for other in found[1:]:
        for p in points.tolist():
            assert math.dist(found[0].TransformPoint(p), other.TransformPoint(p)) < 0.02


def test_a_few_extreme_voxels_change_nothing(atlas):
    truth = known_map(atlas)
    fixed = sitk.Cast(scan_under(atlas, truth), sitk.sitkFloat32)
    centre = [n // 2 for n in fixed.GetSize()]
    fixed[centre], fixed[[c + 3 for c in centre]] = 1e9, 3e7
    assert worst_error_mm(align(fixed, atlas.image), truth, atlas) < 0.5 * min(atlas.image.GetSpacing())


def test_intensities_around_zero_change_nothing(atlas):
    truth = known_map(atlas, shift=(26.0, -19.0, 14.0))
    fixed = scan_under(atlas, truth, grow=0)
    box = [n // 4 for n in fixed.GetSize()]
    fixed = sitk.Cast(sitk.Crop(fixed, box, box), sitk.sitkFloat32)  # no air: its mean is that of what is aligned
    values = sitk.GetArrayViewFromImage(fixed)
    scored = (fixed - float(values.mean())) / float(values.std())
    plain, found = (align(atlas.image, image) for image in (fixed, scored))
    points = [plain.GetInverse().TransformPoint(p) for p in Grid.of(fixed).corners_mm().tolist()]
    apart = [math.dist(plain.TransformPoint(p), found.TransformPoint(p)) for p in points]
    assert max(apart) < 0.5 * min(atlas.image.GetSpacing())


def test_a_wide_field_of_zeros_changes_nothing(atlas):
    truth = known_map(atlas)
    fixed = sitk.ConstantPad(scan_under(atlas, truth, grow=2), [150] * 3, [150] * 3, 0.0)
    assert worst_error_mm(align(fixed, atlas.image), truth, atlas) < 0.5 * min(atlas.image.GetSpacing())


@pytest.mark.parametrize("slices", [2, 3])
def test_so_few_slices_are_refused_in_words_of_the_scan(slices, atlas):
    greys = 100 + np.random.default_rng(0).random((slices, 30, 28)).astype(np.float32)
    with pytest.raises(InputError, match=r"too thin .* fewer than 4 voxels there\); pass affine") as caught:
        align(atlas.image, sitk.GetImageFromArray(greys))
    assert "dimension" not in str(caught.value)


def test_a_block_of_one_grey_value_is_refused(atlas):
    for size in (1, 20):
        block = sitk.ConstantPad(sitk.Image([size] * 3, sitk.sitkFloat32) + 5.0, [10] * 3, [10] * 3, 0.0)
        with pytest.raises(
            InputError, match=r"the affine alignment failed: .* too little contrast .*; pass affine, a transform"
        ):
            align(atlas.image, block)


def test_stops_when_asked(atlas):
    calls = []

    def step():
        calls.append(1)
        if len(calls) > 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        align(atlas.image, atlas.image, step=step)
    assert len(calls) < 10


def test_reads_a_linear_transform_of_any_kind(tmp_path):
    for transform in (sitk.Euler3DTransform(), sitk.AffineTransform(3), sitk.TranslationTransform(3, (1.0, 2.0, 3.0))):
        sitk.WriteTransform(transform, str(tmp_path / "a.tfm"))
        point = (1.0, 1.0, 1.0)
        assert read_affine(tmp_path / "a.tfm").TransformPoint(point) == transform.TransformPoint(point)


def bad_transforms(folder):
    field = sitk.DisplacementFieldTransform(sitk.Image((4, 4, 4), sitk.sitkVectorFloat64, 3))
    sitk.WriteTransform(field, str(folder / "field.h5"))
    sitk.WriteTransform(sitk.AffineTransform(2), str(folder / "flat.tfm"))
    sitk.WriteTransform(sitk.AffineTransform([0.0] * 9, (0.0, 0.0, 0.0)), str(folder / "singular.tfm"))
    (folder / "text.tfm").write_text("no transform")
    return {
        "absent.h5": "does not exist",
        "field.h5": "expected a linear 3D transform",
        "flat.tfm": "2D",
        "singular.tfm": "has no inverse",
        "text.tfm": "cannot be read as a transform",
    }


def test_refuses_what_is_no_invertible_linear_transform(tmp_path):
    for name, reason in bad_transforms(tmp_path).items():
        with pytest.raises(InputError, match=reason):
            read_affine(tmp_path / name)


@pytest.mark.parametrize("left_handed", [False, True])
def test_two_stacks_are_laid_on_each_other_by_centre_and_axes_without_a_mirror(atlas, left_handed):
    oblique = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.4, -0.7, 1.1)
    axes = np.array(oblique.GetMatrix()).reshape(3, 3) * (1, 1, -1 if left_handed else 1)
    scan = sitk.Image(atlas.image)
    scan.SetDirection(axes.ravel().tolist())
    scan.SetOrigin((70.0, -20.0, 400.0))
    found, (x, y, z) = align_centres(scan, atlas.image), scan.GetSize()
    for index in ((x // 2, y // 3, z // 4), (1, 2, 3)):
        same = (index[0], index[1], z - 1 - index[2] if left_handed else index[2])
        np.testing.assert_allclose(
            found.TransformPoint(scan.TransformIndexToPhysicalPoint(index)),
            atlas.image.TransformIndexToPhysicalPoint(same),
            atol=1e-9,
        )
    assert np.linalg.det(np.array(found.GetMatrix()).reshape(3, 3)) == pytest.approx(1)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.5, 2.0), st.floats(-3.0, 3.0))
def test_the_closest_similarity_is_the_one_that_made_the_points(seed, scale, angle):
    random = np.random.default_rng(seed)
    truth = sitk.Similarity3DTransform(
        scale, random.normal(size=3).tolist(), angle, random.normal(0, 30, 3).tolist(), random.normal(0, 20, 3).tolist()
    )
    points = random.normal(0, 15, (40, 3))
    targets = np.array([truth.TransformPoint(p) for p in points.tolist()])
    matrix, shift = closest_similarity(points, targets + random.normal(0, 1e-7, targets.shape))
    np.testing.assert_allclose(points @ matrix.T + shift, targets, atol=1e-4)


@pytest.mark.parametrize("mirror", [(-1, 1, 1), (-1, 1)])
def test_the_closest_similarity_does_not_mirror(mirror):
    points = np.random.default_rng(0).normal(0, 15, (40, len(mirror)))
    assert np.linalg.det(closest_similarity(points, points * mirror)[0]) > 0


def test_the_same_images_are_aligned_in_the_same_way_whatever_else_computes(atlas, phantom):
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(4)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = [
                tuple(one.GetParameters()) for one in pool.map(lambda _: align(phantom.image, atlas.image), range(6))
            ]
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    assert len({*found, tuple(align(phantom.image, atlas.image).GetParameters())}) == 1


def test_itks_reason_is_told_without_the_address_of_its_object(atlas):
    point = sitk.Cast(atlas.image * 0, sitk.sitkFloat32)
    point[18, 20, 16] = 1.0
    with pytest.raises(InputError, match=r"too little contrast \(.*\); pass affine") as caught:
        align(point, atlas.image)
    assert "0x" not in str(caught.value) and "ITK ERROR" not in str(caught.value)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("which", ["fixed", "moving"])
@pytest.mark.parametrize("brightest", [1.0, 3000.0])
def test_voxels_that_are_absurdly_long_end_in_one_line(axis, which, brightest):
    """As a damaged header has them: their smoothing may end in NaN, with which ITK would compute for ever."""
    made = [sitk.GetImageFromArray(np.random.default_rng(0).random((28, 24, 20)).astype(np.float32)) for _ in range(2)]
    one = made[which == "moving"] * brightest
    one.SetSpacing([1e6 if n == axis else 2.0 for n in range(3)])
    with pytest.raises(InputError, match=r"the affine alignment failed: .*pass affine, a transform"):
        align(*([made[0], one] if which == "moving" else [one, made[1]]))


def test_an_image_that_smoothing_turns_into_nan_ends_in_one_line(monkeypatch):
    image = sitk.GetImageFromArray(np.random.default_rng(0).random((28, 24, 20)).astype(np.float32))
    image.SetSpacing((2.0, 1e6, 2.0))
    monkeypatch.setattr(sitk, "RecursiveGaussian", lambda given, *_, **__: given * np.nan)
    with pytest.raises(InputError, match=r"voxels of 2 × 1e\+06 × 2 mm cannot be brought onto an even grid"):
        align(image, image)


def mean_error_mm(found, truth, atlas):
    index = np.argwhere(sitk.GetArrayFromImage(atlas.labels))[::50, ::-1].tolist()
    points = [truth.GetInverse().TransformPoint(atlas.labels.TransformIndexToPhysicalPoint(i)) for i in index]
    return float(np.mean([math.dist(found.TransformPoint(p), truth.TransformPoint(p)) for p in points]))


def near(truth, shift_mm=1.2, scale=1.03):
    """A map beside the true one, as mutual information may leave it."""
    matrix = np.array(truth.GetMatrix()).reshape(3, 3) @ np.diag([scale, 1 / scale, 1.0])
    shift = np.array(truth.GetTranslation()) + np.array([shift_mm, -shift_mm, 0.5 * shift_mm])
    return sitk.AffineTransform(matrix.ravel().tolist(), shift.tolist(), truth.GetCenter())


def contrasts(image):
    """The same anatomy as another scan shows it: darker where it was bright, biased, cut off at one side."""
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    bias = np.exp(np.linspace(-0.4, 0.4, values.shape[2], dtype=np.float32))
    inverted = np.where(values > 0, values.max() * 1.2 - values, 0)
    made = {"the same": values, "bias": values * bias, "inverted": inverted}
    images = {}
    for name, array in made.items():
        images[name] = sitk.GetImageFromArray(array.astype(np.float32))
        images[name].CopyInformation(image)
    images["cut off"] = image[:, : 2 * image.GetSize()[1] // 3, :]
    return images


@pytest.mark.parametrize("name", ["the same", "bias", "inverted", "cut off"])
def test_a_map_that_is_nearly_right_is_polished_whatever_the_contrast_and_the_field_of_view(name, fine_atlas):
    atlas = fine_atlas
    truth = known_map(atlas, degrees=5.0)
    fixed, moving = _working(contrasts(scan_under(atlas, truth, grow=4))[name]), _working(atlas.image)
    start = near(truth)
    before, after = (mean_error_mm(each, truth, atlas) for each in (start, polished(fixed, moving, start)))
    assert before > 1.2 and after < (0.4 if name == "cut off" else 0.25) * before


def test_what_is_far_from_the_map_that_was_found_or_loses_information_is_no_polish(atlas):
    found, image = sitk.AffineTransform(3), _working(atlas.image)
    spacing = image.GetSpacing()[0]
    nudged = {voxels: sitk.AffineTransform(found) for voxels in (0.02, 1.0, 2.0)}
    for voxels, each in nudged.items():
        each.SetTranslation((voxels * spacing, 0.0, 0.0))
    assert _agree(image, image, found, nudged[0.02])
    assert not _agree(image, image, found, nudged[1.0])  # near, but of the information much is lost
    assert not _agree(image, image, nudged[2.0], found)  # more is gained, but far off


def test_slices_that_lie_far_apart_are_not_polished(atlas, monkeypatch):
    called = []
    monkeypatch.setattr("CLMorphCore.alignment.polished", lambda *given, **_: called.append(1) or given[2])
    g = Grid.of(atlas.image)
    stack = resample(
        atlas.image, Grid((g.size[0], g.size[1], g.size[2] // 5), (*g.spacing_mm[:2], 5 * g.spacing_mm[2]), g.origin_mm)
    )
    align(atlas.image, stack)
    align(stack, atlas.image)
    assert not called
    align(atlas.image, atlas.image)
    assert called


@pytest.mark.parametrize("factor", [0.1, 1.0, 5.0])
def test_a_mouse_and_an_elephant_are_aligned_as_exactly(factor, atlas):
    """The same voxels with another spacing: what is found is half a voxel off at most."""
    truth = known_map(atlas, shift=(2.0, -3.0, 1.0))
    scaled = []
    for image in (scan_under(atlas, truth), atlas.image):
        one = sitk.Image(image)
        one.SetSpacing([factor * s for s in image.GetSpacing()])
        one.SetOrigin([factor * o for o in image.GetOrigin()])
        scaled.append(one)
    found = align(*scaled)
    back = sitk.AffineTransform(
        found.GetMatrix(), [t / factor for t in found.GetTranslation()], [c / factor for c in found.GetCenter()]
    )
    assert worst_error_mm(back, truth, atlas) < 0.5 * min(atlas.image.GetSpacing())
