"""How ITK is called: without its noise on stderr, and with its reason as one line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CHUNK_BYTES = 1 << 20


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps off stderr what C libraries print there; what went wrong arrives as an exception."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def reason(error: Exception) -> str:
    """The line of ITK's message that holds the reason, without source file, address and errno of another call."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Reason:")]
    return re.sub(r"^\w+ ERROR: |^sitk::ERROR: |\w+\(0x[0-9a-f]+\): ", "", lines[-1]) if lines else "no reason given"
