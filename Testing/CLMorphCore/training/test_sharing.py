"""Processes of one machine have one copy of a training's volumes; of another machine, one of their own."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from CLMorphCore.io import scratch
from CLMorphCore.training import sharing
from CLMorphCore.training.batches import Dataset, Volume
from CLMorphCore.training.sharing import give, outline_of, receive

SHAPE = (3, 4, 5)


class Member:
    """A process of a team, as a thread: what the team does together goes over a common board."""

    def __init__(self, rank, local, barrier, board):
        self.leads, self.rank, self.local, self.barrier, self.board = rank == 0, rank, local, barrier, board

    def everyones(self, value):
        self.board[self.rank] = value
        self.barrier.wait(10)
        values = list(self.board)
        self.barrier.wait(10)
        return values

    def send(self, tensor):
        return tensor.copy_(self.everyones(tensor.clone())[0])


def volumes():
    return [Volume(f"s{n}", torch.rand(1, 1, *SHAPE), torch.ones(1, 1, *SHAPE).long(), f"g{n % 2}") for n in range(3)]


def by_all(locals_of, data):
    """What each member of a team has, whose numbers on their machines are ``locals_of``."""
    barrier, board = Barrier(len(locals_of)), [None] * len(locals_of)

    def member(rank):
        team = Member(rank, locals_of[rank], barrier, board)
        if rank > 0:
            return receive(outline_of(data), team)
        give(data, team)
        return data

    with ThreadPoolExecutor(len(locals_of)) as threads:
        return list(threads.map(member, range(len(locals_of))))


def test_those_of_one_machine_have_the_same_voxels_in_one_place(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    before = volumes()
    data = Dataset(torch.rand(1, 1, *SHAPE), [Volume(v.name, v.image.clone(), v.labels, v.group) for v in before], [])
    first, *others = by_all([0, 1, 2], data)
    assert list(tmp_path.iterdir()) == [] and first is data
    for held in (first, *others):
        assert [(v.name, v.group) for v in held.train] == [(v.name, v.group) for v in before]
        assert all(torch.equal(v.image, one.image) for v, one in zip(held.train, before, strict=True))
    assert torch.equal(others[0].reference, data.reference)
    assert all(v.labels is None for v in others[0].train) and first.train[0].labels is not None
    first.train[1].image[0, 0, 1, 2, 3] = 7.0
    assert [held.train[1].image[0, 0, 1, 2, 3].item() for held in others] == [7.0, 7.0]


@pytest.mark.parametrize("locals_of", [[0, 0, 1], [0, 1, 2]], ids=["another machine", "machines that do not say"])
def test_those_that_cannot_open_a_file_have_their_own(locals_of, monkeypatch):
    opened = sharing.opened_array
    monkeypatch.setattr(sharing, "opened_array", lambda *words: None if locals_of == [0, 1, 2] else opened(*words))
    data = Dataset(None, volumes(), [])
    before = [v.image.clone() for v in data.train]
    _, second, third = by_all(locals_of, data)
    for held in (second, third):
        assert all(torch.equal(v.image, one) for v, one in zip(held.train, before, strict=True))
    data.train[0].image.fill_(9.0)
    assert torch.equal(second.train[0].image, before[0])


def test_a_voxel_keeps_its_type():
    data = Dataset(None, [Volume("a", torch.rand(1, 1, *SHAPE).double(), None)], [])
    _, other = by_all([0, 1], data)
    assert other.train[0].image.dtype == data.train[0].image.dtype == torch.float64
