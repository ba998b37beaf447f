"""Fenced code blocks of Markdown pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r"^(?P<indent> *)(?P<marks>```+|~~~+)(?P<info>[^`\n]*)\n(?P<code>.*?)^(?P=indent)(?P=marks) *$", re.M | re.S
)
REMARK = re.compile(r"<!-- not run: (?P<why>[^>]+) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """One block: its language, its text, where it begins, and why it is not run, where a remark before it says so."""

    page: Path
    line: int
    language: str
    code: str
    not_run: str = ""
    start: int = 0  # of the code in the page's text
    end: int = 0

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order; directives ({…}) are none."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        info = match["info"].strip()
        if info.startswith("{"):
            continue
        remark = REMARK.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        why = remark["why"] if remark else ""
        found.append(Block(page, line, info, match["code"], why, match.start("code"), match.end("code")))
    return found


def commands_of(code: str) -> list[str]:
    """The commands of a shell block: without remarks, lines that go on joined."""
    joined = re.sub(r"\\\n\s*", "", code)
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]
