"""Choosing where to compute: what was asked for, or the best that is there, never something else in silence."""

from __future__ import annotations

import os
import re
from pathlib import Path

import SimpleITK as sitk
import torch

from .errors import DeviceError, OutOfMemory

DEFAULT_MEMORY_GB = 8.0


def choose_device(name: str) -> torch.device:
    """The device called ``auto | cpu | cuda | cuda:N | mps``; InputError if it is absent."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", name):
        raise DeviceError(f"`device={name}`: expected auto, cpu, cuda, cuda:N or mps")
    count = torch.cuda.device_count()
    if name.startswith("cuda") and (not torch.cuda.is_available() or int(name.partition(":")[2] or 0) >= count):
        raise DeviceError(
            f"`device={name}` is not there: torch {torch.__version__} sees {count} CUDA devices; "
            "use `device=auto` or cpu"
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("`device=mps` is not there; use `device=auto` or cpu")
    return torch.device(name)


def memory_gb(device: torch.device) -> float:
    """The memory of a GPU or of this machine, as far as it can be told."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 1e9
    limits = [DEFAULT_MEMORY_GB * 1e9]
    try:
        limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
        limits.append(float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError, AttributeError):  # no Linux, or no limit
        pass
    return min(limits) / 1e9


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python, NumPy, torch or ITK means that there is too little memory."""
    lacking = r"out of memory|can.t allocate memory|not enough memory|failed to allocate|unable to allocate|bad.?alloc"
    return isinstance(error, MemoryError) or re.search(lacking, str(error), re.IGNORECASE) is not None


def out_of_memory(error: BaseException, device: str) -> OutOfMemory:
    """The error of too little memory as one line, with what helps on that device."""
    reason = " ".join(str(error).partition("\n")[0].split())[:200]
    try:
        on_cpu = choose_device(device).type == "cpu"
    except DeviceError:
        on_cpu = True
    where = "of this machine" if on_cpu else "of the graphics card"
    remedy = "close other programs, or crop the images to the organ" if on_cpu else "use `device=cpu`"
    return OutOfMemory(
        f"out of memory with `device={device}`{f' ({reason})' if reason else ''}: the memory {where} is too small for "
        "the images and the network",
        f"{remedy}, or crop the images to the organ" if not on_cpu else remedy,
    )


def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 natively: a training step takes half the time there, elsewhere more."""
    ask = getattr(torch.cpu, "get_capabilities", dict)  # older versions of torch cannot tell
    return bool(ask().get("avx512_bf16", False))


def use_threads(count: int | None) -> None:
    """Limits torch and SimpleITK to ``count`` threads; None leaves their own choice."""
    if count is None:
        return
    torch.set_num_threads(count)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)


def threads_used() -> int:
    """The CPU threads that torch computes with."""
    return torch.get_num_threads()
