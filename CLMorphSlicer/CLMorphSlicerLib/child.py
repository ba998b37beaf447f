"""Runs the engine as arguments.json beside this file tells, and ends with the program that started it.

arguments.json: {"root": folder that holds CLMorphCore, "arguments": the engine's, "remove": folder to be removed when
the parent is gone or null, "parent": process id to watch or null}. Nothing that is not plain ASCII stands in the
command line: the launcher of Slicer 5.10 cannot hand it on in Windows.

Elsewhere than in Windows the parent keeps the other end of this process's standard input: when it closes it, dies or
is killed, reading it comes to an end. In Windows a thread that waits for input while libraries are loaded stops them
(numpy's issue 24290), so there is no input there, and the end of the parent's process is waited for instead. Both work
through PythonSlicer's launcher, which a signal to the launched process does not.
"""

import json
import locale
import os
import runpy
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

CANCELLED = 130
SYNCHRONIZE = 0x00100000  # the right to wait for a process
INFINITE = 0xFFFFFFFF
ERROR_INVALID_PARAMETER = 87  # there is no process of that number


def wait_for_input_to_end() -> bool:
    """Return, true, when nobody holds the other end of standard input any more."""
    while os.read(0, 4096):
        pass
    return True


def wait_for_process(pid: int, kernel32: Any = None) -> bool:
    """Return when the process has ended; false at once where Windows does not let it be waited for."""
    kernel32 = kernel32 or _kernel32()
    handle = kernel32.OpenProcess(SYNCHRONIZE, False, pid)
    if not handle:
        return kernel32.GetLastError() == ERROR_INVALID_PARAMETER
    kernel32.WaitForSingleObject(handle, INFINITE)
    kernel32.CloseHandle(handle)
    return True


def _kernel32() -> Any:
    import ctypes

    kernel32 = getattr(ctypes, "WinDLL")("kernel32")  # noqa: B009  (a checker on another system misses it)
    kernel32.OpenProcess.restype = ctypes.c_void_p  # a handle is as wide as a pointer
    kernel32.OpenProcess.argtypes = (ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32)
    kernel32.WaitForSingleObject.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    kernel32.CloseHandle.argtypes = (ctypes.c_void_p,)
    return kernel32


def end_with_parent(parent_is_gone: Callable[[], bool], folder: str | None, end: Callable[[int], None]) -> None:
    """Wait for the parent's end, remove the folder, and end this process by end(exit code)."""
    if not parent_is_gone():
        return
    if folder:
        os.chdir(os.path.dirname(folder))
        shutil.rmtree(folder, ignore_errors=True)
    end(CANCELLED)


def take_names_for_utf8() -> None:
    """Let C code open the files that Python names: Windows' own code page lacks letters of people's folders.

    The models lie below the folder of the user where Slicer is installed for one user, and ITK opens them by C's means.
    Slicer itself declares UTF-8, Python does not. Windows before 10 (1803) cannot do it.
    """
    with suppress(locale.Error):
        locale.setlocale(locale.LC_CTYPE, ".UTF8")


def main() -> None:
    told = json.loads(Path(__file__).with_name("arguments.json").read_text(encoding="ascii"))
    sys.path[0] = told["root"]  # in place of this file's own folder, whose names are of no use to the engine
    sys.argv = ["clmorph", *told["arguments"]]
    parent = told["parent"]
    if parent is not None:
        take_names_for_utf8()
    parent_is_gone = wait_for_input_to_end if parent is None else lambda: wait_for_process(parent)
    watch = (parent_is_gone, told["remove"], os._exit)
    threading.Thread(target=end_with_parent, args=watch, daemon=True).start()
    runpy.run_module("CLMorphCore", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
