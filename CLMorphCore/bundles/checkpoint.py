"""Weights and training states as safetensors: tensors plus a JSON header, never pickle, written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..atomic import atomic_write
from ..errors import FileError
from ..io.files import check_file, parse_json, short

COPY = "copy it again, or make it anew"
FORMAT = "clmorph/1"
LENGTH_BYTES, ALIGNED_BYTES = 8, 8  # of safetensors: the number before its header, and where its tensors begin
MAX_COUNT = 2**53  # of steps and seconds


def save(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes tensors (any device) and a JSON header to ``path``, whole or not at all."""
    on_cpu = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    packed = safetensors.torch.save(on_cpu, metadata={"format": FORMAT, "header": json.dumps(header)})
    with atomic_write(path) as temporary:
        temporary.write_bytes(_in_order(packed))  # with the user's own permissions; safetensors would make it private


def _in_order(packed: bytes) -> bytes:
    """The same file with its metadata in one order: safetensors' is another each time, and so would be a checksum."""
    start, end = LENGTH_BYTES, LENGTH_BYTES + int.from_bytes(packed[:LENGTH_BYTES], "little")
    tree = json.loads(packed[start:end])
    tree["__metadata__"] = dict(sorted(tree["__metadata__"].items()))
    text = json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNED_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + packed[end:]


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors on the CPU, header) of a file that ``save`` wrote; InputError for any other file."""
    check_file(path, "a weights file of CLMorph")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file, not a dict
    except MemoryError:
        raise
    except Exception as error:  # of a damaged header safetensors raises SafetensorError, but torch and Python others
        raise FileError(
            f"{path} is not a complete safetensors file ({short(error)}); expected weights of CLMorph; {COPY}"
        ) from None
    if metadata.get("format") != FORMAT:
        raise FileError(
            f"{path} holds weights of another program or version (format {short(metadata.get('format'))}); "
            f"expected {FORMAT}"
        )
    bad = next((name for name, tensor in tensors.items() if not _is_finite(tensor)), None)
    if bad is not None:
        raise FileError(f"{path} is damaged, {bad} holds numbers that are not finite; expected weights; {COPY}")
    return tensors, _header(path, metadata.get("header", "{}"))


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _header(path: Path, text: str) -> dict[str, Any]:
    """The header of weights, with a configuration and, where there are any, steps and seconds that are numbers."""
    try:
        header = parse_json(text)
    except ValueError as error:
        raise FileError(f"{path} is damaged, its header is no JSON ({short(error)}); {COPY}") from None
    if not isinstance(header, dict) or not isinstance(header.get("config"), dict):
        raise FileError(f"{path} holds no configuration; expected weights that a training of CLMorph has saved")
    for name, kind in (("step", int), ("seconds", int | float), ("best", int | float)):
        value = header.get(name, 0)
        if not isinstance(value, kind) or isinstance(value, bool) or not 0 <= value < MAX_COUNT:
            raise FileError(f"{path} is damaged, its {name} is {short(value)}; expected a number; {COPY}")
    return header


def load_into(network: nn.Module, tensors: Mapping[str, Tensor], *, source: Path) -> None:
    """Copies tensors into a network; InputError if a name or a shape differs."""
    own = network.state_dict()
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    other = sorted(
        name
        for name in own.keys() & tensors.keys()
        if (own[name].shape, own[name].dtype) != (tensors[name].shape, tensors[name].dtype)
    )
    if missing or extra or other:
        raise FileError(
            f"{source} does not fit its network: {len(missing)} tensors missing, {len(extra)} unknown, "
            f"{len(other)} of another shape or type (first: {(missing + extra + other)[0]}); "
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
    """The inverse of ``optimizer_tensors``; FileError for a state of other parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, entry = (*name.split("."), "", "")[:3]
            number = int(index) if index.isdecimal() and len(index) < 9 else len(parameters)
            if number >= len(parameters) or (tensor.dim() and tensor.shape != parameters[number].shape):
                raise FileError(f"the checkpoint holds {short(name)}, which fits no parameter; {COPY}")
            state.setdefault(number, {})[entry] = tensor
    if len({frozenset(entries) for entries in state.values()}) > 1:
        raise FileError(f"the checkpoint lacks a part of the optimizer's state; expected a whole one; {COPY}")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
