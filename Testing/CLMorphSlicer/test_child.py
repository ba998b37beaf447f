"""The child process on Windows, as far as Linux lets it be tried: the watch over the parent, no input, the launcher."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from CLMorphSlicerLib import child, job
from qt_fixtures import TIME_OUT_S

GONE, DENIED = 87, 5  # Windows' numbers for a process that is not there, and for one that may not be waited for

# kernel32 over Linux's processes: a handle is the process's number, waiting for it is looking again and again
KERNEL32 = """
import ctypes, locale, runpy, time
def setlocale(category, name):
    print("locale", category == locale.LC_CTYPE, name, flush=True)
    raise locale.Error("an older Windows")
locale.setlocale = setlocale
def wait(handle, milliseconds):
    while True:
        try:
            state = open(f"/proc/{handle}/stat").read().rsplit(")")[-1].split()[0]
        except OSError:
            return 0
        if state == "Z":
            return 0
        time.sleep(0.01)
class Kernel32:
    pass
kernel32 = Kernel32()
kernel32.GetLastError = lambda: 0
class Function:
    def __init__(self, call): self.call = call
    def __call__(self, *arguments): return self.call(*arguments)
kernel32.OpenProcess = Function(lambda rights, inherit, pid: pid)
kernel32.WaitForSingleObject = Function(wait)
kernel32.CloseHandle = Function(lambda handle: 1)
ctypes.WinDLL = lambda name: kernel32
runpy.run_path("child.py", run_name="__main__")
"""


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "Müller, 1"
    path.mkdir()
    return path


@pytest.fixture
def engine_root(tmp_path):
    """An engine that tells its surroundings and then waits."""
    package = tmp_path / "Wurzel ö" / "CLMorphCore"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import json, sys, time\n"
        "print(json.dumps(sys.argv), flush=True)\n"
        "time.sleep(0 if 'quick' in sys.argv else 60)\n"
    )
    return package.parent


class Kernel32:
    """Notes what is asked of it; `opened` is the handle that OpenProcess gives, 0 with an error."""

    def __init__(self, opened: int, error: int = 0) -> None:
        self.calls = []
        self.OpenProcess = lambda *arguments: self.calls.append(("open", *arguments)) or opened
        self.WaitForSingleObject = lambda *arguments: self.calls.append(("wait", *arguments)) or 0
        self.CloseHandle = lambda *arguments: self.calls.append(("close", *arguments)) or 1
        self.GetLastError = lambda: error


def test_end_of_the_parent_is_waited_for_with_the_right_to_wait_alone():
    kernel32 = Kernel32(opened=77)
    assert child.wait_for_process(4711, kernel32)
    assert kernel32.calls == [("open", 0x00100000, False, 4711), ("wait", 77, 0xFFFFFFFF), ("close", 77)]


@pytest.mark.parametrize(("error", "gone"), [(GONE, True), (DENIED, False)])
def test_parent_that_cannot_be_waited_for_is_gone_only_where_there_is_no_such_process(error, gone):
    kernel32 = Kernel32(opened=0, error=error)
    assert child.wait_for_process(4711, kernel32) is gone
    assert [name for name, *_ in kernel32.calls] == ["open"]


def test_folder_goes_with_the_parent_and_stays_where_the_parent_cannot_be_watched(folder):
    codes = []
    child.end_with_parent(lambda: False, str(folder), codes.append)
    assert folder.exists() and codes == []
    child.end_with_parent(lambda: True, str(folder), codes.append)
    assert not folder.exists() and codes == [130]
    os.chdir(Path(__file__).parent)  # the child leaves the folder that it removes


def test_there_is_no_input_on_windows(folder, monkeypatch):
    started = {}
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: started.update(options))
    job.start_process(["python", "child.py"], folder, platform="nt")
    assert started["stdin"] == subprocess.DEVNULL and started["creationflags"] == 0x08000000
    job.start_process(["python", "child.py"], folder, platform="posix")
    assert started["stdin"] == subprocess.PIPE and started["start_new_session"]


def test_child_is_told_whom_to_watch_on_windows_alone(engine_root, folder):
    for platform, parent in (("nt", os.getpid()), ("posix", None)):
        job.prepare_engine(engine_root, ["segment"], folder, platform=platform)
        assert json.loads((folder / "arguments.json").read_text(encoding="ascii"))["parent"] == parent


def test_without_input_the_child_ends_with_the_process_that_it_watches(engine_root, folder):
    parent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    job.prepare_engine(engine_root, ["slow"], folder)
    told = json.loads((folder / "arguments.json").read_text(encoding="ascii"))
    (folder / "arguments.json").write_text(json.dumps({**told, "parent": parent.pid}), encoding="ascii")
    output = open(folder.parent / "said.txt", "wb")  # noqa: SIM115
    process = subprocess.Popen(
        [sys.executable, "-c", KERNEL32], cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
    )
    wait_until(lambda: "slow" in (folder.parent / "said.txt").read_text(encoding="utf-8"))
    assert process.poll() is None and folder.exists()
    said = (folder.parent / "said.txt").read_text(encoding="utf-8").splitlines()
    assert said[0] == "locale True .UTF8"  # before the engine: or ITK finds no model below a folder named Müller
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert process.wait(TIME_OUT_S) == 130 and not folder.exists()
    output.close()


def wait_until(condition) -> None:
    end = time.monotonic() + TIME_OUT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_letters_beyond_ascii_reach_the_engine_through_a_launcher_that_breaks_them(engine_root, folder, monkeypatch):
    """Stands for the launcher of Slicer 5.10 on Windows (commontk/AppLauncher): its arguments pass an 8-bit string."""
    launcher = folder.parent / "launcher" / "PythonSlicer"
    launcher.parent.mkdir()
    launcher.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "broken = [word.encode('ascii', 'replace').decode() for word in sys.argv[1:]]\n"
        "os.execv(sys.executable, [sys.executable, *broken])\n"
    )
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(launcher.parent), prepend=os.pathsep)
    command = job.prepare_engine(engine_root, ["quick", "größe 1", Path("Ünïcode")], folder)
    assert command[0] == str(launcher) and all(word.isascii() for word in command[1:])
    process = job.start_process(command, folder)
    assert process.wait(TIME_OUT_S) == 0, (folder / "stderr.txt").read_text("utf-8")
    process.stdin.close()
    assert json.loads((folder / "stdout.txt").read_text("utf-8"))[1:] == ["quick", "größe 1", "Ünïcode"]
