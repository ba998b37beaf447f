"""What the commands of this folder share: bad input is one line, figures are a file of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from CLMorphCore.atomic import atomic_write
from CLMorphCore.errors import CLMorphError


def exit_code(name: str, run: Callable[[], None]) -> int:
    """Runs a command; 0, or 2 for bad input, which is told in one line that begins with the command's name."""
    try:
        run()
    except CLMorphError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0


def write_figures(path: Path, figures: Mapping[str, Any]) -> None:
    """Figures as JSON, one entry a line."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
