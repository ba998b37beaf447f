"""How files are damaged: on the way, on a disk, by hand, by a program that means something else."""

from __future__ import annotations

import random
import re

WORDS = (
    b"nan",
    b"inf",
    b"-1",
    b"0",
    b"1e308",
    b"-1e-320",
    b"99999999999999999999",
    b"9" * 5000,
    b"x" * 300,
    b"''",
    b"[1,2]",
)
WORDS += (b"=cmd", b"\xff\xfe", b"\0", b"[" * 2000, b"{}", b"null", b"true", b"2147483647", b"../../etc")


def mutated(content: bytes, rng: random.Random, *, is_text: bool) -> bytes:
    """The content with one to three kinds of damage; never the same as before."""
    found = content
    while found == content:
        for _ in range(rng.choice((1, 1, 2, 3))):
            kinds = TEXT if is_text or (rng.random() < 0.5 and b"\n" in found[:400]) else BYTES
            found = rng.choice(kinds)(found, rng)
    return found


def flipped(content: bytes, rng: random.Random, start: int) -> bytes:
    """The content with one bit turned at or after byte ``start``."""
    found = bytearray(content)
    found[rng.randrange(start, len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _bits(content: bytes, rng: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 4, 40))):
        # Headers are where meaning is dense.
        end = len(found) if rng.random() < 0.4 else min(len(found), 600)
        found[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(found)


def _run(content: bytes, rng: random.Random) -> bytes:
    """A stretch of one value."""
    start = rng.randrange(len(content)) if rng.random() < 0.4 else rng.randrange(min(len(content), 600))
    length = rng.choice((1, 2, 4, 8, 64, 512))
    return content[:start] + bytes([rng.choice((0, 255, 127, 128, 32))]) * length + content[start + length :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(1, len(content))]


def _lost(content: bytes, rng: random.Random) -> bytes:
    """A stretch is missing in the middle."""
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.choice((1, 3, 100, 512)) :] or b"x"


def _repeated(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start : start + rng.choice((1, 50, 512))] + content[start:]


def _number(content: bytes, rng: random.Random) -> bytes:
    """Four or eight bytes become a number at the end of its range."""
    start = rng.randrange(min(len(content), 600))
    value = rng.choice((b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff" * 8, b"\0" * 8))
    return content[:start] + value + content[start + len(value) :]


def _word(content: bytes, rng: random.Random) -> bytes:
    """A word or a number becomes another one."""
    places = [found.span() for found in re.finditer(rb"[\w.+-]+", content[:20000])]
    if not places:
        return content + b"x"
    start, end = rng.choice(places)
    return content[:start] + rng.choice(WORDS) + content[end:]


def _line(content: bytes, rng: random.Random) -> bytes:
    """A line is lost, doubled, moved to the end or ends elsewhere."""
    lines = content.split(b"\n")
    at = rng.randrange(min(len(lines), 60))
    line = lines.pop(at)
    lines[at:at] = rng.choice(
        ([], [line, line], [line[: len(line) // 2]], [line + b"," * 300], [line.replace(b"=", b":")])
    )
    return b"\n".join(lines) or b"x"


BYTES = (_bits, _bits, _run, _cut, _lost, _repeated, _number, _number)
TEXT = (_word, _word, _word, _line, _bits, _cut, _run)
