"""Weights and states come back as they were, or not at all."""

import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from CLMorphCore.bundles import checkpoint
from CLMorphCore.errors import InputError

HEADER = {"config": {"network": {"name": "ü"}}, "step": 3}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))


def test_tensors_and_header_come_back(tmp_path):
    tensors = {"a": torch.rand(2, 3).T, "whole": torch.tensor(5), "half": torch.rand(4).bfloat16()}
    checkpoint.save(tmp_path / "deep" / "w.safetensors", tensors, HEADER)
    found, header = checkpoint.load(tmp_path / "deep" / "w.safetensors")
    assert header == HEADER and found.keys() == tensors.keys()
    assert all(found[name].equal(tensors[name]) and found[name].dtype == tensors[name].dtype for name in tensors)
    assert os.listdir(tmp_path / "deep") == ["w.safetensors"]


def test_tensors_that_share_memory_are_saved_each(tmp_path):
    shared = torch.rand(4)
    checkpoint.save(tmp_path / "w", {"a": shared, "b": shared[:2]}, HEADER)
    assert checkpoint.load(tmp_path / "w")[0]["b"].equal(shared[:2])


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_a_cut_file_is_refused(tmp_path, keep):
    checkpoint.save(tmp_path / "w", {"a": torch.rand(100)}, HEADER)
    (tmp_path / "w").write_bytes((tmp_path / "w").read_bytes()[:keep])
    with pytest.raises(InputError, match=r"not a complete safetensors file .*; expected .*; copy it again"):
        checkpoint.load(tmp_path / "w")


def test_files_of_others_are_refused(tmp_path):
    save_file({"a": torch.rand(2)}, tmp_path / "w")
    with pytest.raises(InputError, match=r"another program or version .*; expected clmorph/1"):
        checkpoint.load(tmp_path / "w")
    with pytest.raises(InputError, match="does not exist; expected a weights file"):
        checkpoint.load(tmp_path / "none")


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda t: t.pop("0.bias"), "1 tensors missing, 0 unknown, 0 of another shape .*0.bias"),
        (lambda t: t.update(new=torch.zeros(1)), "0 tensors missing, 1 unknown, 0 of another shape .*new"),
        (lambda t: t.update({"0.bias": torch.zeros(3)}), "0 tensors missing, 0 unknown, 1 of another shape .*0.bias"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(change, said):
    own, tensors = network(), {name: t + 1 for name, t in network().state_dict().items()}
    change(tensors)
    with pytest.raises(InputError, match=f"does not fit its network: {said}"):
        checkpoint.load_into(own, tensors, source="w")
    assert all(t.equal(network().state_dict()[name]) for name, t in own.state_dict().items())


def test_an_optimizer_goes_on_as_if_it_had_not_stopped(tmp_path):
    def run(own, optimizer, steps):
        for step in steps:
            torch.manual_seed(step)
            optimizer.zero_grad()
            own(torch.rand(2, 1, 5, 5, 5)).square().mean().backward()
            optimizer.step()

    whole = network()
    run(whole, torch.optim.Adam(whole.parameters()), range(6))
    first = network()
    optimizer = torch.optim.Adam(first.parameters())
    run(first, optimizer, range(3))
    checkpoint.save(tmp_path / "w", dict(first.state_dict()) | checkpoint.optimizer_tensors(optimizer), HEADER)

    tensors, _ = checkpoint.load(tmp_path / "w")
    second = network()
    optimizer = torch.optim.Adam(second.parameters())
    checkpoint.load_into(second, {n: t for n, t in tensors.items() if not n.startswith("optimizer.")}, source="w")
    checkpoint.restore_optimizer(optimizer, tensors)
    run(second, optimizer, range(3, 6))
    assert all(t.equal(second.state_dict()[name]) for name, t in whole.state_dict().items())


def test_the_same_content_is_the_same_file(tmp_path):
    tensors, header = {"b": torch.arange(3.0), "a": torch.ones(2, 2)}, {"config": {"né": "ü\u2028"}, "steps": 3}
    for n in range(20):
        checkpoint.save(tmp_path / f"{n}.safetensors", tensors, header)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    loaded, kept = checkpoint.load(tmp_path / "0.safetensors")
    assert kept == header and all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_a_state_that_lacks_a_part_is_refused_with_what_to_do():
    one = network()
    optimizer = torch.optim.Adam(one.parameters())
    one(torch.rand(2, 1, 4, 4, 4)).sum().backward()
    optimizer.step()
    tensors = checkpoint.optimizer_tensors(optimizer)
    tensors.pop("optimizer.0.exp_avg")
    with pytest.raises(InputError, match=r"lacks a part .* expected a whole one; copy it again, or make it anew$"):
        checkpoint.restore_optimizer(optimizer, tensors)
