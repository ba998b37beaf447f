"""Files and folders appear whole or not at all, and what killed runs left goes; nothing else does."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from CLMorphCore.atomic import atomic_folder, atomic_write, check_writable, remove_leftovers
from CLMorphCore.errors import InputError


@pytest.fixture
def dead_process():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_file_appears_whole_and_keeps_its_ending(tmp_path):
    with atomic_write(tmp_path / "new" / "a.nii.gz") as temporary:
        assert temporary.name.endswith("a.nii.gz") and temporary.parent == tmp_path / "new"
        temporary.write_text("all")
        assert not (tmp_path / "new" / "a.nii.gz").exists()
    assert names(tmp_path / "new") == ["a.nii.gz"]


def test_a_failed_write_keeps_the_file_that_was_there(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("whole", [atomic_write, atomic_folder])
def test_a_full_disk_is_an_input_error(tmp_path, whole):
    said = r"cannot write .*out: No space left on device; choose"
    with pytest.raises(InputError, match=said), whole(tmp_path / "out"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names(tmp_path) == []


@pytest.mark.parametrize("whole", [atomic_write, atomic_folder])
def test_a_place_below_a_file_is_an_input_error(tmp_path, whole):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"), whole(tmp_path / "file" / "out"):
        raise AssertionError("nothing can be written there")
    assert (tmp_path / "file").read_text(encoding="utf-8") == ""


def test_a_new_folder_appears_at_once_with_the_usual_permissions(tmp_path):
    (tmp_path / "usual").mkdir()
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "a").write_text("a")
        assert not (tmp_path / "out").exists()
    assert names(tmp_path) == ["out", "usual"] and names(tmp_path / "out") == ["a"]
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_files_of_an_existing_folder_are_replaced_and_others_stay(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("old")
    (tmp_path / "out" / "mine").write_text("mine")
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "a").write_text("new")
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["a", "mine"]
    assert (tmp_path / "out" / "a").read_text(encoding="utf-8") == "new"


def test_the_current_folder_can_be_the_output(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with atomic_folder(Path()) as temporary:
        (temporary / "a").write_text("a")
    assert names(tmp_path) == ["here"] and names(tmp_path / "here") == ["a"]


def test_an_existing_folder_is_written_on_its_own_disk_and_its_leftovers_go(tmp_path, dead_process):
    (tmp_path / "out" / f".clmorph-{dead_process}-out").mkdir(parents=True)
    with atomic_folder(tmp_path / "out") as temporary:
        assert temporary.parent == tmp_path / "out" and names(tmp_path / "out") == [temporary.name]
    assert names(tmp_path / "out") == []


def test_what_an_earlier_run_made_and_this_one_did_not_goes(tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("a", "b", "mine"):
        (tmp_path / "out" / name).write_text("old")
    with atomic_folder(tmp_path / "out", optional=("a", "b", "c")) as temporary:
        (temporary / "a").write_text("new")
    assert names(tmp_path / "out") == ["a", "mine"] and (tmp_path / "out" / "a").read_text(encoding="utf-8") == "new"


def test_whole_folders_of_an_existing_folder_are_replaced(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "out" / name).mkdir(parents=True)
        (tmp_path / "out" / name / "old").write_text("old")
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "a").mkdir()
        (temporary / "a" / "new").write_text("new")
    assert names(tmp_path / "out") == ["a", "b"]
    assert names(tmp_path / "out" / "a") == ["new"] and names(tmp_path / "out" / "b") == ["old"]


def test_only_leftovers_of_dead_runs_with_the_same_output_are_removed(tmp_path, dead_process):
    living = os.getppid()
    kept = {
        f".clmorph-{living}-out",
        f".clmorph-{dead_process}-{living}-out",
        f".clmorph-{dead_process}-out.txt",
        ".clmorph-notes-out",
        "out",
    }
    for name in kept | {f".clmorph-{dead_process}-out", f".clmorph-{os.getpid()}-out", ".clmorph-99999999999999-out"}:
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("made")
    remove_leftovers(tmp_path / "out")
    assert set(names(tmp_path)) == kept


def test_leftovers_of_names_with_special_characters_are_found(tmp_path, dead_process):
    (tmp_path / f".clmorph-{dead_process}-a[1]*.txt").write_text("half")
    with atomic_write(tmp_path / "a[1]*.txt") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == ["a[1]*.txt"]


@pytest.mark.parametrize("below", ["file", "file/deeper/out", "x" * 300])
def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"(is a file; expected a folder|cannot write).*choose"):
        check_writable(tmp_path / below)


def test_looking_for_a_writable_place_leaves_nothing(tmp_path):
    check_writable(tmp_path / "new" / "out")
    assert names(tmp_path) == []
