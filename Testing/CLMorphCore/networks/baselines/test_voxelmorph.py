"""What is VoxelMorph's own: its size, its start at the identity, its border."""

import torch

from CLMorphCore.networks.baselines.voxelmorph import VoxelMorph, VoxelMorphConfig


def test_parameters_are_those_of_the_papers_network():
    """301 411 are counted elsewhere for its larger variant (Chen et al., TransMorph, MedIA 2022)."""
    assert sum(p.numel() for p in VoxelMorph(VoxelMorphConfig()).parameters()) == 301_411


def test_starts_at_the_identity_and_ends_at_it_at_the_border():
    torch.manual_seed(0)
    network = VoxelMorph(VoxelMorphConfig(channels=(4, 8), decoder=(8, 8, 4)))
    images = torch.randn(2, 1, 16, 16, 20)
    assert network(images, images.flip(4)).displacement.abs().max() < 0.01
    torch.nn.init.constant_(network.field.head.bias, 3.0)
    displacement = network(images, images.flip(4)).displacement
    assert displacement[..., 8, 8, 8].min() > 2.9
    for axis in (2, 3, 4):
        assert displacement.select(axis, 0).abs().max() < 1e-5 and displacement.select(axis, -1).abs().max() < 1e-5
