"""Splits divide no subject, hold out labelled ones only, and are the same every time."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from CLMorphCore.io.manifest import Subject
from CLMorphCore.training.splits import make_splits


def subject(name, *, labelled=True, split="", group=""):
    return Subject(name, Path(name), Path("l") if labelled else None, split, group)


def counts(made):
    splits = [s.split for s in made]
    return tuple(splits.count(name) for name in ("train", "validation", "test"))


@pytest.mark.parametrize(
    ("labelled", "expected"),
    [(0, (3, 0, 0)), (1, (4, 0, 0)), (3, (6, 0, 0)), (4, (6, 1, 0)), (5, (6, 1, 1)), (10, (9, 2, 2)), (25, (19, 4, 5))],
)
def test_the_more_labels_the_more_are_held_out(labelled, expected):
    made = make_splits(
        [subject(f"l{n}") for n in range(labelled)] + [subject(f"u{n}", labelled=False) for n in range(3)]
    )
    assert counts(made) == expected
    assert all(s.labels is not None for s in made if s.split != "train")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), max_size=40), st.integers(0, 5))
def test_no_group_is_divided_and_a_seed_makes_one_division(scans, seed):
    given_scans = [subject(str(n), labelled=yes, group=f"g{g}" if g else "") for n, (yes, g) in enumerate(scans)]
    made = make_splits(given_scans, seed)
    assert made == make_splits(given_scans, seed) and [s.name for s in made] == [s.name for s in given_scans]
    for group in {s.group for s in made} - {""}:
        assert len({s.split for s in made if s.group == group}) == 1


def test_what_is_given_stays():
    made = make_splits([subject(f"t{n}", split="test") for n in range(3)] + [subject(f"o{n}") for n in range(10)])
    assert counts(made) == (8, 2, 3) and all(s.split == "test" for s in made[:3])
    everything = [subject("a", split="train"), subject("b", split="validation")]
    assert make_splits(everything) == everything
