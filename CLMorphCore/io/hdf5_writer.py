"""HDF5 files written: groups, words and rows of numbers, packed where they are long. What any HDF5 since 1.8 reads.

HDF5 File Format Specification, version 3: superblock and object headers in their first version, which needs no
checksums, members of a group as link messages in its header.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, Union

import numpy as np

# A group by the names of its members: groups, words, and rows (N,) of float32 or float64.
Tree: TypeAlias = Mapping[str, Union["Tree", str, np.ndarray]]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
NOWHERE = 2**64 - 1
SUPERBLOCK_BYTES = 96
PACKED_FROM = 1024  # numbers, below which they lie there as they are
CHUNK = 1 << 16  # numbers that are packed together, at least
HALF_NODE = 32  # of a tree of chunks: this many pairs of them it has room for
LEVEL = 4  # of zlib: 6 takes twice as long for a hundredth less
DATASPACE, LINK_INFO, DATATYPE, FILL_VALUE, LINK, LAYOUT, GROUP_INFO, FILTERS = 1, 2, 3, 5, 6, 8, 10, 11
DEFLATE, SHUFFLE = 1, 2
# size → bit of the sign; exponent's first bit, bits; mantissa's first bit, bits; bias
IEEE = {4: (31, 23, 8, 0, 23, 127), 8: (63, 52, 11, 0, 52, 1023)}


def write(path: Path, tree: Tree) -> None:
    """Writes a file whose root is ``tree``; OSError where that fails."""
    file = _File()
    root = file.group(tree)
    start = struct.pack("<8s 5B 3B 2H I", SIGNATURE, 0, 0, 0, 0, 0, 8, 8, 0, 4, 16, 0)
    start += struct.pack("<4Q", 0, NOWHERE, file.end, NOWHERE)
    start += struct.pack("<2Q 2I 16x", 0, root, 0, 0)
    with path.open("wb") as stream:
        stream.writelines([start, *file.blocks])


class _File:
    """The blocks after the superblock, each placed where the last one ends."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.end = SUPERBLOCK_BYTES

    def place(self, block: bytes) -> int:
        """The address of a block."""
        address = self.end
        block += bytes(-len(block) % 8)
        self.blocks.append(block)
        self.end += len(block)
        return address

    def group(self, tree: Tree) -> int:
        """The address of a group, whose members are placed before it."""
        messages = [
            (LINK_INFO, struct.pack("<2B 2Q", 0, 0, NOWHERE, NOWHERE)),  # members are in the header, not in a heap
            (GROUP_INFO, bytes(2)),
        ]
        for name, member in tree.items():
            if isinstance(member, str):
                address = self._word(member)
            elif isinstance(member, np.ndarray):
                address = self._numbers(member)
            else:
                address = self.group(member)
            letters = name.encode("ascii")
            messages.append((LINK, struct.pack("<3B", 1, 0, len(letters)) + letters + struct.pack("<Q", address)))
        return self._header(messages)

    def _header(self, messages: Sequence[tuple[int, bytes]]) -> int:
        content = b""
        for kind, body in messages:
            body += bytes(-len(body) % 8)
            content += struct.pack("<2H 4x", kind, len(body)) + body
        return self.place(struct.pack("<BxH2I4x", 1, len(messages), 1, len(content)) + content)

    def _word(self, word: str) -> int:
        """A row of one word of any length, as ITK writes names: the word itself lies in a heap."""
        letters = word.encode("ascii")
        held = struct.pack("<2H4xQ", 1, 1, len(letters)) + letters + bytes(-len(letters) % 8)
        free = 4096 - 16 - len(held)
        heap = self.place(
            b"GCOL" + struct.pack("<B3xQ", 1, 4096) + held + struct.pack("<2H4xQ", 0, 0, free) + bytes(free - 16)
        )
        data = self.place(struct.pack("<IQI", len(letters), heap, 1))
        letter = struct.pack("<4BI2H", 0x10, 0, 0, 0, 1, 0, 8)
        return self._dataset(1, struct.pack("<4BI", 0x19, 1, 0, 0, 16) + letter, [_contiguous(data, 16)])

    def _numbers(self, row: np.ndarray) -> int:
        row = np.ascontiguousarray(row, row.dtype.newbyteorder("<"))
        size = row.dtype.itemsize
        sign, *layout, bias = IEEE[size]
        kind = struct.pack("<4BI 2H 4B I", 0x11, 0x20, sign, 0, size, 0, 8 * size, *layout, bias)
        if len(row) < PACKED_FROM:
            return self._dataset(len(row), kind, [_contiguous(self.place(row.tobytes()), row.nbytes)])
        length = max(CHUNK, -(-len(row) // (2 * HALF_NODE)))
        layout_message = struct.pack("<3BQ2I", 3, 2, 2, self._chunks(row, length), length, size)
        filters = struct.pack("<2B6x", 1, 2) + b"".join(
            struct.pack("<4HI4x", number, 0, 0, 1, value) for number, value in ((SHUFFLE, size), (DEFLATE, LEVEL))
        )
        return self._dataset(len(row), kind, [(LAYOUT, layout_message), (FILTERS, filters)])

    def _chunks(self, row: np.ndarray, length: int) -> int:
        """The address of the tree of a row's chunks."""
        size = row.dtype.itemsize
        starts = range(0, len(row), length)
        packed = [_packed(row[start : start + length], length) for start in starts]
        node = b"TREE" + struct.pack("<2BH2Q", 1, 0, len(packed), NOWHERE, NOWHERE)
        for start, chunk in zip(starts, packed, strict=True):
            node += struct.pack("<2I2Q", len(chunk), 0, start, 0) + struct.pack("<Q", self.place(chunk))
        node += struct.pack("<2I2Q", 0, 0, len(packed) * length, size)
        return self.place(node.ljust(24 + (2 * HALF_NODE + 1) * 24 + 2 * HALF_NODE * 8, b"\0"))

    def _dataset(self, count: int, kind: bytes, messages: Sequence[tuple[int, bytes]]) -> int:
        space = struct.pack("<3B5xQ", 1, 1, 0, count)
        fill = struct.pack("<4B", 2, 2, 2, 0)  # room is taken late, and filled with nothing
        return self._header([(DATASPACE, space), (DATATYPE, kind), (FILL_VALUE, fill), *messages])


def _contiguous(address: int, size: int) -> tuple[int, bytes]:
    return LAYOUT, struct.pack("<2B2Q", 3, 1, address, size)


def _packed(numbers: np.ndarray, length: int) -> bytes:
    """A chunk of ``length`` numbers, zeros after those given: first bytes, then second ones …, packed."""
    whole = np.zeros(length, numbers.dtype)
    whole[: len(numbers)] = numbers
    return zlib.compress(whole.view(np.uint8).reshape(length, -1).T.tobytes(), LEVEL)
