"""Runs the tutorials block by block, as a reader would, and holds what they print against what the pages show.

    python docs/make.py tutorials            # fails where a command fails or prints something else
    python docs/make.py tutorials --update   # puts what is printed into the pages

Each page has an empty folder. ``sh`` blocks are run by bash and ``python`` blocks in one interpreter; a ``text`` block
behind one is what it prints. Numbers may differ a little: other processors round otherwise.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .blocks import Block, blocks_of
from .places import DOCS, ROOT

PAGES = sorted((DOCS / "tutorials").glob("*.md"))
NUMBER = re.compile(r"\d+(?:\.\d+)?")
PROCESSES = 2
MAX_DIFFERENCE = 0.05  # of numbers, as a share of the larger or as it is


class TutorialError(Exception):
    """A block of a tutorial that fails, or prints something else."""


def run_all(pages: list[Path], *, update: bool = False) -> None:
    """Runs the pages, two at a time; TutorialError for those that do not do what they say."""
    own = [sys.executable, str(DOCS / "make.py"), "tutorials", *(["--update"] if update else [])]

    def run(page: Path) -> str:
        ran = subprocess.run([*own, str(page)], capture_output=True, text=True, encoding="utf-8")
        print(ran.stdout, end="", flush=True)
        return ran.stderr if ran.returncode else ""

    with ThreadPoolExecutor(PROCESSES) as processes:
        failed = [said for said in processes.map(run, pages) if said]
    if failed:
        raise TutorialError("\n".join(failed))


def run_alone(page: Path, *, update: bool = False) -> None:
    """Runs one page in an empty folder; TutorialError for the first block that does not do what it says."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        run_page(page, update=update)
    print(f"{page.relative_to(DOCS)}: every block ran")


def run_page(page: Path, *, update: bool = False) -> None:
    """Runs one page in the working folder."""
    names: dict[str, object] = {}
    text, shift = page.read_text(encoding="utf-8"), 0
    for block, shown in _with_output(blocks_of(page)):
        printed = _run(block, names)
        if shown and update:
            text = text[: shown.start + shift] + printed + text[shown.end + shift :]
            shift += len(printed) - (shown.end - shown.start)
        elif shown and not alike(shown.code, printed):
            raise TutorialError(f"{block} prints\n{printed}\nand the page shows\n{shown.code}")
    if update:
        page.write_text(text, encoding="utf-8")


def _with_output(blocks: list[Block]) -> Iterator[tuple[Block, Block | None]]:
    """Each block to run with the ``text`` block right behind it."""
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language in ("sh", "python") and not block.not_run:
            yield block, following if following and following.language == "text" else None


def _run(block: Block, names: dict[str, object]) -> str:
    if block.language == "python":
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(block.code, str(block), "exec"), names)
        except Exception as error:
            raise TutorialError(f"{block} raises {type(error).__name__}: {error}") from error
        return printed.getvalue()
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": paths, "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    code = 'set -e\nclmorph() { python -m CLMorphCore "$@"; }\n' + block.code  # of this tree, also if not installed
    ran = subprocess.run(["bash", "-c", code], capture_output=True, text=True, env=environment, encoding="utf-8")
    if ran.returncode:
        raise TutorialError(f"{block} ended with {ran.returncode}\n{ran.stdout}{ran.stderr}")
    return ran.stdout.replace(f"{Path.cwd()}/", "")  # some paths are printed whole


def alike(shown: str, printed: str) -> bool:
    """Whether two texts are the same but for small differences of their numbers and for blanks at the ends of lines."""
    lines = [[line.rstrip() for line in text.strip().splitlines()] for text in (shown, printed)]
    words = [[" ".join(NUMBER.sub("#", line).split()) for line in each] for each in lines]
    numbers = [[float(n) for line in each for n in NUMBER.findall(line)] for each in lines]
    return words[0] == words[1] and all(
        abs(a - b) <= MAX_DIFFERENCE * max(1.0, abs(a), abs(b)) for a, b in zip(*numbers, strict=True)
    )
