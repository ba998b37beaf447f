"""The average of two trainings' weights."""

import pytest
import torch

from CLMorphCore.bundles import checkpoint
from CLMorphCore.errors import InputError
from Training.average import average, main


def weights(value, size=3):
    return {"a.weight": torch.full((size, 2), float(value)), "a.bias": torch.full((size,), -float(value))}


def test_the_average_lies_between_by_its_share():
    for share in (0.0, 0.25, 1.0):
        found = average(weights(1), weights(5), share)
        for name, value in weights(1 + 4 * share).items():
            torch.testing.assert_close(found[name], value)


def test_the_command_writes_weights_with_the_seconds_settings(tmp_path, capsys):
    for name, value in (("first", 0), ("second", 2)):
        checkpoint.save(tmp_path / name, weights(value), {"config": {"of": name}, "step": value})
    assert main([str(tmp_path / "first"), str(tmp_path / "second"), "--share", "0.5", "-o", str(tmp_path / "out")]) == 0
    found, header = checkpoint.load(tmp_path / "out")
    assert header == {"config": {"of": "second"}, "step": 2, "share": 0.5}
    torch.testing.assert_close(found["a.weight"], weights(1)["a.weight"])
    assert main([str(tmp_path / "first"), str(tmp_path / "second"), "--share", "2", "-o", str(tmp_path / "no")]) == 2
    assert "--share is 2" in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_weights_of_two_networks_have_no_average():
    with pytest.raises(InputError, match="different networks"):
        average(weights(1), weights(1, size=4), 0.5)
