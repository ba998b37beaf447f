"""Intermediate results on disk: zeros at first, gone at the end, and no room is said before anything is written."""

import errno
import os
import resource
import signal

import numpy as np
import pytest

from CLMorphCore.errors import OutputError
from CLMorphCore.io import scratch
from CLMorphCore.io.scratch import ScratchRows, scratch_array


def test_an_array_holds_what_is_written_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    with scratch_array((3, 4, 5), "f2") as array:
        assert array.shape == (3, 4, 5) and not array.any()
        array[1] = np.arange(20).reshape(4, 5)
        assert array[1, 3, 4] == 19
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reserve", ["posix_fallocate", "writing"])
def test_a_full_disk_is_said_with_the_folder_before_the_work(reserve, tmp_path, monkeypatch):
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    if reserve == "writing":
        monkeypatch.delattr(scratch.os, "posix_fallocate")
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        said = rf"cannot reserve .* GB .* in {tmp_path}: .*; name a folder .*TMPDIR"
        with pytest.raises(OutputError, match=said), scratch_array((3000, 1000), "f4"):
            raise AssertionError("there is no room")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_work_is_not_taken_for_a_full_disk():
    with pytest.raises(OSError, match="of another file"), scratch_array((2,), "u1"):
        raise OSError(errno.EIO, "of another file", os.devnull)


@pytest.mark.parametrize("small_bytes", [0, 1 << 20], ids=["in a file", "in memory"])
def test_rows_are_kept_exactly_and_leave_no_file(small_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "SMALL_BYTES", small_bytes)
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    rows = ScratchRows(3, (4, 5), np.int32, "give fewer")
    assert len(rows) == 3 and all(not row.any() and row.dtype == np.int32 for row in rows)
    rows[2], rows[0] = np.arange(20).reshape(5, 4).T, np.full((4, 5), 7, np.int64)
    assert np.array_equal(rows[2], np.arange(20).reshape(5, 4).T) and (rows[0] == 7).all() and not rows[1].any()
    assert [row.sum() for row in rows] == [140, 0, 190] and list(tmp_path.iterdir()) == []
    for outside in (3, -1):
        with pytest.raises(IndexError):
            rows[outside]


def test_rows_without_room_are_said_before_the_work(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch, "_reserve", full)
    with pytest.raises(OutputError, match=r"cannot reserve 0\.008 GB.*No space left.*TMPDIR, or give fewer"):
        ScratchRows(2, (1000, 1000), np.float32, "give fewer")
