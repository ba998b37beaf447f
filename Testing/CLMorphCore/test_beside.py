"""Work that is done beside other work, on half of the threads each; and memory that is kept."""

import platform
import threading
from contextlib import contextmanager

import pytest
import torch

from CLMorphCore.devices import beside, keep_freed_memory, use_threads
from CLMorphCore.errors import Cancelled, InputError


@contextmanager
def untimed():
    yield


@pytest.fixture(params=(1, 2, 5))
def threads(request):
    before = torch.get_num_threads()
    use_threads(request.param)
    yield request.param
    use_threads(before)


def test_both_are_done_and_share_the_threads(threads):
    def where_it_runs():
        return torch.get_num_threads(), threading.get_ident()

    with beside(where_it_runs, untimed, together=False) as done:
        assert done.result() == where_it_runs()
    with beside(where_it_runs, untimed) as done:
        own = torch.get_num_threads()
    other, where = done.result()
    assert (other, own) == ((1, 1) if threads == 1 else (threads // 2, threads - threads // 2))
    assert (where == threading.get_ident()) == (threads == 1)
    assert torch.get_num_threads() == threads


def test_they_run_at_the_same_time(threads):
    if threads == 1:
        return
    first, second = threading.Event(), threading.Event()

    def work():
        first.set()
        return second.wait(60)

    with beside(work, untimed) as done:
        assert first.wait(60)
        second.set()
    assert done.result()


def test_an_error_of_the_work_comes_first(threads):
    def broken():
        raise ValueError("work")

    with pytest.raises(ValueError, match="work"), beside(broken, untimed):
        raise InputError("block")
    with pytest.raises(ValueError, match="work"), beside(broken, untimed):
        pass
    assert torch.get_num_threads() == threads


def test_an_error_of_the_block_is_raised(threads):
    with pytest.raises(KeyError, match="block"), beside(lambda: 0, untimed):
        raise KeyError("block")
    assert torch.get_num_threads() == threads


def test_only_the_time_on_top_of_the_blocks_is_measured(threads):
    measured = []

    @contextmanager
    def timed():
        measured.append("begins")
        yield
        measured.append("ends")

    with beside(lambda: measured.append("work"), timed):
        measured.append("block")
    if threads == 1:
        assert measured == ["begins", "work", "ends", "block"]
    else:
        assert measured[-2:] == ["begins", "ends"]  # waits when the block is done


def test_who_is_cancelled_does_not_wait_for_the_work(threads):
    if threads == 1:
        return
    began, steps = threading.Event(), []

    def endless():
        began.set()
        while True:
            steps.append(1)
            threading.Event().wait(0.001)

    with pytest.raises(Cancelled), beside(endless, untimed):
        assert began.wait(60)
        raise Cancelled
    assert torch.get_num_threads() == threads and steps


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_freed_memory_is_kept():
    assert keep_freed_memory()  # glibc takes the numbers; larger ones it refuses
