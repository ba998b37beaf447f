"""The engine as a child process: progress, answers, requests to stop, and every way of ending badly."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from CLMorphSlicerLib import job
from CLMorphSlicerLib.job import Job, Progress, State
from qt_fixtures import TIME_OUT_S, fake_engine


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "Ordner mit Leerzeichen äöü"
    path.mkdir()
    return path


def make_job(mood: str, folder: Path, **options) -> Job:
    arguments = ["segment", folder / "image.nii.gz", "-o", folder / "output", "--cancel-file", folder / "cancel"]
    command = job.prepare_engine(Path("/engine"), arguments, folder)
    return Job(command, folder, start=fake_engine(mood), **options)


def wait(running: Job, condition=None) -> Job:
    condition = condition or (lambda: not running.active)
    end = time.monotonic() + TIME_OUT_S
    while not condition():
        assert time.monotonic() < end
        running.poll()
        time.sleep(0.01)
    return running


def is_alive(pid: int) -> bool:
    """Whether a process still runs; one that has ended and was not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False


def test_progress_is_read_while_the_engine_works(folder):
    running = make_job("waits", folder)
    wait(running, lambda: running.progress.fraction > 0)
    assert running.progress.step == "network" and running.progress.seconds_left == 72.4
    assert running.state is State.RUNNING
    running.stop()


def test_cancel_asks_first_and_the_engine_obeys(folder):
    running = make_job("waits", folder, end=lambda process: process.stdin.close())  # no force: it has to obey
    wait(running, lambda: running.progress.fraction > 0)
    running.cancel()
    assert running.state is State.CANCELLING and (folder / "cancel").exists()
    assert wait(running).state is State.CANCELLED


def test_engine_deaf_to_cancel_is_ended_with_its_children(folder):
    ticks = iter(range(0, 10_000, 1))
    running = make_job("hangs", folder, clock=lambda: next(ticks))
    wait(running, (folder / "grandchild").exists)
    pid = int((folder / "grandchild").read_text(encoding="utf-8"))
    running.cancel()
    assert wait(running).state is State.CANCELLED
    end = time.monotonic() + TIME_OUT_S
    while is_alive(pid):
        assert time.monotonic() < end, "the engine's own child outlived it"
        time.sleep(0.01)


def test_force_comes_only_after_the_time_of_grace(folder):
    now = [0.0]
    running = make_job("hangs", folder, clock=lambda: now[0])
    wait(running, (folder / "grandchild").exists)
    running.cancel()
    now[0] = job.GRACE_S * 0.9
    assert running.poll() is State.CANCELLING
    now[0] = job.GRACE_S * 1.1
    assert running.poll() is State.CANCELLED
    assert job.GRACE_S < 2


def test_cancel_works_on_a_disk_that_is_full(folder, monkeypatch):
    now = [0.0]
    running = make_job("hangs", folder, clock=lambda: now[0])
    wait(running, (folder / "grandchild").exists)

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)  # the engine cannot be asked
    running.cancel()
    assert running.state is State.CANCELLING
    now[0] = job.GRACE_S * 1.1
    assert running.poll() is State.CANCELLED


@pytest.mark.parametrize("error", [ProcessLookupError, PermissionError])  # the latter on macOS, of one that just ended
def test_engine_that_ends_while_it_is_ended_is_no_error(folder, monkeypatch, error):
    running = make_job("refuses", folder)
    process = running._process
    process.wait(TIME_OUT_S)
    monkeypatch.setattr(process, "poll", lambda: None)  # as it was a moment ago

    def gone(*_arguments):
        raise error

    monkeypatch.setattr(os, "killpg", gone)
    running.stop()
    assert running.state is State.CANCELLED


def test_engines_own_sentence_is_the_message(folder):
    running = wait(make_job("refuses", folder))
    assert running.state is State.FAILED
    assert running.message == "the image has 2 slices, expected at least 16; give a volume"


def test_crash_tells_the_end_of_the_log(folder):
    running = wait(make_job("crashes", folder))
    assert running.state is State.FAILED
    assert "ended by the system" in running.message
    assert running.log_tail.endswith("MemoryError: too little memory")


def test_garbage_is_kept_as_log_and_never_raises(folder):
    running = wait(make_job("babbles", folder))
    assert running.state is State.FAILED and running.message == "The engine ended without a result."
    assert running.progress == Progress("network", 1.0, None)
    assert any("not json" in line for line in running.log)


