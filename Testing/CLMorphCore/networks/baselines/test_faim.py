"""What is FAIM's own: its size, its kernels, its start at the identity, its penalty on folds."""

import pytest
import torch

from CLMorphCore.bundles.config import from_dict
from CLMorphCore.errors import InputError
from CLMorphCore.networks.baselines.faim import Faim, FaimConfig
from CLMorphCore.networks.baselines.voxelmorph import VoxelMorph, VoxelMorphConfig
from CLMorphCore.networks.contract import TrainingPrediction
from CLMorphCore.training.batches import Batch
from CLMorphCore.training.objective import loss_terms


def small(**changes):
    torch.manual_seed(0)
    return Faim(FaimConfig(channels=(4, 8, 8), **changes))


def test_is_smaller_than_voxelmorph():
    size = [
        sum(p.numel() for p in network.parameters()) for network in (Faim(FaimConfig()), VoxelMorph(VoxelMorphConfig()))
    ]
    assert size[0] < size[1]


def test_every_kernel_size_looks_at_both_images():
    kernels = [branch[0].weight.shape for branch in small(kernel_sizes=(1, 3, 7)).first.branches]
    assert kernels == [(4, 2, 1, 1, 1), (4, 2, 3, 3, 3), (4, 2, 7, 7, 7)]


def test_an_even_kernel_is_refused():
    with pytest.raises(InputError, match=r"network\.kernel_sizes is \[3, 4\]; expected odd numbers"):
        small(kernel_sizes=(3, 4))


def test_starts_at_the_identity():
    images = torch.randn(2, 1, 16, 12, 20)
    assert small()(images, images.flip(4)).displacement.abs().max() < 0.01


def test_its_loss_counts_folds():
    config = from_dict({"network": {"name": "faim"}}).loss
    image, field = torch.randn(1, 1, 10, 10, 10), torch.zeros(1, 3, 10, 10, 10)
    folded = field.clone()
    folded[:, 1] = -2.0 * torch.arange(10).view(1, 1, 10, 1)  # det J = −1
    predictions = [TrainingPrediction(u) for u in (field, folded)]
    terms = [loss_terms(config, Batch(image, image), prediction)["folding"].item() for prediction in predictions]
    assert config.folding > 0 and terms == [0.0, 1.0]
