"""The U-Net's layout: resolutions, skips and channels are those that were asked for."""

import pytest
import torch

from CLMorphCore.errors import InputError
from CLMorphCore.networks.blocks import Conv3d, Decoder, UNet
from CLMorphCore.networks.halvings import Halvings


def test_decoder_brings_every_level_to_the_finest():
    features = [torch.zeros(1, 3, 8, 8, 8), torch.zeros(1, 5, 8, 4, 4), torch.zeros(1, 7, 4, 2, 2)]
    decoder = Decoder([3, 5, 7], [6, 4, 9, 2], norm="none")
    assert decoder(features).shape == (1, 2, 8, 8, 8)
    assert [c.in_channels for c in decoder.modules() if isinstance(c, torch.nn.Conv3d)] == [7, 6 + 5, 4 + 3, 9]


def test_a_level_without_a_convolution_is_refused():
    with pytest.raises(InputError, match=r"network\.decoder is \[8, 4\]; expected a width for each of the 3 levels"):
        UNet(2, (4, 6), (8, 4), Halvings(3))


def test_decoder_can_stop_before_the_images_resolution():
    network = UNet(2, (4, 6), (8, 5), Halvings(3), field_level=1)
    assert network(torch.zeros(1, 2, 8, 8, 12)).shape == (1, 5, 4, 4, 6)


def test_every_skip_reaches_the_output():
    torch.manual_seed(0)
    features = [torch.randn(1, c, n, n, n, requires_grad=True) for c, n in ((3, 8), (5, 4), (7, 2))]
    Decoder([3, 5, 7], [6, 4, 2], norm="none")(features).sum().backward()
    assert all(f.grad.abs().max() > 0 for f in features)


def test_unet_halves_at_every_level_and_leaves_thick_slices_alone():
    network = UNet(2, (4, 6, 8), (8, 6, 4, 4), Halvings(4, flat_levels=2))
    sizes = []
    for stage in network.encoder.stages:
        stage.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[1:])))
    assert network(torch.zeros(1, 2, 8, 16, 24)).shape == (1, 4, 8, 16, 24)
    assert sizes == [(4, 8, 8, 12), (6, 8, 4, 6), (8, 4, 2, 3)]


@pytest.mark.parametrize(("batch", "side", "stride"), [(1, 6, 1), (1, 7, 2), (1, 40, 1), (2, 6, 1)])
def test_convolutions_and_their_gradients_are_those_of_double_precision(batch, side, stride):
    found, right = with_gradients(batch, (side, side, side + 1), 3, stride, mixed=False)
    assert (found - right).abs().max() < 1e-5 * right.abs().max()


THIN = [(2, 2, 2), (2, 4, 8), (1, 3, 5), (3, 1, 4), (4, 5, 1), (9, 1, 6), (3, 2, 2)]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1)])
@pytest.mark.parametrize("batch", [1, 2])
def test_volumes_thinner_than_the_kernel_have_the_right_gradients_in_either_precision(batch, kernel, stride, mixed):
    for shape in [*THIN, (4, 6, 9)] if kernel == 5 else THIN:
        found, right = with_gradients(batch, shape, kernel, stride, mixed=mixed)
        assert (found - right).abs().max() < (2e-2 if mixed else 1e-5) * right.abs().max(), shape


def with_gradients(batch, shape, kernel, stride, *, mixed):
    """Output and gradients of a convolution, flattened, and the same of torch's own in double precision."""
    torch.manual_seed(0)
    how = {"kernel_size": kernel, "stride": stride, "padding": kernel // 2}
    conv = Conv3d(16, 8, **how)
    volume = torch.randn(batch, 16, *shape, requires_grad=True)
    exact = torch.nn.Conv3d(16, 8, **how).double()
    exact.load_state_dict({name: value.double() for name, value in conv.state_dict().items()})
    wide = volume.detach().double().requires_grad_()
    weights = torch.randn(exact(wide).shape)
    for size in (10**3, 10**4, 10**5):  # what a gradient that is not written holds then is no right one by chance
        torch.full((size,), torch.nan)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        output = conv(volume)
    (output * weights).sum().backward()
    (exact(wide) * weights.double()).sum().backward()
    return (torch.cat([p.flatten() for p in (y, c.weight.grad, c.bias.grad, v.grad)]).double()
            for y, c, v in ((output, conv, volume), (exact(wide), exact, wide)))  # fmt: skip
