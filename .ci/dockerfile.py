"""A Dockerfile as a list of instructions, as far as this project's has them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Instruction:
    """One instruction: its word, what follows, and that as a list where it is one."""

    word: str
    text: str

    @property
    def listed(self) -> list[str]:
        """The words of ENTRYPOINT, CMD and COPY."""
        return json.loads(self.text) if self.text.startswith("[") else self.text.split()


def instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, remarks left out, lines that go on joined."""
    lines = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ").splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in lines if line.strip()]


def last(found: list[Instruction], word: str) -> Instruction:
    """The last instruction of that word, which is the one that counts."""
    return [each for each in found if each.word == word][-1]


def environment(found: list[Instruction]) -> dict[str, str]:
    """What ENV sets in the last stage."""
    start = max(n for n, each in enumerate(found) if each.word == "FROM")
    pairs = [pair for each in found[start:] if each.word == "ENV" for pair in each.text.split()]
    return dict(pair.split("=", 1) for pair in pairs)
