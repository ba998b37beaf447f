"""Weights and training states as safetensors: tensors plus a JSON header, never pickle, written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..atomic import atomic_write
from ..errors import FileError

FORMAT = "clmorph/1"


def save(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes tensors (any device) and a JSON header to ``path``, whole or not at all."""
    on_cpu = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    packed = safetensors.torch.save(on_cpu, metadata={"format": FORMAT, "header": json.dumps(header)})
    with atomic_write(path) as temporary:
        temporary.write_bytes(packed)  # with the user's own permissions; safetensors would make it private


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors on the CPU, header) of a file that ``save`` wrote; InputError for any other file."""
    if not path.exists():
        raise FileError(f"{path} does not exist; expected a weights file of CLMorph")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file, not a dict
    except (SafetensorError, OSError) as error:
        raise FileError(
            f"{path} is not a complete safetensors file ({error}); expected weights of CLMorph; copy it again"
        ) from None
    if metadata.get("format") != FORMAT:
        raise FileError(
            f"{path} holds weights of another program or version (format {metadata.get('format')!r}); expected {FORMAT}"
        )
    header = json.loads(metadata.get("header", "{}"))
    if "config" not in header:
        raise FileError(f"{path} holds no configuration; expected weights that a training of CLMorph has saved")
    return tensors, header


def load_into(network: nn.Module, tensors: Mapping[str, Tensor], *, source: Path) -> None:
    """Copies tensors into a network; InputError if a name or a shape differs."""
    own = network.state_dict()
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    other = sorted(name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape)
    if missing or extra or other:
        raise FileError(
            f"{source} does not fit its network: {len(missing)} tensors missing, {len(extra)} unknown, "
            f"{len(other)} of another shape (first: {(missing + extra + other)[0]}); "
            "expected the weights that were saved with this configuration"
        )
    network.load_state_dict(dict(tensors))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as named tensors, ``optimizer.<parameter>.<entry>``."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{entry}": torch.as_tensor(value)
        for index, entries in state.items()
        for entry, value in entries.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of ``optimizer_tensors``."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, entry = name.split(".")
            state.setdefault(int(index), {})[entry] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
