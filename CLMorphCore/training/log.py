"""What a training writes down at each step: JSON lines, read again by its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..atomic import atomic_write, cannot_write
from ..errors import InputError
from ..io.files import parse_json


class Log:
    """JSON lines, one object a record, and optionally TensorBoard's scalars."""

    def __init__(self, path: Path, *, keep_below: int, tensorboard: bool = False) -> None:
        kept = []
        if keep_below and path.exists():  # steps after the checkpoint are repeated
            text = path.read_text(encoding="utf-8", errors="replace")
            kept = [line for line in text.splitlines(keepends=True) if 0 <= _step_of(line) <= keep_below]
        with atomic_write(path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")
        self.path, self.file = path, path.open("a", encoding="utf-8")
        self.board = _tensorboard(path.parent) if tensorboard else None

    def write(self, *, step: int, **values: float) -> None:
        try:
            self.file.write(json.dumps({"step": step, **values}) + "\n")
            self.file.flush()
        except OSError as error:
            raise cannot_write(self.path, error) from None
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()


def _step_of(line: str) -> int:
    """The step of a whole line of a log, −1 for one that is cut off or damaged: the checkpoint is what counts."""
    try:
        step = parse_json(line)["step"] if line.endswith("\n") else -1
    except (ValueError, KeyError, TypeError):
        return -1
    return step if isinstance(step, int) else -1


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("`tensorboard` needs the package tensorboard; install it, or omit the option") from None
    return SummaryWriter(folder)
