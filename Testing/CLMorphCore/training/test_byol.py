"""BYOL's target follows the network and is never trained itself."""

import torch

from CLMorphCore.networks.clmorph import CLMorph, CLMorphConfig
from CLMorphCore.training.byol import Byol


def test_byol_target_follows_slowly_and_learns_nothing_itself():
    torch.manual_seed(0)
    network = CLMorph(CLMorphConfig(channels=(4, 8, 8), embedding=16, norm="none"))
    contrast = Byol(network)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1.0)
    before = {k: v.clone() for k, v in contrast.target.state_dict().items()}
    contrast.update()
    for name, value in contrast.target.state_dict().items():
        torch.testing.assert_close(value, before[name] + 0.01, atol=1e-5, rtol=0)
    fixed, moving = torch.randn(2, 2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    contrast.loss(fixed, moving, network(fixed, moving).embeddings).backward()
    assert all(p.grad is None for p in contrast.target.parameters())
    assert all(p.grad is not None for p in contrast.predictor.parameters())
