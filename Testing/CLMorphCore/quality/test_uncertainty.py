"""Alternative displacements differ where labels are uncertain, and asking for them leaves the answer untouched."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from CLMorphCore.bundles.config import from_dict
from CLMorphCore.networks import build
from CLMorphCore.quality.uncertainty import (
    LINE,
    SAMPLES,
    alternative_displacements,
    disagreement_on_fixed,
    label_disagreement,
    mean_per_label,
)
from CLMorphCore.registration import register


@pytest.fixture(scope="module")
def registered(phantom, atlas):
    """The phantom's registration with a model."""
    return lambda model: register(phantom.image, atlas.image, model, affine=sitk.AffineTransform(3))


@pytest.fixture(scope="module")
def registration(registered, model):
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


def test_doubt_is_the_share_of_opinions_with_another_label():
    found = label_disagreement(halves(), along_x(0.0), [along_x(0.0), along_x(2.0), along_x(2.0), along_x(4.0)])
    line = found[0, 0, 8, 8].tolist()
    assert line[4:8] == [0.25, 0.25, 0.75, 0.75] and line[:4] == [0] * 4 and line[8:12] == [0] * 4


def test_no_doubt_where_all_agree():
    assert label_disagreement(halves(), along_x(0.5), [along_x(0.5)] * 3).max() == 0


def test_the_other_direction_is_a_second_opinion(model, registration):
    alternatives = alternative_displacements(model, registration)
    assert len(alternatives) == len(LINE) and all(o.shape == registration.displacement.shape for o in alternatives)
    swapped = model.network(registration.pair.moving, registration.pair.fixed).inverse
    torch.testing.assert_close(alternatives[LINE.index(1.0)], swapped.detach())


def test_samples_of_a_posterior_are_second_opinions(model, registered):
    config = from_dict({"network": {"name": "clmorph", "channels": [4, 8], "embedding": 8}})
    torch.manual_seed(0)
    network = build("clmorph", config.network.settings).eval()
    torch.nn.init.constant_(network.log_variance.bias, -2.0)
    model = replace(model, network=network, config=config)
    registration = registered(model)
    alternatives = alternative_displacements(model, registration)
    assert len(alternatives) == SAMPLES and (alternatives[0] - alternatives[1]).std() > 0.1
    first, again = (network(registration.pair.fixed, registration.pair.moving).displacement for _ in range(2))
    assert torch.equal(first, again), "asking leaves the network as it was"


def test_a_map_without_an_inverse_has_no_second_opinion(model, registered):
    config = from_dict(
        {
            "network": {"name": "clmorph", "channels": [4, 8], "embedding": 8, "probabilistic": False},
            "loss": {"regulariser": "diffusion"},
        }
    )
    model = replace(model, network=build("clmorph", config.network.settings).eval(), config=config)
    assert alternative_displacements(model, registered(model)) == []


def test_a_system_without_weights_is_not_run_twice(model, registration):
    assert alternative_displacements(replace(model, folder=None), registration) == []


def test_the_map_lies_on_the_scans_grid_at_the_labels_borders(atlas, registration):
    shifted = registration.displacement.clone()
    shifted[:, 2] += 2.0
    image = disagreement_on_fixed(atlas.labels, registration, [shifted])
    labels = registration.warp(atlas.labels, labels=True)
    assert image.GetSize() == labels.GetSize() and image.GetDirection() == labels.GetDirection()
    means = mean_per_label(image, labels)
    assert set(means) == {1, 2, 3} and all(0.03 < m < 0.6 for m in means.values())


def test_after_a_refinement_the_opinions_lie_around_the_refined_map(atlas, registration):
    moved = torch.zeros_like(registration.displacement)
    moved[:, 2] = 3.0
    refined = replace(registration, displacement=registration.displacement + moved)
    image = disagreement_on_fixed(atlas.labels, refined, [registration.unrefined])
    assert sitk.GetArrayViewFromImage(image).max() == 0


def test_means_per_label():
    labels, values = np.array([[[0, 3, 3, 700]]], np.uint16), np.array([[[9.0, 1.0, 0.0, 0.5]]], np.float32)
    images = [sitk.GetImageFromArray(a) for a in (values, labels)]
    assert mean_per_label(*images) == {3: 0.5, 700: 0.5}
