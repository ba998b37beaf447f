"""SyN's displacements are in our voxels and order; without ANTsPy the answer is one line that says what to install."""

import sys

import pytest
import torch
import torch.nn.functional as F

from CLMorphCore.bundles.config import from_dict
from CLMorphCore.errors import InputError
from CLMorphCore.networks.baselines.syn import Syn, SynConfig
from CLMorphCore.spatial import compose, integrate, jacobian_determinant, taper, warp

SHAPE = (20, 28, 24)
INSIDE = (..., slice(4, -4), slice(4, -4), slice(4, -4))


def smooth(seed, nodes, channels):
    noise = torch.randn(1, channels, nodes, nodes, nodes, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size=SHAPE, mode="trilinear", align_corners=True)


@pytest.fixture(scope="module")
def pair():
    """(fixed, moving): fixed is moving under a smooth diffeomorphism, another one along each axis."""
    moving = smooth(1, 8, 1)
    factor = torch.tensor([2.0, 1.0, 0.5]).view(1, 3, 1, 1, 1)
    return warp(moving, integrate(taper(factor * smooth(2, 4, 3), 5)), padding="border"), moving


@pytest.fixture(scope="module")
def found(pair):
    pytest.importorskip("ants", reason="needs antspyx, see the extra peers")
    with torch.inference_mode():
        return Syn(SynConfig())(*pair)


def test_its_field_registers_in_our_convention(pair, found):
    fixed, moving = pair
    before, after = (F.mse_loss(x[INSIDE], fixed[INSIDE]) for x in (moving, warp(moving, found.displacement)))
    assert found.displacement.dtype == torch.float32 and after < 0.2 * before
    back_before, back = (F.mse_loss(x[INSIDE], moving[INSIDE]) for x in (fixed, warp(fixed, found.inverse)))
    assert back < 0.2 * back_before


def test_its_inverse_undoes_it_without_folds(found):
    assert jacobian_determinant(found.displacement).min() > 0
    assert compose(found.displacement, found.inverse).abs().mean() < 0.05


def test_the_same_pair_gets_the_same_answer(pair, found):
    assert torch.equal(Syn(SynConfig())(*pair).displacement, found.displacement)


def test_without_antspy_it_says_what_to_install(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "ants", None)
    with pytest.raises(InputError, match=r"syn needs the package antspyx, .*; pip install antspyx==0\.6\.3"):
        Syn(SynConfig())(*pair)


def test_other_transforms_are_refused():
    with pytest.raises(InputError, match=r"network.transform is 'Affine'; expected one of antsRegistrationSyN\[so\]"):
        from_dict({"network": {"name": "syn", "transform": "Affine"}})
