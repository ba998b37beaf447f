"""Damaged files of every kind end in an answer or one line: a sample of what `python -m Training.robustness` counts."""

import os
import random
from pathlib import Path

import pytest

from CLMorphCore.errors import InputError

if not hasattr(os, "fork"):
    pytest.skip("the command forks", allow_module_level=True)

import resource

from Training.robustness.__main__ import PACKED, count
from Training.robustness.mutations import flipped, mutated
from Training.robustness.processes import CRASH, HANG, READ, REFUSED, TRACEBACK, outcomes
from Training.robustness.samples import samples

FILES, FLIPS = 12, 12
MAX_PEAK_MB, LIBRARIES_MB = 1000, 250  # of which the libraries themselves take 250


def resident_mb():
    """Memory of this process that is in use, where a file tells; else 0, and nothing is taken off."""
    if not Path("/proc/self/statm").exists():
        return 0.0
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize() / 1e6


@pytest.fixture(scope="module")
def sound():
    return samples()


@pytest.mark.parametrize("kind", samples())
def test_damaged_files_end_in_an_answer_or_one_line(kind, sound):
    found = count(kind, sound[kind], FILES, turned=FLIPS)
    assert found[READ] + found[REFUSED] == FILES, found
    assert not found[TRACEBACK] and not found[CRASH] and not found[HANG]
    beside = found["peak_mb"] - max(0.0, resident_mb() - LIBRARIES_MB)  # of the suite's process, which was forked
    assert not found.get("of_them_read_with_other_voxels") and beside < 2 * MAX_PEAK_MB
    assert (kind in PACKED) == ("flipped_bits" in found)


@pytest.mark.parametrize("kind", samples())
def test_a_sound_file_of_every_kind_is_read(kind, sound, tmp_path):
    (tmp_path / sound[kind].name).write_bytes(sound[kind].content)
    sound[kind].read(tmp_path / sound[kind].name)


def test_every_end_is_told_apart(tmp_path, monkeypatch):
    def read(path):
        what = path.read_bytes().decode()
        if what == "crash":
            os.abort()
        if what == "hang":
            while True:
                pass
        if what == "traceback":
            raise KeyError(what)
        if what == "refused":
            raise InputError("given", "expected")

    monkeypatch.setattr("Training.robustness.processes.SECONDS", 1)
    ends = [READ, REFUSED, TRACEBACK, CRASH, READ, HANG, READ, CRASH, CRASH]
    assert [one.what for one in outcomes(read, tmp_path / "a", [end.encode() for end in ends])] == ends


def test_a_mutation_is_another_content_and_the_same_for_a_seed():
    content = b"NRRD0004\ntype: float\n" + bytes(range(256)) * 4
    for is_text in (True, False):
        made = [mutated(content, random.Random(seed), is_text=is_text) for seed in range(200)]
        assert content not in made and len(set(made)) > 150
        assert made == [mutated(content, random.Random(seed), is_text=is_text) for seed in range(200)]
    assert sum(a != b for a, b in zip(content, flipped(content, random.Random(0), 21), strict=True)) == 1
