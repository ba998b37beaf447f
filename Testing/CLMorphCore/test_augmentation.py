"""Random changes of a training pair."""

import torch

from CLMorphCore.augmentation import augment, rotate
from CLMorphCore.config import AugmentConfig


def test_augmentation_flips_and_crops_both_images_alike():
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    config = AugmentConfig(flip="x", rotation_degrees=0.0, crop=(8, 16, 12))
    flipped = 0
    for seed in range(20):
        fixed, moving, labels = augment(image, image, config, (4, 4, 4), torch.Generator().manual_seed(seed),
                                        labels=[image])
        assert torch.equal(fixed, moving) and torch.equal(fixed, labels) and fixed.shape[2:] == (12, 16, 8)
        windows = [image[:, :, z : z + 12, :, x : x + 8] for z in range(5) for x in range(9)]
        flipped += not any(torch.equal(fixed, window) for window in windows)
    assert 3 < flipped < 17


def test_rotation_by_a_right_angle_is_exact():
    image = torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    quarter = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    torch.testing.assert_close(rotate(image, quarter), torch.rot90(image, 1, (4, 3)), atol=1e-5, rtol=0)


def test_labels_turn_with_the_fixed_image_and_stay_whole():
    labels = (torch.arange(8) % 4).float().view(1, 1, 1, 1, 8).expand(1, 1, 8, 8, 8).contiguous()
    config = AugmentConfig(flip="none", rotation_degrees=25.0)
    rng = torch.Generator().manual_seed(1)
    fixed, moving, turned = augment(labels, labels, config, (4, 4, 4), rng, labels=[labels])
    assert set(turned.unique().tolist()) == {0.0, 1.0, 2.0, 3.0}
    assert (turned - fixed).abs().mean() < (turned - moving).abs().mean()
