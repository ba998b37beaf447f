"""Rows come back from their file as they were; a file that does not hold them is told by line and column."""

import csv
import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from CLMorphCore.errors import FileError
from Training.csv_rows import read_rows, write_lines, write_rows


@dataclass(frozen=True)
class Fruit:
    name: str
    count: int
    weight: float

    @property
    def total(self) -> str:
        return f"{self.count} {self.name}"


HEAD = "name,count,weight\n"
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


@given(st.lists(st.builds(Fruit, texts, st.integers(), st.floats())))
def test_rows_are_read_as_they_were_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    for options in ({}, {"nan": "nan"}):
        write_rows(path, Fruit, rows, **options)
        assert repr(read_rows(path, Fruit)) == repr(rows)


def test_derived_columns_stand_first_and_are_not_read(tmp_path):
    path = tmp_path / "rows.csv"
    write_rows(path, Fruit, [Fruit("apple", 3, math.nan)], derived={"sum": "total"})
    assert path.read_bytes() == b"sum,name,count,weight\r\n3 apple,apple,3,\r\n"
    assert read_rows(path, Fruit, derived=("sum",))[0].count == 3
    with pytest.raises(FileError, match="the column sum besides"):
        read_rows(path, Fruit)
    assert len(read_rows(path, Fruit, others=True)) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no column name, count, weight"),
        ("name,weight\n", "no column count"),
        (HEAD + "a,1,1\nb,two,1\n", "line 3, count is 'two', not a whole number"),
        (HEAD + "a,1,heavy\n", "line 2, weight is 'heavy', not a number"),
        (HEAD + "a,1\n", "line 2 has not one cell for each column"),
        (HEAD + "a,1,1,1\n", "line 2 has not one cell for each column"),
        (HEAD + 'a,1,"1\n', "cannot be read"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(text, told, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileError, match=told) as raised:
        read_rows(path, Fruit)
    said = str(raised.value)
    assert str(path) in said and "\n" not in said and "expected a CSV with the columns name,count,weight" in said


def test_a_file_that_is_no_text_or_not_there_is_told(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("rows.csv", "none.csv"):
        with pytest.raises(FileError, match="cannot be read"):
            read_rows(tmp_path / name, Fruit)


def test_what_cannot_be_written_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "lines.csv"
    write_lines(path, ["a"], [[1 / 3], [2]], digits=3)
    with pytest.raises(ZeroDivisionError):
        write_lines(path, ["a"], ([1 / n] for n in (1, 0)))
    with path.open(newline="", encoding="utf-8") as file:
        assert [row["a"] for row in csv.DictReader(file)] == ["0.333", "2"]
    assert list(tmp_path.iterdir()) == [path]
