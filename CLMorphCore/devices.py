"""Choosing where to compute: what was asked for, or the best that is there, never something else in silence."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import SimpleITK as sitk
import torch

from .errors import DeviceError, InputError, OutOfMemory

T = TypeVar("T")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
KEPT_BYTES, MAX_KEPT_BYTES = 32 << 20, 128 << 20  # of one piece, the most that glibc takes; and of all

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


def keep_freed_memory() -> bool:
    """Memory that is freed is used again and not given back to the system, which has to empty every page of it anew.

    Whether that could be asked for: of glibc alone, which else does so with each image and field. A brain's run then
    spends 3 s in the system in place of 5.
    """
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all([libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES), libc.mallopt(M_TRIM_THRESHOLD, MAX_KEPT_BYTES)])


class _Abandoned(BaseException):
    """Raised in a thread whose work nobody waits for any more."""


@contextmanager
def beside(
    work: Callable[[], T], timed: Callable[[], AbstractContextManager[None]], *, together: bool = True
) -> Iterator[Future[T]]:
    """Does ``work`` while the block runs, each on half of the threads; on one thread, or not ``together``, first.

    So what takes one thread alone, or many short steps, is done in the time of something else. The result is there
    after the block. ``timed`` is a block that measures the time that it takes on top of the other's. An error of the
    work is raised even where the block has an InputError, as if the work had come first; what else the block raises, to
    be cancelled for instance, ends the work at its next step.
    """
    threads, done = torch.get_num_threads(), Future[T]()
    if threads == 1 or not together:
        with timed():
            done.set_result(work())
        yield done
        return

    def halved() -> None:
        with suppress(_Abandoned):
            try:
                torch.set_num_threads(threads // 2)  # of this thread alone
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

    thread = threading.Thread(target=halved, name="beside")
    thread.start()
    torch.set_num_threads(threads - threads // 2)
    try:
        yield done
    except BaseException as error:
        if not isinstance(error, InputError):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Abandoned))
            raise
        done.result()
        raise
    finally:
        with timed():
            thread.join()
        torch.set_num_threads(threads)
    done.result()
