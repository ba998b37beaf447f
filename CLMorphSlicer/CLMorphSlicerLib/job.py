"""The engine as a child process: its output goes to files, a timer looks at them, another file asks it to stop.

Nothing here knows Qt or MRML, and there is no thread and no pipe to read: in Slicer, Python's threads stand still while
the window waits, and a pipe that nobody reads stops the engine.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from .words import _, engine_sentence

GRACE_S = 1.5  # after a request to stop; then the process is ended
LOG_LINES = 400
TAIL_LINES = 12
CHUNK_BYTES = 1 << 18  # read at most this much per look, so that a chatty engine cannot stop the window
CANCELLED = 130
CREATE_NO_WINDOW = 0x08000000  # of Windows; subprocess has the name there only


class State(Enum):
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Progress:
    """Where the engine is: step for people to read, fraction of the whole run (0 to 1), seconds left or None."""

    step: str = ""
    fraction: float = 0.0
    seconds_left: float | None = None


class EngineError(RuntimeError):
    """A run that failed: str() is the engine's own sentence, `log` the last lines that it wrote."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class EngineCancelled(RuntimeError):
    """A run that was stopped before its end."""


def python_executable() -> str:
    """The Python that runs the engine: PythonSlicer inside Slicer, where sys.executable is Slicer itself."""
    found = shutil.which("PythonSlicer")
    if found:
        return found
    if Path(sys.executable).stem.lower().startswith("python"):
        return sys.executable
    raise EngineError(_("Slicer's Python (PythonSlicer) was not found on the PATH; start Slicer by its launcher"))


def prepare_engine(
    root: Path, arguments: list[str], folder: Path, keep: bool = False, platform: str = os.name
) -> list[str]:
    """Lay what runs the engine found in `root` into `folder`; returns the command line, to be started there.

    The engine is tied to the life of this process. The command line is plain ASCII whatever the paths are: they stand
    in a file, because the launcher of Slicer 5.10 breaks other letters in Windows.
    """
    shutil.copyfile(Path(__file__).with_name("child.py"), folder / "child.py")
    told = {
        "root": str(root),
        "arguments": [str(argument) for argument in arguments],
        "remove": None if keep else str(folder),
        "parent": os.getpid() if platform == "nt" else None,
    }
    (folder / "arguments.json").write_text(json.dumps(told), encoding="ascii")
    return [python_executable(), "child.py"]


def start_process(command: list[str], folder: Path, platform: str = os.name) -> subprocess.Popen:
    """Start a command in `folder`: its standard output goes to `stdout.txt`, its errors to `stderr.txt` there.

    Its input is held open, by which it knows that this process lives; in Windows it has none (see child.py).
    """
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    windows = platform == "nt"
    own_group: dict[str, Any] = {"creationflags": CREATE_NO_WINDOW} if windows else {"start_new_session": True}
    given = subprocess.DEVNULL if windows else subprocess.PIPE
    with open(folder / "stdout.txt", "wb") as output, open(folder / "stderr.txt", "wb") as errors:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdin=given, stdout=output, stderr=errors, **own_group
        )


def end_process(process: subprocess.Popen) -> None:
    """End a process and everything that it started, and wait until they are gone."""
    if process.poll() is None:
        if os.name == "nt":
            kill = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
            with suppress(OSError):
                subprocess.run(kill, capture_output=True, creationflags=CREATE_NO_WINDOW, check=False)
            with suppress(OSError):  # and what taskkill did not end is not waited for in vain
                process.kill()
        else:
            with suppress(ProcessLookupError, PermissionError):  # ended meanwhile; the latter is what macOS says of it
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin:
        process.stdin.close()


