"""Equation 9: each term without a weight, each weight once."""

import numpy as np
import pytest
import torch

from CLMorphCore.bundles.config import LossConfig
from CLMorphCore.losses import voxel_contrast
from CLMorphCore.networks import TrainingPrediction
from CLMorphCore.training.batches import Batch
from CLMorphCore.training.objective import loss_terms, weighted


def test_equation_9_applies_each_weight_once():
    config = LossConfig(smooth=0.5, contrast=0.25)
    terms = {"similarity": torch.tensor(2.0), "regulariser": torch.tensor(3.0), "contrast": torch.tensor(5.0)}
    assert weighted(config, terms).item() == 2 + 0.5 * 3 + 0.25 * 5


def test_the_terms_carry_no_weight():
    image = torch.rand(2, 1, 8, 8, 8)
    zero = torch.zeros(2, 3, 8, 8, 8)
    prediction = TrainingPrediction(
        zero, zero, mean=zero, log_variance=zero, embeddings=(torch.ones(2, 4), torch.ones(2, 4))
    )
    for weight in (0.1, 10.0):
        terms = loss_terms(LossConfig(smooth=weight, contrast=weight), Batch(image, image), prediction)
        assert terms["similarity"].item() == pytest.approx(0, abs=1e-9)
        assert terms["regulariser"].item() == 0  # N(0, 1) against N(0, 1)
        assert terms["contrast"].item() == pytest.approx(np.log(3))


def test_other_systems_terms_count_only_where_they_have_a_weight():
    image, zero = torch.rand(1, 1, 8, 8, 8), torch.zeros(1, 3, 8, 8, 8)
    fold = zero.clone()
    fold[:, 0] = -2.0 * torch.arange(8).view(1, 8, 1, 1)  # det J = −1 everywhere
    prediction = TrainingPrediction(fold, coarse=(zero[..., ::2, ::2, ::2],), penalty=torch.tensor(3.0))
    silent = LossConfig(regulariser="diffusion", contrast=0.0)
    assert set(loss_terms(silent, Batch(image, image), prediction)) == {"similarity", "regulariser"}
    asked = LossConfig(regulariser="diffusion", contrast=0.0, smooth=0.0, coarse=1.0, folding=2.0, penalty=4.0)
    terms = loss_terms(asked, Batch(image, image), prediction)
    assert (terms["folding"].item(), terms["coarse"].item(), terms["penalty"].item()) == (1.0, 0.0, 3.0)
    assert weighted(asked, terms).item() == pytest.approx(terms["similarity"].item() + 2 * 1.0 + 4 * 3.0)


def test_roughness_is_that_of_the_fields_that_a_network_names():
    image, zero = torch.rand(1, 1, 8, 8, 8), torch.zeros(1, 3, 8, 8, 8)
    ramp = zero.clone()
    ramp[:, 0] = torch.arange(8.0)  # |∇u|² = 1, in one of the nine derivatives
    config = LossConfig(regulariser="diffusion", contrast=0.0)
    for prediction, expected in (
        (TrainingPrediction(ramp), 1 / 9),
        (TrainingPrediction(ramp, regularised=zero), 0.0),
        (TrainingPrediction(zero, regularised=torch.cat([ramp, zero])), 1 / 18),
    ):
        terms = loss_terms(config, Batch(image, image), prediction)
        assert terms["regulariser"].item() == pytest.approx(expected)


def test_the_images_correlation_ignores_gain_and_offset():
    image, zero = torch.rand(1, 1, 8, 8, 8), torch.zeros(1, 3, 8, 8, 8)
    config = LossConfig(similarity="ncc", regulariser="diffusion", contrast=0.0)
    terms = loss_terms(config, Batch(image, 2 * image + 1), TrainingPrediction(zero))
    assert terms["similarity"].item() == pytest.approx(0, abs=1e-6)


def test_contrast_by_voxel_is_least_where_the_same_place_agrees_most():
    features = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    alike, mixed = voxel_contrast(features, features, 0.1), voxel_contrast(features, features.roll(1, 0), 0.1)
    assert alike < 0.2 and mixed > np.log(64)  # ln 64 is what features that say nothing get
    assert voxel_contrast(torch.ones(64, 16), torch.ones(64, 16), 0.1).item() == pytest.approx(np.log(64), rel=1e-5)


def test_contrasted_features_are_those_of_the_foreground_at_matching_places():
    image = torch.zeros(1, 1, 8, 8, 8)
    image[..., :4] = 1.0  # the other half is background, its features are the wrong ones
    place = torch.randn(1, 8, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    moving = place.roll(2, dims=4)
    shift = torch.zeros(1, 3, 8, 8, 8)
    shift[:, 2] = 2.0
    config = LossConfig(regulariser="diffusion", contrast=0.0, voxel_contrast=1.0, voxel_temperature=0.01)
    right, wrong = (
        loss_terms(config, Batch(image, image), TrainingPrediction(u, features=(place, moving)))["voxel_contrast"]
        for u in (shift, torch.zeros_like(shift))
    )
    assert right < 1.0 < wrong  # a voxel may be drawn twice, which costs ln 2
