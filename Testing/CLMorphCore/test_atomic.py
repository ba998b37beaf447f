"""Files and folders appear whole or not at all, and what killed runs left goes; nothing else does."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from CLMorphCore import atomic
from CLMorphCore.atomic import (
    atomic_folder,
    atomic_write,
    check_not_overwritten,
    check_writable,
    claimed,
    host,
    remove_leftovers,
    remove_temporaries,
)
from CLMorphCore.errors import InputError, OutputError


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


def test_files_in_folders_of_an_existing_folder_are_replaced_and_others_stay(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "out" / name).mkdir(parents=True)
        (tmp_path / "out" / name / "old").write_text("old")
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "a").mkdir()
        (temporary / "a" / "new").write_text("new")
    assert names(tmp_path / "out") == ["a", "b"]
    assert names(tmp_path / "out" / "a") == ["new", "old"] and names(tmp_path / "out" / "b") == ["old"]


def test_a_folder_of_the_users_in_a_results_place_is_left_alone(tmp_path):
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "mine").write_text("mine")
    with pytest.raises(OutputError, match="a is a folder there already"), atomic_folder(tmp_path / "out") as temporary:
        (temporary / "a").write_text("new")
    assert names(tmp_path / "out") == ["a"] and names(tmp_path / "out" / "a") == ["mine"]


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


def test_leftovers_of_another_host_or_of_this_runs_other_thread_stay(tmp_path, dead_process):
    stay = [f".clmorph-h00000000-{dead_process}.0-out", f".clmorph-h{host()}-{os.getppid()}.0-out"]
    for name in (*stay, f".clmorph-h{host()}-{dead_process}.3-out"):
        (tmp_path / name).mkdir()
    with atomic_folder(tmp_path / "out") as mine:
        remove_leftovers(tmp_path / "out")
        assert mine.is_dir() and mine.name.startswith(f".clmorph-h{host()}-{os.getpid()}.")
    assert names(tmp_path) == sorted([*stay, "out"])


def test_two_threads_write_the_same_file_without_losing_either(tmp_path):
    with atomic_write(tmp_path / "a") as first, atomic_write(tmp_path / "a") as second:
        first.write_text("1")
        second.write_text("2")
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text(encoding="utf-8") in "12"


@pytest.mark.parametrize("length", [200, 255])
def test_names_as_long_as_a_file_system_takes_can_be_written(tmp_path, length):
    name = "ä" * ((length - 7) // 2) + ".nii.gz"
    with atomic_write(tmp_path / name) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("all")
    assert names(tmp_path) == [name]


def test_a_name_that_is_too_long_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"cannot write .*: File name too long"), atomic_write(tmp_path / ("x" * 300)):
        raise AssertionError("nothing can be written there")


@pytest.mark.parametrize("dies_at", range(1, 6))
def test_a_kill_between_renames_never_leaves_two_runs_files_under_one_certificate(tmp_path, dies_at, monkeypatch):
    class Killed(BaseException):
        pass

    out, count = tmp_path / "out", 0
    out.mkdir()
    for name in ("a", "report.json", "z"):
        (out / name).write_text("old")

    def replace(source, target, rename=os.replace):
        nonlocal count
        count += 1
        if count == dies_at:
            raise Killed
        rename(source, target)

    monkeypatch.setattr(atomic.os, "replace", replace)
    try:
        with atomic_folder(out, certificate="report.json") as temporary:
            for name in ("a", "report.json", "z"):
                (temporary / name).write_text("new")
    except Killed:
        pass
    monkeypatch.undo()
    found = {name: (out / name).read_text(encoding="utf-8") for name in names(out) if not name.startswith(".")}
    if "report.json" in found:
        assert len(set(found.values())) == 1 and len(found) == 3
    assert found["a"] and found["z"]


def test_a_folder_is_held_by_one_run_at_a_time(tmp_path):
    for output in (tmp_path / "out", tmp_path / "deep" / "er" / "out"):
        with claimed(output):
            said = "out is being written to by another run of this process.*choose"
            with pytest.raises(InputError, match=said), claimed(output):
                raise AssertionError("it is held")
            with claimed(output.with_name("other")):
                pass
        with claimed(output):
            pass
    assert names(tmp_path) == []


def test_a_folder_that_appears_meanwhile_is_still_held(tmp_path):
    with claimed(tmp_path / "run"):
        (tmp_path / "run").mkdir()
        with pytest.raises(InputError, match="is being written to"), claimed(tmp_path / "run"):
            raise AssertionError("it is held")
    assert names(tmp_path) == ["run"] and names(tmp_path / "run") == []


def test_a_claim_of_a_living_process_or_another_host_holds_and_a_dead_ones_does_not(tmp_path, dead_process):
    with claimed(tmp_path / "out"):
        (claim,) = tmp_path.glob(".clmorph-run-*")
        content = claim.read_text(encoding="utf-8")
    for owner, said in (
        ({"process": os.getppid()}, f"by process {os.getppid()};"),
        ({"host": "00000000", "node": "elsewhere", "process": 1}, "by process 1 on elsewhere;"),
        ({"process": dead_process}, None),
        ({"process": os.getpid()}, None),  # of an earlier process of that number
    ):
        claim.write_text(json.dumps(json.loads(content) | owner), encoding="utf-8")
        if said is None:
            with claimed(tmp_path / "out"):
                pass
            assert names(tmp_path) == []
        else:
            with pytest.raises(InputError, match=rf"{said} .*delete .*clmorph-run"), claimed(tmp_path / "out"):
                raise AssertionError("it is held")
            assert claim.exists()
            claim.unlink()


def test_of_many_runs_that_start_at_once_one_gets_the_folder(tmp_path):
    gate, got = threading.Barrier(8), []

    def run():
        gate.wait()
        try:
            with claimed(tmp_path / "out"):
                got.append("got")
                done.wait()
        except InputError:
            got.append("refused")
        finally:
            if len(got) == 8:
                done.set()

    done = threading.Event()
    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(got) < 8:
        done.wait(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert sorted(got) == ["got"] + ["refused"] * 7 and names(tmp_path) == []


def test_what_is_left_before_an_exit_goes(tmp_path):
    with atomic_folder(tmp_path / "out") as folder, atomic_write(tmp_path / "a") as file, claimed(tmp_path / "b"):
        (folder / "half").write_text("half")
        file.write_text("half")
        remove_temporaries()
        assert names(tmp_path) == []
        folder.mkdir()
        file.write_text("whole")
    assert names(tmp_path) == ["a", "out"]


@pytest.fixture
def scan_in_output(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels.nii.gz").write_text("the user's own")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    (tmp_path / "scan.nii.gz").symlink_to(tmp_path / "out" / "labels.nii.gz")
    os.link(tmp_path / "out" / "labels.nii.gz", tmp_path / "hard.nii.gz")
    return tmp_path


@pytest.mark.parametrize("output", ["out", "link", "out/../out", "./out/"])
@pytest.mark.parametrize("file", ["out/labels.nii.gz", "link/labels.nii.gz", "scan.nii.gz", "hard.nii.gz"])
def test_a_result_that_would_replace_an_input_is_found(output, file, scan_in_output, monkeypatch):
    monkeypatch.chdir(scan_in_output)
    for path in (Path(file), scan_in_output / file):
        with pytest.raises(InputError, match=r"the result .*labels.nii.gz would replace .*; choose another"):
            check_not_overwritten(Path(output), ("report.json", "labels.nii.gz"), [None, "none.csv", path])
    check_not_overwritten(Path(output), ("report.json", "warped.nii.gz"), [file])


def test_an_input_below_a_folder_that_is_replaced_is_found(scan_in_output):
    with pytest.raises(InputError, match="would replace"):
        check_not_overwritten(scan_in_output, ("out",), [scan_in_output / "out" / "labels.nii.gz"])


def test_a_claim_holds_although_parents_appear_meanwhile(tmp_path):
    with claimed(tmp_path / "x" / "y"):
        (tmp_path / "x").mkdir()
        with pytest.raises(InputError), claimed(tmp_path / "x" / "y"):
            pass


def test_a_disk_that_takes_a_claims_name_and_not_its_content_keeps_neither(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.json, "dump", full)
    with pytest.raises(OutputError, match="No space left"), claimed(tmp_path):
        pass
    assert names(tmp_path) == []


def test_a_claim_holds_by_whatever_path_the_folder_is_reached(tmp_path):
    """As two containers or hosts have mounted it."""
    (tmp_path / "here" / "out").mkdir(parents=True)
    for output in ("out", "new/out"):
        with claimed(tmp_path / "here" / output):
            (claim,) = tmp_path.rglob(".clmorph-run-*")
            text = json.loads(claim.read_text(encoding="utf-8")) | {"process": os.getppid()}
            claim.write_text(json.dumps(text), encoding="utf-8")
            (tmp_path / "here").rename(tmp_path / "there")
            with pytest.raises(InputError, match="is being written to"), claimed(tmp_path / "there" / output):
                raise AssertionError("it is held")
            (tmp_path / "there").rename(tmp_path / "here")


@pytest.fixture
def case_ignored(monkeypatch):
    """A disk that takes names for one that differ in case, as far as ``samefile`` tells."""

    def same(first, second):
        both = [os.path.realpath(path).casefold() for path in (first, second)]
        return both[0] == both[1]

    monkeypatch.setattr(atomic.os.path, "samefile", same)


def test_where_case_is_ignored_another_case_is_the_same_folder_and_the_same_input(tmp_path, case_ignored):
    said = pytest.raises(InputError, match="is being written to")
    with claimed(tmp_path / "out"), said, claimed(tmp_path / "OUT"):
        raise AssertionError("it is held")
    for file in ("out/Labels.NII.gz", "OUT/labels.nii.gz"):
        with pytest.raises(InputError, match="would replace"):
            check_not_overwritten(tmp_path / "out", ["labels.nii.gz"], [tmp_path / file])


def test_where_case_is_told_apart_another_case_is_another_folder(tmp_path):
    if (tmp_path.parent / tmp_path.name.swapcase()).exists():
        pytest.skip("the disk ignores case")
    with claimed(tmp_path / "out"), claimed(tmp_path / "OUT"):
        pass
    assert names(tmp_path) == []