class Tail:
    """The lines added to a file since the last look; undecodable bytes become replacement characters."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._rest = path, 0, b""

    def lines(self, to_the_end: bool = False) -> list[str]:
        """The whole lines that are new; with `to_the_end` the last one need not be ended by a newline."""
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            data = file.read(-1 if to_the_end else CHUNK_BYTES)
        self._offset += len(data)
        *whole, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if to_the_end:
            whole.append(self._rest)
        return [line.decode("utf-8", "replace") for line in whole if line.strip()]


class Job:
    """One run of the engine in `folder`. Call `poll` now and then; `state`, `progress`, `message`, `log` tell the rest.

    start(command, folder) -> process is what starts it; end(process) is what ends it by force.
    """

    def __init__(
        self, command: list[str], folder: Path, *, start=start_process, end=end_process, clock=time.monotonic
    ) -> None:
        self.folder = folder
        self.state = State.RUNNING
        self.progress = Progress()
        self.message = ""
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.lines_logged = 0
        self._answer: dict = {}
        self._end, self._clock, self._cancelled_at = end, clock, 0.0
        self._heard_at = clock()
        self._process = start(command, folder)
        self._output, self._errors = Tail(folder / "stdout.txt"), Tail(folder / "stderr.txt")

    @staticmethod
    def cancel_file(folder: Path) -> Path:
        """The file whose appearance asks the engine to stop."""
        return folder / "cancel"

    @property
    def active(self) -> bool:
        return self.state in (State.RUNNING, State.CANCELLING)

    @property
    def silence_s(self) -> float:
        """Seconds since the engine's last word."""
        return self._clock() - self._heard_at

    @property
    def log_tail(self) -> str:
        return "\n".join(list(self.log)[-TAIL_LINES:])

    def poll(self) -> State:
        """Read what the engine has said, see whether it has ended, and return the state."""
        if not self.active:
            return self.state
        code = self._process.poll()
        ended = code is not None
        said, complained = self._output.lines(to_the_end=ended), self._errors.lines(to_the_end=ended)
        for line in said:
            self._hear(line)
        for line in complained:
            self._note(line)
        if said or complained:
            self._heard_at = self._clock()
        if ended:
            self._finish(code)
        elif self.state is State.CANCELLING and self._clock() - self._cancelled_at > GRACE_S:
            self.stop()
        return self.state

    def cancel(self) -> None:
        """Ask the engine to stop; it is ended by force when it has not done so after GRACE_S."""
        if self.state is State.RUNNING:
            with suppress(OSError):  # a full disk: then by force alone
                self.cancel_file(self.folder).touch()
            self.state, self._cancelled_at = State.CANCELLING, self._clock()

    def stop(self) -> None:
        """End the engine at once."""
        if self.active:
            self._end(self._process)
            self.state = State.CANCELLED

    def _note(self, line: str) -> None:
        self.log.append(line)
        self.lines_logged += 1

    def _hear(self, line: str) -> None:
        event = _event(line)
        kind = event.get("event")
        if kind == "progress":
            self.progress = _progress(event)
        elif kind in ("done", "error", "cancelled"):
            self._answer = event
        else:
            self._note(line)

    def _finish(self, code: int) -> None:
        self._end(self._process)
        kind = self._answer.get("event")
        if code == 0 and kind == "done":
            self.state, self.progress = State.DONE, Progress(_("loading the results"), 1.0)
        elif code == CANCELLED or kind == "cancelled":
            self.state = State.CANCELLED
        else:
            self.state = State.FAILED
            self.message = engine_sentence(self._answer) or _reason(code)


def _event(line: str) -> dict:
    """The JSON object in a line, or {} when it holds anything else."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _progress(event: dict) -> Progress:
    fraction = min(max(_number(event.get("fraction")) or 0.0, 0.0), 1.0)
    return Progress(str(event.get("step", "")), fraction, _number(event.get("seconds_left")))


def _reason(code: int) -> str:
    if code == 0:
        return _("The engine ended without a result.")
    if code < 0 or code > 255:
        return _("The engine was ended by the system (exit code {code}); often there was too little memory.").format(
            code=code
        )
    return _("The engine stopped with exit code {code}; the log says why.").format(code=code)
