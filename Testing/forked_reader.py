"""ITK's reading process, forked from one that has ITK imported: in place of a new Python for each file of a test.

As a program it takes a line of JSON for each file, [words of the engine's command after ``itk_child.py``, answer], runs
the engine's own ``itk_child.main`` in a fork with the same limits, and writes how that ended.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace


class Reader:
    """What the engine finds as ``subprocess`` while it reads: ``run`` asks the process that forks."""

    DEVNULL, PIPE, TimeoutExpired = subprocess.DEVNULL, subprocess.PIPE, subprocess.TimeoutExpired

    def __init__(self, folder: Path) -> None:
        self.answer, self.lock, self.owner, self.process = folder / "answer", threading.Lock(), os.getpid(), None

    def run(self, command, **how):
        """As ``subprocess.run``; in a process that the tests forked, with a Python of its own."""
        if os.getpid() != self.owner:
            return subprocess.run(command, **how)
        *start, child, what, path, limit = command
        with self.lock:
            if self.process is None:
                self.process = subprocess.Popen(
                    [*start, __file__, child],
                    env=how["env"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    encoding="utf-8",
                )
            line = json.dumps([[what, os.path.abspath(path), limit], str(self.answer)])
            print(line, file=self.process.stdin, flush=True)
            code = int(self.process.stdout.readline())
            return SimpleNamespace(returncode=code, stdout=self.answer.read_bytes())


@contextmanager
def forked_reader() -> Iterator[None]:
    """The engine's reading processes are forks; where there is no fork, as always."""
    from CLMorphCore.io import itk

    if not hasattr(os, "fork"):
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        reader, real = Reader(Path(folder)), itk.subprocess
        itk.subprocess = reader
        try:
            yield
        finally:
            itk.subprocess = real
            if reader.process is not None:
                reader.process.communicate()


def serve(child: str) -> None:
    """Answers until stdin ends."""
    spec = importlib.util.spec_from_file_location("itk_child", child)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    for line in sys.stdin:
        (what, path, limit), answer = json.loads(line)
        fork = os.fork()
        if fork == 0:
            file = os.open(answer, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            try:
                program.main(what, path, int(limit))
                os._exit(0)
            finally:
                os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
