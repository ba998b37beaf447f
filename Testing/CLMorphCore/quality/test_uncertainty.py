"""Alternative displacements differ where labels are uncertain, and asking for them leaves the answer untouched."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from made_up import match_images

from CLMorphCore.bundles.config import from_dict
from CLMorphCore.networks import build
from CLMorphCore.progress import Stopwatch
from CLMorphCore.quality.uncertainty import (
    LINE,
    SAMPLES,
    alternative_displacements,
    disagreement_on_fixed,
    label_disagreement,
    mean_per_label,
)
from CLMorphCore.registration import registration_of


@pytest.fixture(scope="module")
def registered(phantom, atlas):
    """The phantom's match with a model."""
    return lambda model: match_images(phantom.image, atlas.image, model, affine=sitk.AffineTransform(3))


@pytest.fixture(scope="module")
def found(registered, model):
    return registered(model)


def halves():
    """Label 1 left of the middle of an axis of 16 voxels, 2 right of it."""
    labels = torch.ones(1, 1, 16, 16, 16)
    labels[..., 8:] = 2
    return labels


def along_x(voxels):
    field = torch.zeros(1, 3, 16, 16, 16)
    field[:, 2] = voxels
    return field


def test_disagreement_is_the_share_of_alternatives_with_another_label():
    found = label_disagreement(halves(), along_x(0.0), [along_x(0.0), along_x(2.0), along_x(2.0), along_x(4.0)])
    line = found[0, 0, 8, 8].tolist()
    assert line[4:8] == [0.25, 0.25, 0.75, 0.75] and line[:4] == [0] * 4 and line[8:12] == [0] * 4


def test_no_disagreement_where_all_agree():
    assert label_disagreement(halves(), along_x(0.5), [along_x(0.5)] * 3).max() == 0


def test_the_other_direction_is_an_alternative(model, found):
    alternatives = alternative_displacements(model, found)
    assert len(alternatives) == len(LINE) and all(o.shape == found.displacement.shape for o in alternatives)
    swapped = model.network(found.moving.tensor, found.scan.tensor).inverse
    torch.testing.assert_close(alternatives[LINE.index(1.0)], swapped.detach())


def test_samples_of_a_posterior_are_alternatives(model, registered):
    config = from_dict({"network": {"name": "clmorph", "channels": [4, 8], "embedding": 8}})
    torch.manual_seed(0)
    network = build("clmorph", config.network.settings).eval()
    torch.nn.init.constant_(network.log_variance.bias, -2.0)
    model = replace(model, network=network, config=config)
    found = registered(model)
    alternatives = alternative_displacements(model, found)
    assert len(alternatives) == SAMPLES and (alternatives[0] - alternatives[1]).std() > 0.1
    first, again = (network(found.scan.tensor, found.moving.tensor).displacement for _ in range(2))
    assert torch.equal(first, again), "asking leaves the network as it was"


def test_a_map_without_an_inverse_has_no_alternative(model, registered):
    config = from_dict(
        {
            "network": {"name": "clmorph", "channels": [4, 8], "embedding": 8, "probabilistic": False},
            "loss": {"regulariser": "diffusion"},
        }
    )
    model = replace(model, network=build("clmorph", config.network.settings).eval(), config=config)
    assert alternative_displacements(model, registered(model)) == []


def test_a_system_without_weights_is_not_run_twice(model, found):
    assert alternative_displacements(replace(model, folder=None), found) == []


def test_the_map_lies_on_the_scans_grid_at_the_labels_borders(atlas, found):
    shifted = found.displacement.clone()
    shifted[:, 2] += 2.0
    image = disagreement_on_fixed(atlas.labels, found, [shifted])
    labels = registration_of(found, Stopwatch()).warp(atlas.labels, labels=True)
    assert image.GetSize() == labels.GetSize() and image.GetDirection() == labels.GetDirection()
    means = mean_per_label(image, labels)
    assert set(means) == {1, 2, 3} and all(0.03 < m < 0.6 for m in means.values())


def test_after_a_refinement_the_alternatives_lie_around_the_refined_map(atlas, found):
    moved = torch.zeros_like(found.displacement)
    moved[:, 2] = 3.0
    refined = replace(found, displacement=found.displacement + moved)
    image = disagreement_on_fixed(atlas.labels, refined, [found.answer])
    assert sitk.GetArrayViewFromImage(image).max() == 0


def test_means_per_label():
    labels, values = np.array([[[0, 3, 3, 700]]], np.uint16), np.array([[[9.0, 1.0, 0.0, 0.5]]], np.float32)
    images = [sitk.GetImageFromArray(a) for a in (values, labels)]
    assert mean_per_label(*images) == {3: 0.5, 700: 0.5}