def test_one_look_reads_a_bounded_amount(folder):
    (folder / "text").write_bytes(b"a" * 3 * job.CHUNK_BYTES + b"\nend")
    tail = job.Tail(folder / "text")
    looks = [tail.lines() for _ in range(4)]
    assert [len(lines) for lines in looks] == [0, 0, 0, 1]
    assert tail.lines(to_the_end=True) == ["end"]


def test_line_in_two_parts_is_read_once_and_whole(folder):
    path = folder / "text"
    path.write_bytes("größe".encode()[:3])
    tail = job.Tail(path)
    assert tail.lines() == []
    with open(path, "ab") as file:
        file.write("größe".encode()[3:] + b"\r\nnext")
    assert tail.lines() == ["größe"]


def test_process_that_exits_zero_without_an_answer_has_failed(folder):
    class Ended:
        stdin = None

        def poll(self) -> int:
            return 0

    def start(command, folder):
        (folder / "stdout.txt").touch()
        (folder / "stderr.txt").touch()
        return Ended()

    running = Job([], folder, start=start)
    assert running.poll() is State.FAILED


@pytest.fixture
def engine_root(tmp_path):
    """A folder with an engine that reports its surroundings and then sleeps."""
    package = tmp_path / "Wurzel ö" / "CLMorphCore"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import json, os, sys, time\n"
        "print(json.dumps([sys.argv, sys.flags.utf8_mode, os.getcwd()]), flush=True)\n"
        "time.sleep(0 if 'quick' in sys.argv else 60)\n"
    )
    return package.parent


def test_engine_is_found_and_given_its_arguments(engine_root, folder):
    command = job.prepare_engine(engine_root, ["quick", "größe 1"], folder)
    process = job.start_process(command, folder)
    assert process.wait(TIME_OUT_S) == 0, (folder / "stderr.txt").read_text(encoding="utf-8")
    said = (folder / "stdout.txt").read_text("utf-8")
    assert "quick" in said and '"gr\\u00f6\\u00dfe 1"], 1,' in said
    process.stdin.close()


def test_child_ends_with_its_parent_and_removes_the_folder(engine_root, folder):
    code = (
        "import sys, time; sys.path.append(sys.argv[1])\n"
        "from pathlib import Path\n"
        "from CLMorphSlicerLib import job\n"
        "root, folder = Path(sys.argv[2]), Path(sys.argv[3])\n"
        "print(job.start_process(job.prepare_engine(root, ['slow'], folder), folder).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    library = Path(job.__file__).parents[1]
    stub = folder.parent / "stub"  # job.py and its words are needed, and the library's other files need slicer
    (stub / "CLMorphSlicerLib").mkdir(parents=True)
    for name in ("job.py", "child.py", "words.py"):
        (stub / "CLMorphSlicerLib" / name).write_bytes((library / "CLMorphSlicerLib" / name).read_bytes())
    command = [sys.executable, "-c", code, str(stub), str(engine_root), str(folder)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    end = time.monotonic() + TIME_OUT_S
    while not (folder / "stdout.txt").read_text(encoding="utf-8"):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert is_alive(pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while is_alive(pid) or folder.exists():
        assert time.monotonic() < end, "the engine outlived the program that started it"
        time.sleep(0.01)
    parent.stdout.close()


def test_process_that_taskkill_leaves_running_is_not_waited_for_in_vain(monkeypatch):
    """On Windows: where taskkill is not there or not allowed, the process itself is ended all the same."""

    class Process:
        pid, stdin, killed = 4711, None, False

        def poll(self) -> int | None:
            return 1 if self.killed else None

        def kill(self) -> None:
            self.killed = True

        def wait(self) -> int:
            assert self.killed, "it would be waited for as long as it runs, in Slicer's own thread"
            return 1

    def missing(*_arguments, **_options):
        raise FileNotFoundError("taskkill")

    for taskkill in (lambda *_arguments, **_options: None, missing):
        process = Process()
        with monkeypatch.context() as patched:
            patched.setattr(job.os, "name", "nt")
            patched.setattr(job.subprocess, "run", taskkill)
            job.end_process(process)
        assert process.killed


def test_interpreter_is_pythonslicer_where_there_is_one(monkeypatch):
    monkeypatch.setattr(job.shutil, "which", lambda name: f"/slicer/bin/{name}")
    assert job.python_executable() == "/slicer/bin/PythonSlicer"


def test_slicer_itself_is_never_taken_for_python(monkeypatch):
    monkeypatch.setattr(job.shutil, "which", lambda name: None)
    monkeypatch.setattr(job.sys, "executable", "/slicer/bin/SlicerApp-real")
    with pytest.raises(job.EngineError, match="PythonSlicer"):
        job.python_executable()
