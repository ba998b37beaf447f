"""Random changes of a training pair."""

import math

import numpy as np
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from CLMorphCore.bundles.config import AugmentConfig
from CLMorphCore.training.augmentation import augment, random_rotation, rotate

ISOTROPIC = (1.0, 1.0, 1.0)


def test_augmentation_flips_and_crops_both_images_alike():
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    config = AugmentConfig(flip="x", rotation_degrees=0.0, crop=(12, 16, 8))
    flipped = 0
    for seed in range(20):
        rng = torch.Generator().manual_seed(seed)
        fixed, moving = augment(image, image, config, (4, 4, 4), rng, spacing_mm=ISOTROPIC)
        assert torch.equal(fixed, moving) and fixed.shape[2:] == (12, 16, 8)
        windows = [image[:, :, z : z + 12, :, x : x + 8] for z in range(5) for x in range(9)]
        flipped += not any(torch.equal(fixed, window) for window in windows)
    assert 3 < flipped < 17


def test_rotation_by_a_right_angle_is_exact():
    image = torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    quarter = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    torch.testing.assert_close(rotate(image, quarter, ISOTROPIC), torch.rot90(image, 1, (4, 3)), atol=1e-5, rtol=0)


@settings(max_examples=10, deadline=None)
@given(
    angle=st.floats(-30, 30), axis=st.sampled_from("zyx"), spacing=st.tuples(*[st.sampled_from((1.0, 1.5, 5.0))] * 3)
)
def test_rotation_is_rigid_in_millimetres_as_itks(angle, axis, spacing):
    size = (20, 18, 16)
    image = sitk.GaussianSource(
        sitk.sitkFloat32,
        size,
        [2.5 * s for s in spacing],
        [0.6 * n * s for n, s in zip(size, spacing, strict=True)],
        spacing=spacing,
    )
    turn = sitk.Euler3DTransform()
    turn.SetCenter([(n - 1) / 2 * s for n, s in zip(size, spacing, strict=True)])
    turn.SetRotation(*(math.radians(angle) * (axis == a) for a in "xyz"))
    expected = sitk.GetArrayFromImage(sitk.Resample(image, image, turn, sitk.sitkLinear, -1.0))
    rotation = torch.tensor(np.array(turn.GetMatrix()).reshape(3, 3)[::-1, ::-1].copy(), dtype=torch.float32)
    found = rotate(torch.from_numpy(sitk.GetArrayFromImage(image))[None, None], rotation, spacing[::-1])[0, 0].numpy()
    inside = expected >= 0  # of ITK; beyond the border the augmentation goes on with the nearest voxel
    assert inside.sum() > 100
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4 * expected.max())


def test_augmentation_knows_the_spacing():
    image = torch.rand(1, 1, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    config = AugmentConfig(flip="none", rotation_degrees=10.0)
    one, other = (
        augment(image, image, config, (4, 4, 4), torch.Generator().manual_seed(0), spacing_mm=spacing)[0]
        for spacing in (ISOTROPIC, (1.0, 1.0, 5.0))
    )
    assert (one - other).abs().max() > 0.1


def test_labels_turn_with_their_image_and_stay_whole():
    labels = (torch.arange(8) % 4).float().view(1, 1, 1, 1, 8).expand(1, 1, 8, 8, 8).contiguous()
    first, second = (random_rotation(25.0, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    turned = rotate(labels, first, ISOTROPIC, mode="nearest")
    assert set(turned.unique().tolist()) == {0.0, 1.0, 2.0, 3.0}
    alike, other = (rotate(labels, rotation, ISOTROPIC) for rotation in (first, second))
    assert (turned - alike).abs().mean() < (turned - other).abs().mean()
