"""Where an atlas expects which label: its shares, carried onto a scan."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from CLMorphCore.spatial import sample
from CLMorphCore.tissue.priors import carried
from CLMorphCore.tissue.shares import label_boxes, shares_of


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(2, 19)] * 3),
    smoothing=st.sampled_from((0.3, 1.0)),
    stretch=st.floats(0.3, 1.5),
    shift=st.floats(-6.0, 6.0),
    seed=st.integers(0, 1 << 16),
)
def test_shares_are_carried_as_the_whole_of_them_is_sampled(shape, smoothing, stretch, shift, seed):
    random = np.random.default_rng(seed)
    votes = [np.where(random.random(shape) < 0.03, random.integers(1, 4, shape), -1) for _ in range(2)]
    votes[0].flat[random.integers(votes[0].size)] = 5
    shares = shares_of(votes)
    axes = [stretch * torch.arange(14.0) + shift + n / 8 for n in range(3)]
    voxels = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    boxes = label_boxes(shares, (smoothing,) * 3)
    found = {prior.label: prior for prior in carried(boxes, voxels, shape)}
    for box in boxes:
        points = voxels - torch.tensor(box.start).view(3, 1, 1, 1)
        whole = torch.zeros(voxels.shape[1:])
        if (prior := found.get(box.label)) is not None:
            whole[prior.place] = prior.probability
        torch.testing.assert_close(whole, sample(box.share[None, None], points[None])[0, 0], rtol=0, atol=0)
