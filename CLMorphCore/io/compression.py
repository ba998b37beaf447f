"""Bytes of a file, unpacked on the way and checked to the end: only a checksum tells of a flipped bit.

What unpacks them elsewhere often stops where it has enough and never looks at the checksum.
"""

from __future__ import annotations

import bz2
import os
import zlib
from typing import Any, BinaryIO

CHUNK_BYTES = 1 << 20
MAX_RATIO = {"": 1, "gzip": 1032, "zlib": 1032, "bzip2": 1 << 23}  # unpacked to packed bytes: no stream reaches more
MAX_SURPLUS = 1 << 30  # unpacked bytes beyond what a header tells of, before that is called damage
GZIP, BZIP2 = b"\x1f\x8b", b"BZh"


class Damaged(Exception):
    """Why a stream cannot be read, as the end of a sentence that begins with the file's name: 'is cut off …'."""


class Stream:
    """The bytes of an open file from where it stands, unpacked: ``kind`` is "", gzip, zlib or bzip2.

    ``end`` is where the stream ends in the file, None for the file's end.
    """

    def __init__(self, file: BinaryIO, kind: str = "", end: int | None = None) -> None:
        self.file, self.kind = file, kind
        size = os.fstat(file.fileno()).st_size
        self.left = max(0, (size if end is None else min(end, size)) - file.tell())
        self.unpacker = _unpacker(kind)
        self.pending = b""  # packed bytes that the unpacker has not seen

    def check_room(self, count: int) -> None:
        """Raises Damaged unless ``count`` further bytes can be in the stream: before memory is taken for them."""
        most = self.left * MAX_RATIO[self.kind] + (CHUNK_BYTES if self.kind else 0)
        if count > most:
            raise Damaged(f"is cut off, at least {count - most} bytes of its voxels are missing")

    def read(self, count: int) -> bytearray:
        """``count`` bytes; raises Damaged where there are fewer."""
        self.check_room(count)
        whole, at = bytearray(count), 0
        while at < count:
            piece = self._next(min(CHUNK_BYTES, count - at))
            if not piece:
                raise Damaged(f"is cut off, at least {count - at} bytes of its voxels are missing")
            whole[at : at + len(piece)] = piece
            at += len(piece)
        return whole

    def finish(self, *, more: bool = False) -> str:
        """What follows after what was read, in words, or nothing; raises Damaged for an unsound end.

        With ``more`` the format lets something follow in the stream.
        """
        surplus = self.left if not self.kind else 0
        while self.kind and (piece := self._next(CHUNK_BYTES)):
            surplus += len(piece)
            if surplus > MAX_SURPLUS:
                raise Damaged("holds far more than its header tells of")
        if surplus and not more:
            return f"{surplus} bytes more than its header tells of"
        behind = len(self.pending) + self.left if self.kind else 0
        return f"{behind} bytes after the end of its {self.kind} stream" if behind else ""

    def _next(self, most: int) -> bytes:
        """Some further unpacked bytes, at most ``most``; none at the end."""
        if self.unpacker is None:
            return self._packed(most)
        while True:
            if self.unpacker.eof and not self._another_member():
                return b""
            if not self.pending and getattr(self.unpacker, "needs_input", True):
                self.pending = self._packed(CHUNK_BYTES)
            try:
                piece = self.unpacker.decompress(self.pending, most)
            except (zlib.error, OSError, ValueError, EOFError) as error:
                raise Damaged(f"is damaged, its packed data is unsound ({_short(error)})") from None
            given, self.pending = self.pending, _rest(self.unpacker)
            if piece:
                return piece
            if not given and not self.unpacker.eof:
                raise Damaged("is cut off, its packed data has no end")

    def _packed(self, most: int) -> bytes:
        piece = self.file.read(min(most, self.left))
        self.left = self.left - len(piece) if piece else 0
        return piece

    def _another_member(self) -> bool:
        """Goes on to a further gzip stream that follows at once; padding of zeros is none, and is no surplus."""
        if len(self.pending) < 2 and self.left:
            self.pending += self._packed(CHUNK_BYTES)
        if self.kind == "gzip" and self.pending[:2] == GZIP:
            self.unpacker = _unpacker(self.kind)
            return True
        if not self.pending.strip(b"\0"):
            self.pending = b""
        return False


def packed_kind(start: bytes) -> str:
    """How a file that begins so is packed as a whole."""
    return "gzip" if start[:2] == GZIP else "bzip2" if start[:3] == BZIP2 else ""


def _unpacker(kind: str) -> Any:
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    return None if not kind else zlib.decompressobj(wbits=31 if kind == "gzip" else 47)


def _rest(unpacker: Any) -> bytes:
    """Packed bytes that were given and not used."""
    if unpacker.eof:
        return unpacker.unused_data
    return getattr(unpacker, "unconsumed_tail", b"")


def _short(error: Exception) -> str:
    return str(error).rpartition(": ")[2][:80] or type(error).__name__
